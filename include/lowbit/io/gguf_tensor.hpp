// SPDX-License-Identifier: MIT
// A tensor of a GGUF file, and lowbit's tensor of it.  Types: F32, F16, BF16; in blocks of 32, a float16 scale d before the codes:
//   Q8_0    d, 32 x i8                            w = d q
//   Q4_0    d, 16 bytes: byte j holds q_j in its low half, q_(j+16) in its high one     w = d (q - 8)
//   IQ4_NL  the same layout                       w = d table[q]
// Every other type is refused by name when it is read.  Rule: ggml-quants.c of llama.cpp.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/tensor_view.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"
#include "lowbit/tensor/tensor.hpp"

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

// Whether read_gguf() takes the tensor: a vector or matrix of one of its types.
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
