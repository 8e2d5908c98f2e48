// SPDX-License-Identifier: MIT
#include "export.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "../four_models/metrics.hpp"
#include "../four_models/progress.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/model_writer.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"

namespace train_classifier {

namespace {

using lowbit::Int8Tensor;
namespace gpt2 = lowbit::gpt2;

std::size_t right_of(const gpt2::Transformer& model, const four_models::Dataset& test, std::size_t threads) {
  four_models::Progress progress("running the exported model", test.items.size());
  lowbit::ThreadPool pool(threads);
  const std::size_t classes = model.config.classes;
  std::size_t right = 0;
  constexpr std::size_t rows_together = 32;
  for (std::size_t begin = 0; begin < test.items.size(); begin += rows_together) {
    const std::size_t end = std::min(test.items.size(), begin + rows_together);
    std::vector<std::int32_t> ids;
    std::vector<std::size_t> offsets{0};
    for (std::size_t i = begin; i < end; ++i) {
      ids.insert(ids.end(), test.items[i].ids.begin(), test.items[i].ids.end());
      offsets.push_back(ids.size());
    }
    std::vector<float> logits((end - begin) * classes);
    model.classify(ids, offsets, logits, pool);
    for (std::size_t i = begin; i < end; ++i) {
      const auto row = logits.begin() + static_cast<std::ptrdiff_t>((i - begin) * classes);
      right +=
          static_cast<std::size_t>(std::max_element(row, row + static_cast<std::ptrdiff_t>(classes)) - row) == test.items[i].label;
    }
    progress.step(end - begin);
  }
  return right;
}

}  // namespace

void export_model(const Options& o, lowbit::qat::Transformer& model, const std::filesystem::path& tokenizer) {
  std::vector<gpt2::NamedParameter> parameters;
  model.for_each_parameter([&](const lowbit::qat::Parameter& p) {
    const bool vector = p.rows == 1 && !p.decays;
    parameters.push_back({p.name, vector ? std::vector{p.cols} : std::vector{p.rows, p.cols}, p.value.span()});
  });
  const gpt2::TokenizerFiles files = gpt2::TokenizerFiles::read(tokenizer);
  gpt2::ModelFolderOptions options;
  options.tokenizer = &files;
  gpt2::write_model_folder(o.out, model.config, parameters, options);
  if (o.quantization != lowbit::qat::Quantization::int8) return;
  options.tokenizer = nullptr;
  options.end_of_text = files.end_of_text();
  options.twin_embeddings = !o.freeze_embeddings;  // else the model before had the same, and the twin goes with it
  gpt2::write_int8_twin(o.out / "int8", model.config, parameters, options);
}

std::vector<Measured> measure_exported(const Options& o, const four_models::Dataset& test) {
  std::vector<Measured> all;
  const auto measure = [&](const std::filesystem::path& folder, const gpt2::Transformer& model) {
    all.push_back({folder, to_string(model.plans().front()), right_of(model, test, o.threads)});
  };
  measure(o.out, gpt2::Model<lowbit::DenseTensor<float>>::load(o.out));
  const auto int8 = [&](const std::filesystem::path& folder, const std::optional<std::filesystem::path>& base) {
    gpt2::ModelOptions<Int8Tensor<>> options;
    options.linear.compute = lowbit::Compute::int8;
    measure(folder, gpt2::Model<Int8Tensor<>>::load(folder, options, base));
  };
  switch (o.quantization) {
    case lowbit::qat::Quantization::none: int8(o.out, std::nullopt); break;  // quantized after training, for comparison
    case lowbit::qat::Quantization::int8: int8(o.out / "int8", o.out); break;
    case lowbit::qat::Quantization::nf4: measure(o.out, gpt2::Model<lowbit::NF4Tensor<>>::load(o.out)); break;
  }
  return all;
}

void write_summary(const Options& o, const gpt2::Config& config, const Trainer& trainer, const four_models::Dataset& train,
                   const four_models::Dataset& test, const std::vector<Measured>& measured) {
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
  json["exported"] = Json::array();
  for (const Measured& m : measured) {
    const auto [low, high] = four_models::wilson_interval(m.right, test.items.size());
    json["exported"].push_back({{"folder", m.folder.string()},
                                {"runs_as", m.compute},
                                {"accuracy", static_cast<double>(m.right) / static_cast<double>(test.items.size())},
                                {"interval_95", {low, high}}});
  }
  lowbit::io::write_atomically(o.out / "training.json", json.dump(2) + "\n");
}

}  // namespace train_classifier
