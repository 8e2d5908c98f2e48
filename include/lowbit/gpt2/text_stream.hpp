// SPDX-License-Identifier: MIT
// The text of tokens as they come: whole characters only, and nothing that may turn out to be the beginning of a stop string.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/unicode.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// What comes out is always well-formed UTF-8: a byte that belongs to no character becomes U+FFFD, and so does the beginning of a
// character that nothing completes.
class TextStream {
 public:
  // Throws InvalidArgument if a stop string is empty.
  explicit TextStream(std::vector<std::string> stop_strings = {}) : stops_(std::move(stop_strings)) {
    for (const std::string& stop : stops_) require(!stop.empty(), [] { return std::string("a stop string cannot be empty"); });
  }

  // Takes the bytes of the next token; returns the text that is settled now.  Once a stop string is complete, the text ends before
  // it and the rest is dropped; of several, the one that begins first counts.
  std::string push(std::string_view bytes) {
    if (stopped_) return "";
    held_ += bytes;
    std::size_t settled = held_.size();
    for (const std::string& stop : stops_) {
      const std::size_t at = held_.find(stop);
      if (at == held_.npos || at >= settled) continue;
      settled = at;
      stopped_ = true;
    }
    if (stopped_) {
      held_.resize(settled);
      return finish();
    }
    for (const std::string& stop : stops_) settled = (std::min)(settled, held_.size() - beginning_at_end(stop));
    return take(settled, false);
  }
  // What is left when no more tokens come.
  std::string finish() { return take(held_.size(), true); }
  bool stopped() const { return stopped_; }  // whether a stop string was met

 private:
  // How many bytes at the end of held_ are the beginning of `stop`.
  std::size_t beginning_at_end(std::string_view stop) const {
    std::size_t n = (std::min)(held_.size(), stop.size() - 1);
    while (!std::string_view(held_).ends_with(stop.substr(0, n))) --n;
    return n;
  }
  // Whether more bytes can make a character of these, the last ones there are.
  static bool is_beginning(std::string_view bytes) {
    const auto lead = static_cast<unsigned char>(bytes.front());
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || bytes.size() >= length) return false;
    // The lowest and the highest way to go on: one of them is well-formed if any is.
    for (const char next : {'\x80', '\xBF'}) {
      std::string whole(bytes);
      whole.resize(length, next);
      if (first_character(whole).code_point >= 0) return true;
    }
    return false;
  }
  // The first `settled` bytes as text; characters that are not complete stay, unless this is the end.
  std::string take(std::size_t settled, bool end) {
    std::string text;
    std::size_t at = 0;
    while (at < settled) {
      const std::string_view rest = std::string_view(held_).substr(at, settled - at);
      const Character c = first_character(rest);
      if (c.code_point < 0 && is_beginning(rest)) {
        if (!end) break;
        text += replacement;
        at = settled;
        break;
      }
      text += c.code_point < 0 ? replacement : rest.substr(0, c.bytes);
      at += c.bytes;
    }
    held_.erase(0, at);
    return text;
  }

  static constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::vector<std::string> stops_;
  std::string held_;  // bytes that are not settled
  bool stopped_ = false;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
