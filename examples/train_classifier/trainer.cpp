// SPDX-License-Identifier: MIT
#include "examples/train_classifier/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "examples/common/interrupt.hpp"
#include "examples/common/progress.hpp"
#include "examples/train_classifier/batches.hpp"
#include "examples/train_classifier/say.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/json.hpp"

namespace train_classifier {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// "NAME: element i is nan", of the first parameter of which `part` has such an element; empty if there is none.
std::string non_finite(lowbit::qat::Transformer& model, lowbit::AlignedBuffer<float> lowbit::qat::Parameter::*part) {
  std::string found;
  model.for_each_parameter([&](const lowbit::qat::Parameter& p) {
    const lowbit::AlignedBuffer<float>& values = p.*part;
    const std::size_t i = found.empty() ? lowbit::first_non_finite(values.data(), values.size()) : values.size();
    if (i != values.size()) found = fmt::format("{}: element ({}, {}) is {}", p.name, i / p.cols, i % p.cols, values[i]);
  });
  return found;
}

}  // namespace

void require_finite_parameters(lowbit::qat::Transformer& model, const std::string& where) {
  if (const std::string found = non_finite(model, &lowbit::qat::Parameter::value); !found.empty())
    lowbit::raise<lowbit::Error>(where + ": " + found);
}

Trainer::Trainer(const Options& options, lowbit::qat::Transformer& model, const examples::Dataset& train,
                 const examples::Dataset& test, const Recorded& recorded)
    : options_(options), model_(model), train_(train), test_(test), recorded_(recorded), pool_(options.threads) {
  optimizer_.weight_decay = options.weight_decay;
  optimizer_.clip = options.clip;
  if (options.freeze_embeddings) {
    model_.token_embedding.freeze();
    model_.position_embedding.freeze();
  }
}

lowbit::io::Metadata Trainer::notes() const {
  using lowbit::io::Json;
  Json state;
  state["epoch"] = epoch_;
  state["step"] = step_;
  state["seconds"] = seconds_;
  state["epoch_seconds"] = epoch_seconds_;
  state["epoch_loss"] = epoch_loss_;
  state["epoch_right"] = epoch_right_;
  state["epoch_rows"] = epoch_rows_;
  state["tokens"] = tokens_;
  state["epochs"] = Json::array();
  for (const EpochResult& e : epochs_) state["epochs"].push_back({e.loss, e.train_accuracy, e.test_accuracy, e.seconds});
  state["history"] = Json::array();
  for (const Step& s : history_) state["history"].push_back({s.epoch, s.step, s.loss, s.classes, s.language, s.norm, s.rate});
  lowbit::io::Metadata notes{
      {"recipe", recorded_.recipe.dump()}, {"overwrite", recorded_.overwrite ? "yes" : "no"}, {"state", state.dump()}};
  if (recorded_.tokenizer) {
    notes.emplace_back("vocab.json", recorded_.tokenizer->vocab_json);
    notes.emplace_back("merges.txt", recorded_.tokenizer->merges);
  }
  return notes;
}

void Trainer::save() {
  std::error_code ignored;
  const bool is_new = !std::filesystem::exists(options_.out, ignored);
  lowbit::io::make_folder(options_.out);
  try {
    lowbit::qat::save_checkpoint(options_.out / "checkpoint.safetensors", model_, optimizer_, notes());
  } catch (...) {
    if (is_new) std::filesystem::remove(options_.out, ignored);
    throw;
  }
  write_history();
}

void Trainer::write_history() const {
  std::string text = "epoch,step,loss,class_loss,language_loss,gradient_norm,rate\n";
  for (const Step& s : history_)
    text += fmt::format("{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g}\n", s.epoch + 1, s.step + 1, s.loss, s.classes, s.language,
                        s.norm, s.rate);
  lowbit::io::write_atomically(options_.out / "history.csv", text);
}

void Trainer::resume() {
  const std::filesystem::path path = options_.out / "checkpoint.safetensors";
  const lowbit::io::Metadata found = lowbit::qat::load_checkpoint(path, model_, optimizer_);
  require_finite_parameters(model_, path.string());
  std::string text;
  for (const auto& [key, value] : found)
    if (key == "state") text = value;
  const lowbit::io::Json state = lowbit::io::parse_json(text, path.string() + ": state");
  try {
    take_up(state);
  } catch (const std::exception& error) {
    lowbit::raise<lowbit::FormatError>(path.string() + ": state: " + error.what());
  }
}

void Trainer::take_up(const lowbit::io::Json& state) {
  // A number of another kind would be cast to one, whatever its size.
  const auto count = [](const lowbit::io::Json& value) {
    if (!value.is_number_unsigned()) lowbit::raise<lowbit::FormatError>("expected a count, found " + lowbit::io::found_text(value));
    return value.get<std::size_t>();
  };
  epoch_ = count(state.at("epoch"));
  step_ = count(state.at("step"));
  seconds_ = state.at("seconds");
  epoch_seconds_ = state.at("epoch_seconds");
  epoch_loss_ = state.at("epoch_loss");
  epoch_right_ = count(state.at("epoch_right"));
  epoch_rows_ = count(state.at("epoch_rows"));
  tokens_ = count(state.at("tokens"));
  for (const auto& e : state.at("epochs")) epochs_.push_back({epochs_.size() + 1, e.at(0), e.at(1), e.at(2), e.at(3)});
  for (const auto& s : state.at("history"))
    history_.push_back({count(s.at(0)), count(s.at(1)), s.at(2), s.at(3), s.at(4), s.at(5), s.at(6)});
}

std::optional<double> Trainer::test_accuracy() {
  constexpr std::size_t rows_together = 64;
  model_.prepare(options_.quantization, false, pool_);
  std::vector<std::size_t> order(test_.items.size());
  std::size_t right = 0;
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const std::size_t length_a = test_.items[a].ids.size(), length_b = test_.items[b].ids.size();
    return length_a != length_b ? length_a < length_b : a < b;
  });
  examples::Progress progress("evaluating", order.size());
  const std::size_t classes = model_.config.classes;
  for (std::size_t begin = 0; begin < order.size(); begin += rows_together) {
    if (examples::interrupted()) return std::nullopt;
    const std::span<const std::size_t> rows = std::span(order).subspan(begin, std::min(rows_together, order.size() - begin));
    std::vector<float> logits(rows.size() * classes);
    model_.classify(make_batch(test_.items, rows), logits, pool_);
    require_finite(logits, classes, test_.items, rows, "the model in training");
    for (std::size_t i = 0; i < rows.size(); ++i) right += likeliest(logits, i, classes) == test_.items[rows[i]].label;
    progress.step(rows.size());
  }
  return static_cast<double>(right) / static_cast<double>(order.size());
}

void Trainer::take_step(std::span<const std::size_t> rows) {
  const auto start = Clock::now();
  const lowbit::qat::Batch batch = make_batch(train_.items, rows);
  const std::size_t total = steps_per_epoch() * options_.epochs;
  const auto warmup = static_cast<std::uint64_t>(std::llround(options_.warmup * static_cast<double>(total)));
  const std::uint64_t global = epoch_ * steps_per_epoch() + step_;
  lowbit::qat::LossOptions loss_options;
  loss_options.label_smoothing = options_.label_smoothing;
  loss_options.language_weight = options_.language_weight;
  loss_options.language_share = options_.language_share;
  loss_options.dropout = options_.dropout;
  loss_options.stream = lowbit::qat::random_stream(options_.seed, global, 3);
  loss_options.times = options_.profile ? &times_ : nullptr;
  model_.prepare(options_.quantization, true, pool_, loss_options.times);
  model_.clear_gradients();
  const lowbit::qat::Loss loss = model_.backward(batch, loss_options, pool_);
  const double rate = lowbit::qat::scheduled_rate(global, warmup, total, options_.peak_rate());
  const auto fail = [&](const std::string& what, const std::string& where) {
    lowbit::raise<lowbit::Error>(fmt::format("epoch {}, step {}: {}{}; a lower --rate may help", epoch_ + 1, step_ + 1, what,
                                             where.empty() ? "" : "; " + where));
  };
  if (!std::isfinite(loss.total))
    fail(fmt::format("the loss is {} (classes {}, language {})", loss.total, loss.classes, loss.language),
         non_finite(model_, &lowbit::qat::Parameter::value));
  double norm = 0;
  {
    const lowbit::qat::detail::Timer timer(loss_options.times, "optimizer");
    norm = optimizer_.step(model_, rate, pool_);
  }
  if (!std::isfinite(norm))
    fail(fmt::format("the loss is {} and the gradient's norm {}", loss.total, norm),
         non_finite(model_, &lowbit::qat::Parameter::gradient));
  history_.push_back({epoch_, step_, loss.total, loss.classes, loss.language, norm, rate});
  epoch_loss_ += loss.total;
  epoch_right_ += loss.right;
  epoch_rows_ += batch.rows();
  tokens_ += batch.tokens();
  ++step_;
  const double took = seconds_since(start);
  seconds_ += took;
  epoch_seconds_ += took;
}

void Trainer::end_epoch(double test_accuracy) {
  EpochResult e;
  e.epoch = epoch_ + 1;
  e.loss = epoch_loss_ / static_cast<double>(steps_per_epoch());
  e.train_accuracy = static_cast<double>(epoch_right_) / static_cast<double>(epoch_rows_);
  e.seconds = epoch_seconds_;
  e.test_accuracy = test_accuracy;
  epochs_.push_back(e);
  say("epoch {} of {}: loss {:.4f}, right in training {:.2f} %, on the test rows {:.2f} %, {:.0f} s\n", e.epoch, options_.epochs,
      e.loss, 100 * e.train_accuracy, 100 * e.test_accuracy, e.seconds);
  ++epoch_;
  step_ = epoch_right_ = epoch_rows_ = 0;
  epoch_loss_ = epoch_seconds_ = 0;
}

bool Trainer::run() {
  const std::size_t steps = steps_per_epoch();
  auto saved = Clock::now();
  while (epoch_ < options_.epochs) {
    const std::vector<Rows> batches = epoch_batches(train_.items, options_.batch_rows, options_.seed, epoch_);
    {
      examples::Progress progress(fmt::format("epoch {} of {}", epoch_ + 1, options_.epochs), steps, step_);
      while (step_ < steps && !examples::interrupted()) {
        take_step(batches[step_]);
        progress.step(
            1, fmt::format(", loss {:.4f}, right {:.1f} %, rate {:.2g}", epoch_loss_ / static_cast<double>(step_),
                           100 * static_cast<double>(epoch_right_) / static_cast<double>(epoch_rows_), history_.back().rate));
        if (step_ < steps && seconds_since(saved) > static_cast<double>(options_.checkpoint_seconds)) {
          save();
          saved = Clock::now();
        }
      }
    }
    save();
    saved = Clock::now();
    if (step_ < steps) return false;
    const std::optional<double> accuracy = test_accuracy();
    if (!accuracy) return false;
    end_epoch(*accuracy);
  }
  save();
  return true;
}

}  // namespace train_classifier
