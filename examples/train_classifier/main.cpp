// SPDX-License-Identifier: MIT
// train_classifier: a GPT-2 text classifier from rows of text, in float or with quantization in the loop.
#include <algorithm>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "../four_models/interrupt.hpp"
#include "../four_models/progress.hpp"
#include "export.hpp"
#include "options.hpp"
#include "profile.hpp"
#include "trainer.hpp"
#include "lowbit/gpt2/tokenizer_training.hpp"
#include "lowbit/io/csv.hpp"

namespace train_classifier {

namespace {

namespace fs = std::filesystem;

// The classes of a CSV, by its largest number.
std::size_t classes_of(const fs::path& csv) {
  int most = 0;
  for (const auto& row : lowbit::io::read_news(csv, 1000)) most = std::max(most, row.label + 1);
  return static_cast<std::size_t>(std::max(most, 2));
}

// The vocabulary of a new model, from the texts it is trained on.
void train_vocabulary(const Options& o) {
  const four_models::Progress progress(fmt::format("training a vocabulary of {} tokens", o.vocab));
  lowbit::gpt2::TokenizerTrainer trainer;
  for (const auto& row : lowbit::io::read_news(o.data, 1000)) trainer.add(row.title + " " + row.description);
  trainer.train(o.vocab).write(o.out);
}

// Every 20th row, where no test set is given.
four_models::Dataset hold_out(four_models::Dataset& train) {
  four_models::Dataset test = train;
  test.items.clear();
  std::vector<four_models::Item> kept;
  for (std::size_t i = 0; i < train.items.size(); ++i) (i % 20 == 19 ? test.items : kept).push_back(std::move(train.items[i]));
  train.items = std::move(kept);
  if (test.items.empty())
    lowbit::raise<lowbit::FormatError>(train.path + ": expected at least 20 rows to hold one out, or --test; found " +
                                       std::to_string(train.items.size()));
  return test;
}

lowbit::gpt2::Config new_shape(const Options& o) {
  lowbit::gpt2::Config c;
  c.layers = o.layers;
  c.heads = o.heads;
  c.width = o.width;
  c.inner = 4 * o.width;
  c.positions = o.positions;
  c.vocab = lowbit::gpt2::Tokenizer::load(o.out).vocab_size();  // less than asked for where the texts are few
  c.classes = classes_of(o.data);
  if (o.class_names.size() > c.classes) c.classes = o.class_names.size();
  c.class_names = o.class_names;
  for (std::size_t i = c.class_names.size(); i < c.classes; ++i) c.class_names.push_back("LABEL_" + std::to_string(i));
  return c;
}

int train(const Options& o) {
  const bool fresh = o.model.empty();
  const fs::path tokenizer = fresh ? o.out : o.model, checkpoint = o.out / "checkpoint.safetensors";
  if (o.resume && !fs::exists(checkpoint))
    lowbit::raise<lowbit::IoError>(checkpoint.string() + ": expected a checkpoint to go on from, found none");
  if (!o.resume && !o.overwrite && fs::exists(checkpoint))
    lowbit::raise<lowbit::IoError>(checkpoint.string() + " is there already: --resume goes on from it, --overwrite starts anew");
  lowbit::io::make_folder(o.out);
  if (fresh && !o.resume) train_vocabulary(o);
  lowbit::qat::Transformer model =
      fresh ? lowbit::qat::Transformer(new_shape(o), o.seed)
            : lowbit::qat::Transformer(lowbit::gpt2::FolderParameters(o.model), classes_of(o.data), o.seed);
  const lowbit::gpt2::Config& config = model.config;
  four_models::Dataset rows, test;
  {
    const four_models::Progress progress("reading texts");
    rows = four_models::read_dataset(o.data, tokenizer, config, o.max_tokens, o.limit);
    test = o.test.empty() ? hold_out(rows) : four_models::read_dataset(o.test, tokenizer, config, o.max_tokens, 0);
  }
  fmt::print("{} parameters: {} layers, width {}, {} heads, {} tokens, {} classes\n", model.parameter_count(), config.layers,
             config.width, config.heads, config.vocab, config.classes);
  fmt::print("{} rows, mean {:.1f} tokens; {} test rows; {} threads, {}, {}\n", rows.items.size(), rows.mean_tokens(),
             test.items.size(), o.threads, lowbit::level_name(lowbit::active_level()),
             o.quantization == lowbit::qat::Quantization::none
                 ? std::string("float")
                 : fmt::format("{} in the loop", lowbit::qat::quantization_name(o.quantization)));
  std::fflush(stdout);

  Trainer trainer(o, model, rows, test);
  if (o.resume) trainer.resume();
  four_models::watch_for_interrupt();
  if (const auto accuracy = !fresh && !o.resume ? trainer.test_accuracy() : std::nullopt)
    fmt::print("before training: {:.2f} % of the test rows right\n", 100 * *accuracy);
  std::fflush(stdout);
  if (!trainer.run()) {
    fmt::print(stderr, "train_classifier: interrupted; --resume goes on\n");
    return four_models::exit_interrupted;
  }
  export_model(o, model, tokenizer);
  const auto measured = measure_models(o, test);
  print_models(measured, test);
  if (o.profile) print_profile(trainer.times(), o.threads);
  write_summary(o, config, trainer, rows, test, measured);
  return 0;
}

}  // namespace

}  // namespace train_classifier

int main(int argc, char** argv) {
  using namespace train_classifier;
  try {
    Options options;
    if (const auto done = read_options(argc, argv, options)) return *done;
    return train(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "train_classifier: {}\n", error.what());
    return exit_failed;
  }
}
