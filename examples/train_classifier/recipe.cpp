// SPDX-License-Identifier: MIT
#include "examples/train_classifier/recipe.hpp"

#include <charconv>
#include <cstdint>
#include <cstring>
#include <system_error>

#include <fmt/format.h>

#include "lowbit/io/safetensors.hpp"

namespace train_classifier {

namespace {

using lowbit::io::Json;
namespace fs = std::filesystem;

// FNV-1a over everything that a step sees of the rows.
std::string rows_of(const examples::Dataset& set) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  const auto mix = [&](std::uint64_t value) {
    for (int i = 0; i < 8; ++i) hash = (hash ^ ((value >> (8 * i)) & 255)) * 0x100000001B3u;
  };
  for (const examples::Item& item : set.items) {
    mix(item.label);
    mix(item.ids.size());
    for (const std::int32_t id : item.ids) mix(static_cast<std::uint64_t>(id));
  }
  return fmt::format("{} rows with hash {:016x}", set.items.size(), hash);
}

// The number as it was typed: 0.2, not 0.20000000298.
double typed(float value) { return std::stod(fmt::format("{}", value)); }

// JSON cannot hold a path that is no UTF-8: its bytes are recorded in hexadecimal.
constexpr const char* in_bytes = "bytes ";
Json as_json(const fs::path& path) {
  const std::string text = path.string();
  if (Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::ignore)) == text) return text;
  std::string bytes = in_bytes;
  for (const char c : text) bytes += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return bytes;
}
fs::path path_of(const Json& recorded) {
  const std::string text = recorded.get<std::string>();
  if (!text.starts_with(in_bytes)) return text;
  std::string bytes;
  for (std::size_t i = std::strlen(in_bytes); i + 1 < text.size(); i += 2) {
    unsigned value = 0;
    std::from_chars(text.data() + i, text.data() + i + 2, value, 16);
    bytes += static_cast<char>(value);
  }
  return bytes;
}

// A folder that is named in another way is the same model.
bool same_folder(const Json& recorded, const Json& given) {
  std::error_code ignored;
  return recorded.is_string() && given.is_string() && fs::equivalent(path_of(recorded), path_of(given), ignored);
}

}  // namespace

Json recipe_of(const Options& o) {
  Json r;
  r["--model"] = as_json(o.model);
  r["--qat"] = lowbit::qat::quantization_name(o.quantization);
  if (o.model.empty()) {
    r["--layers"] = o.layers;
    r["--heads"] = o.heads;
    r["--width"] = o.width;
    r["--vocab"] = o.vocab;
    r["--positions"] = o.positions;
    r["--class-names"] = o.class_names;
  }
  r["--epochs"] = o.epochs;
  r["--batch"] = o.batch_rows;
  r["--rate"] = o.peak_rate();
  r["--warmup"] = o.warmup;
  r["--weight-decay"] = typed(o.weight_decay);
  r["--dropout"] = typed(o.dropout);
  r["--label-smoothing"] = typed(o.label_smoothing);
  r["--clip"] = typed(o.clip);
  r["--lm-weight"] = typed(o.language_weight);
  r["--lm-share"] = o.language_share;
  r["--freeze-embeddings"] = o.freeze_embeddings;
  r["--seed"] = o.seed;
  r["--limit"] = o.limit;
  r["--max-tokens"] = o.max_tokens;
  return r;
}

void add_inputs(Json& recipe, const lowbit::gpt2::Config& c, const examples::Dataset& train, const examples::Dataset& test) {
  recipe["the model's shape"] =
      fmt::format("{} layers, {} heads, width {}, inner {}, {} positions, {} tokens, {} classes, epsilon {}", c.layers, c.heads,
                  c.width, c.inner, c.positions, c.vocab, c.classes, c.epsilon);
  recipe["the training rows"] = rows_of(train);
  recipe["the test rows"] = rows_of(test);
}

Recorded read_recorded(const fs::path& checkpoint) {
  Recorded found;
  lowbit::gpt2::TokenizerFiles tokenizer;
  const lowbit::io::SafeTensors file = lowbit::io::SafeTensors::open(checkpoint);
  for (const auto& [key, value] : file.metadata()) {
    if (key == "recipe") found.recipe = lowbit::io::parse_json(value, checkpoint.string() + ": recipe");
    if (key == "overwrite") found.overwrite = value == "yes";
    if (key == "vocab.json") tokenizer.vocab_json = value;
    if (key == "merges.txt") tokenizer.merges = value;
  }
  if (!found.recipe.is_object())
    lowbit::raise<lowbit::FormatError>(checkpoint.string() +
                                       ": expected a checkpoint of this version of train_classifier, found no recipe of a run");
  if (!tokenizer.vocab_json.empty()) found.tokenizer = std::move(tokenizer);
  return found;
}

void require_same_run(const fs::path& checkpoint, const Json& recorded, const Json& recipe, const Options& o) {
  std::string differences;
  for (const auto& [key, value] : recipe.items()) {
    const auto known = recorded.find(key);
    if (known != recorded.end() && (*known == value || (key == "--model" && same_folder(*known, value)))) continue;
    const bool is_default = key.starts_with("--") && !o.given.contains(key);
    differences += fmt::format("\n  {}: recorded {}, {} {}", key, known == recorded.end() ? "nothing" : known->dump(),
                               is_default              ? "not given, which is"
                               : key.starts_with("--") ? "given"
                                                       : "found",
                               value.dump());
  }
  if (!differences.empty())
    lowbit::raise<lowbit::FormatError>(checkpoint.string() + ": was made by another run:" + differences +
                                       "\nGive the options of that run, or start another in another --out");
}

}  // namespace train_classifier
