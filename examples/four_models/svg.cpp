// SPDX-License-Identifier: MIT
#include "examples/four_models/svg.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "examples/common/text.hpp"
#include "examples/four_models/embedded.hpp"

namespace examples::svg {

namespace {

constexpr double column = 0.56;  // of the size

std::string hinted(std::string_view hint) { return hint.empty() ? "/>\n" : "><title>" + xml_escaped(hint) + "</title>"; }

}  // namespace

double text_width(std::string_view words, double size) { return static_cast<double>(width_of(words)) * column * size; }
std::size_t columns_in(double width, double size) {
  return std::max<std::size_t>(4, static_cast<std::size_t>(std::max(0.0, width) / (column * size)));
}

void Drawing::text(double x, double y, std::string_view words, std::string_view style, const char* anchor, double size) {
  shapes_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\" font-size=\"{}\">{}</text>\n", x, y,
                         style, anchor, size, xml_escaped(words));
}

void Drawing::label(double x, double y, std::string_view name, const Fit& fit) {
  const std::size_t columns = columns_in(fit.width, fit.size);
  std::vector<std::string> parts = wrapped(printable(std::string(name)), columns);
  const bool cut = parts.size() > fit.lines;
  if (cut) {
    parts.resize(fit.lines);
    std::string& last = parts.back();
    last = last.substr(0, prefix_bytes(last, columns - 1)) + "\xE2\x80\xA6";  // an ellipsis
  }
  const double height = 1.1 * fit.size;
  if (!fit.hangs) y -= height * static_cast<double>(parts.size() - 1);
  if (cut) shapes_ += "<g><title>" + xml_escaped(name) + "</title>\n";
  for (std::size_t i = 0; i < parts.size(); ++i)
    text(x, y + height * static_cast<double>(i), parts[i], fit.style, fit.anchor, fit.size);
  if (cut) shapes_ += "</g>\n";
}

void Drawing::line(double x1, double y1, double x2, double y2, std::string_view style) {
  shapes_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2, style);
}

void Drawing::box(double x, double y, double width, double height, std::string_view style, std::string_view hint, double opacity) {
  shapes_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"{}\"", x, y,
                         std::max(0.0, width), height, style);
  if (opacity < 1) shapes_ += fmt::format(" fill-opacity=\"{:.3f}\"", opacity);
  shapes_ += hinted(hint) + (hint.empty() ? "" : "</rect>\n");
}

void Drawing::dot(double x, double y, double radius, std::string_view style, std::string_view hint) {
  shapes_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" class=\"{}\"", x, y, radius, style) + hinted(hint) +
             (hint.empty() ? "" : "</circle>\n");
}

void Drawing::diamond(double x, double y, double radius, std::string_view style, std::string_view hint) {
  shapes_ += fmt::format("<path d=\"M{:.1f} {:.1f}l{:.1f} {:.1f}l{:.1f} {:.1f}l{:.1f} {:.1f}z\" class=\"{}\"", x, y - radius,
                         radius, radius, -radius, radius, -radius, -radius, style) +
             hinted(hint) + (hint.empty() ? "" : "</path>\n");
}

void Drawing::polyline(const std::vector<std::pair<double, double>>& points, std::string_view style) {
  std::string places;
  for (const auto& [x, y] : points) places += fmt::format("{}{:.1f},{:.1f}", places.empty() ? "" : " ", x, y);
  shapes_ += fmt::format("<polyline points=\"{}\" class=\"{}\"/>\n", places, style);
}

void Drawing::inset(double x, double y, const Drawing& other) {
  shapes_ += fmt::format("<svg x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" viewBox=\"0 0 {:.1f} {:.1f}\">\n", x, y,
                         other.width_, other.height_, other.width_, other.height_) +
             other.body() + "</svg>\n";
}

std::string Drawing::body() const { return shapes_; }

std::string Drawing::element(const std::string& id) const {
  return fmt::format(
      "<svg class=\"f\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-labelledby=\"{2}-title {2}-desc\">\n"
      "<title id=\"{2}-title\">{3}</title>\n<desc id=\"{2}-desc\">{4}</desc>\n{5}</svg>\n",
      width_, height_, id, xml_escaped(title_), xml_escaped(description_), body());
}

std::string Drawing::file() const {
  // Twice as large as its units: enough for a page that shows it as it is.
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"f\" width=\"{:.0f}\" height=\"{:.0f}\" viewBox=\"0 0 {:.0f} {:.0f}\" "
      "role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n<style>\n{}</style>\n"
      "<rect width=\"100%\" height=\"100%\" class=\"p\"/>\n{}</svg>\n",
      1.5 * width_, 1.5 * height_, width_, height_, xml_escaped(title_), xml_escaped(description_), figures_css, body());
}

}  // namespace examples::svg
