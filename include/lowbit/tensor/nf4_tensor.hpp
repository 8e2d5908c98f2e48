// SPDX-License-Identifier: MIT
// NF4Tensor and FP4Tensor: 4-bit codes with an absmax per block, plain or double-quantized; bitsandbytes' bytes.
#pragma once
#include <optional>
#include <span>
#include <utility>

#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// How absmax is held: fp32, 8-bit codes of the dynamic map with nested blocks of 256, or either, known at run time.
struct PlainAbsmax {};
struct DoubleQuantizedAbsmax {};  // 8-bit codes and nested scales
struct AnyAbsmax {};              // known at run time
// A block size that is known at run time only.
inline constexpr std::size_t any_block_size = 0;

// How the scale of a block is chosen: its largest magnitude, as bitsandbytes does, or the number of either sign with the least squared
// error (format/scale_search.hpp), which decodes as every other.
enum class FourBitScales { absmax, search };

// How weights are quantized to 4 bits.
struct FourBitOptions {
  std::size_t block_size = 64;                   // used by tensors of any_block_size
  bool double_quantized = true;                  // used by tensors of AnyAbsmax
  Producer producer = Producer::cuda;            // whose rule decides ties and special blocks
  DynamicRule absmax_rule = DynamicRule::cuda;   // whose rule decides ties of absmax codes
  std::optional<float> offset = {};              // of double quantization; default: the correctly rounded mean of absmax
  FourBitScales scales = FourBitScales::absmax;  // how scales are chosen
  std::span<const float> column_weights = {};    // (cols) of search: what an error in a column counts; empty: all alike
  bool allow_non_finite = false;                 // quantize NaN and infinity as the producer does, instead of throwing
};

// A weight matrix (rows, cols) in 4 bits.  BlockSize: 32, 64, ... 4096 or any_block_size.  Blocks run over the flattened matrix and
// ignore rows.  Rule: bitsandbytes' quantize_4bit and compress_statistics.
template <class Codebook, std::size_t BlockSize, class Absmax>
class FourBitTensor : public Tensor {
  static_assert(BlockSize == any_block_size || valid_block_size(BlockSize), "block sizes are the powers of two from 32 to 4096");

 public:
  using Options = FourBitOptions;  // how it is quantized
  // Nf4 or fp4.
  static constexpr Format tensor_format = std::is_same_v<Codebook, Nf4> ? Format::nf4 : Format::fp4;

  FourBitTensor() = default;
  // Takes parts of the right format.  Throws InvalidArgument if they are of another format, block size or absmax kind.
  explicit FourBitTensor(TensorParts parts) : Tensor(std::move(parts)) {
    require(format() == tensor_format, [&] {
      return std::string(Codebook::name) + " tensor: expected " + Codebook::name + " codes, found " + format_name(format());
    });
    require(BlockSize == any_block_size || block_size() == BlockSize, [&] {
      return std::string(Codebook::name) + " tensor: expected block size " + decimal(BlockSize) + ", found " +
             decimal(block_size());
    });
    require(std::is_same_v<Absmax, AnyAbsmax> || double_quantized() == std::is_same_v<Absmax, DoubleQuantizedAbsmax> || size() == 0,
            [&] {
              return std::string(Codebook::name) + " tensor: expected " + (double_quantized() ? "plain" : "double-quantized") +
                     " absmax, found the other kind";
            });
  }

  // Quantizes w (rows, cols) row-major.  Throws InvalidArgument on NaN or infinity unless allowed, and on a bad block size.
  static FourBitTensor quantize(const float* w, std::size_t rows, std::size_t cols, const FourBitOptions& options = {}) {
    TensorParts p;
    p.format = tensor_format;
    p.rows = rows;
    p.cols = cols;
    p.block = BlockSize == any_block_size ? options.block_size : BlockSize;
    require(valid_block_size(p.block),
            [&] { return "4-bit block size: expected a power of two from 32 to 4096, found " + decimal(p.block); });
    require(options.column_weights.empty() || options.column_weights.size() == cols, [&] {
      return "column weights: expected " + decimal(cols) + ", one a column, found " + decimal(options.column_weights.size());
    });
    require(options.column_weights.empty() || options.scales == FourBitScales::search,
            [] { return std::string("column weights: expected FourBitScales::search with them, found the plain absmax"); });
    for (std::size_t c = 0; c < options.column_weights.size(); ++c)
      require(detail::magnitude_bits(options.column_weights[c]) < detail::infinity_bits && !(options.column_weights[c] < 0), [&] {
        return "column weights: expected finite numbers from 0 on, found " + decimal(options.column_weights[c]) + " for column " +
               decimal(c);
      });
    const std::size_t n = checked_mul(rows, cols, "tensor shape");
    if (!options.allow_non_finite) require_finite(w, rows, cols);
    p.codes.reset(packed_size(n));
    p.scales.reset(block_count(n, p.block));
    p.table = Codebook::table;
    const bool search = options.scales == FourBitScales::search;
    if (search)
      search_scales<Codebook>(w, n, p.block, p.scales.data(), options.column_weights);
    else
      quantize_four_bit<Codebook>(w, n, p.block, options.producer, p.codes.data(), p.scales.data());
    if (n != 0 && (std::is_same_v<Absmax, AnyAbsmax> ? options.double_quantized : std::is_same_v<Absmax, DoubleQuantizedAbsmax>)) {
      const std::size_t blocks = p.scales.size();
      p.offset = options.offset ? *options.offset : mean_offset(p.scales.data(), blocks);
      p.scale_codes.reset(blocks);
      p.nested.reset(ceil_div(blocks, nested_block_size));
      double_quantize(p.scales.data(), blocks, p.offset, p.scale_codes.data(), p.nested.data(), options.absmax_rule);
      if (search)
        double_dequantize(p.nested_map.data(), p.scale_codes.data(), p.nested.data(), blocks, p.offset, p.scales.data());
      else
        p.scales.reset(0);
    }
    if (search) {  // the codes for the scales as they will be decoded
      quantize_four_bit_with<Codebook>(p.scales.data(), w, n, p.block, p.codes.data());
      if (!p.scale_codes.empty()) p.scales.reset(0);
    }
    return FourBitTensor(std::move(p));
  }
};

// 4-bit NormalFloat weights, by default as load_in_4bit with double quantization makes them.
template <std::size_t BlockSize = 64, class Absmax = DoubleQuantizedAbsmax>
using NF4Tensor = FourBitTensor<Nf4, BlockSize, Absmax>;
// The same in 4-bit floats.
template <std::size_t BlockSize = 64, class Absmax = DoubleQuantizedAbsmax>
using FP4Tensor = FourBitTensor<Fp4, BlockSize, Absmax>;

}  // namespace lowbit::inline LOWBIT_ABI
