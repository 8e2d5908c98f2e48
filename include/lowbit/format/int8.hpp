// SPDX-License-Identifier: MIT
// Two kinds of 8-bit integers: plain symmetric int8 with one float scale per group, and LLM.int8() rows as bitsandbytes makes them.
//
// Layout of both: one std::int8_t per element in row-major order, codes -127 to 127, never -128.
//   plain       w = code * scale, scale = absmax / 127.  Groups are flat runs of `block` elements: block = columns gives one scale
//   per
//               row, block = all elements one per tensor.  The last group may be short.
//   LLM.int8()  w = code * SCB * (1 / 127), where SCB, one float per row, is the row's absmax itself.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/format/absmax_block.hpp"
#include "lowbit/format/dense.hpp"
#include "lowbit/format/finite.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Whose arithmetic LLM.int8() follows: bitsandbytes' GPU kernels, or its PyTorch kernels on a CPU.
enum class LlmInt8Rule : std::uint8_t { cuda, torch };

// fp32(1 / 127), by which LLM.int8() weights are decoded.
inline constexpr float llm_int8_inverse_127 = std::bit_cast<float>(0x3C010204u);
// 1 / 127^2 as each rule has it: the first is the nearest float, the second is 1.8e-5 too large.
inline constexpr float llm_int8_inverse_127_squared_cuda = std::bit_cast<float>(0x38820610u);
inline constexpr float llm_int8_inverse_127_squared_torch = std::bit_cast<float>(0x388206AAu);  // of a CPU's PyTorch kernels

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// The nearest integer, half to even; |x| < 2^22.  Adding 1.5 * 2^23 leaves the integer in the low bits, and takes no rounding call.
LOWBIT_INLINE std::int32_t round_half_even(float x) {
  return std::bit_cast<std::int32_t>(rounded(x) + 12582912.0f) - std::bit_cast<std::int32_t>(12582912.0f);
}

// The fp16 mantissas (10 bits, bit m % 64 of word m / 64) whose reciprocal a GPU's rcp.approx.f32 does not round to the nearest float
// but to the exact value's other neighbour: 130 of 1024, whatever the exponent.  Measured on an H200 for every fp16 value; its fast
// division a / x is fp32(a * rcp.approx(x)).
inline constexpr std::array<std::uint64_t, 16> reciprocal_by_other_neighbour = {
    0x4001400100164840u, 0xC002030609C02040u, 0x0009000102180480u, 0x1000000628421800u, 0x0003050080040010u, 0x0008000024000020u,
    0x28800202830A1804u, 0x0A04010206080462u, 0x0018400880090380u, 0x0008004000000000u, 0x3000801808000D80u, 0x0000800001100000u,
    0x008020A0002E8000u, 0x2000550000000000u, 0x3441000109000000u, 0x0104002018000120u};

// 1 / x as such a GPU has it, x > 0 a value of fp16; the nearest float for others.
inline float gpu_reciprocal(float x) {
  const float nearest = quotient(1.0f, x);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x), mantissa = (bits >> 13) & 1023;
  if ((bits & 0x1FFF) != 0 || ((reciprocal_by_other_neighbour[mantissa / 64] >> (mantissa % 64)) & 1) == 0) return nearest;
  const bool above = rounded(static_cast<double>(nearest) * static_cast<double>(x)) > 1.0;  // exact: 24 and 11 bits
  const std::uint32_t nearest_bits = std::bit_cast<std::uint32_t>(nearest);
  return std::bit_cast<float>(above ? nearest_bits - 1 : nearest_bits + 1);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Quantizes one group x (n) to codes (n); `scale` receives its scale.
// scale = fp32(absmax / 127); code = x / scale, rounded to float, then to an integer with half to even, clamped to +-127.
// A group of zeros, or so small that its scale is zero, has scale 0 and codes 0.  A group that holds NaN or infinity has scale NaN
// and codes 0, so it decodes to NaN.
inline void quantize_int8_group(const float* x, std::size_t n, std::int8_t* codes, float& scale) {
  const detail::DefaultFloatEnvironment environment;
  const std::uint32_t largest = detail::largest_magnitude(x, n);
  const bool finite = largest < detail::infinity_bits;
  const float step = finite ? quotient(std::bit_cast<float>(largest), 127.0f) : 0.0f;
  if (step == 0.0f) {
    scale = std::bit_cast<float>(finite ? 0u : 0x7FC00000u);
    std::fill(codes, codes + n, std::int8_t{0});
    return;
  }
  scale = step;
  for (std::size_t i = 0; i < n; ++i)
    codes[i] = static_cast<std::int8_t>(std::clamp(detail::round_half_even(quotient(x[i], step)), -127, 127));
}

// Quantizes x (n) in flat groups of `block`: codes (n), scales (ceil(n / block)).
// Throws InvalidArgument if block is 0.  Thread safe on distinct outputs.
inline void quantize_int8(const float* x, std::size_t n, std::size_t block, std::int8_t* codes, float* scales) {
  require(block > 0, [] { return std::string("int8 group size: expected at least 1, found 0"); });
  for (std::size_t begin = 0; begin < n; begin += (std::min)(block, n - begin))
    quantize_int8_group(x + begin, (std::min)(block, n - begin), codes + begin, *scales++);
}

// Decodes elements [begin, end) of the whole tensor into out (end - begin); codes and scales point at the tensor's first ones.
// Out: float, Float16 or BFloat16; the float product code * scale, rounded to Out once.  block > 0.
template <DenseType Out>
inline void dequantize_int8(const std::int8_t* codes, const float* scales, std::size_t begin, std::size_t end, std::size_t block,
                            Out* out) {
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t e = begin; e < end; ++e)
    *out++ = DenseElement<Out>::encode(rounded(static_cast<float>(codes[e]) * scales[e / block]));
}

// Whether LLM.int8() takes an element out of the integer product: threshold > 0 and |x| >= threshold, compared in fp16.
inline bool llm_int8_outlier(float x, float threshold) {
  return threshold > 0 &&
         detail::magnitude_bits(to_float(to_float16(x))) >= detail::magnitude_bits(to_float(to_float16(threshold))) &&
         detail::magnitude_bits(x) <= detail::infinity_bits;
}

// Quantizes one row x (n) as LLM.int8() does, weights and activations alike: codes (n).  `stat` receives the row's stat (SCB of a
// weight). round_to_fp16: first rounds every x to fp16, which the format demands; pass false if the values already are fp16 values.
// threshold: 0, or the magnitude from which on an element is an outlier; outliers count for nothing in stat and have code 0.
// (Upstream then also zeroes the columns of all outliers of a call, if it has more than one row: that is the caller's business.)
// Rule: stat = largest |x|; scale = fp32(127 * fp32(1 / stat)), 1 / stat as the GPU has it (cuda: of 84,934,656 weights of a bfloat16
// model 7,078 codes differ from torch's, by one); code = fp32(x * scale), half to even.
// A row of zeros has stat 0 and codes 0.  A row with NaN or (as an element that is no outlier) infinity has codes 0 and `stat`
// NaN or infinity.  A row so small that scale overflows, which fp16 cannot hold, has codes 0.
// Thread safe on distinct outputs.
inline void llm_int8_quantize_row(const float* x, std::size_t n, bool round_to_fp16, float threshold, std::int8_t* codes,
                                  float& stat, LlmInt8Rule rule = LlmInt8Rule::torch) {
  const detail::DefaultFloatEnvironment environment;
  const auto value = [=](std::size_t i) { return round_to_fp16 ? to_float(to_float16(x[i])) : x[i]; };
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float v = value(i);
    const std::uint32_t m = detail::magnitude_bits(v);
    if (m > largest && !llm_int8_outlier(v, threshold)) largest = m;
  }
  stat = std::bit_cast<float>(largest);
  constexpr std::uint32_t smallest = 0x03800000u;  // 2^-120: 127 / stat is finite from here on
  if (largest < smallest || largest >= detail::infinity_bits) {
    std::fill(codes, codes + n, std::int8_t{0});
    return;
  }
  const float reciprocal = rule == LlmInt8Rule::cuda ? detail::gpu_reciprocal(stat) : quotient(1.0f, stat);
  const float scale = rounded(127.0f * reciprocal);
  for (std::size_t i = 0; i < n; ++i) {
    const float v = value(i);
    codes[i] = llm_int8_outlier(v, threshold) ? std::int8_t{0} : static_cast<std::int8_t>(detail::round_half_even(v * scale));
  }
}

// A weight (or activation) back from its code: fp32(fp32(code * scb) * fp32(1 / 127)).
LOWBIT_INLINE float llm_int8_decode(std::int8_t code, float scb) {
  return rounded(rounded(static_cast<float>(code) * scb) * llm_int8_inverse_127);
}

// One element of the integer product back to float, before its rounding to fp16.
// acc: the exact integer sum; row, col: the stats of the activation row and the weight row; bias: 0 where there is none.
//   cuda   fma(fp32(fp32(acc * row) * col), 1 / 127^2, bias)
//   torch  fp32(fp32(acc * fp32(row * col)) * 1 / 127^2) + bias
inline float llm_int8_dequantize(std::int32_t acc, float row, float col, float bias, LlmInt8Rule rule) {
  const auto sum = static_cast<float>(acc);
  if (rule == LlmInt8Rule::cuda) return std::fma(rounded(rounded(sum * row) * col), llm_int8_inverse_127_squared_cuda, bias);
  return rounded(rounded(rounded(sum * rounded(row * col)) * llm_int8_inverse_127_squared_torch) + bias);
}

}  // namespace lowbit::inline LOWBIT_ABI
