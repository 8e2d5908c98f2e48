// SPDX-License-Identifier: MIT
// Text that came from elsewhere (class names, paths), made fit for where it is written: lines of a width, Markdown, XML.
#pragma once
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace four_models {

// Characters, not bytes.
inline std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Bytes of the first `characters` characters.
inline std::size_t prefix_bytes(std::string_view text, std::size_t characters) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((text[at] & 0xC0) != 0x80 && characters-- == 0) break;
  return at;
}

// The lines of a text, broken where it breaks them, and at blanks where a line has more than `width` characters; a word that is
// longer is cut if cut_words.  width > 0.
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

}  // namespace four_models
