// SPDX-License-Identifier: MIT
// A small writer of SVG: shapes by their class, whose colours figures.css has for light and dark, and text that is escaped and kept to
// its place.  Coordinates are user units, y downwards; a drawing is about as wide as a phone in them, so that it can be read there.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples::svg {

// Columns of text of `size` that fit into `width`, and back: Helvetica, on the wide side.
double text_width(std::string_view words, double size);
std::size_t columns_in(double width, double size);

// How a name is fitted into its place.
struct Fit {
  double width = 100;
  std::size_t lines = 1;
  const char* anchor = "start";  // start, middle or end
  bool hangs = false;            // y is the first line's instead of the last one's
  double size = 12;
  const char* style = "t";
};

class Drawing {
 public:
  // title: what the drawing shows; description: what a reader who cannot see it should know.
  Drawing(double width, double height, std::string title, std::string description)
      : width_(width), height_(height), title_(std::move(title)), description_(std::move(description)) {}

  double width() const { return width_; }
  double height() const { return height_; }
  const std::string& title() const { return title_; }
  void set_height(double height) { height_ = height; }

  // style: classes of figures.css.
  void text(double x, double y, std::string_view words, std::string_view style = "t", const char* anchor = "start",
            double size = 12);
  // In at most fit.lines lines of at most fit.width; what does not fit is cut, and hovering shows the whole.
  void label(double x, double y, std::string_view name, const Fit& fit);
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  // hint: what hovering shows, if anything.  opacity below 1 lets what is behind show through.
  void box(double x, double y, double width, double height, std::string_view style, std::string_view hint = {}, double opacity = 1);
  void dot(double x, double y, double radius, std::string_view style, std::string_view hint = {});
  void diamond(double x, double y, double radius, std::string_view style, std::string_view hint = {});
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view style);
  // Another drawing at a place, in its own size.
  void inset(double x, double y, const Drawing& other);

  // For a page that has figures.css; id: unique there.
  std::string element(const std::string& id) const;
  // A file of its own.
  std::string file() const;

 private:
  std::string body() const;
  double width_, height_;
  std::string title_, description_, shapes_;
};

}  // namespace examples::svg
