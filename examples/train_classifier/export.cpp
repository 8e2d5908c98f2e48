// SPDX-License-Identifier: MIT
#include "examples/train_classifier/export.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "examples/common/statistics.hpp"
#include "examples/common/progress.hpp"
#include "examples/train_classifier/batches.hpp"
#include "examples/train_classifier/say.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/model_writer.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/json.hpp"

namespace train_classifier {

namespace {

using lowbit::Int8Tensor;
namespace gpt2 = lowbit::gpt2;
namespace fs = std::filesystem;

std::vector<std::size_t> predictions_of(const gpt2::Transformer& model, const std::string& name, const examples::Dataset& test,
                                        std::size_t threads) {
  examples::Progress progress("running a model", test.items.size());
  lowbit::ThreadPool pool(threads);
  const std::size_t classes = model.config.classes;
  std::vector<std::size_t> predicted, rows;
  constexpr std::size_t rows_together = 32;
  for (std::size_t begin = 0; begin < test.items.size(); begin += rows.size()) {
    rows.resize(std::min(rows_together, test.items.size() - begin));
    std::iota(rows.begin(), rows.end(), begin);
    const lowbit::qat::Batch batch = make_batch(test.items, rows);
    std::vector<float> logits(rows.size() * classes);
    model.classify(batch.ids, batch.offsets, logits, pool);
    require_finite(logits, classes, test.items, rows, name);
    for (std::size_t i = 0; i < rows.size(); ++i) predicted.push_back(likeliest(logits, i, classes));
    progress.step(rows.size());
  }
  return predicted;
}

// Rows on which one of two models is right and the other wrong.
struct Discordant {
  std::size_t first = 0, second = 0;  // only the first is right, only the second
};
Discordant discordant(const Measured& a, const Measured& b, const examples::Dataset& test) {
  Discordant d;
  for (std::size_t i = 0; i < test.items.size(); ++i) {
    const bool right_a = a.predicted[i] == test.items[i].label, right_b = b.predicted[i] == test.items[i].label;
    d.first += right_a && !right_b;
    d.second += right_b && !right_a;
  }
  return d;
}

bool same_folder(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

// Whether a file is part of a model, or of what says how it was made; relative to the model's folder.
bool is_of_model(const fs::path& file) {
  static constexpr std::array names{"config.json",       "model.safetensors", "model.safetensors.index.json",
                                    "pytorch_model.bin", "training.json",     "vocab.json",
                                    "merges.txt",        "int8/config.json",  "int8/model.safetensors"};
  const std::string name = file.generic_string();
  return std::find(names.begin(), names.end(), name) != names.end() ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}
// Whether it says the same as vocab.json and merges.txt, for other programs.
bool is_of_tokenizer(const fs::path& file) {
  static constexpr std::array names{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
  return std::find(names.begin(), names.end(), file.generic_string()) != names.end();
}

// Whether the model in the folder is what a run of this recipe made.
bool is_made_by(const fs::path& folder, const lowbit::io::Json& recipe) {
  const fs::path summary = folder / "training.json";
  std::error_code ignored;
  if (!fs::exists(summary, ignored)) return false;
  const lowbit::io::Json json = lowbit::io::parse_json(lowbit::io::read_text(summary), summary.string());
  return json.is_object() && json.contains("recipe") && json.at("recipe") == recipe;
}

}  // namespace

void require_not_moved_aside(const fs::path& out) {
  std::error_code ignored;
  const fs::path aside = out.string() + ".old0";
  if (!fs::exists(out, ignored) && fs::exists(aside, ignored))
    lowbit::raise<lowbit::IoError>(out.string() + ": is missing, but " + aside.string() +
                                   " is there: a program ended while it replaced the folder; rename it back, or remove it");
}

void require_free_output(const Options& o, bool overwrite, const lowbit::io::Json* own) {
  std::error_code ignored;
  lowbit::io::require_replaceable_folder(o.out);
  if (overwrite || !fs::exists(o.out, ignored)) return;
  if (own == nullptr)
    for (const char* file : {"checkpoint.safetensors", "history.csv"})
      if (fs::exists(o.out / file, ignored))
        lowbit::raise<lowbit::IoError>(
            (o.out / file).string() +
            " is there already: --resume goes on from it, --overwrite starts anew, another --out keeps it");
  std::string found;
  for (auto entry = fs::recursive_directory_iterator(o.out, fs::directory_options::skip_permission_denied, ignored);
       !ignored && entry != fs::recursive_directory_iterator(); entry.increment(ignored)) {
    const fs::path file = entry->path().lexically_relative(o.out);
    if (is_of_model(file) || is_of_tokenizer(file)) found += (found.empty() ? "" : ", ") + file.generic_string();
    if (entry.depth() == 1) entry.disable_recursion_pending();
  }
  if (!found.empty() && !(own != nullptr && is_made_by(o.out, *own)))
    lowbit::raise<lowbit::IoError>(o.out.string() + ": holds a model already (" + found +
                                   "): --overwrite replaces it once the new one is whole, another --out keeps it");
}

void export_model(const Options& o, lowbit::qat::Transformer& model, const gpt2::TokenizerFiles& tokenizer,
                  const std::function<void(const fs::path&)>& write) {
  require_finite_parameters(model, "the trained model");
  std::vector<gpt2::NamedParameter> parameters;
  model.for_each_parameter([&](const lowbit::qat::Parameter& p) {
    const bool vector = p.rows == 1 && !p.decays;
    parameters.push_back({p.name, vector ? std::vector{p.cols} : std::vector{p.rows, p.cols}, p.value.span()});
  });
  // What another program takes for the tokenizer stays right where the tokenizer stays.
  const bool same_tokenizer = !o.model.empty() && same_folder(o.model, o.out);
  lowbit::io::write_folder_atomically(
      o.out,
      [&](const fs::path& made) {
        gpt2::ModelFolderOptions options;
        options.tokenizer = &tokenizer;
        gpt2::write_model_folder(made, model.config, parameters, options);
        if (o.quantization == lowbit::qat::Quantization::int8) {
          options.tokenizer = nullptr;
          options.end_of_text = tokenizer.end_of_text();
          options.twin_embeddings = !o.freeze_embeddings;  // else the model before had the same, and the twin goes with it
          gpt2::write_int8_twin(made / "int8", model.config, parameters, options);
        }
        write(made);
      },
      [&](const fs::path& file) { return !is_of_model(file) && (same_tokenizer || !is_of_tokenizer(file)); });
}

std::vector<Measured> measure_models(const Options& o, const fs::path& made, const examples::Dataset& test) {
  using lowbit::qat::Quantization;
  std::vector<Measured> all;
  const auto measure = [&](const std::string& name, const fs::path& folder, const gpt2::Transformer& model) {
    const fs::path place = folder == made ? o.out : folder == made / "int8" ? o.out / "int8" : folder;
    Measured m{name, place, to_string(model.plans().front()), predictions_of(model, place.string(), test, o.threads)};
    for (std::size_t i = 0; i < m.predicted.size(); ++i) m.right += m.predicted[i] == test.items[i].label;
    all.push_back(std::move(m));
  };
  const auto as_float = [&](const std::string& name, const fs::path& folder) {
    measure(name, folder, gpt2::Model<lowbit::DenseTensor<float>>::load(folder));
  };
  const auto quantized = [&](const std::string& name, const fs::path& folder, const std::optional<fs::path>& base) {
    if (o.quantization == Quantization::nf4) return measure(name, folder, gpt2::Model<lowbit::NF4Tensor<>>::load(folder));
    gpt2::ModelOptions<Int8Tensor<>> options;
    options.linear.compute = lowbit::Compute::int8;
    measure(name, folder, gpt2::Model<Int8Tensor<>>::load(folder, options, base));
  };
  const std::string format = lowbit::qat::quantization_name(o.quantization);
  if (o.quantization == Quantization::none) {
    quantized("int8 after training", made, std::nullopt);
    as_float("float", made);
    return all;
  }
  // A folder without a class head, or one that was written over, is no model to compare with.
  if (!o.model.empty() && !same_folder(o.model, o.out) && gpt2::FolderParameters(o.model).config().classes != 0) {
    as_float("before: float", o.model);
    quantized("before: " + format + " after training", o.model, std::nullopt);
  }
  as_float("float", made);
  if (o.quantization == Quantization::int8)
    quantized("int8 in the loop", made / "int8", made);
  else
    quantized("nf4 in the loop", made, std::nullopt);
  return all;
}

void print_models(const std::vector<Measured>& models, const examples::Dataset& test) {
  const std::size_t rows = test.items.size();
  const Measured& last = models.back();
  say("\n{:28} {:>9} {:>16}   {}\n", "model", "accuracy", "95 % interval", "\"" + last.name + "\" less this one, points");
  for (const Measured& m : models) {
    const auto [low, high] = examples::wilson_interval(m.right, rows);
    std::string against;
    if (&m != &last) {
      const Discordant d = discordant(last, m, test);
      const auto [gain, reach] = examples::paired_difference(d.first, d.second, rows);
      against = fmt::format("{:+.2f} +- {:.2f}, only it right {}, only this {}, McNemar p {:.2g}", 100 * gain, 100 * reach, d.first,
                            d.second, examples::mcnemar_p(d.first, d.second));
    }
    say("{:28} {:8.2f}% {:7.2f} to {:5.2f}   {}\n", m.name, 100 * static_cast<double>(m.right) / static_cast<double>(rows),
        100 * low, 100 * high, against);
  }
  for (const Measured& m : models) say("{}: {}, {}\n", m.name, m.folder.string(), m.compute);
}

void write_summary(const Options& o, const fs::path& made, const lowbit::io::Json& recipe, const gpt2::Config& config,
                   const Trainer& trainer, const examples::Dataset& train, const examples::Dataset& test,
                   const std::vector<Measured>& measured) {
  using lowbit::io::Json;
  Json json;
  json["data"] = {{"train", train.path},
                  {"train_rows", train.items.size()},
                  {"mean_tokens", train.mean_tokens()},
                  {"test", test.path},
                  {"test_rows", test.items.size()}};
  json["shape"] = {{"layers", config.layers}, {"heads", config.heads}, {"width", config.width}, {"vocab", config.vocab}};
  json["options"] = {{"from", o.model.string()},
                     {"quantization", lowbit::qat::quantization_name(o.quantization)},
                     {"epochs", o.epochs},
                     {"batch", o.batch_rows},
                     {"rate", o.peak_rate()},
                     {"warmup", o.warmup},
                     {"weight_decay", o.weight_decay},
                     {"dropout", o.dropout},
                     {"label_smoothing", o.label_smoothing},
                     {"lm_weight", o.language_weight},
                     {"lm_share", o.language_share},
                     {"freeze_embeddings", o.freeze_embeddings},
                     {"seed", o.seed},
                     {"threads", o.threads}};
  json["recipe"] = recipe;
  json["level"] = lowbit::level_name(lowbit::active_level());
  json["training_seconds"] = trainer.seconds();
  json["tokens"] = trainer.tokens();
  json["epochs"] = Json::array();
  for (const EpochResult& e : trainer.epochs())
    json["epochs"].push_back({{"epoch", e.epoch},
                              {"loss", e.loss},
                              {"train_accuracy", e.train_accuracy},
                              {"test_accuracy", e.test_accuracy},
                              {"seconds", e.seconds}});
  json["models"] = Json::array();
  for (const Measured& m : measured) {
    const auto [low, high] = examples::wilson_interval(m.right, test.items.size());
    const Discordant d = discordant(measured.back(), m, test);
    const auto [gain, reach] = examples::paired_difference(d.first, d.second, test.items.size());
    json["models"].push_back({{"name", m.name},
                              {"folder", m.folder.string()},
                              {"last_less_this",
                               {{"difference", gain},
                                {"reach_95", reach},
                                {"only_last_right", d.first},
                                {"only_this_right", d.second},
                                {"mcnemar_p", examples::mcnemar_p(d.first, d.second)}}},
                              {"runs_as", m.compute},
                              {"accuracy", static_cast<double>(m.right) / static_cast<double>(test.items.size())},
                              {"interval_95", {low, high}}});
  }
  lowbit::io::write_atomically(made / "training.json", json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace train_classifier
