// SPDX-License-Identifier: MIT
// The rows of a run as CSV files: what every model said about a row, and how long it took.
#pragma once
#include <string>
#include <vector>

#include "examples/four_models/evaluation.hpp"

namespace examples {

// One line per row done, in the order of the file: its place there, its class and, for each model, its predicted class and logits;
// rows and classes count from 0.
std::string predictions_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data);

// One line per row done and repetition: its place in the file, its tokens, which repetition, and the milliseconds of each model.
std::string latency_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data);

}  // namespace examples
