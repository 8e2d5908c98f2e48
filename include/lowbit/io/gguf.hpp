// SPDX-License-Identifier: MIT
// GGUF, the file format of llama.cpp: keys and tensors read without a copy.
//   "GGUF"  u32 version (2 or 3)  u64 tensors  u64 keys
//   keys    string, u32 type, value; a string is u64 length and bytes, an array u32 type, u64 count and values
//   tensors string, u32 dimensions, u64 each (the fastest first), u32 type, u64 offset
//   the rest, from the next multiple of general.alignment (32): the tensors' bytes, offsets counted from there
// Types of any kind are listed; which of them can be read: gguf_tensor.hpp.  Rule: ggml/docs/gguf.md of llama.cpp.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/gguf_tensor.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/tensor_view.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// An open GGUF file (open) or image of one (parse).  Opening reads the keys and checks that every tensor lies inside the file; it does
// not read the tensors.  Move-only.  Reading from several threads is safe.
class Gguf {
 public:
  // Maps the file.  Throws IoError if it cannot be opened; FormatError, which names the file, the key or tensor, what was expected and
  // what was found, if it is not valid.
  static Gguf open(const std::filesystem::path& path) {
    MappedFile file(path);
    Gguf result(file.bytes(), path.string());
    result.file_ = std::move(file);
    return result;
  }
  // Reads an image in memory, which the caller keeps alive; `name` stands for the file in messages.  Throws FormatError.
  static Gguf parse(std::span<const std::byte> bytes, std::string name) { return Gguf(bytes, std::move(name)); }

  const std::string& location() const { return name_; }  // the file, for messages
  // By key; numbers, strings, true and false, arrays of them.  Strings are the file's bytes, UTF-8 or not.
  const std::map<std::string, Json, std::less<>>& keys() const { return keys_.by_name; }
  // In the file's order.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // Whether there is a tensor of this name.
  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
  // Throws FormatError that names the file and the tensor.
  const GgufTensor& at(std::string_view name) const {
    const auto found = index_.find(name);
    if (found == index_.end()) raise<FormatError>(name_ + ": no tensor " + in_quotes(name));
    return tensors_[found->second];
  }

 private:
  // What is left of the file's head.
  struct Cursor {
    const Gguf& file;
    std::span<const std::byte> bytes;
    std::size_t at = 0;

    std::size_t left() const { return bytes.size() - at; }
    template <class T>
    T number(const std::string& what) {
      if (left() < sizeof(T)) file.fail(what + ": expected " + decimal(sizeof(T)) + " bytes, found the end of the file");
      T value;
      std::memcpy(&value, bytes.data() + at, sizeof(T));
      at += sizeof(T);
      return value;
    }
    // A count of things that take at least `least` bytes each.
    std::size_t count(const std::string& what, std::size_t least) {
      const auto n = number<std::uint64_t>(what);
      if (n > left() / least)
        file.fail(what + ": expected at most " + decimal(left() / least) + ", which the file has room for, found " + decimal(n));
      return static_cast<std::size_t>(n);
    }
    std::string text(const std::string& what) {
      const std::size_t n = count(what + ": length", 1);
      const auto* begin = reinterpret_cast<const char*>(bytes.data() + at);
      at += n;
      return {begin, n};
    }
  };

  Gguf(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)) {
    if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) {
      const std::string found = mistaken_for({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      fail("expected a GGUF file, which begins with GGUF, found " +
           (found.empty() ? in_quotes({reinterpret_cast<const char*>(bytes.data()), (std::min<std::size_t>)(4, bytes.size())})
                          : found));
    }
    Cursor c{*this, bytes, 4};
    const auto version = c.number<std::uint32_t>("version");
    if (version != 2 && version != 3)
      fail("version: expected 2 or 3, found " + decimal(version) +
           (version == 0x02000000 || version == 0x03000000 ? ", a big-endian file" : ""));
    const std::size_t tensors = c.count("number of tensors", 24), keys = c.count("number of keys", 13);
    for (std::size_t i = 0; i < keys; ++i) {
      std::string key = c.text("key " + decimal(i));
      const std::string what = "key " + in_quotes(key);
      if (key.empty()) fail("key " + decimal(i) + ": expected a name, found none");
      const auto type = c.number<std::uint32_t>(what + ": type");
      JsonDocument value(read_value(c, what, type, 0));
      if (!keys_.by_name.try_emplace(std::move(key), std::move(*value)).second) fail(what + ": occurs twice");
    }
    read_tensors(c, tensors);
  }

  [[noreturn]] void fail(const std::string& what) const { raise<FormatError>(name_ + ": " + what); }

  Json read_value(Cursor& c, const std::string& what, std::uint32_t type, int depth) const {
    switch (type) {
      case 0: return c.number<std::uint8_t>(what);
      case 1: return c.number<std::int8_t>(what);
      case 2: return c.number<std::uint16_t>(what);
      case 3: return c.number<std::int16_t>(what);
      case 4: return c.number<std::uint32_t>(what);
      case 5: return c.number<std::int32_t>(what);
      case 6: return static_cast<double>(c.number<float>(what));
      case 7: {
        const auto value = c.number<std::uint8_t>(what);
        if (value > 1) fail(what + ": expected true (1) or false (0), found " + decimal(value));
        return value == 1;
      }
      case 8: return c.text(what);
      case 9: {
        const auto inner = c.number<std::uint32_t>(what + ": type of elements");
        constexpr std::array<std::size_t, 13> least{1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
        if (inner >= least.size()) fail(what + ": type of elements: expected 0 to 12, found " + decimal(inner));
        if (depth == 3) fail(what + ": arrays in arrays more than 4 deep");
        const std::size_t n = c.count(what + ": number of elements", least[inner]);
        JsonDocument array(Json::array());
        (*array).get_ref<Json::array_t&>().reserve(n);
        for (std::size_t i = 0; i < n; ++i) (*array).push_back(read_value(c, what, inner, depth + 1));
        return std::move(*array);
      }
      case 10: return c.number<std::uint64_t>(what);
      case 11: return c.number<std::int64_t>(what);
      case 12: return c.number<double>(what);
      default: fail(what + ": type: expected 0 to 12, found " + decimal(type));
    }
  }

  void read_tensors(Cursor& c, std::size_t count) {
    std::size_t alignment = 32;
    if (const auto found = keys().find("general.alignment"); found != keys().end()) {
      const Json& value = found->second;
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0 || value.get<std::uint64_t>() > 65536 ||
          (value.get<std::uint64_t>() & (value.get<std::uint64_t>() - 1)) != 0)
        fail("general.alignment: expected a power of two up to 65536, found " + found_text(value));
      alignment = value.get<std::size_t>();
    }
    std::vector<std::uint64_t> offsets;
    for (std::size_t i = 0; i < count; ++i) {
      GgufTensor t;
      t.name = c.text("tensor " + decimal(i));
      t.file = name_;
      const auto refuse = [&](const std::string& what) { raise<FormatError>(t.where() + ": " + what); };
      const auto dimensions = c.number<std::uint32_t>(t.where() + ": dimensions");
      if (dimensions > 4) refuse("expected at most 4 dimensions, found " + decimal(dimensions));
      std::size_t elements = 1;
      for (std::uint32_t d = 0; d < dimensions; ++d) {
        const auto n = c.number<std::uint64_t>(t.where() + ": shape");
        if (n > SIZE_MAX || (n != 0 && elements > SIZE_MAX / 8 / n)) refuse("expected a shape whose size fits in a size");
        elements *= static_cast<std::size_t>(n);
        t.shape.insert(t.shape.begin(), static_cast<std::size_t>(n));
      }
      t.type = c.number<std::uint32_t>(t.where() + ": type");
      offsets.push_back(c.number<std::uint64_t>(t.where() + ": offset"));
      if (!index_.emplace(t.name, i).second) refuse("occurs twice");
      tensors_.push_back(std::move(t));
    }
    const std::size_t begin = (std::min)(c.bytes.size(), ceil_div(c.at, alignment) * alignment);
    const auto data = c.bytes.subspan(begin);
    for (std::size_t i = 0; i < count; ++i) {
      GgufTensor& t = tensors_[i];
      const auto refuse = [&](const std::string& what) { raise<FormatError>(t.where() + ": " + what); };
      const detail::GgmlType* type = detail::ggml_type(t.type);
      if (type == nullptr) refuse("type: expected one that ggml has, found number " + decimal(t.type));
      const std::size_t row = t.shape.empty() ? 1 : t.shape.back();
      if (row % type->block != 0)
        refuse("expected rows of whole blocks of " + decimal(type->block) + " for " + type->name + ", found " +
               shape_string(t.shape));
      // Less than 8 bytes an element, so this does not overflow.
      const std::size_t bytes = t.elements() / type->block * type->bytes;
      if (offsets[i] % alignment != 0)
        refuse("offset: expected a multiple of " + decimal(alignment) + ", found " + decimal(offsets[i]));
      const std::size_t offset = offsets[i];
      if (offset > data.size() || bytes > data.size() - offset)
        refuse("expected " + decimal(bytes) + " bytes from offset " + decimal(offsets[i]) + ", found " + decimal(data.size()) +
               " bytes of data; was the file cut short?");
      t.data = data.subspan(offset, bytes);
    }
    refuse_overlaps();
  }

  void refuse_overlaps() const {
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& t : tensors_)
      if (!t.data.empty()) order.push_back(&t);
    std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) { return a->data.data() < b->data.data(); });
    for (std::size_t i = 1; i < order.size(); ++i)
      if (order[i - 1]->data.data() + order[i - 1]->data.size() > order[i]->data.data())
        raise<FormatError>(order[i]->where() + ": overlaps tensor " + in_quotes(order[i - 1]->name));
  }

  std::string name_;
  MappedFile file_;  // empty after parse()
  struct Keys {
    Keys() = default;
    Keys(Keys&&) noexcept = default;
    Keys& operator=(Keys&&) noexcept = default;
    ~Keys() {
      for (auto& [name, value] : by_name) release(value);
    }
    std::map<std::string, Json, std::less<>> by_name;
  };
  Keys keys_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

}  // namespace lowbit::io::inline LOWBIT_ABI
