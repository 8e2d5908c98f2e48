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
// The paper's claims one by one and what the run found, then what the run recommends.  Without paragraphs where nothing can be said.
Section claims_section(const Results& results);

// The machine in a line.
std::string on_machine(const Machine& machine);
// Machine, texts and how they were timed, a paragraph each.
std::vector<std::string> circumstances(const Results& results);

std::string as_text(const Section& section);
std::string as_markdown(const Section& section);

}  // namespace examples
