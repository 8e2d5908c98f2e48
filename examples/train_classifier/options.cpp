// SPDX-License-Identifier: MIT
#include "examples/train_classifier/options.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "examples/train_classifier/say.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/parallel.hpp"

namespace train_classifier {

namespace {

constexpr const char* description =
    "Trains a GPT-2 text classifier on the CPU: from random weights, with a vocabulary of its own, or on from a Hugging Face "
    "folder;\n"
    "in float, or with quantization in the loop (--qat int8, --qat nf4).  Writes a Hugging Face folder, with int8 also its INT8 "
    "twin.";

constexpr const char* footer =
    "The CSV has three fields: class from 1, title, description.  Texts are title + \" \" + description, cut after --max-tokens.\n"
    "It may be a pipe (--data /dev/stdin).\n"
    "\n"
    "--out receives config.json, model.safetensors, vocab.json and merges.txt, with --qat int8 also int8/ (what four_models takes "
    "as\n"
    "--qat-model; after --qat nf4, NF4 made of the folder is the model that was trained); history.csv (a line per step) and\n"
    "training.json; and checkpoint.safetensors, from which --resume goes on as if nothing had happened, with the options of that "
    "run\n"
    "(--threads, --checkpoint-every and --profile are free).  Ctrl-C or SIGTERM writes one more checkpoint, a second one ends at "
    "once.\n"
    "\n"
    "A folder that holds a model or a run is refused unless --overwrite (or --resume, for its own run) says so.  Nothing is "
    "written "
    "before\n"
    "all input has been read; the model is made beside --out and takes its place as a whole, once it has been measured: until "
    "then, "
    "and\n"
    "however the run ends, an old model stays as it is, also where --out is --model.  Files in --out that are not a model's stay.\n"
    "A run that is killed may leave a DIR.part0, which the next one names.\n"
    "\n"
    "Examples:\n"
    "  train_classifier --data train.csv --test test.csv --out mine\n"
    "  train_classifier --data train.csv --test test.csv --out mine --resume\n"
    "  train_classifier --model mine --qat int8 --epochs 1 --data train.csv --test test.csv --out mine-int8\n"
    "  four_models --model mine --qat-model mine-int8/int8 --data test.csv\n"
    "\n"
    "The gradient is that of mean class cross-entropy (at the last token) + --lm-weight x mean next-token cross-entropy.  The "
    "same\n"
    "seed gives the same losses on the same machine, with any number of threads.\n"
    "Exit codes: 0 done, 1 a file or the system failed, 2 wrong usage, 130 interrupted (SIGTERM: 143).";

// The class names between the commas; CLI11's own delimiter drops empty ones.
std::vector<std::string> names_in(const std::vector<std::string>& lists) {
  const auto refuse = [](const std::string& what) { throw CLI::ValidationError("--class-names", what); };
  std::vector<std::string> names;
  for (const std::string& list : lists)
    for (std::size_t begin = 0, end = 0; end != list.npos; begin = end + 1) {
      end = list.find(',', begin);
      std::string name = list.substr(begin, end - begin);
      if (lowbit::io::is_blank(name)) refuse("expected names, found an empty one");
      if (std::find(names.begin(), names.end(), name) != names.end()) refuse("two classes are called \"" + name + "\"");
      names.push_back(std::move(name));
    }
  return names;
}

constexpr const char* shape_group = "Shape of a new model";

CLI::Validator positive() { return CLI::Range(std::size_t{1}, std::size_t{1} << 40); }

// `qat` is a name, which settle() takes.
void add_model_options(CLI::App& app, Options& o, std::string& qat) {
  app.add_option("--data", o.data, "labelled rows to train on")->required()->type_name("CSV");
  app.add_option("--test", o.test, "labelled rows to measure accuracy on, after each epoch [every 20th row of --data, held out]")
      ->type_name("CSV");
  app.add_option("--out", o.out, "where the model is written")->required()->type_name("DIR");
  app.add_option("--model", o.model, "the model to go on from [random weights]")->type_name("DIR");
  app.add_option("--qat", qat, "quantization in the loop: int8 (weights per row, activations per token), or nf4 (weights alone)")
      ->type_name("HOW");
  app.add_flag("--resume", o.resume, "go on from the checkpoint in --out");
  app.add_flag("--overwrite", o.overwrite, "replace the model and the run in --out (with --resume: only the model)");
}

void add_shape_options(CLI::App& app, Options& o) {
  const auto size = [&](const char* name, std::size_t& value, const char* text) {
    app.add_option(name, value, text)->check(positive())->type_name("N")->group(shape_group);
  };
  size("--layers", o.layers, "blocks [4]");
  size("--heads", o.heads, "attention heads [5]");
  size("--width", o.width, "of the residual stream [240]");
  size("--vocab", o.vocab, "tokens; the vocabulary is trained on --data [8192]");
  size("--positions", o.positions, "longest text in tokens [256]");
  app.add_option("--class-names", o.class_names, "in the order of the numbers [LABEL_0, LABEL_1, ...]")
      ->type_name("NAME,...")
      ->group(shape_group);
}

void add_training_options(CLI::App& app, Options& o) {
  const char* group = "Training";
  const auto share = CLI::Range(0.0, 1.0);
  // Ranges let NaN through, and are of double: what a float cannot hold is no number here.
  const auto finite = CLI::Validator(
      [](std::string& text) {
        float value = 0;
        double exact = 0;
        const bool held = CLI::detail::lexical_cast(text, value) && CLI::detail::lexical_cast(text, exact) &&
                          std::isfinite(value) && (value != 0 || exact == 0);
        return held ? std::string() : "expected a number that a float holds, found " + text;
      },
      "");
  const auto number = [&](const char* name, auto& value, const char* text, const CLI::Validator& range) {
    app.add_option(name, value, text)->check(finite)->check(range)->type_name("X")->group(group);
  };
  app.add_option("--epochs", o.epochs, "passes over the rows [4; 1 with --model]")->check(positive())->type_name("N")->group(group);
  app.add_option("--batch", o.batch_rows, "rows per step [32]")->check(positive())->type_name("N")->group(group);
  number("--rate", o.rate, "peak learning rate [1e-3; 2e-5 with --model]", CLI::PositiveNumber);
  number("--warmup", o.warmup, "share of the steps in which the rate rises; then it falls to 0 [0.06]", share);
  number("--weight-decay", o.weight_decay, "of matrices [0.05]", CLI::NonNegativeNumber);
  number("--dropout", o.dropout, "on the embedding and on residual branches [0.1]", CLI::Range(0.0, 0.9));
  number("--label-smoothing", o.label_smoothing, "[0.05]", share);
  number("--clip", o.clip, "largest norm of the gradient; 0: none [1]", CLI::NonNegativeNumber);
  number("--lm-weight", o.language_weight, "weight of the language-model loss [0.2; 0 with --model]", CLI::NonNegativeNumber);
  number("--lm-share", o.language_share, "share of the tokens whose successor is predicted, drawn anew for every batch [0.5]",
         share);
  app.add_flag("--freeze-embeddings", o.freeze_embeddings, "keep token and position embeddings as they are")->group(group);
  app.add_option("--seed", o.seed, "of weights, order and dropout [1]")->type_name("N")->group(group);
}

void add_run_options(CLI::App& app, Options& o) {
  app.add_option("--limit", o.limit, "only the first N rows of --data")->check(positive())->type_name("N");
  app.add_option("--max-tokens", o.max_tokens, "texts are cut after N tokens [160]")->check(positive())->type_name("N");
  app.add_option("--threads", o.threads, "threads [one per processor]")->check(CLI::Range(1, 1024))->type_name("N");
  app.add_option("--checkpoint-every", o.checkpoint_seconds, "seconds between checkpoints [300]")
      ->check(positive())
      ->type_name("S");
  app.add_flag("--profile", o.profile, "say at the end where the time went, beside the limit of the float product");
}

lowbit::qat::Quantization quantization_of(const std::string& qat) {
  using lowbit::qat::Quantization;
  for (const Quantization q : {Quantization::int8, Quantization::nf4})
    if (qat == lowbit::qat::quantization_name(q)) return q;
  if (!qat.empty()) throw CLI::ValidationError("--qat", "expected int8 or nf4, found \"" + qat + "\"");
  return Quantization::none;
}

// What was given, what goes together, and the defaults that depend on it.
void settle(const CLI::App& app, const std::string& qat, Options& o) {
  o.quantization = quantization_of(qat);
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0) continue;
    o.given.insert(option->get_name());
    if (option->get_group() == shape_group && !o.model.empty())
      throw CLI::ValidationError("--model", "has its own shape; leave the options of a new one out");
  }
  o.class_names = names_in(o.class_names);
  if (!o.out.has_filename()) o.out = o.out.parent_path();  // "out/" is "out"
  if (o.width % o.heads != 0) throw CLI::ValidationError("--width", "expected a multiple of --heads");
  if (o.model.empty()) return;
  if (!o.given.contains("--epochs")) o.epochs = 1;
  if (!o.given.contains("--lm-weight")) o.language_weight = 0;
}

}  // namespace

std::optional<int> read_options(int argc, const char* const* argv, Options& o) {
  CLI::App app(description, "train_classifier");
  app.footer(footer);
  o.threads = lowbit::available_processors();
  std::string qat;
  add_model_options(app, o, qat);
  app.set_version_flag("--version", std::string("train_classifier ") + LOWBIT_VERSION);
  add_shape_options(app, o);
  add_training_options(app, o);
  add_run_options(app, o);

  try {
    app.parse(argc, argv);
    settle(app, qat, o);
  } catch (const CLI::Success& done) {  // --help, --version
    std::ostringstream text;
    const int code = app.exit(done, text, text);
    say("{}", text.str());
    return code;
  } catch (const CLI::Error& error) {
    complain("{} (--help explains)", error.what());
    return exit_usage;
  }
  return std::nullopt;
}

}  // namespace train_classifier
