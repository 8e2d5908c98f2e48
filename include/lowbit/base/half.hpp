// SPDX-License-Identifier: MIT
// The two 16-bit float formats as bits, and their exact conversions to and from float: nearest even, gradual underflow,
// overflow to infinity, quiet NaN.  Integer arithmetic only, so no flag and no fast-math changes a bit.
#pragma once
#include <bit>
#include <cstdint>

#include "lowbit/base/config.hpp"

namespace lowbit::inline LOWBIT_ABI {

// IEEE binary16.
struct Float16 {
  std::uint16_t bits = 0;  // sign, 5 of exponent, 10 of fraction
  friend constexpr bool operator==(Float16, Float16) = default;
};
// The upper half of an IEEE binary32.
struct BFloat16 {
  std::uint16_t bits = 0;  // sign, 8 of exponent, 7 of fraction
  friend constexpr bool operator==(BFloat16, BFloat16) = default;
};

// Neither NaN nor infinity; looks at bits, so that fast-math cannot assume the answer.
constexpr bool is_finite_bits(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7F800000u) != 0x7F800000u; }
constexpr bool is_nan_bits(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu) > 0x7F800000u; }  // NaN, by its bits

// Rounds to nearest even; a NaN becomes a quiet one.
constexpr BFloat16 to_bfloat16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
}
// Exact.
constexpr float to_float(BFloat16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

// Rounds to nearest even, with subnormal numbers and overflow to infinity; a NaN becomes a quiet one.
constexpr Float16 to_float16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u, a = u & 0x7FFFFFFFu;
  if (a > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u | ((a >> 13) & 0x3FFu))};
  if (a >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // rounds to 65536 or more
  if (a < 0x33000001u) return {static_cast<std::uint16_t>(sign)};             // rounds to zero
  const std::uint32_t exponent = a >> 23;
  if (exponent < 113) {  // subnormal: the last kept bit is worth 2^-24
    const std::uint32_t mantissa = (a & 0x7FFFFFu) | 0x800000u, shift = 126 - exponent;
    const std::uint32_t half = 1u << (shift - 1), kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1);
    return {static_cast<std::uint16_t>(sign | (kept + ((rest > half || (rest == half && (kept & 1u))) ? 1u : 0u)))};
  }
  return {static_cast<std::uint16_t>(sign | (((a - 0x38000000u) + 0xFFFu + ((a >> 13) & 1u)) >> 13))};
}
constexpr float to_float(Float16 x) {
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, e = (x.bits >> 10) & 0x1Fu, m = x.bits & 0x3FFu;
  if (e == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (m << 13) | (m != 0 ? 0x400000u : 0u));
  if (e != 0) return std::bit_cast<float>(sign | ((e + 112u) << 23) | (m << 13));
  if (m == 0) return std::bit_cast<float>(sign);
  const std::uint32_t shift = static_cast<std::uint32_t>(std::countl_zero(m)) - 21;  // moves the leading bit to bit 10
  return std::bit_cast<float>(sign | ((113u - shift) << 23) | (((m << shift) & 0x3FFu) << 13));
}
constexpr float to_float(float x) { return x; }

}  // namespace lowbit::inline LOWBIT_ABI
