// SPDX-License-Identifier: MIT
// The report: the paper's tables with its figures beside ours, and what the paper lacks.
#pragma once
#include <string>
#include <vector>

#include "examples/four_models/results.hpp"
#include "examples/common/table.hpp"

namespace examples {

// A part of the report: paragraphs, then tables, then tables to stand beside each other.
struct Section {
  std::string title;
  std::vector<std::string> paragraphs;
  std::vector<Table> tables, small_tables;
};

Section comparison_section(const Results& results);
// For models whose weights are made up: memory and latency alone.
Section synthetic_section(const Results& results);

std::string as_text(const Section& section);
std::string as_markdown(const Section& section);

}  // namespace examples
