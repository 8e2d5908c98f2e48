// SPDX-License-Identifier: MIT
// The values of a 4-bit format in every form in which kernels look them up.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "lowbit/base/half.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The 16 values of a 4-bit format in the forms that kernels look up.
struct alignas(64) CodebookTables {
  std::array<float, 16> f32;            // the values
  std::array<float, 16> bf16;           // rounded to bfloat16, as floats
  std::array<std::uint16_t, 32> pairs;  // rounded to bfloat16, as bits, twice
  std::array<std::uint8_t, 64> bytes;   // round(value * 127 / largest) + 128, four times
  float byte_scale;                     // largest / 127: value = (byte - 128) * byte_scale
};
inline CodebookTables make_codebook_tables(const float* values) {
  CodebookTables t{};
  float largest = 0;
  for (int i = 0; i < 16; ++i) largest = std::fabs(values[i]) > largest ? std::fabs(values[i]) : largest;
  t.byte_scale = largest / 127.0f;
  for (std::size_t i = 0; i < 16; ++i) {
    t.f32[i] = values[i];
    t.bf16[i] = to_float(to_bfloat16(values[i]));
    t.pairs[i] = t.pairs[i + 16] = to_bfloat16(values[i]).bits;
    float v = largest > 0 ? values[i] * (127.0f / largest) : 0.0f;
    if (!(std::fabs(v) <= 128.0f)) v = 0;  // a table with NaN or infinity, or of numbers too small to be divided by
    for (std::size_t r = 0; r < 4; ++r)
      t.bytes[16 * r + i] = static_cast<std::uint8_t>(128 + static_cast<int>(v < 0 ? v - 0.5f : v + 0.5f));
  }
  return t;
}

// For float kernels that compute as bfloat16 ones do: their codebook is the rounded one.
inline CodebookTables rounded_codebook(const CodebookTables& codebook) {
  CodebookTables t = codebook;
  t.f32 = t.bf16;
  return t;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
