// SPDX-License-Identifier: MIT
// The kinds of charts that the report has, from numbers and names alone.  Every one writes its values beside its marks, so that
// nothing hangs on a colour.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "examples/common/statistics.hpp"
#include "examples/four_models/svg.hpp"

namespace examples::svg {

inline constexpr double chart_width = 420;

// What every chart says about itself.
struct Caption {
  std::string title, description, unit;  // unit: written at the axis of values
};

// A bar of parts per row, from 0 on.
struct StackedBars {
  Caption caption;
  std::vector<std::string> parts, styles;  // as many
  struct Row {
    std::string name, label;  // label: at the end of the name's line
    std::vector<double> values;
    std::optional<double> mark;
  };
  std::vector<Row> rows;
  std::string mark_name;  // in the legend; empty: none
};
Drawing draw(const StackedBars& chart);

// A value with an interval around it per row.
struct Intervals {
  Caption caption;
  struct Row {
    std::string name, label;
    double value = 0;
    Interval interval;
    std::optional<double> mark;
  };
  std::vector<Row> rows;
  double from = 0, to = 1;
  bool logarithmic = false;         // then from > 0, and ticks are powers of two
  std::optional<double> reference;  // a line to compare with
  std::string reference_name, mark_name;
};
Drawing draw(const Intervals& chart);

// Points, and those that no other one beats in both directions (left and up is better), joined.
struct Scatter {
  Caption caption;
  std::string x_unit;
  struct Point {
    std::string name;
    double x = 0, y = 0;
    Interval interval;  // of y
  };
  std::vector<Point> points;
  double x_from = 0, x_to = 1, y_from = 0, y_to = 1;
  bool logarithmic = false;  // x
};
// Which of the points are on the front, by point.
std::vector<bool> pareto_front(const std::vector<Scatter::Point>& points);
Drawing draw(const Scatter& chart);

// Lines over numbered places, in panels with one scale.
struct Lines {
  Caption caption;
  std::string x_unit;
  std::vector<double> x;
  std::vector<std::string> names;  // of the lines
  struct Panel {
    std::string title;
    std::vector<std::vector<double>> lines;  // by name and place; NaN: none there
  };
  std::vector<Panel> panels;
  bool logarithmic = false;
};
Drawing draw(const Lines& chart);

// A confusion matrix, its cells shaded by their share of their row.
struct HeatMap {
  std::string title;
  std::vector<std::string> classes;
  std::vector<std::vector<std::size_t>> counts;  // [true][predicted]
};
Drawing draw(const HeatMap& map);
// How a cell is shaded.
Drawing heat_scale();

}  // namespace examples::svg
