// SPDX-License-Identifier: MIT
// The model that the user named: its parameters and tokenizer, from a folder or a GGUF file, and models of it in the formats asked for.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/common/models.hpp"
#include "examples/generate/options.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/transformer.hpp"

namespace generate {

struct Source {
  std::string name;
  std::unique_ptr<lowbit::gpt2::ParameterSource> parameters;
  lowbit::gpt2::Tokenizer tokenizer;
  std::optional<std::int32_t> end_of_text;  // the token's id
  // The tokens of a text; `special`: added tokens that stand in it are those tokens.
  std::vector<std::int32_t> encode(std::string_view text, bool special) const {
    return special ? tokenizer.encode_with_added(text) : tokenizer.encode(text);
  }
};
// Throws IoError or FormatError that name the file, also where the tokenizer does not fit or there is no language-model head.
Source open_source(const Options& options);

struct Loaded {
  const examples::ModelKind* kind = nullptr;
  examples::Identity identity;
  lowbit::gpt2::Transformer net;
  double seconds = 0;  // to load
};
// Throws as Model does, and InvalidArgument where the source's weights are none for this kind or not finite.
Loaded load(const Source& source, const examples::ModelKind& kind);

// Those asked for, or the one of the format in which the source holds its weights.
std::vector<const examples::ModelKind*> kinds_of(const Options& options, const Source& source);

}  // namespace generate
