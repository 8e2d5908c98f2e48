// SPDX-License-Identifier: MIT
// The loop: batches, steps, evaluation after every epoch, checkpoints.
#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/train_classifier/options.hpp"
#include "examples/train_classifier/recipe.hpp"

#include "examples/common/dataset.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/qat/adamw.hpp"
#include "lowbit/qat/checkpoint.hpp"
#include "lowbit/qat/transformer.hpp"

namespace train_classifier {

struct EpochResult {
  std::size_t epoch = 0;  // from 1
  double loss = 0, train_accuracy = 0, test_accuracy = 0, seconds = 0;
};

// Throws Error that opens with `where` and names the parameter and the element, if one is NaN or infinite.
void require_finite_parameters(lowbit::qat::Transformer& model, const std::string& where);

class Trainer {
 public:
  // recorded: what the checkpoints say about the run.
  Trainer(const Options& options, lowbit::qat::Transformer& model, const examples::Dataset& train, const examples::Dataset& test,
          const Recorded& recorded);

  // Takes up the checkpoint in the output folder, which is that of this run.  Throws IoError or FormatError.
  void resume();
  // Trains to the end; false if Ctrl-C came first.  Either way a checkpoint is written.  Throws Error where a loss, a gradient or a
  // logit is not finite; the last checkpoint is then one from before.
  bool run();

  const std::vector<EpochResult>& epochs() const { return epochs_; }
  double seconds() const { return seconds_; }  // of training, over all parts of the run
  std::size_t tokens() const { return tokens_; }
  const lowbit::qat::OperatorTimes& times() const { return times_; }
  // The share of the test rows that the model gets right as it is now; nothing if Ctrl-C came before the end.
  std::optional<double> test_accuracy();

 private:
  struct Step {
    std::size_t epoch = 0, step = 0;
    double loss = 0, classes = 0, language = 0, norm = 0, rate = 0;
  };
  std::size_t steps_per_epoch() const { return (train_.items.size() + options_.batch_rows - 1) / options_.batch_rows; }
  // The next step, on these rows.  Throws as run() does.
  void take_step(std::span<const std::size_t> rows);
  void end_epoch(double test_accuracy);
  void save();
  void take_up(const lowbit::io::Json& state);
  void write_history() const;
  lowbit::io::Metadata notes() const;

  const Options& options_;
  lowbit::qat::Transformer& model_;
  const examples::Dataset &train_, &test_;
  const Recorded& recorded_;
  lowbit::ThreadPool pool_;
  lowbit::qat::AdamW optimizer_;
  lowbit::qat::OperatorTimes times_;
  std::vector<EpochResult> epochs_;
  std::vector<Step> history_;
  std::size_t epoch_ = 0, step_ = 0;  // to be done next; step inside the epoch
  double seconds_ = 0, epoch_seconds_ = 0, epoch_loss_ = 0;
  std::size_t epoch_right_ = 0, epoch_rows_ = 0, tokens_ = 0;
};

}  // namespace train_classifier
