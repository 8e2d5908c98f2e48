// SPDX-License-Identifier: MIT
// Text that came from elsewhere (class names, paths), made fit for where it is written: lines of a width, Markdown, XML.
#pragma once
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <utf8proc.h>

namespace examples {

namespace detail {
// The bytes of the first character and the columns that it takes.  text must not be empty; what is no UTF-8 is a byte of a column.
struct Character {
  std::size_t bytes = 1, columns = 1;
};
inline Character first_character(std::string_view text) {
  utf8proc_int32_t code = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(std::min<std::size_t>(text.size(), 4)), &code);
  if (size <= 0) return {};
  return {static_cast<std::size_t>(size), static_cast<std::size_t>(utf8proc_charwidth(code))};
}
}  // namespace detail

// Columns that a text takes: two of a full-width character (Chinese, Japanese, Korean, emoji), none of a mark on the one before.
inline std::size_t width_of(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const detail::Character c = detail::first_character(text.substr(at));
    at += c.bytes;
    columns += c.columns;
  }
  return columns;
}

// Bytes of the first characters that take at most `columns`, of one at least, if there is one.
inline std::size_t prefix_bytes(std::string_view text, std::size_t columns) {
  std::size_t at = 0, used = 0;
  while (at < text.size()) {
    const detail::Character c = detail::first_character(text.substr(at));
    if (at != 0 && used + c.columns > columns) break;
    at += c.bytes;
    used += c.columns;
  }
  return at;
}

// The lines of a text, broken where it breaks them, and at blanks where a line takes more than `width` columns; a word that is
// longer is cut if cut_words.  width > 0; a full-width character may stand out of a width of 1.
inline std::vector<std::string> wrapped(std::string_view text, std::size_t width, bool cut_words = true) {
  std::vector<std::string> lines(1);
  std::string word;
  const auto end_word = [&] {
    if (!lines.back().empty() && width_of(lines.back()) + 1 + width_of(word) > width) {
      lines.back().erase(lines.back().find_last_not_of(' ') + 1);
      lines.emplace_back();
    }
    if (!lines.back().empty()) lines.back() += ' ';
    for (; cut_words && width_of(word) > width; lines.emplace_back()) {
      const std::size_t bytes = prefix_bytes(word, width);
      lines.back() += word.substr(0, bytes);
      word.erase(0, bytes);
    }
    lines.back() += word;
    word.clear();
  };
  for (const char c : text) {
    if (c != ' ' && c != '\n') {
      word += c;
      continue;
    }
    end_word();
    if (c == '\n') lines.emplace_back();
  }
  end_word();
  return lines;
}

// Without control characters, which could change a terminal's state or break a table: a blank for each.
inline std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return text;
}

// As XML and HTML write it.  Control characters, which XML cannot have, become blanks.
inline std::string xml_escaped(std::string_view text) {
  std::string result;
  for (const char c : printable(std::string(text))) switch (c) {
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '&': result += "&amp;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  return result;
}

// A part of a line of Markdown that shows as `text`, whatever is in it.
inline std::string markdown_escaped(std::string_view text) {
  const auto in_word = [&](std::size_t i) { return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0; };
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    // An underscore inside a word is only that.
    const bool special = std::string_view("\\`*[]|~$!#").find(text[i]) != std::string_view::npos ||
                         (text[i] == '_' && !(i != 0 && in_word(i - 1) && in_word(i + 1)));
    if (special) result += '\\';
    result += xml_escaped(text.substr(i, 1));
  }
  return result;
}

}  // namespace examples
