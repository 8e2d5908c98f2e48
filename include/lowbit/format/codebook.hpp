// SPDX-License-Identifier: MIT
// The two 4-bit codebooks, NF4 and FP4: sixteen float values each, and the rules that turn a normalized value (x / absmax, in
// [-1, 1]) into the code of a near table entry.  Values are compared as ordered integers, so no compiler flag changes a code.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "lowbit/base/config.hpp"
#include "lowbit/base/half.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Whose 4-bit codes the quantizer writes.  The decoded values differ only where this list says so.
//   cuda   bitsandbytes' GPU kernels, with an IEEE reciprocal; the default.  A block of zeros has every code 0, which in NF4 is -1:
//          it decodes to zero only because its absmax is zero.
//   safe   cuda, except that a block of zeros in NF4 has code 7, the code of zero.
//   torch  bitsandbytes' kernels for PyTorch on a CPU: a short last block divides by absmax instead of multiplying by its
//          reciprocal, absmax is not taken below 1e-38 there, FP4 compares with the true midpoints, and one NaN makes the whole
//          block NaN.
enum class Producer : std::uint8_t { cuda, safe, torch };

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// An integer that orders as the float does; -0 comes directly before +0.  NaNs end up beyond the infinities of their sign.
LOWBIT_INLINE constexpr std::int32_t ordered_bits(float x) {
  const auto u = std::bit_cast<std::int32_t>(x);
  return u ^ ((u >> 31) & 0x7FFFFFFF);
}

template <std::size_t N>
constexpr std::array<float, N> floats_from_bits(const std::uint32_t (&bits)[N]) {
  std::array<float, N> values{};
  for (std::size_t i = 0; i < N; ++i) values[i] = std::bit_cast<float>(bits[i]);
  return values;
}

// How a normalized value becomes a 4-bit code: the thresholds strictly below it are counted, and the count picks the code.
struct FourBitRule {
  std::array<std::int32_t, 15> thresholds{};  // ordered_bits, ascending
  std::array<std::uint8_t, 16> codes{};       // by count
  std::uint8_t nan_code = 0;
  std::uint8_t zero_block_code = 0;
  bool ascending = false;          // the codes are the counts
  std::array<float, 15> limits{};  // the thresholds as numbers

  // Makes the limits from the thresholds.
  constexpr void set_limits() {
    for (std::size_t i = 0; i < 15; ++i) {
      const std::int32_t t = thresholds[i];
      limits[i] = std::bit_cast<float>(t ^ ((t >> 31) & 0x7FFFFFFF));
    }
  }

  // v must not be NaN.  A binary search without branches.
  LOWBIT_INLINE constexpr std::uint8_t code(float v) const {
    const std::int32_t key = ordered_bits(v);
    std::size_t below = thresholds[7] < key ? 8u : 0u;
    below += thresholds[below + 3] < key ? 4u : 0u;
    below += thresholds[below + 1] < key ? 2u : 0u;
    below += thresholds[below] < key ? 1u : 0u;
    return codes[below];
  }
};

// Thresholds half way between neighbours, each midpoint rounded to float; a value on a threshold takes the lower neighbour.
constexpr FourBitRule midpoint_rule(const std::array<float, 16>& table, const std::array<std::uint8_t, 16>& ascending,
                                    std::uint8_t nan_code, std::uint8_t zero_block_code) {
  FourBitRule rule{{}, ascending, nan_code, zero_block_code, true, {}};
  for (std::size_t i = 0; i < 16; ++i) rule.ascending = rule.ascending && ascending[i] == i;
  for (std::size_t i = 0; i < 15; ++i) rule.thresholds[i] = ordered_bits((table[ascending[i]] + table[ascending[i + 1]]) * 0.5f);
  rule.set_limits();
  return rule;
}

// FP4 as the GPU kernel does it: magnitudes compared with seven literals that are not all midpoints, the sign kept apart.
constexpr FourBitRule fp4_cuda_rule() {
  constexpr std::array<float, 7> pivots{0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f};
  constexpr std::array<std::uint8_t, 8> magnitudes{0, 1, 6, 7, 4, 5, 2, 3};  // codes, by ascending magnitude
  FourBitRule rule{};
  for (std::size_t i = 0; i < 7; ++i) {
    // A tie goes to the smaller magnitude, which for a negative value is the upper neighbour: hence one below.
    rule.thresholds[6 - i] = ordered_bits(-pivots[i]) - 1;
    rule.thresholds[8 + i] = ordered_bits(pivots[i]);
  }
  rule.thresholds[7] = -2;  // -0, whose key is -1, counts as positive
  for (std::size_t i = 0; i < 8; ++i) {
    rule.codes[7 - i] = static_cast<std::uint8_t>(magnitudes[i] | 8u);
    rule.codes[8 + i] = magnitudes[i];
  }
  rule.set_limits();
  return rule;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// 4-bit NormalFloat: the quantiles of a normal distribution scaled to [-1, 1], ascending, with an exact zero at code 7.
struct Nf4 {
  static constexpr const char* name = "nf4";  // of the format
  // What a code decodes to, before its scale.
  static constexpr std::array<float, 16> table = detail::floats_from_bits(
      {0xBF800000u, 0xBF3239B1u, 0xBF066B30u, 0xBECA32A0u, 0xBE91A24Du, 0xBE3D353Fu, 0xBDBA7871u, 0x00000000u, 0x3DA2FAFFu,
       0x3E24CAE3u, 0x3E7C04DDu, 0x3EAD033Au, 0x3EE1A4B8u, 0x3F1007ABu, 0x3F3913B3u, 0x3F800000u});
  static constexpr std::uint8_t zero_code = 7;  // decodes to 0

  // How `producer` rounds to codes.
  LOWBIT_INLINE static constexpr const detail::FourBitRule& rule(Producer producer) {
    return producer == Producer::torch ? torch_rule : producer == Producer::safe ? safe_rule : cuda_rule;
  }
  // The code of a normalized value: the nearest entry, a value half way between two takes the lower one.
  LOWBIT_INLINE static constexpr std::uint8_t encode(float v, Producer producer = Producer::cuda) {
    return is_nan_bits(v) ? rule(producer).nan_code : rule(producer).code(v);
  }

 private:
  static constexpr std::array<std::uint8_t, 16> ascending{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static constexpr detail::FourBitRule cuda_rule = detail::midpoint_rule(table, ascending, 0, 0);
  static constexpr detail::FourBitRule safe_rule = detail::midpoint_rule(table, ascending, 0, 7);
  static constexpr detail::FourBitRule torch_rule = detail::midpoint_rule(table, ascending, 15, 7);
};

// 4-bit float, sign in bit 3.  The magnitudes of codes 0 to 7 are 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4: not in order.  Code 8 is
// "minus zero"; the table holds +0 there, as the maps in checkpoints do.
struct Fp4 {
  static constexpr const char* name = "fp4";  // of the format
  // What a code decodes to, before its scale.
  static constexpr std::array<float, 16> table = detail::floats_from_bits(
      {0x00000000u, 0x3BAAAAABu, 0x3F2AAAABu, 0x3F800000u, 0x3EAAAAABu, 0x3F000000u, 0x3E2AAAABu, 0x3E800000u, 0x00000000u,
       0xBBAAAAABu, 0xBF2AAAABu, 0xBF800000u, 0xBEAAAAABu, 0xBF000000u, 0xBE2AAAABu, 0xBE800000u});
  static constexpr std::uint8_t zero_code = 0;  // decodes to 0

  // How `producer` rounds to codes.
  LOWBIT_INLINE static constexpr const detail::FourBitRule& rule(Producer producer) {
    return producer == Producer::torch ? torch_rule : cuda_rule;
  }
  // The code of a normalized value.  torch: the nearest entry, ties to the lower value, tiny positive values become code 8.
  LOWBIT_INLINE static constexpr std::uint8_t encode(float v, Producer producer = Producer::cuda) {
    return is_nan_bits(v) ? rule(producer).nan_code : rule(producer).code(v);
  }

 private:
  static constexpr std::array<std::uint8_t, 16> ascending{11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};
  static constexpr detail::FourBitRule cuda_rule = detail::fp4_cuda_rule();
  static constexpr detail::FourBitRule torch_rule = detail::midpoint_rule(table, ascending, 3, 0);
};

}  // namespace lowbit::inline LOWBIT_ABI
