// SPDX-License-Identifier: MIT
// What --out DIR receives: results.json, predictions.csv, report.md and figures/*.svg.  output_folder.hpp puts them there.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "examples/four_models/output_folder.hpp"
#include "examples/four_models/results.hpp"

namespace examples {

// Everything in numbers.  `synthetic`: the part with made-up weights, if that ran.
std::string results_json(const Results& results, const Results* synthetic);

// One line per row done, in the order of the file: its place there, its class and, for each model, its predicted class and logits;
// rows and classes count from 0.
std::string predictions_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data);

// The paper's figures 1 to 4; those of `synthetic` beside the paper's memory and times, if it ran.
std::vector<OutputFile> figures(const Results& results, const Results* synthetic);

}  // namespace examples
