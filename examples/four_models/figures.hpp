// SPDX-License-Identifier: MIT
// The figures of the reports, from the numbers of a run.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "examples/four_models/results.hpp"
#include "examples/four_models/svg.hpp"

namespace examples {

// latency.csv: how long each row took, by the models of the results.
struct LatencyRows {
  std::vector<double> tokens;               // by row
  std::vector<std::vector<double>> row_ms;  // by model and row; the median of the repetitions
};

struct Figure {
  std::string name;     // of its file, without ".svg", and on the page
  std::string title;    // what it shows
  std::string caption;  // how to read it
  std::vector<svg::Drawing> drawings;

  // All drawings in one, in rows of two.
  svg::Drawing whole() const;
};

// Those that the run has numbers for.  latency: may be empty.
std::vector<Figure> figures_of(const Results& results, const LatencyRows& latency);
// Memory and latency of a run with synthetic weights.
std::vector<Figure> synthetic_figures_of(const Results& results);

}  // namespace examples
