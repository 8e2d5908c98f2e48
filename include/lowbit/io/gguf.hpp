// SPDX-License-Identifier: MIT
// GGUF, the file format of llama.cpp: keys and tensors read without a copy, and its simplest quantized types as lowbit's tensors.
//   "GGUF"  u32 version (2 or 3)  u64 tensors  u64 keys
//   keys    string, u32 type, value; a string is u64 length and bytes, an array u32 type, u64 count and values
//   tensors string, u32 dimensions, u64 each (the fastest first), u32 type, u64 offset
//   the rest, from the next multiple of general.alignment (32): the tensors' bytes, offsets counted from there
// Types: F32, F16, BF16; in blocks of 32, a float16 scale d before the codes:
//   Q8_0    d, 32 x i8                            w = d q
//   Q4_0    d, 16 bytes: byte j holds q_j in its low half, q_(j+16) in its high one     w = d (q - 8)
//   IQ4_NL  the same layout                       w = d table[q]
// Every other type is listed and refused by name when it is read.  Rule: ggml/docs/gguf.md and ggml-quants.c of llama.cpp.
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
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/tensor_view.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"

namespace lowbit::io::detail::inline LOWBIT_ABI {

struct GgmlType {
  std::uint32_t number;
  const char* name;
  std::size_t block, bytes;  // elements of a block, and its bytes
};
// All that files may hold, so that their sizes can be checked and a message can name them.
inline constexpr std::array<GgmlType, 32> ggml_types{
    {{0, "F32", 1, 4},        {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},    {3, "Q4_1", 32, 20},    {6, "Q5_0", 32, 22},
     {7, "Q5_1", 32, 24},     {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},    {10, "Q2_K", 256, 84},  {11, "Q3_K", 256, 110},
     {12, "Q4_K", 256, 144},  {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210}, {15, "Q8_K", 256, 292}, {16, "IQ2_XXS", 256, 66},
     {17, "IQ2_XS", 256, 74}, {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50}, {20, "IQ4_NL", 32, 18}, {21, "IQ3_S", 256, 110},
     {22, "IQ2_S", 256, 82},  {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},       {25, "I16", 1, 2},      {26, "I32", 1, 4},
     {27, "I64", 1, 8},       {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56}, {30, "BF16", 1, 2},     {34, "TQ1_0", 256, 54},
     {35, "TQ2_0", 256, 66},  {39, "MXFP4", 32, 17}}};

inline const GgmlType* ggml_type(std::uint32_t number) {
  const auto found = std::find_if(ggml_types.begin(), ggml_types.end(), [&](const GgmlType& t) { return t.number == number; });
  return found == ggml_types.end() ? nullptr : &*found;
}

// IQ4_NL's table.
inline constexpr std::array<std::int8_t, 16> iq4_nl_table{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// A tensor of a GGUF file.  The bytes belong to the file object.
struct GgufTensor {
  std::string name;                 // as the file has it
  std::uint32_t type = 0;           // ggml's number
  std::vector<std::size_t> shape;   // the slowest first, as everywhere else: a weight is {out, in}
  std::span<const std::byte> data;  // its bytes, in the mapped file
  std::string file;                 // for messages

  // The product of the shape.
  std::size_t elements() const {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;  // was checked when the file was opened
    return n;
  }
  // ggml's name of the type, "Q8_0"; was checked when the file was opened.
  std::string_view type_name() const { return detail::ggml_type(type)->name; }
  std::size_t block_size() const { return detail::ggml_type(type)->block; }  // elements; 1 where there are no blocks
  // `model.gguf: tensor "output.weight"`, how every message about it starts.
  std::string where() const { return file + ": tensor " + in_quotes(name); }
};

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
  const std::map<std::string, Json, std::less<>>& keys() const { return keys_; }
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
      Json value = read_value(c, what, type, 0);
      if (!keys_.emplace(std::move(key), std::move(value)).second) fail(what + ": occurs twice");
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
        Json array = Json::array();
        array.get_ref<Json::array_t&>().reserve(n);
        for (std::size_t i = 0; i < n; ++i) array.push_back(read_value(c, what, inner, depth + 1));
        return array;
      }
      case 10: return c.number<std::uint64_t>(what);
      case 11: return c.number<std::int64_t>(what);
      case 12: return c.number<double>(what);
      default: fail(what + ": type: expected 0 to 12, found " + decimal(type));
    }
  }

  void read_tensors(Cursor& c, std::size_t count) {
    std::size_t alignment = 32;
    if (const auto found = keys_.find("general.alignment"); found != keys_.end()) {
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
  std::map<std::string, Json, std::less<>> keys_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

// Whether read_gguf() takes the tensor: a vector or matrix of one of the types above.
inline bool is_supported(const GgufTensor& t) {
  constexpr std::array<std::string_view, 6> types{"F32", "F16", "BF16", "Q8_0", "Q4_0", "IQ4_NL"};
  return t.shape.size() <= 2 && std::find(types.begin(), types.end(), t.type_name()) != types.end();
}

// The tensor in a format of lowbit's: F32, F16 and BF16 as they are, Q8_0 as int8 in blocks of 32, Q4_0 and IQ4_NL as 4-bit codes in
// blocks of 32 with a table of their own (of format nf4, in whose place it stands).  It decodes to ggml's values, bit for bit.  A
// vector has one row.  Throws FormatError that names the tensor and the type of every other one.
inline Tensor read_gguf(const GgufTensor& t) {
  const detail::GgmlType& type = *detail::ggml_type(t.type);
  const std::string_view name = type.name;
  if (t.shape.size() > 2) raise<FormatError>(t.where() + ": expected a matrix or a vector, found shape " + shape_string(t.shape));
  if (!is_supported(t)) raise<FormatError>(t.where() + ": expected F32, F16, BF16, Q8_0, Q4_0 or IQ4_NL, found " + type.name);
  TensorParts p;
  p.cols = t.shape.empty() ? 1 : t.shape.back();
  p.rows = t.shape.size() == 2 ? t.shape[0] : 1;
  const std::size_t n = checked_mul(p.rows, p.cols, "GGUF tensor");
  if (name == "F32" || name == "F16" || name == "BF16") {
    p.format = name == "F32" ? Format::f32 : name == "F16" ? Format::f16 : Format::bf16;
    p.codes.reset(t.data.size());
    if (n != 0) std::memcpy(p.codes.data(), t.data.data(), t.data.size());
    return Tensor(std::move(p));
  }
  const bool eight = name == "Q8_0";
  p.format = eight ? Format::int8 : Format::nf4;
  p.block = 32;
  p.codes.reset(eight ? n : packed_size(n));
  p.scales.reset(n / 32);
  // Powers of two taken from the table to the scale change no product, and the table stays inside [-1, 1].
  const float unit = eight ? 1.0f : name == "Q4_0" ? 8.0f : 128.0f;
  for (std::size_t i = 0; i < 16 && !eight; ++i)
    p.table[i] = (name == "Q4_0" ? static_cast<float>(i) - 8.0f : static_cast<float>(detail::iq4_nl_table[i])) / unit;
  for (std::size_t b = 0; b < n / 32; ++b) {
    const std::byte* in = t.data.data() + b * type.bytes;
    Float16 d;
    std::memcpy(&d, in, 2);
    p.scales[b] = to_float(d) * unit;
    in += 2;
    if (eight) {
      std::memcpy(p.codes.data() + b * 32, in, 32);
      if (std::find(in, in + 32, std::byte{0x80}) != in + 32)
        raise<FormatError>(t.where() + ": expected codes from -127 to 127, found -128 in block " + decimal(b));
      continue;
    }
    for (std::size_t j = 0; j < 16; j += 2) {  // ours: neighbours share a byte, the first one in its high half
      const auto low = [&](std::size_t i) { return std::to_integer<unsigned>(in[i]) & 15u; };
      const auto high = [&](std::size_t i) { return std::to_integer<unsigned>(in[i]) >> 4; };
      p.codes[b * 16 + j / 2] = static_cast<std::uint8_t>(low(j) << 4 | low(j + 1));
      p.codes[b * 16 + 8 + j / 2] = static_cast<std::uint8_t>(high(j) << 4 | high(j + 1));
    }
  }
  return Tensor(std::move(p));
}

}  // namespace lowbit::io::inline LOWBIT_ABI
