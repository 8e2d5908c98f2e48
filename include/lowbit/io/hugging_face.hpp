// SPDX-License-Identifier: MIT
// config.json of a GPT-2 folder: the shape of the model and how its weights were quantized, checked so that later code may rely
// on every number.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// lowbit's own entry in config.json, for models that were trained with quantization in the loop, for example
// {"method": "qat-int8", "weight": "per-row absmax/127", "activation": "per-token absmax/127"}.
struct LowbitQuantization {
  std::string method, weight, activation;  // names, for people
};

// What config.json says.  Names in comments are the keys.
struct HuggingFaceConfig {
  std::size_t layers = 0;                  // n_layer, at least 1
  std::size_t heads = 0;                   // n_head, divides width
  std::size_t width = 0;                   // n_embd
  std::size_t positions = 0;               // n_positions
  std::size_t vocab = 0;                   // vocab_size
  std::size_t inner = 0;                   // n_inner; 4 * width where it is null or missing
  double layer_norm_epsilon = 1e-5;        // above 0, below 1; GPT-2's 1e-5 where it is missing
  std::string activation;                  // activation_function; "gelu_new" where it is missing
  bool tied_embeddings = true;             // tie_word_embeddings: the output layer's weights are the token embeddings
  std::vector<std::size_t> eos_ids;        // eos_token_id, a number or a list of them; those below vocab
  std::optional<std::size_t> pad_id;       // pad_token_id where it is below vocab
  std::vector<std::string> architectures;  // architectures
  std::vector<std::string> id2label;       // by class; empty where it is missing
  std::string torch_dtype;                 // torch_dtype, or dtype as newer files call it; empty where both are missing
  std::optional<Json> quantization;        // quantization_config, an object, of quant_method bitsandbytes
  // Lowbit's own entry, where there is one.
  std::optional<LowbitQuantization> lowbit_quantization;
};

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {

// Reads typed values from one JSON object; a null counts as missing.
class ConfigReader {
 public:
  ConfigReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) raise<FormatError>(where_ + ": expected an object, found " + object.type_name());
  }

  [[noreturn]] void fail(const char* key, const std::string& expected, const std::string& found) const {
    raise<FormatError>(where_ + ": " + key + ": expected " + expected + ", found " + found);
  }
  [[noreturn]] void fail(const char* key, const std::string& expected, const Json* value) const {
    fail(key, expected, value == nullptr ? "nothing" : found_text(*value));
  }
  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  std::size_t size(const char* key, std::size_t low, std::size_t high) const {
    const Json* value = find(key);
    if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() < low || value->get<std::uint64_t>() > high)
      fail(key, "an integer from " + decimal(low) + " to " + decimal(high), value);
    return value->get<std::size_t>();
  }
  // The ids below `vocab` of a number or a list.  Real files hold -1, ids behind the vocabulary, even text there; a model runs
  // without any of them, so these are passed over.
  std::vector<std::size_t> token_ids(const char* key, std::size_t vocab) const {
    std::vector<std::size_t> ids;
    const auto add = [&](const Json& value) {
      if (value.is_number_unsigned() && value.get<std::uint64_t>() < vocab) ids.push_back(value.get<std::size_t>());
    };
    if (const Json* value = find(key)) {
      if (value->is_array())
        for (const Json& element : *value) add(element);
      else
        add(*value);
    }
    return ids;
  }
  bool boolean(const char* key, bool if_missing) const {
    const Json* value = find(key);
    if (value == nullptr) return if_missing;
    if (!value->is_boolean()) fail(key, "true or false", value);
    return value->get<bool>();
  }
  std::string text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr || !value->is_string()) fail(key, "a string", value);
    return value->get_ref<const std::string&>();
  }
  std::string text(const char* key, const char* if_missing) const { return find(key) == nullptr ? if_missing : text(key); }
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

// The values of id2label in the order of its numbers, whatever the file's order.
inline std::vector<std::string> labels_of(const Json& labels, const ConfigReader& reader) {
  if (!labels.is_object()) reader.fail("id2label", "an object", &labels);
  std::unordered_map<std::string_view, const Json*> label_of;  // Json's own look-up is linear
  for (const auto& [key, value] : labels.items()) label_of.emplace(key, &value);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto label = label_of.find(decimal(i));
    if (label == label_of.end())
      reader.fail("id2label", "the keys \"0\" to \"" + decimal(labels.size() - 1) + "\"", "no \"" + decimal(i) + "\"");
    if (!label->second->is_string()) reader.fail("id2label", "strings", label->second);
    names.push_back(label->second->get_ref<const std::string&>());
  }
  return names;
}

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// Throws IoError if `path`, which is to be a model's folder, is a file.  One that is not there says so when it is read.
inline void require_model_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored))
    raise<IoError>(path.string() +
                   ": is a file; expected the folder that holds config.json, model.safetensors, vocab.json and merges.txt");
}

// Reads the text of a config.json; `name` stands for the file in messages.  Throws FormatError, which names the file, the key, what
// was expected and what was found: for any model_type but gpt2, for keys that are missing, of the wrong type or out of range, and
// for the options that change GPT-2's arithmetic (unscaled attention, scaling by layer, cross attention).  Keys that nobody needs
// here are not looked at.  Defaults are those of transformers' GPT2Config.
inline HuggingFaceConfig parse_config(std::string_view text, const std::string& name) {
  const JsonDocument document(parse_json(text, name));
  const Json& json = *document;
  const detail::ConfigReader reader(json, name);
  if (reader.find("model_type") == nullptr || reader.text("model_type") != "gpt2")
    reader.fail("model_type", "\"gpt2\"", reader.find("model_type"));

  // The bounds are far above any model and low enough that no product of two of them overflows.
  constexpr std::size_t most = std::size_t{1} << 30;
  HuggingFaceConfig config;
  config.layers = reader.size("n_layer", 1, 10'000);
  config.width = reader.size("n_embd", 1, 1'000'000);
  config.heads = reader.size("n_head", 1, config.width);
  config.positions = reader.size("n_positions", 1, most);
  config.vocab = reader.size("vocab_size", 1, most);
  if (config.width % config.heads != 0)
    reader.fail("n_head", "a divisor of n_embd = " + decimal(config.width), decimal(config.heads));
  config.inner = reader.find("n_inner") == nullptr ? 4 * config.width : reader.size("n_inner", 1, 100'000'000);
  // A null is no missing key here: NaN and Infinity are read as null.
  if (const auto epsilon = json.find("layer_norm_epsilon"); epsilon != json.end()) {
    if (!epsilon->is_number() || !(epsilon->get<double>() > 0 && epsilon->get<double>() < 1))
      reader.fail("layer_norm_epsilon", "a number above 0 and below 1", &*epsilon);
    config.layer_norm_epsilon = epsilon->get<double>();
  }
  config.activation = reader.text("activation_function", "gelu_new");
  config.tied_embeddings = reader.boolean("tie_word_embeddings", true);
  if (!reader.boolean("scale_attn_weights", true)) reader.fail("scale_attn_weights", "true", "false");
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    if (reader.boolean(key, false)) reader.fail(key, "false", "true");
  config.eos_ids = reader.token_ids("eos_token_id", config.vocab);
  if (const auto pads = reader.token_ids("pad_token_id", config.vocab); !pads.empty()) config.pad_id = pads.front();

  if (const Json* architectures = reader.find("architectures")) {
    if (!architectures->is_array()) reader.fail("architectures", "an array of strings", architectures);
    for (const Json& value : *architectures) {
      if (!value.is_string()) reader.fail("architectures", "strings", &value);
      config.architectures.push_back(value.get_ref<const std::string&>());
    }
  }
  if (const Json* labels = reader.find("id2label")) config.id2label = detail::labels_of(*labels, reader);
  config.torch_dtype = reader.text(reader.find("torch_dtype") != nullptr ? "torch_dtype" : "dtype", "");

  if (const Json* quantization = reader.find("quantization_config")) {
    const detail::ConfigReader inside(*quantization, name + ": quantization_config");
    // The first files of bitsandbytes had no quant_method.
    if (inside.text("quant_method", "bitsandbytes") != "bitsandbytes")
      inside.fail("quant_method", "\"bitsandbytes\"", inside.find("quant_method"));
    config.quantization = *quantization;
  }
  if (const Json* quantization = reader.find("lowbit_quantization")) {
    const detail::ConfigReader inside(*quantization, name + ": lowbit_quantization");
    config.lowbit_quantization = {inside.text("method"), inside.text("weight"), inside.text("activation")};
  }
  return config;
}

// Reads config.json of a model folder, or the file itself.  Throws IoError if it cannot be read, and as parse_config() does.
inline HuggingFaceConfig read_config(const std::filesystem::path& folder_or_file) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(folder_or_file, ignored);
  const std::filesystem::path path = is_folder ? folder_or_file / "config.json" : folder_or_file;
  return parse_config(read_text(path), path.string());
}

}  // namespace lowbit::io::inline LOWBIT_ABI
