// SPDX-License-Identifier: MIT
// Text that a Windows program saved as UTF-16, where everything here reads UTF-8: found, so that a message can say what to do.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "lowbit/base/error.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// Throws FormatError that starts with `what` if `text` is UTF-16: by its byte order mark, or by a zero beside each of its first two
// characters, as all of ASCII have one.  No text in UTF-8 begins so.
inline void refuse_utf16(std::string_view text, const std::string& what) {
  const auto zero = [&](std::size_t i) { return text[i] == '\0'; };
  const bool zeros = text.size() >= 4 && zero(0) != zero(1) && zero(2) == zero(0) && zero(3) == zero(1);
  const bool little = text.starts_with("\xFF\xFE") || (zeros && zero(1)), big = text.starts_with("\xFE\xFF") || (zeros && zero(0));
  if (!little && !big) return;
  const std::string order = little ? "little" : "big", suffix = little ? "LE" : "BE";
  // By a byte order mark iconv finds the order itself, and drops the mark.
  raise<FormatError>(what + ": expected UTF-8, found " + order + "-endian UTF-16; iconv -f UTF-16" + (zeros ? suffix : "") +
                     " -t UTF-8 converts it");
}

}  // namespace lowbit::io::inline LOWBIT_ABI
