// SPDX-License-Identifier: MIT
// JSON from files that nobody vouches for: as nlohmann::json reads it, but with keys in the file's order, and with everything
// refused that two readers could understand differently (duplicate keys, NUL bytes) or that could exhaust the stack.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "lowbit/base/error.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/utf8.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// Objects keep the order of their keys; look-up is linear.
using Json = nlohmann::ordered_json;

// Empties a value, as deep as it is nested.  nlohmann-json's own destructor allocates for every value with members, and ends the program
// where that fails; of a value without members it does not.
inline void release(Json& value) noexcept {
  if (auto* object = value.get_ptr<Json::object_t*>()) {
    for (auto& [key, member] : *object) release(member);
    object->clear();
  } else if (auto* array = value.get_ptr<Json::array_t*>()) {
    for (Json& member : *array) release(member);
    array->clear();
  }
}
// A document that is released before it is destroyed.  Neither copied nor moved.  Throws nothing.
class JsonDocument {
 public:
  JsonDocument() : value_(nullptr) {}                                // null
  explicit JsonDocument(Json&& value) : value_(std::move(value)) {}  // what parse_json() gives
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;
  ~JsonDocument() { release(value_); }
  Json& operator*() { return value_; }              // the document
  const Json& operator*() const { return value_; }  // the document

 private:
  Json value_;
};

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {

// Builds the document from the parser's events.  nlohmann's own builder keeps the last of two equal keys without a word, and
// searches the object for every new key, which takes quadratic time here.
class JsonBuilder final : public nlohmann::json_sax<Json> {
 public:
  // bytes: of the whole text, to tell one that was cut short from one that is wrong.
  JsonBuilder(const std::string& what, std::size_t bytes) : what_(what), bytes_(bytes) {}
  Json take() { return std::move(*root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t& token) override {
    // nlohmann refuses 1e999 by std::isfinite, which -ffast-math takes away; the bits say the same under every flag.
    constexpr std::uint64_t exponent = std::uint64_t{0x7FF} << 52;
    if ((std::bit_cast<std::uint64_t>(value) & exponent) == exponent)
      raise<FormatError>(what_ + ": not JSON: the number " + in_quotes(token) + " is out of range");
    return put(value);
  }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return start(Json::object()); }
  bool start_array(std::size_t) override { return start(Json::array()); }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }
  bool key(string_t& name) override {
    if (!open_.back().keys.insert(name).second) raise<FormatError>(what_ + ": the key " + in_quotes(name) + " occurs twice");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& token, const nlohmann::detail::exception&) override {
    if (position > bytes_)
      raise<FormatError>(
          what_ + ": not JSON: " +
          (bytes_ == 0 ? std::string("it is empty") : "it ends unfinished after " + decimal(bytes_) + " bytes; was it cut short?"));
    raise<FormatError>(what_ + ": not JSON: unexpected " + in_quotes(token) + " at byte " + decimal(position));
  }

 private:
  static constexpr std::size_t max_depth = 64;
  struct Open {
    Json* container;
    std::unordered_set<std::string> keys;
  };

  using Members = std::vector<Json::object_t::value_type>;

  // A vector would copy its members, as their keys are const.
  static void grow(Members& members) {
    JsonDocument grown(Json::object());
    Members& to = (*grown).get_ref<Json::object_t&>();
    to.reserve(members.size() + members.size() + 4);
    for (auto& [key, value] : members) to.emplace_back(key, std::move(value));
    members.clear();
    members.swap(to);
  }
  Json* place(Json value) {
    if (open_.empty()) return &(*root_ = std::move(value));
    Json& parent = *open_.back().container;
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    Members& members = parent.get_ref<Json::object_t&>();
    if (members.size() == members.capacity()) grow(members);
    return &members.emplace_back(key_, std::move(value)).second;
  }
  bool put(Json value) {
    place(std::move(value));
    return true;
  }
  bool start(Json container) {
    if (open_.size() == max_depth) raise<FormatError>(what_ + ": nested more than " + decimal(max_depth) + " deep");
    open_.push_back({place(std::move(container)), {}});
    return true;
  }
  bool end() {
    // A value that is moved says to its members whose they are, which JSON_DIAGNOSTICS has them know.
    Json moved(std::move(*open_.back().container));
    *open_.back().container = std::move(moved);
    open_.pop_back();
    return true;
  }

  const std::string& what_;
  std::size_t bytes_;
  JsonDocument root_;
  std::string key_;
  std::vector<Open> open_;  // a container does not move while one of its children is open: only the innermost one grows
};

// `text` with null in place of NaN, Infinity and -Infinity outside strings; empty if it has none.
inline std::string without_python_numbers(std::string_view text) {
  std::string result;
  if (text.find("NaN") == text.npos && text.find("Infinity") == text.npos) return result;
  const auto is_part_of_word = [&](std::size_t i) {
    const char c = i < text.size() ? text[i] : ' ';
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '+' ||
           c == '-';
  };
  bool in_string = false, found = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is = [&](std::string_view word) {
      return !in_string && text.substr(i).starts_with(word) && !(i != 0 && is_part_of_word(i - 1)) &&
             !is_part_of_word(i + word.size());
    };
    const std::size_t length = is("NaN") ? 3 : is("Infinity") ? 8 : is("-Infinity") ? 9 : 0;
    if (length != 0) {
      result += "null";
      i += length - 1;
      found = true;
      continue;
    }
    if (in_string && text[i] == '\\' && i + 1 < text.size())
      result += text[i++];
    else if (text[i] == '"')
      in_string = !in_string;
    result += text[i];
  }
  return found ? result : std::string();
}

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// The JSON document in `text` (UTF-8, nothing but white space after it).  `what` opens every message: a file, or a part of one.
// A byte order mark is passed over, and NaN, Infinity and -Infinity, which Python's json writes and reads, are read as null.
// Throws FormatError for anything else that is not JSON (and says so where it is an HTML page or a git-LFS pointer), duplicate keys,
// NUL bytes, and nesting deeper than 64; std::bad_alloc, and whoever wants no more than that keeps the result in a JsonDocument.
inline Json parse_json(std::string_view text, const std::string& what) {
  require_utf8(text, what);
  if (const std::string found = mistaken_for(text); !found.empty()) raise<FormatError>(what + ": expected JSON, found " + found);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  // nlohmann's reader takes a NUL byte for the end of its input and would not look at what follows.
  if (const auto nul = text.find('\0'); nul != text.npos) raise<FormatError>(what + ": not JSON: NUL at byte " + decimal(nul));
  const std::string plain = detail::without_python_numbers(text);
  if (!plain.empty()) text = plain;
  detail::JsonBuilder builder(what, text.size());
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

// Whether a value is this text.  (nlohmann-json's == for a literal makes a string of it where nothing may be thrown.)
inline bool is_text(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

// A value as messages name it: short, whatever it holds.
inline std::string found_text(const Json& value) {
  return value.is_string()   ? in_quotes(value.get_ref<const std::string&>())
         : value.is_number() ? value.dump()
                             : std::string(value.type_name());
}

// `text` as a JSON string, with its quotes.  Throws InvalidArgument that starts with `what` if it is not UTF-8.
inline std::string json_string(const std::string& text, const char* what) {
  // The strict error handler throws an exception of nlohmann's own; the lenient one changes the text, which shows.
  const std::string result = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  require(Json::parse(result, nullptr, false) == text,
          [&] { return std::string(what) + ": " + in_quotes(text) + " is not UTF-8"; });
  return result;
}

}  // namespace lowbit::io::inline LOWBIT_ABI
