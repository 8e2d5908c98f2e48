// SPDX-License-Identifier: MIT
// Everything that the program found out, as numbers: what results.json holds, and what the tables, figures and sentences of the
// reports are made of.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "examples/common/metrics.hpp"
#include "examples/common/statistics.hpp"
#include "examples/four_models/evaluation.hpp"
#include "examples/four_models/machine.hpp"
#include "examples/four_models/paper.hpp"
#include "examples/four_models/weight_errors.hpp"
#include "lowbit/io/json.hpp"

namespace examples {

inline double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Bytes that a model holds, by what they are.
struct MemorySplit {
  std::size_t codes = 0;       // of the linear layers' weights
  std::size_t scales = 0;      // of the same, with what the layout pads
  std::size_t embeddings = 0;  // of tokens and positions
  std::size_t rest = 0;        // norms, biases, the classification head
};

// A model's latency over the baseline's, row by row; below 1 is faster.
struct RelativeLatency {
  double median = 1, p5 = 1, p95 = 1;
  Interval median_95;                      // of the median, by bootstrap over the rows
  double first_half = 1, second_half = 1;  // the median of each half of the rows: whether the machine stayed the same
};

// A model against the baseline, on the same rows.
struct Difference {
  std::size_t only_baseline = 0, only_this = 0;  // rows on which exactly one of the two is right
  double p = 1;                                  // McNemar's
  double accuracy = 0, macro_f1 = 0;             // this minus the baseline, percentage points
  Interval accuracy_95, macro_f1_95;             // by paired bootstrap
};

struct OperatorTime {
  std::string name;
  double ms = 0;
};

struct ModelResult {
  const ModelKind* kind = nullptr;
  Identity identity;
  std::string folder;
  std::vector<std::pair<std::string, std::size_t>> plans;  // what the linear layers ran as, and how many of them
  lowbit::gpt2::MemoryReport memory;
  MemorySplit split;
  std::optional<std::size_t> process_growth;
  double load_seconds = 0;
  Summary latency;                          // milliseconds; of the rows, each by the median of its repetitions
  std::optional<RelativeLatency> relative;  // of all but the baseline, if that ran
  std::optional<double> batched_per_second;
  std::vector<OperatorTime> operators;  // of one row
  std::vector<LayerError> weight_errors;
  Confusion confusion;  // empty where accuracy was not asked
  Scores scores;
  Interval macro_f1_95;  // percent, by bootstrap
  std::optional<Difference> difference;
  bool repeats = true;

  // The paper's row of this model; null where it has none, or where this one was made or run otherwise than that one.
  const paper::Row* paper_row() const { return identity.as_in_paper ? paper::find(kind->id) : nullptr; }
  double per_second() const { return latency.count == 0 ? 0 : 1000 / latency.mean; }  // throughput as the paper defines it
  Interval accuracy_95() const { return wilson_interval(scores.correct, scores.rows); }
};

struct Results {
  Machine machine;
  std::string version;                // of lowbit
  std::string dataset, latency_rows;  // where the rows are from, and how they were timed
  std::vector<std::string> class_names;
  std::size_t rows = 0, rows_done = 0, max_tokens = 0;
  std::size_t repeat = 1, operator_rows = 0;
  std::size_t cut_texts = 0, empty_texts = 0, blank_lines = 0;  // as in Dataset
  std::optional<std::size_t> sampled_from;                      // the rows are a sample of so many
  double mean_tokens = 0;
  std::vector<ModelResult> models;
  bool interrupted = false;
  lowbit::io::Json options;        // all that the run was asked for, and what was taken where nothing was said
  std::string command;             // the same as a command
  std::vector<std::string> notes;  // what the reader must know: models left out, choices made

  // Whether the models have the shape of the paper's, so that its memory and times can stand beside theirs.
  bool paper_shape() const;
  // Whether the rows are the paper's, all of them, and cut as usual, so that its accuracy and F1 can stand beside ours.
  bool paper_rows() const;
  // The baseline; null if it did not run.
  const ModelResult* baseline() const;
  // The model of an id; null if it did not run.
  const ModelResult* find(std::string_view id) const;
};

// The result of a model before anything ran.
ModelResult describe(const LoadedModel& model);
// All of it, for models that were evaluated.  seed: of the bootstrap.
std::vector<ModelResult> summarize(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data,
                                   std::uint64_t seed);
// ms against the baseline's, both by row.
RelativeLatency relative_latency(const std::vector<double>& ms, const std::vector<double>& baseline_ms, std::uint64_t seed);

}  // namespace examples
