// SPDX-License-Identifier: MIT
// The files that --out DIR receives: results.json, predictions.csv, report.md and figures/*.svg.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "results.hpp"

namespace four_models {

// Makes the folder if need be and proves that files can be written into it.  Throws IoError that names it.
void prepare_output(const std::filesystem::path& folder);

// Everything in numbers.  `synthetic`: the part with made-up weights, if that ran.
std::string results_json(const Results& results, const Results* synthetic);

// One line per row done, from row 0: its class and, for each model, its predicted class and logits; classes count from 0.
std::string predictions_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data);

// Writes the paper's figures 1 to 4; those of `synthetic` beside the paper's memory and times, if it ran.
void write_figures(const std::filesystem::path& folder, const Results& results, const Results* synthetic);

}  // namespace four_models
