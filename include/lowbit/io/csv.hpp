// SPDX-License-Identifier: MIT
// CSV by the letter of RFC 4180, and the rows of AG News in it: class, title, description.
#pragma once
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/utf8.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// Reads records one after the other from text that the caller keeps alive.  A field is bare (no quote, comma or line end in it) or
// in double quotes, in which a quote is written twice and everything else, line ends included, stands for itself; so does a
// backslash everywhere.  Records end in LF or CRLF, the last one may do without.  A UTF-8 byte order mark at the start is skipped.
class CsvReader {
 public:
  // Throws FormatError if the text is in another encoding, or no text but an archive or the like.
  CsvReader(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {
    require_utf8(text_, name_);
    if (const std::string found = mistaken_for(text_); !found.empty()) raise<FormatError>(name_ + ": expected CSV, found " + found);
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  // Reads the next record into `fields`; false at the end.  Throws FormatError that names the file, the line and what is wrong.
  bool next(std::vector<std::string>& fields) {
    fields.clear();
    if (at_ == text_.size()) return false;
    record_line_ = line_;
    while (true) {
      fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted_field() : bare_field());
      if (at_ == text_.size()) return true;
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      at_ += text_[at_] == '\r' ? 2u : 1u;  // the fields stop at nothing else than a comma, LF or CRLF
      ++line_;
      return true;
    }
  }
  // The line, from 1, on which the last record began.
  std::size_t line() const { return record_line_; }

  // Throws FormatError "file: line n: what".
  [[noreturn]] void fail(std::size_t line, const std::string& what) const {
    raise<FormatError>(name_ + ": line " + decimal(line) + ": " + what);
  }

 private:
  bool at_record_end() const { return text_[at_] == '\n' || text_.substr(at_, 2) == "\r\n"; }

  std::string quoted_field() {
    const std::size_t start = line_;
    std::string field;
    ++at_;
    while (true) {
      const std::size_t end = text_.find('"', at_);
      if (end == text_.npos) fail(start, "the quote that opens here is never closed");
      field += text_.substr(at_, end - at_);
      line_ += static_cast<std::size_t>(
          std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_), text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
      at_ = end + 1;
      if (at_ == text_.size() || text_[at_] == ',' || at_record_end()) return field;
      if (text_[at_] != '"')
        fail(line_, "expected a comma or the end of the line after the closing quote, found " +
                        (text_[at_] == '\r' ? lone_return : in_quotes(text_.substr(at_, 1))));
      field += '"';
      ++at_;
    }
  }
  std::string bare_field() {
    const std::size_t start = at_;
    for (; at_ < text_.size() && text_[at_] != ',' && !at_record_end(); ++at_) {
      if (text_[at_] == '"') fail(line_, "a quote inside a field that does not start with one");
      if (text_[at_] == '\r') fail(line_, lone_return);
    }
    return std::string(text_.substr(start, at_ - start));
  }

  static constexpr const char* lone_return = "a carriage return without a line feed";
  std::string_view text_;
  std::string name_;
  std::size_t at_ = 0, line_ = 1, record_line_ = 1;
};

// One row of a news file.
struct NewsRow {
  int label = 0;                   // from 0; the file counts from 1
  std::string title, description;  // may be empty
};

// Whether there is nothing in it but white space.
inline bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == text.npos; }

// The rows of an AG News file: class (1 to `classes`), title, description, three fields each.  A first record whose class is the
// word "class", "class index" or "label", in any case, is a header and skipped, and so are lines with nothing but blanks in them,
// which are counted in `blank_lines`.  `name` stands for the file in messages.
// Throws FormatError that names the file, the line and what is wrong; InvalidArgument if classes < 1.
inline std::vector<NewsRow> parse_news(std::string_view text, const std::string& name, int classes = 4,
                                       std::size_t* blank_lines = nullptr) {
  require(classes >= 1, [&] { return "parse_news: expected at least 1 class, found " + decimal(classes); });
  CsvReader reader(text, name);
  std::vector<NewsRow> rows;
  std::vector<std::string> fields;
  for (bool first = true; reader.next(fields);) {
    if (fields.size() == 1 && is_blank(fields[0])) {
      if (blank_lines != nullptr) ++*blank_lines;
      continue;
    }
    if (fields.size() != 3)
      reader.fail(reader.line(), "expected 3 fields (class, title, description), found " + decimal(fields.size()));
    const std::string& label = fields[0];
    if (std::exchange(first, false)) {
      std::string lower = label;
      for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      if (lower == "class" || lower == "class index" || lower == "label") continue;
    }
    int value = 0;
    const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
    if (error != std::errc() || end != label.data() + label.size() || value < 1 || value > classes)
      reader.fail(reader.line(), "expected a class from 1 to " + decimal(classes) + ", found " + in_quotes(label));
    rows.push_back({value - 1, std::move(fields[1]), std::move(fields[2])});
  }
  return rows;
}

// The same from a file.  Throws IoError if it cannot be read.
inline std::vector<NewsRow> read_news(const std::filesystem::path& path, int classes = 4, std::size_t* blank_lines = nullptr) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  return parse_news(text, path.string(), classes, blank_lines);
}

// The field as it must stand in a file: in quotes if it holds a quote, a comma or a line end, otherwise unchanged.
inline std::string csv_escape(std::string_view field) {
  if (field.find_first_of("\",\r\n") == field.npos) return std::string(field);
  std::string result = "\"";
  for (const char c : field) {
    result += c;
    if (c == '"') result += '"';
  }
  return result + '"';
}

// One record with its line end, LF.
inline std::string csv_row(std::span<const std::string> fields) {
  std::string result;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i != 0) result += ',';
    result += csv_escape(fields[i]);
  }
  return result + '\n';
}

}  // namespace lowbit::io::inline LOWBIT_ABI
