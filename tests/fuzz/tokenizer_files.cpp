// SPDX-License-Identifier: MIT
// vocab.json, merges.txt, added_tokens.json and tokenizer.json.  The first byte chooses: '0' vocab.json, NUL, merges.txt, NUL,
// added_tokens.json; '1' the same with the tokens of the single bytes there already; '2' a tokenizer.json.
#include <string>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "fuzz/small_tokenizer.hpp"

namespace gpt2 = lowbit::gpt2;

namespace {

std::string_view take_part(std::string_view& rest) {
  const std::string_view part = rest.substr(0, rest.find('\0'));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return part;
}

const std::string& byte_tokens() {
  static const std::string text = [] {
    std::string tokens;
    for (std::size_t b = 0; b < 256; ++b)
      tokens += lowbit::io::json_string(gpt2::detail::byte_symbol(b), "token") + ":" + std::to_string(b) + ",";
    return tokens;
  }();
  return text;
}

gpt2::Tokenizer read(std::string_view input) {
  const char kind = input.front();
  input.remove_prefix(1);
  if (kind == '2') return gpt2::Tokenizer::from_tokenizer_json(input, "files");
  std::string vocabulary(take_part(input));
  if (kind == '1') vocabulary = "{" + byte_tokens() + vocabulary;
  const std::string_view merges = take_part(input);
  gpt2::Tokenizer tokenizer = gpt2::Tokenizer::from_text(vocabulary, merges, "files: vocab", "files: merges");
  if (!input.empty()) tokenizer.add_tokens(input, "files: added");
  return tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input = lowbit_fuzz::text_of(data, size);
  lowbit_fuzz::reads("files", [&] {
    const gpt2::Tokenizer tokenizer = read(input);
    // The files are a text as good as any.
    lowbit_fuzz::expect(tokenizer.decode(tokenizer.encode(input)) == input, "the text back, byte for byte");
    const std::vector<std::int32_t> ids = tokenizer.encode_with_added(input.substr(0, 256));
    for (const std::int32_t id : ids)
      lowbit_fuzz::expect(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size(), "ids of the vocabulary");
    tokenizer.decode(ids);
    tokenizer.require_fits(512, "files");
  });
  return 0;
}
