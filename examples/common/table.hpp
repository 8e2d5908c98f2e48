// SPDX-License-Identifier: MIT
// A table, as plain text in columns and as Markdown.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "examples/common/text.hpp"

namespace examples {

struct Table {
  std::string title;
  std::vector<std::string> head;  // may break lines with \n
  std::vector<std::vector<std::string>> rows;
  std::string note = {};         // under the table
  std::size_t left_columns = 1;  // the first ones are aligned left, the others right
};

namespace detail {

// In plain text, so that long names leave room for numbers.
inline constexpr std::size_t widest_head = 14, widest_first_cell = 28;

inline std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines(1);
  for (const char c : text)
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += c;
  return lines;
}
inline std::string padded(const std::string& text, std::size_t width, bool left) {
  const std::string blanks(width - std::min(width, width_of(text)), ' ');
  return left ? text + blanks : blanks + text;
}
// Without the blanks at the end.
inline std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace detail

inline std::string as_text(const Table& table) {
  using Cell = std::vector<std::string>;  // its lines
  const std::size_t columns = table.head.size();
  std::vector<Cell> head;
  for (const std::string& cell : table.head) head.push_back(wrapped(cell, detail::widest_head));
  std::vector<std::vector<Cell>> rows;
  for (const auto& row : table.rows) {
    rows.emplace_back();
    for (std::size_t c = 0; c < columns; ++c)
      rows.back().push_back(c == 0 ? wrapped(printable(row[c]), detail::widest_first_cell) : Cell{printable(row[c])});
  }
  std::vector<std::size_t> width(columns);
  for (std::size_t c = 0; c < columns; ++c) {
    for (const std::string& line : head[c]) width[c] = std::max(width[c], width_of(line));
    for (const auto& row : rows)
      for (const std::string& line : row[c]) width[c] = std::max(width[c], width_of(line));
  }
  const auto line_of = [&](const auto& cell) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c)
      line += (c == 0 ? "" : "  ") + detail::padded(cell(c), width[c], c < table.left_columns);
    return detail::trimmed(std::move(line)) + '\n';
  };
  const auto height_of = [](const std::vector<Cell>& cells) {
    std::size_t height = 0;
    for (const Cell& cell : cells) height = std::max(height, cell.size());
    return height;
  };
  std::string text = printable(table.title) + '\n';
  const std::size_t height = height_of(head);
  for (std::size_t i = 0; i < height; ++i)
    text += line_of([&](std::size_t c) {
      const std::size_t above = height - head[c].size();  // heads stand on the line below them
      return i < above ? std::string() : printable(head[c][i - above]);
    });
  text += line_of([&](std::size_t c) { return std::string(width[c], '-'); });
  for (const auto& row : rows)
    for (std::size_t i = 0; i < height_of(row); ++i)
      text += line_of([&](std::size_t c) { return i < row[c].size() ? row[c][i] : std::string(); });
  if (!table.note.empty()) text += table.note + '\n';
  return text;
}

inline std::string as_markdown(const Table& table) {
  const auto line_of = [&](const auto& cell) {
    std::string line = "|";
    for (std::size_t c = 0; c < table.head.size(); ++c) line += " " + cell(c) + " |";
    return line + '\n';
  };
  std::string text = "### " + markdown_escaped(table.title) + "\n\n";
  text += line_of([&](std::size_t c) { return markdown_escaped(table.head[c]); });
  text += line_of([&](std::size_t c) { return std::string(c < table.left_columns ? ":--" : "--:"); });
  for (const auto& row : table.rows) text += line_of([&](std::size_t c) { return markdown_escaped(row[c]); });
  if (!table.note.empty()) text += "\n" + markdown_escaped(table.note) + "\n";
  return text;
}

// Blocks of text in columns, as many beside each other as `columns` characters hold.
inline std::string side_by_side(const std::vector<std::string>& blocks, std::size_t columns) {
  const std::size_t gap = 4;
  std::string text;
  for (std::size_t first = 0; first < blocks.size();) {
    std::vector<std::vector<std::string>> parts;
    std::vector<std::size_t> width;
    std::size_t used = 0, height = 0;
    for (; first < blocks.size(); ++first) {
      std::vector<std::string> lines = detail::lines_of(blocks[first]);
      std::size_t widest = 0;
      for (const std::string& line : lines) widest = std::max(widest, width_of(line));
      if (!parts.empty() && used + gap + widest > columns) break;
      used += (parts.empty() ? 0 : gap) + widest;
      height = std::max(height, lines.size());
      width.push_back(widest);
      parts.push_back(std::move(lines));
    }
    for (std::size_t i = 0; i < height; ++i) {
      std::string line;
      for (std::size_t p = 0; p < parts.size(); ++p)
        line += (p == 0 ? "" : std::string(gap, ' ')) + detail::padded(i < parts[p].size() ? parts[p][i] : "", width[p], true);
      text += detail::trimmed(std::move(line)) + '\n';
    }
  }
  return text;
}

}  // namespace examples
