// SPDX-License-Identifier: MIT
// Text from a file, made fit for an error message: in quotes, without control characters, and cut where it is long, so that a
// hostile file can neither garble nor flood the message.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "lowbit/base/config.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// "text" in double quotes; at most about 120 bytes, with ... where it was cut (never inside a UTF-8 character).
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 120;
  std::size_t kept = text.size();
  if (kept > longest) {
    kept = longest;
    while (kept > 0 && (static_cast<unsigned char>(text[kept]) & 0xC0u) == 0x80u) --kept;
  }
  std::string result = "\"";
  for (const char c : text.substr(0, kept)) result += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return result + (kept < text.size() ? "...\"" : "\"");
}

}  // namespace lowbit::io::inline LOWBIT_ABI
