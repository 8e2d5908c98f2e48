// SPDX-License-Identifier: MIT
// A GPT-2 with its tokenizer as a GGUF file that llama.cpp runs: the keys and tensors of llama.cpp's own converter.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "lowbit/gpt2/gguf.hpp"
#include "lowbit/gpt2/parameter_shapes.hpp"
#include "lowbit/gpt2/tokenizer_files.hpp"
#include "lowbit/gpt2/tokenizer_json.hpp"
#include "lowbit/io/gguf_writer.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// Whether llama.cpp's converter (convert_hf_to_gguf.py) takes an added token for a control token, whatever the folder says.
inline bool looks_special(std::string_view token) {
  const auto is_between = [&](std::string_view begin, std::string_view end) {
    return token.size() >= begin.size() + end.size() && token.starts_with(begin) && token.ends_with(end);
  };
  return token == "<pad>" || token == "<mask>" || token == "<2mass>" || token == "[@BOS@]" || is_between("<|", "|>") ||
         is_between("<\uFF5C", "\uFF5C>") || is_between("<unused", ">");
}

// The tokenizer's section: one token for each of `vocab` embeddings, also where the tokenizer has none.
inline void add_tokenizer(io::GgufKeys& keys, const TokenizerFiles& files, std::size_t vocab, const std::string& name) {
  files.tokenizer(name).require_fits(vocab, name);
  std::vector<std::string> tokens(vocab);
  std::vector<std::int32_t> types(vocab, static_cast<std::int32_t>(GgufTokenType::unused));
  std::unordered_set<std::string> texts;
  const auto put = [&](const std::string& token, std::size_t id, GgufTokenType type) {
    if (tokens[id] != token && (!tokens[id].empty() || !texts.insert(token).second))
      raise<FormatError>(name + ": id " + decimal(id) + ": expected one token of this id alone, as GGUF has it, found " +
                         io::in_quotes(token) + (tokens[id].empty() ? " again" : " beside " + io::in_quotes(tokens[id])));
    tokens[id] = token;
    types[id] = static_cast<std::int32_t>(type);
  };
  for (const auto& [token, id] : read_vocabulary(files.vocab_json, name + ": vocab.json"))
    put(token, static_cast<std::size_t>(id), token == end_of_text_token ? GgufTokenType::control : GgufTokenType::normal);
  for (const AddedToken& token : files.added)
    put(token.content, static_cast<std::size_t>(token.id),
        token.special || looks_special(token.content) ? GgufTokenType::control : GgufTokenType::user_defined);
  for (std::size_t i = 0; i < vocab; ++i)
    if (tokens[i].empty()) put("[PAD" + decimal(i) + "]", i, GgufTokenType::unused);
  std::vector<std::string> merges;
  std::string_view text = files.merges;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (bool first = true; !text.empty(); first = false) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix((std::min)(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !(first && line.starts_with("#version"))) merges.emplace_back(line);
  }
  keys.add("tokenizer.ggml.model", "gpt2");
  keys.add("tokenizer.ggml.pre", "gpt-2");
  keys.add("tokenizer.ggml.tokens", tokens);
  keys.add("tokenizer.ggml.token_type", types);
  keys.add("tokenizer.ggml.merges", merges);
  if (const auto end = files.end_of_text()) {
    keys.add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*end));
    keys.add("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(*end));
  }
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// The parameters that GGUF has a place for, all but a classification head, by their names below "transformer."; gguf_name() says what
// they are called there.
inline std::vector<ParameterShape> gguf_parameters(const Config& config) {
  constexpr std::string_view body = "transformer.";
  std::vector<ParameterShape> parameters = parameter_shapes(config);
  std::erase_if(parameters, [](const ParameterShape& p) { return p.kind == ParameterShape::Kind::head; });
  for (ParameterShape& p : parameters)
    if (p.name.starts_with(body)) p.name.erase(0, body.size());
  return parameters;
}

// Writes the model as `path`, whole or not at all.  The token embedding, the linear layers and an untied head are of `type`, all else
// is F32, as llama.cpp's quantizer leaves it; a matrix whose rows are no multiple of 32 is F16 instead of Q8_0.  GGUF has no place for
// a classification head: score.weight is left out.  name: general.name.  watch, if given, is called before each tensor with its number
// and how many there are; what it throws ends the writing.
// Throws what `source` throws; InvalidArgument if the model's activation is not llama.cpp's (gelu_new) or a value is not finite in
// its type; FormatError if the tokenizer does not fit; IoError.
inline void write_gguf(const std::filesystem::path& path, const ParameterSource& source, const TokenizerFiles& tokenizer,
                       io::GgufType type, const std::string& name,
                       const std::function<void(std::size_t, std::size_t)>& watch = nullptr) {
  using Kind = ParameterShape::Kind;
  const Config& c = source.config();
  if (c.activation != Activation::gelu_tanh)
    raise<InvalidArgument>(name + ": expected the activation gelu_new, the one that llama.cpp computes for GPT-2, found another");
  io::GgufKeys keys;
  keys.add("general.architecture", "gpt2");
  keys.add("general.name", name);
  const auto number = [&](std::size_t n) {
    if (n > UINT32_MAX) raise<InvalidArgument>(name + ": expected sizes below 2^32, as GGUF has them, found " + decimal(n));
    return static_cast<std::uint32_t>(n);
  };
  keys.add("gpt2.block_count", number(c.layers));
  keys.add("gpt2.context_length", number(c.positions));
  keys.add("gpt2.embedding_length", number(c.width));
  keys.add("gpt2.feed_forward_length", number(c.inner));
  keys.add("gpt2.attention.head_count", number(c.heads));
  keys.add("gpt2.attention.layer_norm_epsilon", c.epsilon);
  detail::add_tokenizer(keys, tokenizer, c.vocab, name);
  keys.add("general.quantization_version", std::uint32_t{2});
  // llama.cpp's LLAMA_FTYPE.
  keys.add("general.file_type", std::uint32_t{type == io::GgufType::f32 ? 0u : type == io::GgufType::f16 ? 1u : 7u});

  const std::vector<ParameterShape> parameters = gguf_parameters(c);
  std::vector<io::GgufTensorToWrite> tensors;
  for (const ParameterShape& p : parameters) {
    const bool matrix = p.kind == Kind::linear_weight || (p.kind == Kind::embedding && p.name != "wpe.weight");
    const bool blocks = type != io::GgufType::q8_0 || p.shape.back() % io::q8_0_block == 0;
    tensors.push_back({gguf_name(p.name), matrix ? blocks ? type : io::GgufType::f16 : io::GgufType::f32, p.shape});
  }
  io::write_gguf(path, keys, tensors, [&](std::size_t i, const io::GgufRows& rows) {
    const ParameterShape& p = parameters[i];
    if (watch) watch(i, parameters.size());
    if (p.kind != Kind::linear_weight) {
      rows(source.floats(p.name, p.shape.size() == 1 ? 1 : p.shape[0], p.shape.back()).span());
      return;
    }
    const std::size_t out = p.shape[0], in = p.shape[1], part = (std::max)(std::size_t{1}, (std::size_t{1} << 18) / in);
    const Tensor t = source.linear(p.name.substr(0, p.name.size() - std::string_view(".weight").size()), out, in);
    AlignedBuffer<float> values(checked_mul((std::min)(part, out), in, "rows of a GGUF file"));
    for (std::size_t begin = 0; begin < out; begin += part) {
      const std::size_t end = (std::min)(out, begin + part);
      t.dequantize_rows(begin, end, values.data());
      rows({values.data(), (end - begin) * in});
    }
  });
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
