// SPDX-License-Identifier: MIT
// Everything that the program found out, as numbers: what the tables, figures and files are made of.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "examples/four_models/evaluation.hpp"
#include "lowbit/io/json.hpp"
#include "examples/four_models/machine.hpp"
#include "examples/common/metrics.hpp"
#include "examples/four_models/paper.hpp"

namespace examples {

// Rows on which exactly one of a model and the baseline is right.
struct McNemar {
  std::size_t only_baseline = 0, only_this = 0;
  double p = 1;
};

struct ModelResult {
  const ModelKind* kind = nullptr;
  Identity identity;
  std::string folder;
  std::vector<std::pair<std::string, std::size_t>> plans;  // what the linear layers ran as, and how many of them
  lowbit::gpt2::MemoryReport memory;
  std::optional<std::size_t> process_growth;
  double load_seconds = 0;
  Summary latency;  // milliseconds
  std::optional<double> batched_per_second;
  Confusion confusion;  // empty where accuracy was not asked
  Scores scores;
  std::optional<McNemar> mcnemar;  // of all but the baseline, if that ran
  bool repeats = true;

  // The paper's row of this model; null where it has none, or where this one was made or run otherwise than that one.
  const paper::Row* paper_row() const { return identity.as_in_paper ? paper::find(kind->id) : nullptr; }
  double per_second() const { return latency.count == 0 ? 0 : 1000 / latency.mean; }  // throughput as the paper defines it
};

struct Results {
  Machine machine;
  std::string dataset, latency_rows;  // where the rows are from, and which of them were timed
  std::vector<std::string> class_names;
  std::size_t rows = 0, rows_done = 0, max_tokens = 0;
  std::size_t cut_texts = 0, empty_texts = 0, blank_lines = 0;  // as in Dataset
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
};

// The result of a model before anything ran.
ModelResult describe(const LoadedModel& model);
// All of it, for models that were evaluated.
std::vector<ModelResult> summarize(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data);

}  // namespace examples
