// SPDX-License-Identifier: MIT
// What GPT-2's pre-tokenizer asks of a character: how many bytes it has and whether it is a letter, a number, white space or
// none of these.  Categories come from utf8proc, so they are those of the Unicode version that utf8proc was built for.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <utf8proc.h>

#include "lowbit/base/config.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// What pre-tokenizing tells apart.
enum class CharacterClass : std::uint8_t { letter, number, space, other };

// A character of a text.
struct Character {
  std::int32_t code_point;  // -1: a byte that is not part of well-formed UTF-8
  std::size_t bytes;        // that spell it
};

// First character of `text`, which is not empty.  A byte that starts no well-formed UTF-8 sequence (stray or missing
// continuation bytes, overlong forms, surrogates, values above U+10FFFF) is a character of its own, one byte long.  Thread safe.
inline Character first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return {lead, 1};
  std::int32_t code_point = -1;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>((std::min<std::size_t>)(text.size(), 4)), &code_point);
  if (bytes < 1) return {-1, 1};
  return {code_point, static_cast<std::size_t>(bytes)};
}

// Unicode's property White_Space, which has not changed since Unicode 6.3: \s of Rust, Oniguruma and Python's regex module.
// U+001C..1F, U+180E, U+200B and U+FEFF are not in it, though some other definitions of \s have them.
constexpr bool is_white_space(std::int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// White_Space first, then the general categories L* and N*; everything else (marks, punctuation, symbols, controls, unassigned,
// and the -1 of an ill-formed byte) is `other`.  Thread safe.
inline CharacterClass character_class(std::int32_t c) {
  if (is_white_space(c)) return CharacterClass::space;
  if (c < 0x80) {
    // Most text is ASCII: no call into the library for it.
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return CharacterClass::letter;
    return c >= '0' && c <= '9' ? CharacterClass::number : CharacterClass::other;
  }
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return CharacterClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return CharacterClass::number;
    default: return CharacterClass::other;
  }
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
