// SPDX-License-Identifier: MIT
// Runs the models.  All are in memory at once and take turns, row by row for latency and in groups of rows for accuracy, so that
// whatever else the machine does disturbs all of them alike; and the same object gives a model its accuracy and its latency.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/common/dataset.hpp"
#include "examples/common/models.hpp"

namespace examples {

struct LoadedModel {
  const ModelKind* kind = nullptr;
  Identity identity;
  std::string folder;  // empty: synthetic
  lowbit::gpt2::Transformer net;
  double load_seconds = 0;
  std::optional<std::size_t> process_growth;  // bytes that a process of its own grew by
};

// What one model did.
struct Run {
  std::vector<double> latency_ms;  // one row at a time
  std::vector<float> logits;       // (rows, classes); valid where Evaluation::done
  // Of the groups that the threads worked on at the same time, wherever there were enough of them to keep all threads busy.
  std::vector<double> batched_seconds_per_token;
  bool repeats = true;  // the two passes gave the same bits wherever both saw a row
};
struct Evaluation {
  std::vector<Run> runs;           // by model
  std::vector<std::uint8_t> done;  // by row: every model has seen it
  std::size_t rows_done() const;
};

// Latency on at most latency_rows evenly sampled rows, with `executor`'s threads on each; then all rows, in groups that
// `executor`'s threads share.  group_rows: rows that are given to a model in one call.  Stops early, with the rows done so far,
// on interrupted().  Throws Error that names the model and the row if a logit is NaN or infinite.
Evaluation evaluate(std::span<const LoadedModel> models, const Dataset& data, std::size_t latency_rows, std::size_t group_rows,
                    lowbit::Executor& executor);

// Only latency, on rows of ids: milliseconds by model and row.  Stops early on interrupted(), with as many rows for every model.
// Throws as evaluate() does.
std::vector<std::vector<double>> measure_latency(std::span<const LoadedModel> models,
                                                 const std::vector<std::vector<std::int32_t>>& rows, lowbit::Executor& executor);

}  // namespace examples
