// SPDX-License-Identifier: MIT
// train_classifier: a GPT-2 text classifier from rows of text, in float or with quantization in the loop.
#include <algorithm>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/left_behind.hpp"
#include "examples/common/models.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/standard_streams.hpp"
#include "examples/train_classifier/export.hpp"
#include "examples/train_classifier/options.hpp"
#include "examples/train_classifier/profile.hpp"
#include "examples/train_classifier/recipe.hpp"
#include "examples/train_classifier/say.hpp"
#include "examples/train_classifier/trainer.hpp"
#include "lowbit/gpt2/model_writer.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_training.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"

namespace train_classifier {

namespace {

namespace fs = std::filesystem;

// Of any number of classes; those of a model are checked once there is one.
std::vector<lowbit::io::NewsRow> news_in(const std::string& csv, const Options& o) {
  return lowbit::io::parse_news(csv, o.data.string(), 1000);
}

// The classes of the CSV, by its largest number.
std::size_t classes_of(const std::string& csv, const Options& o) {
  int most = 0;
  for (const auto& row : news_in(csv, o)) most = std::max(most, row.label + 1);
  return static_cast<std::size_t>(std::max(most, 2));
}

// The vocabulary of a new model, from the texts it is trained on.
lowbit::gpt2::TokenizerFiles train_vocabulary(const std::string& csv, const Options& o) {
  const examples::Progress progress(fmt::format("training a vocabulary of {} tokens", o.vocab));
  lowbit::gpt2::TokenizerTrainer trainer;
  for (const auto& row : news_in(csv, o)) trainer.add(row.title + " " + row.description);
  return trainer.train(o.vocab);
}

// Every 20th row, where no test set is given.
examples::Dataset hold_out(examples::Dataset& train) {
  examples::Dataset test = train;
  test.items.clear();
  test.cut_texts = test.empty_texts = test.blank_lines = 0;  // counted for the whole
  std::vector<examples::Item> kept;
  for (std::size_t i = 0; i < train.items.size(); ++i) (i % 20 == 19 ? test.items : kept).push_back(std::move(train.items[i]));
  train.items = std::move(kept);
  if (test.items.empty())
    lowbit::raise<lowbit::FormatError>(train.path + ": expected at least 20 rows to hold one out, or --test; found " +
                                       std::to_string(train.items.size()));
  return test;
}

lowbit::gpt2::Config new_shape(const std::string& csv, const Options& o, std::size_t tokens) {
  lowbit::gpt2::Config c;
  c.layers = o.layers;
  c.heads = o.heads;
  c.width = o.width;
  c.inner = 4 * o.width;
  c.positions = o.positions;
  c.vocab = tokens;  // less than asked for where the texts are few
  c.classes = classes_of(csv, o);
  if (o.class_names.size() > c.classes) c.classes = o.class_names.size();
  c.class_names = o.class_names;
  for (std::size_t i = c.class_names.size(); i < c.classes; ++i) c.class_names.push_back("LABEL_" + std::to_string(i));
  return c;
}

// That of --model; what is quantized there is trained as what it decodes to, and that is said.
lowbit::qat::Transformer model_to_go_on_from(const Options& o, std::size_t classes) {
  const lowbit::gpt2::FolderParameters folder(o.model);
  const examples::WatchedParameters watched(folder, o.model.string() + ": ");
  lowbit::qat::Transformer model(watched, classes, o.seed);
  for (const examples::HeldForm& held : watched.held())
    if (held.format != lowbit::Format::f32)
      say("{}: {} linear layers hold {} weights; training goes on from their decoded values\n", o.model.string(), held.layers,
          lowbit::format_name(held.format));
  return model;
}

// What the run that --resume takes up has recorded; of a new run nothing but `overwrite`.  Throws where it is another run than the
// command line's, or the output is not free for it.
Recorded open_run(const Options& o, const fs::path& checkpoint, const lowbit::io::Json& recipe) {
  Recorded recorded;
  require_not_moved_aside(o.out);
  if (o.resume) {
    if (!fs::exists(checkpoint))
      lowbit::raise<lowbit::IoError>(checkpoint.string() + ": expected a checkpoint to go on from, found none");
    recorded = read_recorded(checkpoint);
    require_same_run(checkpoint, recorded.recipe, recipe, o);
  }
  recorded.overwrite = recorded.overwrite || o.overwrite;
  require_free_output(o, recorded.overwrite, o.resume ? &recorded.recipe : nullptr);
  return recorded;
}

// The rows to train on, and those to test on.
struct DataSets {
  examples::Dataset rows, test;
};

DataSets read_data(const std::string& csv, const Options& o, const lowbit::gpt2::Tokenizer& tokenizer,
                   const lowbit::gpt2::Config& config) {
  if (o.given.contains("--max-tokens") && o.max_tokens > config.positions)
    lowbit::raise<lowbit::InvalidArgument>(
        fmt::format("--max-tokens: expected at most {}, the positions of the model, found {}", config.positions, o.max_tokens));
  const examples::Progress progress("reading texts");
  DataSets d;
  d.rows = examples::parse_dataset(csv, o.data.string(), tokenizer, config, o.max_tokens, o.limit);
  if (o.test.empty())
    d.test = hold_out(d.rows);
  else if (o.test == o.data)
    d.test = examples::parse_dataset(csv, o.test.string(), tokenizer, config, o.max_tokens, 0);
  else
    d.test = examples::read_dataset(o.test, tokenizer, config, o.max_tokens, 0);
  return d;
}

void say_what_is_trained(const Options& o, lowbit::qat::Transformer& model, const examples::Dataset& rows,
                         const examples::Dataset& test) {
  const lowbit::gpt2::Config& config = model.config;
  say("{} parameters: {} layers, width {}, {} heads, {} tokens, {} classes\n", model.parameter_count(), config.layers, config.width,
      config.heads, config.vocab, config.classes);
  say("{} rows, mean {:.1f} tokens; {} test rows; {} threads, {}, {}\n", rows.items.size(), rows.mean_tokens(), test.items.size(),
      o.threads, lowbit::level_name(lowbit::active_level()),
      o.quantization == lowbit::qat::Quantization::none
          ? std::string("float")
          : fmt::format("{} in the loop", lowbit::qat::quantization_name(o.quantization)));
  for (const examples::Dataset* set : {&rows, &test})
    if (set->cut_texts + set->empty_texts + set->blank_lines != 0)
      say("{}: {} texts cut to {} tokens, {} rows without a text and {} blank lines skipped\n", set->path, set->cut_texts,
          set->max_tokens, set->empty_texts, set->blank_lines);
}

// Writes the model and its summary, and says what it is worth.
void export_measured(const Options& o, lowbit::qat::Transformer& model, const lowbit::gpt2::TokenizerFiles& files,
                     const Trainer& trainer, const lowbit::io::Json& recipe, const examples::Dataset& rows,
                     const examples::Dataset& test) {
  std::vector<Measured> measured;
  export_model(o, model, files, [&](const fs::path& made) {
    measured = measure_models(o, made, test);
    write_summary(o, made, recipe, model.config, trainer, rows, test, measured);
  });
  print_models(measured, test);
  if (o.profile) print_profile(trainer.times(), o.threads);
}

int train(const Options& o) {
  const bool fresh = o.model.empty();
  const fs::path checkpoint = o.out / "checkpoint.safetensors";
  lowbit::io::Json recipe = recipe_of(o);
  if (!fresh) lowbit::io::require_model_folder(o.model);
  examples::warn_of_threads("train_classifier", o.threads);
  Recorded recorded = open_run(o, checkpoint, recipe);
  examples::note_left_beside("train_classifier", o.out);

  // Everything is read and checked before anything is written: the first thing that is written is a checkpoint.
  const std::string csv = lowbit::io::read_stream(o.data);  // once: it may be a pipe
  if (fresh && !o.resume) recorded.tokenizer = train_vocabulary(csv, o);
  if (fresh && !recorded.tokenizer)
    lowbit::raise<lowbit::FormatError>(checkpoint.string() + ": expected vocab.json and merges.txt of the run, found neither");
  const lowbit::gpt2::TokenizerFiles files = fresh ? *recorded.tokenizer : lowbit::gpt2::TokenizerFiles::read(o.model);
  const std::string from = fresh ? o.out.string() : o.model.string();
  const auto tokenizer =
      lowbit::gpt2::Tokenizer::from_text(files.vocab_json, files.merges, from + "/vocab.json", from + "/merges.txt");
  lowbit::qat::Transformer model = fresh ? lowbit::qat::Transformer(new_shape(csv, o, tokenizer.vocab_size()), o.seed)
                                         : model_to_go_on_from(o, classes_of(csv, o));
  require_finite_parameters(model, from);
  tokenizer.require_fits(model.config.vocab, from);
  lowbit::gpt2::check_model_folder(o.out, model.config, {.tokenizer = &files});
  const auto [rows, test] = read_data(csv, o, tokenizer, model.config);
  add_inputs(recipe, model.config, rows, test);
  if (o.resume)
    require_same_run(checkpoint, recorded.recipe, recipe, o);
  else
    recorded.recipe = recipe;
  say_what_is_trained(o, model, rows, test);

  Trainer trainer(o, model, rows, test, recorded);
  if (o.resume) trainer.resume();
  examples::watch_for_interrupt();
  if (const auto accuracy = !fresh && !o.resume ? trainer.test_accuracy() : std::nullopt)
    say("before training: {:.2f} % of the test rows right\n", 100 * *accuracy);
  if (!trainer.run()) {
    complain("interrupted; --resume goes on");
    return examples::interrupted_exit_code();
  }
  require_free_output(o, recorded.overwrite, &recorded.recipe);  // who put a model there meanwhile wants to keep it
  export_measured(o, model, files, trainer, recorded.recipe, rows, test);
  return 0;
}

// That of a program which ends with `code`, unless it could not say what it had to; that is told, with `remark`.
int exit_code(int code, const std::string& remark) {
  if (say_failure == 0) return code;
  complain("standard output: cannot write: {}{}", std::generic_category().message(say_failure), remark);
  return code == 0 ? exit_failed : code;
}

}  // namespace

}  // namespace train_classifier

int main(int argc, char** argv) {
  using namespace train_classifier;
  try {
    examples::outlive_failed_writes();
    Options options;
    if (const auto done = read_options(argc, argv, options)) return exit_code(*done, "");
    const int code = train(options);
    return exit_code(code, code == 0 ? "; the model in " + options.out.string() + " is whole" : "");
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain("{}", error.what());
  }
  return exit_failed;
}
