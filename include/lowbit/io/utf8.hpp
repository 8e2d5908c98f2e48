// SPDX-License-Identifier: MIT
// Text that a Windows program saved as UTF-16 or UTF-32, where everything here reads UTF-8: found, so that a message can say what to do.
#pragma once
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// Throws FormatError that starts with `what` if `text` is UTF-16 or UTF-32: by its byte order mark, or by the zeros among its first
// four bytes, as all of ASCII have them.  No text in UTF-8 begins so.
inline void require_utf8(std::string_view text, const std::string& what) {
  struct Encoding {
    std::string_view mark, zeros, order, name, suffix;
  };
  static constexpr std::array encodings{
      Encoding{{"\xFF\xFE\0\0", 4}, "x000", "little", "UTF-32", "LE"}, Encoding{{"\0\0\xFE\xFF", 4}, "000x", "big", "UTF-32", "BE"},
      Encoding{{"\xFF\xFE", 2}, "x0x0", "little", "UTF-16", "LE"}, Encoding{{"\xFE\xFF", 2}, "0x0x", "big", "UTF-16", "BE"}};
  std::string zeros;
  for (const char c : text.substr(0, 4)) zeros += c == '\0' ? '0' : 'x';
  for (const Encoding& e : encodings) {
    const bool marked = text.starts_with(e.mark);
    if (!marked && zeros != e.zeros) continue;
    // By a byte order mark iconv finds the order itself, and drops the mark.
    raise<FormatError>(what + ": expected UTF-8, found " + std::string(e.order) + "-endian " + std::string(e.name) + "; iconv -f " +
                       std::string(e.name) + std::string(marked ? "" : e.suffix) + " -t UTF-8 converts it");
  }
}

}  // namespace lowbit::io::inline LOWBIT_ABI
