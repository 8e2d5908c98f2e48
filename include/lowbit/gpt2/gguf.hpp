// SPDX-License-Identifier: MIT
// A GPT-2 in a GGUF file, as llama.cpp's tools write it: its parameters, and the tokenizer that it carries.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/gpt2/byte_pairs.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_json.hpp"
#include "lowbit/io/gguf.hpp"
#include "lowbit/io/gguf_tensor.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// "h.3.mlp.c_fc.weight" as GGUF calls it.
inline std::string gguf_name(const std::string& name) {
  using Pair = std::pair<std::string_view, std::string_view>;
  for (const auto& [ours, theirs] :
       {Pair{"wte.", "token_embd."}, Pair{"wpe.", "position_embd."}, Pair{"ln_f.", "output_norm."}, Pair{"lm_head.", "output."}})
    if (name.starts_with(ours)) return std::string(theirs) + name.substr(ours.size());
  if (!name.starts_with("h.")) return name;
  const std::size_t dot = name.find('.', 2);
  const std::string block = "blk." + name.substr(2, dot - 1), rest = name.substr(dot + 1);
  for (const auto& [ours, theirs] :
       {Pair{"ln_1.", "attn_norm."}, Pair{"attn.c_attn.", "attn_qkv."}, Pair{"attn.c_proj.", "attn_output."},
        Pair{"ln_2.", "ffn_norm."}, Pair{"mlp.c_fc.", "ffn_up."}, Pair{"mlp.c_proj.", "ffn_down."}})
    if (rest.starts_with(ours)) return block + std::string(theirs) + rest.substr(ours.size());
  return name;
}

// What a token is, by llama.cpp's numbers in tokenizer.ggml.token_type.
enum class GgufTokenType : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };

// Model<...>(GgufParameters(path)) is the model: a language model, as GGUF knows no classification head.  Weights of types that
// io::read_gguf() does not know are refused by name when they are read.  Throws IoError or FormatError that name the file and the key
// or tensor.  Reading from several threads is safe.
class GgufParameters final : public ParameterSource {
 public:
  // Maps the file, or takes one that is open.
  explicit GgufParameters(const std::filesystem::path& path) : GgufParameters(io::Gguf::open(path)) {}
  explicit GgufParameters(io::Gguf file) : file_(std::move(file)) {
    const io::Json* architecture = find("general.architecture");
    if (architecture == nullptr || !io::is_text(*architecture, "gpt2"))
      raise<FormatError>(file_.location() + ": general.architecture: expected \"gpt2\", found " +
                         (architecture == nullptr ? std::string("nothing") : io::found_text(*architecture)));
    config_.layers = size("gpt2.block_count", 10'000);
    config_.width = size("gpt2.embedding_length", 1'000'000);
    config_.heads = size("gpt2.attention.head_count", config_.width);
    config_.inner = size("gpt2.feed_forward_length", 100'000'000);
    config_.positions = size("gpt2.context_length", std::size_t{1} << 30);
    if (config_.width % config_.heads != 0)
      raise<FormatError>(file_.location() + ": gpt2.attention.head_count: expected a divisor of " + decimal(config_.width) +
                         ", found " + decimal(config_.heads));
    if (const io::Json* epsilon = find("gpt2.attention.layer_norm_epsilon")) {
      if (!epsilon->is_number() || !(epsilon->get<double>() > 0 && epsilon->get<double>() < 1))
        raise<FormatError>(file_.location() + ": gpt2.attention.layer_norm_epsilon: expected a number above 0 and below 1, found " +
                           io::found_text(*epsilon));
      config_.epsilon = static_cast<float>(epsilon->get<double>());
    }
    const io::GgufTensor& embedding = file_.at("token_embd.weight");
    if (embedding.shape.size() != 2)
      raise<FormatError>(embedding.where() + ": expected shape [vocabulary, width], found " + io::shape_string(embedding.shape));
    config_.vocab = embedding.shape[0];
    config_.tied = !file_.contains("output.weight");
  }

  const Config& config() const override { return config_; }
  const io::Gguf& file() const { return file_; }  // what was opened
  bool contains(const std::string& name) const override { return file_.contains(gguf_name(name)); }
  AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override {
    const Tensor t = read(name, rows, cols);
    AlignedBuffer<float> out(t.size());
    t.dequantize(out.data());
    return out;
  }
  Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override {
    return read(module + ".weight", out, in);
  }

  // The tokenizer inside: tokenizer.ggml.tokens and merges; control and user-defined tokens stand for their own text.  Throws
  // FormatError as Tokenizer::from_text() does, and for another kind.
  Tokenizer tokenizer() const {
    const auto refuse = [&](const std::string& what) { raise<FormatError>(file_.location() + ": " + what); };
    const io::Json *model = find("tokenizer.ggml.model"), *cut = find("tokenizer.ggml.pre"),
                   *tokens = find("tokenizer.ggml.tokens"), *types = find("tokenizer.ggml.token_type"),
                   *merges = find("tokenizer.ggml.merges");
    if (model == nullptr || !io::is_text(*model, "gpt2"))
      refuse("tokenizer.ggml.model: expected \"gpt2\", found " +
             (model == nullptr ? std::string("nothing") : io::found_text(*model)));
    if (cut != nullptr && !io::is_text(*cut, "gpt-2") && !io::is_text(*cut, "default"))
      refuse("tokenizer.ggml.pre: expected \"gpt-2\"");
    const auto texts = [&](const io::Json* array, const char* key) {
      if (array == nullptr || !array->is_array()) refuse(std::string(key) + ": expected an array of strings");
      for (const io::Json& text : *array)
        if (!text.is_string()) refuse(std::string(key) + ": expected an array of strings");
    };
    texts(tokens, "tokenizer.ggml.tokens");
    texts(merges, "tokenizer.ggml.merges");
    if (types != nullptr && (!types->is_array() || types->size() != tokens->size()))
      refuse("tokenizer.ggml.token_type: expected an array of " + decimal(tokens->size()) +
             " numbers, as many as there are tokens");
    std::string vocabulary, list;
    std::vector<AddedToken> added;
    for (std::size_t i = 0; i < tokens->size(); ++i) {
      const std::string& text = (*tokens)[i].get_ref<const std::string&>();
      const auto is = [&](GgufTokenType type) { return types != nullptr && (*types)[i] == static_cast<std::int32_t>(type); };
      const bool special = is(GgufTokenType::control);
      if (special || is(GgufTokenType::user_defined)) {
        added.push_back({text, static_cast<std::int32_t>(i), special});
        if (detail::token_bytes(text) != text) continue;  // the vocabulary would spell other bytes
      }
      // Not as an object of Json: that would look for every key among all the others.
      std::string token = (*tokens)[i].dump(-1, ' ', false, io::Json::error_handler_t::replace);
      vocabulary += (vocabulary.empty() ? "{" : ",") + std::move(token) + ":" + decimal(i);
    }
    for (const io::Json& merge : *merges) list += merge.get_ref<const std::string&>() + '\n';
    const std::string name = file_.location() + ": tokenizer.ggml.tokens";
    Tokenizer result = Tokenizer::from_text(vocabulary.empty() ? "{}" : vocabulary + "}", list, name,
                                            file_.location() + ": tokenizer.ggml.merges");
    result.add_tokens(added, name);
    return result;
  }

 private:
  const io::Json* find(std::string_view key) const {
    const auto found = file_.keys().find(key);
    return found == file_.keys().end() ? nullptr : &found->second;
  }
  std::size_t size(const std::string& key, std::size_t most) const {
    const io::Json* value = find(key);
    if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() < 1 || value->get<std::uint64_t>() > most)
      raise<FormatError>(file_.location() + ": " + key + ": expected an integer from 1 to " + decimal(most) + ", found " +
                         (value == nullptr ? std::string("nothing") : io::found_text(*value)));
    return value->get<std::size_t>();
  }
  Tensor read(const std::string& name, std::size_t rows, std::size_t cols) const {
    const io::GgufTensor& view = file_.at(gguf_name(name));
    Tensor t = io::read_gguf(view);
    if (t.rows() != rows || t.cols() != cols)
      raise<FormatError>(view.where() + ": expected shape " + shape_string(rows, cols) + ", found " + io::shape_string(view.shape));
    return t;
  }

  io::Gguf file_;
  Config config_;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
