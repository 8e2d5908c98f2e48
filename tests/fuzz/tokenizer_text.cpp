// SPDX-License-Identifier: MIT
// Any bytes as a text: its tokens are those of the plainest encoder, and decode to it.
#include <string>
#include <unordered_map>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "fuzz/small_tokenizer.hpp"

namespace gpt2 = lowbit::gpt2;

namespace {

// The earliest merge that applies, the leftmost first, again and again.
class PlainEncoder {
 public:
  explicit PlainEncoder(const gpt2::TokenizerFiles& files) : ids_(gpt2::detail::read_vocabulary(files.vocab_json, "vocab")) {
    std::string_view rest = files.merges;
    rest.remove_prefix(rest.find('\n') + 1);
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      const auto rank = rank_.size();
      rank_.emplace(std::string(line), rank);
      rest.remove_prefix(line.size() + 1);
    }
  }
  void encode_word(std::string_view word, std::vector<std::int32_t>& out) const {
    std::vector<std::string> tokens;
    for (const char c : word) tokens.push_back(gpt2::detail::byte_symbol(static_cast<unsigned char>(c)));
    while (true) {
      std::size_t best = rank_.size(), at = 0;
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
        if (const auto found = rank_.find(tokens[i] + " " + tokens[i + 1]); found != rank_.end() && found->second < best)
          best = found->second, at = i;
      if (best == rank_.size()) break;
      tokens[at] += tokens[at + 1];
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    for (const std::string& token : tokens) out.push_back(ids_.at(token));
  }

 private:
  gpt2::detail::Vocabulary ids_;
  std::unordered_map<std::string, std::size_t> rank_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const PlainEncoder plain(lowbit_fuzz::small_tokenizer());
  static const gpt2::Tokenizer tokenizer = [] {
    auto t = gpt2::Tokenizer::from_text(lowbit_fuzz::small_tokenizer().vocab_json, lowbit_fuzz::small_tokenizer().merges);
    t.add_tokens(R"({"<|pad|>":900,"<|pad|><|pad|>":901,"a":902})");
    return t;
  }();
  const std::string_view text = lowbit_fuzz::text_of(data, size);
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  lowbit_fuzz::expect(tokenizer.decode(ids) == text, "the text back, byte for byte");
  std::vector<std::int32_t> expected;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t n = gpt2::pre_token_length(rest);
    lowbit_fuzz::expect(n >= 1 && n <= rest.size(), "a pre-token inside the text");
    plain.encode_word(rest.substr(0, n), expected);
    rest.remove_prefix(n);
  }
  lowbit_fuzz::expect(ids == expected, "the tokens of the plain encoder");
  lowbit_fuzz::expect(tokenizer.decode(tokenizer.encode_with_added(text)) == text, "the text back from added tokens");
  return 0;
}
