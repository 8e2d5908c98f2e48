// SPDX-License-Identifier: MIT
// What the 4-bit and the dynamic 8-bit quantizers share: finding a block's absmax, and normalizing the block's elements by it the
// way each producer does, in the ordinary case and in the special ones (zeros, subnormals, NaN, infinity).
#pragma once
#include <bit>
#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "lowbit/base/config.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/format/finite.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

struct BlockRule {
  bool torch = false;  // PyTorch's treatment of short and special blocks, else the GPU's
  std::uint8_t nan_code = 0;
  std::uint8_t zero_block_code = 0;  // not used by torch
};

inline constexpr std::uint32_t torch_smallest_divisor = 0x006CE3EEu;  // 1e-38, subnormal

// A maximum over integers: exact, in any order, under any flag.
inline std::uint32_t largest_magnitude(const float* x, std::size_t n) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t m = magnitude_bits(x[i]);
    largest = m > largest ? m : largest;
  }
  return largest;
}

template <class Code, class Emit>
LOWBIT_NOINLINE void quantize_non_finite_block(const float* x, std::size_t count, const BlockRule& rule, const Code& code,
                                               const Emit& emit, float& stored) {
  std::uint32_t largest = 0;
  std::size_t numbers = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (const std::uint32_t m = magnitude_bits(x[i]); m <= infinity_bits) {
      largest = m > largest ? m : largest;
      ++numbers;
    }
  if (rule.torch && numbers < count) {
    stored = std::bit_cast<float>(0x7FC00000u);
    emit([&rule](const float&) { return rule.nan_code; });
    return;
  }
  const bool infinite = largest == infinity_bits, zero = largest < smallest_normal_bits;
  // The GPU's maximum starts at -FLT_MAX and never meets a number here.
  stored = numbers == 0 ? -FLT_MAX : zero ? 0.0f : std::bit_cast<float>(largest);
  const float factor = infinite || zero ? 0.0f : quotient(1.0f, std::bit_cast<float>(largest));
  emit([&rule, &code, infinite, zero, factor](const float& e) {
    const std::uint32_t m = magnitude_bits(e);
    if (m > infinity_bits || (infinite && m == infinity_bits)) return rule.nan_code;
    return zero ? rule.zero_block_code : code(e * factor);
  });
}

// Quantizes one block x (count > 0); `whole` is false for a short last block.
// code(v) gives the code of a normalized value that is no NaN.  emit(code_of) is called once and stores code_of(x[i]) for every i.
// stored receives the absmax that goes with the codes.
// A block whose absmax is subnormal counts as zeros, as on a GPU that flushes subnormals (torch keeps it).
template <class Code, class Emit>
inline void quantize_absmax_block(const float* x, std::size_t count, bool whole, const BlockRule& rule, const Code& code,
                                  const Emit& emit, float& stored) {
  const std::uint32_t largest = largest_magnitude(x, count);
  if (largest >= infinity_bits) [[unlikely]]
    return quantize_non_finite_block(x, count, rule, code, emit, stored);
  std::uint32_t divisor = largest;
  if (rule.torch) {
    divisor = largest > torch_smallest_divisor ? largest : torch_smallest_divisor;
    stored = std::bit_cast<float>(whole ? largest : divisor);
    if (largest == 0) {
      emit([zero = code(0.0f)](const float&) { return zero; });
      return;
    }
    if (!whole) {
      emit([&code, divisor](const float& e) { return code(quotient(e, std::bit_cast<float>(divisor))); });
      return;
    }
  } else {
    if (largest < smallest_normal_bits) {
      stored = 0.0f;
      emit([&rule](const float&) { return rule.zero_block_code; });
      return;
    }
    stored = std::bit_cast<float>(largest);
  }
  // The reciprocal is rounded by quotient(); the product needs no barrier, because code() only looks at its bits.
  emit([&code, factor = quotient(1.0f, std::bit_cast<float>(divisor))](const float& e) { return code(e * factor); });
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
