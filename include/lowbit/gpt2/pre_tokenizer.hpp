// SPDX-License-Identifier: MIT
// Cuts text into pre-tokens, the pieces that byte-pair merges never cross, as GPT-2's pattern does:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// Every byte of the text is in exactly one pre-token.
#pragma once
#include <cstddef>
#include <string_view>

#include "lowbit/gpt2/unicode.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// Bytes of the contraction that `text` starts with, 0 if there is none.  Only lower case and only the ASCII apostrophe count.
inline std::size_t contraction_length(std::string_view text) {
  if (text.front() != '\'') return 0;
  for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"})
    if (text.substr(1, ending.size()) == ending) return 1 + ending.size();
  return 0;
}

// Bytes of the longest prefix of `text` whose characters are all of class `wanted`.
inline std::size_t run_length(std::string_view text, CharacterClass wanted) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const Character c = first_character(rest);
    if (character_class(c.code_point) != wanted) break;
    rest.remove_prefix(c.bytes);
  }
  return text.size() - rest.size();
}

// Bytes of the pre-token at the start of `text`, which starts with white space that joins no word.
inline std::size_t white_space_length(std::string_view text) {
  std::size_t end = 0, last = 0;  // `last`: where the last character of the run begins
  while (end < text.size()) {
    const Character c = first_character(text.substr(end));
    if (!is_white_space(c.code_point)) break;
    last = end;
    end += c.bytes;
  }
  // \s+(?!\S) gives the last character back if something follows, unless it would be left with nothing.
  return end == text.size() || last == 0 ? end : last;
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Bytes of the first pre-token of `text`, which is not empty; at least 1.  Any bytes are accepted: one that is not part of
// well-formed UTF-8 counts as neither space nor letter nor number.  Thread safe.
inline std::size_t pre_token_length(std::string_view text) {
  if (const std::size_t bytes = detail::contraction_length(text)) return bytes;
  const std::size_t blank = text.front() == ' ' && text.size() > 1 ? 1 : 0;
  const std::string_view word = text.substr(blank);
  const CharacterClass kind = character_class(first_character(word).code_point);
  if (kind != CharacterClass::space) return blank + detail::run_length(word, kind);
  return detail::white_space_length(text);
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
