// SPDX-License-Identifier: MIT
// The dynamic 8-bit map, blockwise quantization to it, and what it is used for: double quantization, where the absmax values of a
// 4-bit tensor are themselves stored in 8 bits.
//
// Layout: one byte per element, an index into 256 ascending values; one float absmax per block of elements, the last may be short.
// Double-quantized absmax: d = absmax - offset, quantized in blocks of 256, and one float offset for the tensor.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/format/absmax_block.hpp"
#include "lowbit/format/codebook.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Whose 8-bit codes the quantizer writes.
//   cuda    bitsandbytes' GPU kernels, the default: nearest entry, a value half way between two takes the even index; a block of
//           zeros is index 0.
//   torch   its kernels for PyTorch on a CPU: half way takes the lower index; a block of zeros is index 127; a short last block
//           divides by absmax, which is not taken below 1e-38 there.
//   cpulib  its C++ library: values are first put into 65536 bins, too wide for the entries near zero (0 becomes index 131, which
//           is 2.12e-5); a block of zeros is index 0.  What it does with NaN is not defined; here NaN is index 0.
enum class DynamicRule : std::uint8_t { cuda, torch, cpulib };

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

constexpr std::array<float, 256> make_dynamic_map() {
  constexpr std::array<float, 7> powers{1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  std::array<float, 256> map{};
  std::size_t next = 128;
  for (std::size_t i = 0; i < 7; ++i) {
    // 2^i + 1 points from 0.1 to 1, counted from the nearer end, in fused arithmetic: exact in double, rounded once.
    const std::size_t last = std::size_t{1} << i;
    const auto step = static_cast<double>((1.0f - 0.1f) / static_cast<float>(last)), low = static_cast<double>(0.1f);
    std::array<float, 65> points{};
    for (std::size_t j = 0; j <= last; ++j) {
      const double exact = j < (last + 1) / 2 ? low + step * static_cast<double>(j) : 1.0 - step * static_cast<double>(last - j);
      points[j] = static_cast<float>(exact);
    }
    for (std::size_t j = 0; j < last; ++j) map[next++] = powers[i] * ((points[j] + points[j + 1]) * 0.5f);
  }
  map[next] = 1.0f;
  for (std::size_t i = 0; i < 127; ++i) map[i] = -map[254 - i];
  return map;
}

inline constexpr std::array<float, 256> dynamic_map_values = make_dynamic_map();

// FNV-1a over the bits: a compiler that evaluates the map otherwise must not compile it.
constexpr std::uint32_t bits_digest(const std::array<float, 256>& values) {
  std::uint32_t digest = 0x811C9DC5u;
  for (const float value : values)
    for (std::uint32_t bits = std::bit_cast<std::uint32_t>(value), byte = 0; byte < 4; ++byte, bits >>= 8)
      digest = (digest ^ (bits & 0xFFu)) * 0x01000193u;
  return digest;
}
static_assert(bits_digest(dynamic_map_values) == 0x6B337D44u);

// The index of a value is the number of thresholds strictly below it.
struct DynamicThresholds {
  std::array<std::int32_t, 255> keys{};  // ordered_bits, ascending

  // v must not be NaN.
  LOWBIT_INLINE constexpr std::uint8_t index(float v) const {
    const std::int32_t key = ordered_bits(v);
    std::size_t below = 0;
    for (std::size_t step = 128; step != 0; step /= 2) below += keys[below + step - 1] < key ? step : 0;
    return static_cast<std::uint8_t>(below);
  }
};

constexpr DynamicThresholds make_dynamic_thresholds(bool ties_to_even) {
  DynamicThresholds thresholds{};
  for (std::size_t i = 0; i < 255; ++i) {
    // Where a tie goes up, to the even index i + 1, the threshold lies one below it.
    const std::int32_t up = ties_to_even && i % 2 != 0 ? 1 : 0;
    thresholds.keys[i] = ordered_bits((dynamic_map_values[i] + dynamic_map_values[i + 1]) * 0.5f) - up;
  }
  return thresholds;
}

inline constexpr DynamicThresholds dynamic_ties_to_even = make_dynamic_thresholds(true);
inline constexpr DynamicThresholds dynamic_ties_down = make_dynamic_thresholds(false);

// The C++ library's detour: v to one of 65536 bins over [-1, 1], then the index of the bin's value.
inline std::uint8_t binned_dynamic_index(float v) {
  const float clamped = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
  const double bin_exact = rounded(static_cast<double>(rounded(clamped + 1.0f)) * (0.5 * 65535.0) + 0.5);
  const auto bin = static_cast<std::int32_t>(rounded(static_cast<float>(bin_exact)));
  return dynamic_ties_down.index(rounded(quotient(static_cast<float>(2 * bin), 65535.0f) - 1.0f));
}

inline void quantize_dynamic8_block(const float* x, std::size_t count, bool whole, DynamicRule rule, std::uint8_t* codes,
                                    float& absmax) {
  const auto emit = [&](const auto& code_of) {
    for (std::size_t i = 0; i < count; ++i) codes[i] = code_of(x[i]);
  };
  switch (rule) {
    case DynamicRule::torch:
      return quantize_absmax_block(
          x, count, whole, {true, 255, 127}, [](float v) { return dynamic_ties_down.index(v); }, emit, absmax);
    case DynamicRule::cpulib:
      return quantize_absmax_block(
          x, count, whole, {}, [](float v) { return binned_dynamic_index(v); }, emit, absmax);
    case DynamicRule::cuda:
      return quantize_absmax_block(
          x, count, whole, {}, [](float v) { return dynamic_ties_to_even.index(v); }, emit, absmax);
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// The signed map with 7 exponent bits in its fused variant, which real checkpoints hold: ascending, index 127 is 0, index 255 is 1,
// -1 is missing.  For encoding and for files without a map of their own; a checkpoint is decoded with the map it carries.
constexpr const std::array<float, 256>& dynamic_map() { return detail::dynamic_map_values; }

// Elements per scale in double quantization.
inline constexpr std::size_t nested_block_size = 256;

// Quantizes x (n) to the dynamic map: codes (n), absmax (ceil(n / block)).
// Throws InvalidArgument if block is 0.  Thread safe on distinct outputs.
inline void quantize_dynamic8(const float* x, std::size_t n, std::size_t block, DynamicRule rule, std::uint8_t* codes,
                              float* absmax) {
  require(block > 0, [] { return std::string("dynamic 8-bit block size: expected at least 1, found 0"); });
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t begin = 0; begin < n; begin += (std::min)(block, n - begin)) {
    const std::size_t count = (std::min)(block, n - begin);
    detail::quantize_dynamic8_block(x + begin, count, count == block, rule, codes + begin, *absmax++);
  }
}

// Decodes codes (n) into out (n): map[code] * absmax[i / block], rounded to float.  map: 256 values.  block > 0.
inline void dequantize_dynamic8(const float* map, const std::uint8_t* codes, const float* absmax, std::size_t n, std::size_t block,
                                float* out) {
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t i = 0; i < n; ++i) out[i] = rounded(map[codes[i]] * absmax[i / block]);
}

// The mean of absmax (n), summed in double and rounded to float; 0 for n = 0.  This is the offset of double quantization.
// bitsandbytes sums in float and in another order: its offset is within 2 ulp of this one, and is read from the file.
inline float mean_offset(const float* absmax, std::size_t n) {
  const detail::DefaultFloatEnvironment environment;
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum = rounded(sum + static_cast<double>(absmax[i]));
  return n == 0 ? 0.0f : static_cast<float>(rounded(sum / static_cast<double>(n)));
}

// Quantizes absmax (n) to 8 bits: codes (n), nested_absmax (ceil(n / 256)).  The result is exact given the offset.
// Thread safe on distinct outputs.
inline void double_quantize(const float* absmax, std::size_t n, float offset, std::uint8_t* codes, float* nested_absmax,
                            DynamicRule rule = DynamicRule::cuda) {
  const detail::DefaultFloatEnvironment environment;
  std::array<float, nested_block_size> difference;
  for (std::size_t begin = 0; begin < n; begin += nested_block_size) {
    const std::size_t count = (std::min)(nested_block_size, n - begin);
    for (std::size_t i = 0; i < count; ++i) difference[i] = rounded(absmax[begin + i] - offset);
    detail::quantize_dynamic8_block(difference.data(), count, count == nested_block_size, rule, codes + begin, *nested_absmax++);
  }
}

// One absmax back from 8 bits: fp32(fp32(map[code] * nested_absmax) + offset), two roundings.
// The result of a tiny block may be zero or slightly negative.
LOWBIT_INLINE float double_dequantize(const float* map, std::uint8_t code, float nested_absmax, float offset) {
  return rounded(rounded(map[code] * nested_absmax) + offset);
}

// All of them: codes (n), nested_absmax (ceil(n / 256)), map (256) into absmax (n).
inline void double_dequantize(const float* map, const std::uint8_t* codes, const float* nested_absmax, std::size_t n, float offset,
                              float* absmax) {
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t i = 0; i < n; ++i) absmax[i] = double_dequantize(map, codes[i], nested_absmax[i / nested_block_size], offset);
}

}  // namespace lowbit::inline LOWBIT_ABI
