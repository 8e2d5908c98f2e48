// SPDX-License-Identifier: MIT
// Bar charts and heat maps as SVG files, with every value written beside its bar or in its cell.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace examples::svg {

struct Bar {
  double value = 0;
  std::string label;         // written above
  double low = 0, high = 0;  // an interval around the value; none where both are 0
};
struct Series {
  std::string name;
  std::vector<Bar> bars;  // by group; a label that is empty means that there is no bar
};
struct BarChart {
  std::string title, unit;  // unit: written beside the axis
  std::vector<std::string> groups;
  std::vector<Series> series;
  double from = 0;  // where the axis begins
  double to = 0;    // where it ends; 0: at a round number above the highest bar
};
// Cells are shaded by their share of their row.
struct HeatMap {
  std::string title;
  std::vector<std::string> classes;
  std::vector<std::vector<std::size_t>> counts;  // [true][predicted]
};

// The charts below each other, the maps in rows of two.
std::string picture(const std::vector<BarChart>& charts);
std::string picture(const std::vector<HeatMap>& maps);

}  // namespace examples::svg
