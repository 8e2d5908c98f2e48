// SPDX-License-Identifier: MIT
// Runs the models.  All are in memory at once and take turns row by row, so that whatever else the machine does disturbs all of them
// alike; and the same call gives a row its latency and its logits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/common/dataset.hpp"
#include "examples/common/models.hpp"
#include "examples/four_models/weight_errors.hpp"

namespace examples {

struct LoadedModel {
  const ModelKind* kind = nullptr;
  Identity identity;
  std::string folder;  // empty: synthetic
  lowbit::gpt2::Transformer net;
  double load_seconds = 0;
  std::optional<std::size_t> process_growth;  // bytes that a process of its own grew by
  std::vector<LayerError> weight_errors;
};

// What one model did.
struct Run {
  std::vector<double> latency_ms;  // (rows, repeat), one row at a time; valid where Evaluation::done
  std::vector<float> logits;       // (rows, classes), of the same calls; valid where Evaluation::done
  // Of the groups that the threads worked on at the same time, if there were enough of them to keep all threads busy.
  std::vector<double> batched_seconds_per_token;
  std::vector<double> operator_ms;  // by examples::Operator, the median of some rows; empty: not measured
  bool repeats = true;              // whoever saw a row again gave the same bits
};
struct Evaluation {
  std::size_t repeat = 1;
  std::vector<Run> runs;           // by model
  std::vector<std::uint8_t> done;  // by row: every model has seen it
  std::size_t operator_rows = 0;   // behind Run::operator_ms
  std::size_t rows_done() const;
};

inline constexpr std::size_t warm_up_rows = 3;

// Every row `repeat` times by every model, one row at a time with `executor`'s threads on it: its logits and its latency.  Then a
// sample of the rows once more, in groups that `executor`'s threads share, for the throughput and to see that the bits are the
// same; and a few with a clock at every operator.  group_rows: rows that are given to a model in one call.  Stops early, with the
// rows done so far, on interrupted().  Throws Error that names the model and the row if a logit is NaN or infinite.
Evaluation evaluate(std::span<const LoadedModel> models, const Dataset& data, std::size_t repeat, std::size_t group_rows,
                    lowbit::Executor& executor);

// Only latency, on rows of ids: milliseconds by model and row.  Stops early on interrupted(), with as many rows for every model.
// Throws as evaluate() does.
std::vector<std::vector<double>> measure_latency(std::span<const LoadedModel> models,
                                                 const std::vector<std::vector<std::int32_t>>& rows, lowbit::Executor& executor);

}  // namespace examples
