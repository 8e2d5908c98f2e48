// SPDX-License-Identifier: MIT
// Blockwise 4-bit quantization (NF4, FP4) of a flat float array, byte for byte as bitsandbytes stores it.
//
// Layout: element e belongs to block e / block; blocks know nothing of rows.  Each block has one float absmax, the last block may
// be short.  Byte j holds element 2j in its high nibble and element 2j + 1 in its low nibble; n elements take (n + 1) / 2 bytes.
#pragma once
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
#include "lowbit/format/dense.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Bytes of n packed codes.
constexpr std::size_t packed_size(std::size_t n) { return n / 2 + n % 2; }
// Blocks, and so scales, of n elements; block > 0.
constexpr std::size_t block_count(std::size_t n, std::size_t block) { return ceil_div(n, block); }
// The block sizes that bitsandbytes knows: powers of two from 32 to 4096.
constexpr bool valid_block_size(std::size_t block) { return std::has_single_bit(block) && block >= 32 && block <= 4096; }

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// The codes of x (32 elements) times factor, packed; no product may be NaN.  Counts all thresholds instead of searching, in plain
// loops that compilers vectorize; the result is FourBitRule::code's.
LOWBIT_INLINE void quantize_32(const FourBitRule& rule, const float* x, float factor, std::uint8_t* packed) {
  alignas(64) std::array<std::int32_t, 32> below;
  for (std::size_t i = 0; i < 32; ++i) {
    const float v = x[i] * factor;
    std::int32_t count = 0;
    for (std::size_t k = 0; k < 15; ++k) count += rule.limits[k] < v ? 1 : 0;
    below[i] = count;
  }
  if (rule.ascending)
    for (std::size_t j = 0; j < 16; ++j) packed[j] = static_cast<std::uint8_t>(below[2 * j] << 4 | below[2 * j + 1]);
  else
    for (std::size_t j = 0; j < 16; ++j)
      packed[j] = static_cast<std::uint8_t>(rule.codes[static_cast<std::size_t>(below[2 * j])] << 4 |
                                            rule.codes[static_cast<std::size_t>(below[2 * j + 1])]);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Quantizes x (n) into packed (packed_size(n)) and absmax (block_count(n, block)).
// Where n is odd the last low nibble is what the producer's code for 0 would be.
// NaN and infinity are coded as the producer codes them; a library's user who wants them refused asks first_non_finite().
// Throws InvalidArgument if the block size is not valid.  Thread safe on distinct outputs: whole blocks may be shared out.
// Rule: absmax is the largest |x| of the block; v = x * (1 / absmax), both rounded to float; code = codebook(v).
template <class Codebook>
inline void quantize_four_bit(const float* x, std::size_t n, std::size_t block, Producer producer, std::uint8_t* packed,
                              float* absmax) {
  require(valid_block_size(block),
          [&] { return "4-bit block size: expected a power of two from 32 to 4096, found " + decimal(block); });
  const detail::DefaultFloatEnvironment environment;
  const detail::FourBitRule& codes = Codebook::rule(producer);
  const detail::BlockRule rule{producer == Producer::torch, codes.nan_code, codes.zero_block_code};
  const auto code = [&codes](float v) { return codes.code(v); };
  for (std::size_t begin = 0; begin < n; begin += block, packed += block / 2, ++absmax) {
    const float* const in = x + begin;
    const std::size_t count = n - begin < block ? n - begin : block;
    // Whole blocks of ordinary numbers, in which no producer differs.
    const std::uint32_t largest = count == block ? detail::largest_magnitude(in, count) : 0;
    if (largest >= detail::smallest_normal_bits && largest < detail::infinity_bits) [[likely]] {
      *absmax = std::bit_cast<float>(largest);
      const float factor = quotient(1.0f, *absmax);
      for (std::size_t i = 0; i < count; i += 32) detail::quantize_32(codes, in + i, factor, packed + i / 2);
      continue;
    }
    const auto emit = [&](const auto& code_of) {
      for (std::size_t j = 0; j < count / 2; ++j)
        packed[j] = static_cast<std::uint8_t>((code_of(in[2 * j]) << 4) | code_of(in[2 * j + 1]));
      if (count % 2 != 0) {
        // PyTorch pads before it quantizes and the GPU while it does, so only there the block's scale reaches the padding.
        const float zero = 0.0f;
        const int padding = rule.torch ? Codebook::zero_code : code_of(zero);
        packed[count / 2] = static_cast<std::uint8_t>((code_of(in[count - 1]) << 4) | padding);
      }
    };
    detail::quantize_absmax_block(in, count, count == block, rule, code, emit, *absmax);
  }
}

// The code of element e.
LOWBIT_INLINE std::uint8_t four_bit_code(const std::uint8_t* packed, std::size_t e) {
  return static_cast<std::uint8_t>(e % 2 == 0 ? packed[e / 2] >> 4 : packed[e / 2] & 15);
}

// Decodes elements [begin, end) of the whole tensor into out (end - begin); packed and absmax point at the tensor's first ones.
// table: the sixteen values of the codes (a checkpoint's quant_map, or Codebook::table.data()); block > 0, any size.
// Out: float, Float16 or BFloat16.  Each value is the float product table[code] * absmax, rounded to Out once.
// Thread safe on distinct outputs.
template <DenseType Out>
inline void dequantize_four_bit(const float* table, const std::uint8_t* packed, const float* absmax, std::size_t begin,
                                std::size_t end, std::size_t block, Out* out) {
  const detail::DefaultFloatEnvironment environment;
  for (std::size_t e = begin; e < end;) {
    const std::size_t b = e / block, left = block - e % block, stop = left < end - e ? e + left : end;
    std::array<Out, 16> values;  // a block has no more than sixteen different ones
    for (std::size_t c = 0; c < 16; ++c) values[c] = DenseElement<Out>::encode(rounded(table[c] * absmax[b]));
    if (e % 2 != 0 && e < stop) *out++ = values[four_bit_code(packed, e++)];
    for (; e + 1 < stop; e += 2) {
      const std::uint8_t pair = packed[e / 2];
      *out++ = values[pair >> 4];
      *out++ = values[pair & 15];
    }
    if (e < stop) *out++ = values[four_bit_code(packed, e++)];
  }
}

}  // namespace lowbit::inline LOWBIT_ABI
