// SPDX-License-Identifier: MIT
// Int8Tensor (symmetric, scale = absmax / 127) and LlmInt8Tensor (bitsandbytes' LLM.int8() weights).
#pragma once
#include <utility>

#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// What shares a scale: an output row, the whole tensor, or a flat block of elements that ignores rows.
struct PerRow {};
struct PerTensor {};  // one scale
// One scale per BlockSize elements.
template <std::size_t BlockSize>
struct Blockwise {};

// What is allowed when weights are quantized.
struct Int8Options {
  bool allow_non_finite = false;  // a group with NaN or infinity then decodes to NaN
};

// A weight matrix (rows, cols) in int8: w = code * scale, codes in [-127, 127].
template <class Scale = PerRow>
class Int8Tensor : public Tensor {
 public:
  using Options = Int8Options;                           // how it is quantized
  static constexpr Format tensor_format = Format::int8;  // of every tensor of this type

  Int8Tensor() = default;
  // Takes parts of the right format.  Throws InvalidArgument if format or block differ.
  explicit Int8Tensor(TensorParts parts) : Tensor(std::move(parts)) {
    require(format() == Format::int8,
            [&] { return std::string("int8 tensor: expected int8 codes, found ") + format_name(format()); });
    require(block_size() == block_for(rows(), cols()), [&] {
      return "int8 tensor: expected scales over " + decimal(block_for(rows(), cols())) + " elements, found " +
             decimal(block_size());
    });
  }

  // Quantizes w (rows, cols) row-major.  Throws InvalidArgument on NaN or infinity unless allowed.
  static Int8Tensor quantize(const float* w, std::size_t rows, std::size_t cols, const Int8Options& options = {}) {
    TensorParts p;
    p.format = Format::int8;
    p.rows = rows;
    p.cols = cols;
    const std::size_t n = checked_mul(rows, cols, "tensor shape");
    p.block = block_for(rows, cols);
    if (!options.allow_non_finite) require_finite(w, rows, cols);
    p.codes.reset(n);
    p.scales.reset(block_count(n, p.block));
    quantize_int8(w, n, p.block, reinterpret_cast<std::int8_t*>(p.codes.data()), p.scales.data());
    return Int8Tensor(std::move(p));
  }
  // Takes codes (rows, cols) and their scales as somebody else made them: one per row, one, or one per block.
  static Int8Tensor from_codes(const std::int8_t* codes, const float* scales, std::size_t rows, std::size_t cols) {
    TensorParts p;
    p.format = Format::int8;
    p.rows = rows;
    p.cols = cols;
    const std::size_t n = checked_mul(rows, cols, "tensor shape");
    p.block = block_for(rows, cols);
    p.codes.reset(n);
    std::copy_n(reinterpret_cast<const std::uint8_t*>(codes), n, p.codes.data());
    p.scales.reset(block_count(n, p.block));
    std::copy_n(scales, p.scales.size(), p.scales.data());
    return Int8Tensor(std::move(p));
  }

  const std::int8_t* codes() const { return reinterpret_cast<const std::int8_t*>(parts().codes.data()); }  // [rows cols]

 private:
  template <class S>
  struct BlockOf;
  template <std::size_t B>
  struct BlockOf<Blockwise<B>> {
    static_assert(B > 0);
    static constexpr std::size_t size = B;
  };
  static std::size_t block_for(std::size_t rows, std::size_t cols) {
    if constexpr (std::is_same_v<Scale, PerRow>)
      return (std::max<std::size_t>)(cols, 1);
    else if constexpr (std::is_same_v<Scale, PerTensor>)
      return (std::max<std::size_t>)(checked_mul(rows, cols, "tensor shape"), 1);
    else
      return BlockOf<Scale>::size;
  }
};

// What is allowed, and whose codes are made.
struct LlmInt8Options {
  bool allow_non_finite = false;             // a row with NaN or infinity then decodes to NaN
  LlmInt8Rule producer = LlmInt8Rule::cuda;  // whose codes: of a checkpoint made on a GPU, or on a CPU
};

// LLM.int8() weights: codes (rows, cols) and SCB, the absmax of each row after rounding to fp16; w = code * SCB / 127.
// Rule: bitsandbytes' int8_vectorwise_quant.
class LlmInt8Tensor : public Tensor {
 public:
  using Options = LlmInt8Options;                            // how it is quantized
  static constexpr Format tensor_format = Format::llm_int8;  // of every tensor of this type

  LlmInt8Tensor() = default;
  // Takes parts of the right format.  Throws InvalidArgument if format or block differ.
  explicit LlmInt8Tensor(TensorParts parts) : Tensor(std::move(parts)) {
    require(format() == Format::llm_int8,
            [&] { return std::string("LLM.int8() tensor: expected llm_int8 codes, found ") + format_name(format()); });
    require(block_size() == (std::max<std::size_t>)(cols(), 1),
            [&] { return "LLM.int8() tensor: expected one SCB per row of " + decimal(cols()); });
  }

  // Quantizes w (rows, cols), rounded to fp16 first.  Throws InvalidArgument on NaN, infinity, or |w| > 65504 unless allowed.
  static LlmInt8Tensor quantize(const float* w, std::size_t rows, std::size_t cols, const LlmInt8Options& options = {}) {
    TensorParts p = empty_parts(rows, cols);
    if (!options.allow_non_finite) {
      require_finite(w, rows, cols);
      for (std::size_t i = 0; i < rows * cols; ++i)
        require(is_finite_bits(to_float(to_float16(w[i]))),
                [&] { return "LLM.int8() weights are rounded to fp16: " + decimal(w[i]) + " overflows"; });
    }
    for (std::size_t r = 0; r < p.scales.size(); ++r)
      llm_int8_quantize_row(w + r * cols, cols, true, 0.0f, reinterpret_cast<std::int8_t*>(p.codes.data()) + r * cols, p.scales[r],
                            options.producer);
    return LlmInt8Tensor(std::move(p));
  }
  // Takes CB (rows, cols) and SCB (rows) of a checkpoint.
  static LlmInt8Tensor from_codes(const std::int8_t* codes, const float* scb, std::size_t rows, std::size_t cols) {
    TensorParts p = empty_parts(rows, cols);
    std::copy_n(reinterpret_cast<const std::uint8_t*>(codes), rows * cols, p.codes.data());
    std::copy_n(scb, p.scales.size(), p.scales.data());
    return LlmInt8Tensor(std::move(p));
  }

  const std::int8_t* codes() const { return reinterpret_cast<const std::int8_t*>(parts().codes.data()); }  // [rows cols]
  const float* scb() const { return parts().scales.data(); }  // [rows]: absmax after rounding to fp16

 private:
  static TensorParts empty_parts(std::size_t rows, std::size_t cols) {
    TensorParts p;
    p.format = Format::llm_int8;
    p.rows = rows;
    p.cols = cols;
    p.block = (std::max<std::size_t>)(cols, 1);
    p.codes.reset(checked_mul(rows, cols, "tensor shape"));
    p.scales.reset(cols == 0 ? 0 : rows);
    return p;
  }
};

}  // namespace lowbit::inline LOWBIT_ABI
