// SPDX-License-Identifier: MIT
// Better scales for the same bytes: 4-bit blocks decode as table x scale whatever the scale is, so instead of the block's largest
// magnitude it may be the number, of either sign, that gives the least squared error.  The files stay what they are; decoders do not
// know the difference.  A negative scale turns the table around, which has one step more on its positive side.
//
// Method, per block: the elements as integers in units of absmax / 8192; for each of the candidate scales below, and each sign, the
// nearest table values t, and from them sum(x t) and sum(t t) in integers; sum(x t)^2 / sum(t t) is what the least-squares scale
// sum(x t) / sum(t t) takes off the squared error, so the candidate with the largest wins, and is refined by its own rule.  Integers
// make the choice the same with every compiler and flag.
// Elements of a matrix may count by their column, as an error of a weight does by the mean square of what it is multiplied by: the
// sums are weighted, with weights in 2047ths of the block's largest.
// Normal weights, double-quantized, SNR in dB, the largest magnitude against this: blocks of 32 21.2 and 22.3, of 64 20.7 and 21.6, of
// 128 20.4 and 21.0, of 4096 19.2 and 20.1.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/format/absmax_block.hpp"
#include "lowbit/format/codebook.hpp"
#include "lowbit/format/four_bit.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

inline constexpr std::int32_t search_unit = 8192;  // absmax; a threshold may lie a half above it and still fit in 16 bits
inline constexpr std::size_t search_part = 32;     // elements whose sums of products fit in 32 bits

// A table in ascending order, turned around for a negative scale, in integers.
struct SearchTable {
  std::int16_t lowest = 0;
  std::array<std::int16_t, 15> steps{};  // from each value to the next one
  std::array<float, 15> midpoints{};     // of the true values
};
template <class Codebook>
constexpr SearchTable make_search_table(bool negative) {
  std::array<float, 16> t = Codebook::table;
  for (float& v : t) v = negative ? -v : v;
  std::sort(t.begin(), t.end());
  const auto integer = [](float v) {
    const float scaled = v * static_cast<float>(search_unit);
    return static_cast<std::int32_t>(scaled + (scaled < 0 ? -0.5f : 0.5f));
  };
  SearchTable s;
  s.lowest = static_cast<std::int16_t>(integer(t[0]));
  for (std::size_t i = 0; i < 15; ++i) {
    s.steps[i] = static_cast<std::int16_t>(integer(t[i + 1]) - integer(t[i]));
    s.midpoints[i] = (t[i] + t[i + 1]) * 0.5f;
  }
  return s;
}

// What a scale is worth: with t the nearest table values times that scale.
struct SearchSums {
  std::int64_t xt = 0, tt = 0;
  // The squared error that the least-squares scale takes away, in units.
  LOWBIT_INLINE double gain() const {
    return tt == 0 ? 0 : static_cast<double>(xt) * static_cast<double>(xt) / static_cast<double>(tt);
  }
  LOWBIT_INLINE float scale() const { return static_cast<float>(static_cast<double>(xt) / static_cast<double>(tt)); }
};

// The sums of x (count, a multiple of search_part, filled up with zeros) for thresholds scale x midpoints; scale > 0.
// weights (count), if weighted: 0 to search_weight.
inline constexpr std::int32_t search_weight = 2047;  // 32 of them times products of 14 bits fit in 32
template <bool Weighted>
LOWBIT_INLINE SearchSums search_sums(const std::int16_t* x, const std::int16_t* weights, std::size_t count,
                                     const SearchTable& table, float scale) {
  std::array<std::int16_t, 15> thresholds;
  for (std::size_t k = 0; k < 15; ++k) {
    const float t = table.midpoints[k] * (scale * static_cast<float>(search_unit));
    thresholds[k] = static_cast<std::int16_t>(t < -32000.0f ? -32000.0f : t > 32000.0f ? 32000.0f : t);
  }
  SearchSums sums;
  for (std::size_t begin = 0; begin < count; begin += search_part) {
    // Plain loops of a fixed length, for the compiler to vectorize.
    alignas(64) std::array<std::int16_t, search_part> t;
    for (std::size_t i = 0; i < search_part; ++i) t[i] = table.lowest;
    for (std::size_t k = 0; k < 15; ++k) {
      const std::int16_t threshold = thresholds[k], step = table.steps[k];
      for (std::size_t i = 0; i < search_part; ++i)
        t[i] = static_cast<std::int16_t>(t[i] + (x[begin + i] > threshold ? step : std::int16_t{0}));
    }
    std::int32_t xt = 0, tt = 0;
    const auto product = [&](std::size_t i, std::int32_t a, std::int32_t b) {
      return Weighted ? ((a * b + 2048) >> 12) * weights[begin + i] : a * b >> 4;
    };
    for (std::size_t i = 0; i < search_part; ++i) xt += product(i, x[begin + i], t[i]);
    for (std::size_t i = 0; i < search_part; ++i) tt += product(i, t[i], t[i]);
    sums.xt += xt;
    sums.tt += tt;
  }
  return sums;
}

// The weights of a block's elements as integers; element i stands in column (first + i) % column_weights.size().  All are the same
// where the columns' are zero.
inline void block_weights(std::span<const float> column_weights, std::size_t first, std::size_t count, std::int16_t* weights) {
  const std::size_t columns = column_weights.size();
  float largest = 0;
  for (std::size_t i = 0, c = first; i < count; ++i, c = c + 1 == columns ? 0 : c + 1)
    largest = column_weights[c] > largest ? column_weights[c] : largest;
  const bool even = !(largest >= std::bit_cast<float>(smallest_normal_bits));
  for (std::size_t i = 0, c = first; i < count; ++i, c = c + 1 == columns ? 0 : c + 1) {
    // At least 1: no element is free to be anything.
    const float part = even ? 1.0f : quotient(column_weights[c], largest);
    const auto whole = static_cast<std::int16_t>(part * static_cast<float>(search_weight));
    weights[i] = whole < 1 ? std::int16_t{1} : whole;
  }
}

// The scale of one block x (count > 0, at most 4096, finite); 0 for a block of zeros (subnormal ones count as such).
// weights (count), if weighted: 0 to search_weight.
template <class Codebook, bool Weighted>
LOWBIT_INLINE float search_scale(const float* x, const std::int16_t* weights, std::size_t count, std::size_t block) {
  constexpr std::array<SearchTable, 2> tables{make_search_table<Codebook>(false), make_search_table<Codebook>(true)};
  // Parts of absmax: the longer the block, the further out its largest element lies, and the more it pays to cut it off.
  constexpr std::array<float, 3> short_block{0.85f, 0.95f, 1.05f}, long_block{0.75f, 0.85f, 0.95f}, longest_block{0.7f, 0.8f, 0.9f};
  const std::uint32_t largest = largest_magnitude(x, count);
  if (largest < smallest_normal_bits) return 0;
  const auto absmax = std::bit_cast<float>(largest);
  alignas(64) std::array<std::int16_t, 4096> units;
  const std::size_t padded = (count + search_part - 1) / search_part * search_part;
  // Truncation, not rounding, which takes an addition that some compilers would fuse.
  const float factor = quotient(static_cast<float>(search_unit), absmax);
  for (std::size_t i = 0; i < count; ++i) units[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(x[i] * factor));
  for (std::size_t i = count; i < padded; ++i) units[i] = 0;

  double best = -1;
  float scale = 0;
  std::size_t sign = 0;
  const auto consider = [&](std::size_t s, float candidate) {
    const SearchSums sums = search_sums<Weighted>(units.data(), weights, padded, tables[s], candidate);
    if (!(sums.gain() > best) || sums.tt == 0) return;
    best = sums.gain();
    scale = sums.scale();
    sign = s;
  };
  for (const float candidate : block <= 128 ? short_block : block <= 1024 ? long_block : longest_block)
    for (std::size_t s = 0; s < 2; ++s) consider(s, candidate);
  if (scale > 0) consider(sign, scale);
  return scale > 0 ? rounded((sign == 0 ? scale : -scale) * absmax) : absmax;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Finds the scales of x (n): scales (block_count(n, block)), for quantize_four_bit_with().  A block of zeros, or one that holds NaN or
// infinity, has scale 0.
// column_weights: empty, or what an error in each column of a matrix counts, from 0 on; x begins with one of its rows.
// Throws InvalidArgument if the block size is not valid.  Thread safe on distinct outputs: whole blocks may be shared out.
template <class Codebook>
LOWBIT_INLINE void search_scales(const float* x, std::size_t n, std::size_t block, float* scales,
                                 std::span<const float> column_weights = {}) {
  require(valid_block_size(block),
          [&] { return "4-bit block size: expected a power of two from 32 to 4096, found " + decimal(block); });
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t begin = 0; begin < n; begin += block) {
    const std::size_t count = n - begin < block ? n - begin : block;
    const bool finite = detail::largest_magnitude(x + begin, count) < detail::infinity_bits;
    if (!finite) {
      *scales++ = 0;
    } else if (column_weights.empty()) {
      *scales++ = detail::search_scale<Codebook, false>(x + begin, nullptr, count, block);
    } else {
      alignas(64) std::array<std::int16_t, 4096> weights{};
      detail::block_weights(column_weights, begin % column_weights.size(), count, weights.data());
      *scales++ = detail::search_scale<Codebook, true>(x + begin, weights.data(), count, block);
    }
  }
}

// The codes of x (n) for given scales, of either sign: packed (packed_size(n)).  scales (block_count(n, block)) are those that decoding
// will use: after double quantization, what it decodes to.  A block with scale 0 has the code of zero throughout.
// Rule: v = x * (1 / scale), both rounded to float; code = the codebook's nearest, as Producer::cuda has it.
// Throws InvalidArgument if the block size is not valid.  Thread safe on distinct outputs: whole blocks may be shared out.
template <class Codebook>
LOWBIT_INLINE void quantize_four_bit_with(const float* scales, const float* x, std::size_t n, std::size_t block,
                                          std::uint8_t* packed) {
  require(valid_block_size(block),
          [&] { return "4-bit block size: expected a power of two from 32 to 4096, found " + decimal(block); });
  const detail::DefaultFloatEnvironment environment;
  const detail::FourBitRule& rule = Codebook::rule(Producer::cuda);
  for (std::size_t begin = 0; begin < n; begin += block, packed += block / 2, ++scales) {
    const float* const in = x + begin;
    const std::size_t count = n - begin < block ? n - begin : block;
    const bool zero = detail::magnitude_bits(*scales) < detail::smallest_normal_bits;
    const float factor = zero ? 0.0f : quotient(1.0f, *scales);
    const auto code = [&](const float& e) -> int {
      if (zero) return Codebook::zero_code;
      const float v = e * factor;
      return is_nan_bits(v) ? rule.nan_code : rule.code(v);
    };
    for (std::size_t j = 0; j < count / 2; ++j) packed[j] = static_cast<std::uint8_t>(code(in[2 * j]) << 4 | code(in[2 * j + 1]));
    if (count % 2 != 0) packed[count / 2] = static_cast<std::uint8_t>(code(in[count - 1]) << 4 | Codebook::zero_code);
  }
}

}  // namespace lowbit::inline LOWBIT_ABI
