// SPDX-License-Identifier: MIT
// results.json: all numbers of a run, written and read back, so that a report can be made again from the files of a run.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "examples/four_models/results.hpp"

namespace examples {

struct RunResults {
  Results main;
  std::optional<Results> synthetic;  // the part with made-up weights, if that ran
};

std::string results_json(const RunResults& run);

// The same back from the text.  `name` stands for the file in messages.  Throws FormatError that names what is missing or wrong.
RunResults parse_results(std::string_view text, const std::string& name);

}  // namespace examples
