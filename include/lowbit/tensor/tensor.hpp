// SPDX-License-Identifier: MIT
// The owning tensor that all formats share: a weight matrix (rows = outputs, cols = inputs) in its canonical bytes, which are the
// bytes of the checkpoint formats.  NF4Tensor, Int8Tensor and the others are this with a constructor that keeps their promises.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/view.hpp"
#include "lowbit/format/format.hpp"
#include "lowbit/layout/canonical.hpp"

namespace lowbit::inline LOWBIT_ABI {

// The parts of a tensor: what a checkpoint holds.  Scales: none (dense), fp32 over flat blocks of `block` elements, or
// double-quantized (scale_codes, nested, nested_map, offset; scale i = map[code i] * nested[i / 256] + offset).
struct TensorParts {
  Format format = Format::f32;                        // what the bytes mean
  std::size_t rows = 0, cols = 0;                     // output and input features
  AlignedBuffer<std::uint8_t> codes;                  // row-major; two to a byte in 4-bit formats, the first in the high half
  std::size_t block = 0;                              // elements that share a scale; 0: dense
  AlignedBuffer<float> scales;                        // [ceil(rows cols / block)], or empty where double-quantized
  AlignedBuffer<std::uint8_t> scale_codes;            // as many, or empty
  AlignedBuffer<float> nested;                        // one per 256 scale codes
  std::array<float, 256> nested_map = dynamic_map();  // what scale codes decode to
  float offset = 0;                                   // added to every decoded scale
  std::array<float, 16> table{};                      // nf4, fp4
};

// A weight matrix in canonical bytes, of any format.  Move-only; reading from several threads is safe.
class Tensor {
 public:
  Tensor() = default;
  // Takes the parts as they are.  Throws InvalidArgument if sizes do not fit the shape, format and block.
  explicit Tensor(TensorParts parts) : parts_(std::move(parts)) {
    check();
    const detail::DefaultFloatEnvironment environment;
    codebook_ = detail::make_codebook_tables(parts_.table.data());
  }

  Format format() const { return parts_.format; }   // of the elements
  std::size_t rows() const { return parts_.rows; }  // output features
  std::size_t cols() const { return parts_.cols; }  // input features
  std::size_t size() const { return parts_.rows * parts_.cols; }
  // Elements that share a scale; 0 where there are no scales.
  std::size_t block_size() const { return parts_.block; }
  bool double_quantized() const { return !parts_.scale_codes.empty(); }  // whether absmax is held in 8 bits
  const TensorParts& parts() const { return parts_; }                    // what a checkpoint holds
  // Gives the parts away, for a tensor of another type; this one is empty then.
  TensorParts take_parts() {
    codebook_ = {};
    return std::exchange(parts_, TensorParts{});
  }

  // Bytes of the elements alone (the paper's account), and of everything that is held.
  std::size_t element_bytes() const { return parts_.codes.size_bytes(); }
  // The same with scales.
  std::size_t resident_bytes() const {
    return parts_.codes.size_bytes() + parts_.scales.size_bytes() + parts_.scale_codes.size_bytes() + parts_.nested.size_bytes();
  }

  // The scale of block b, as decoding uses it; units of the weights per code (for llm_int8: absmax, per 127 codes).
  float scale(std::size_t b) const {
    const detail::DefaultFloatEnvironment environment;
    return double_quantized() ? double_dequantize(parts_.nested_map.data(), parts_.scale_codes[b],
                                                  parts_.nested[b / nested_block_size], parts_.offset)
                              : parts_.scales[b];
  }

  // Rows [begin, end) as floats: out (end - begin, cols) row-major.  Exact: one rounding of code value x scale (llm_int8: two, as
  // bitsandbytes).  Throws InvalidArgument if the range is not inside the tensor.  Thread safe.
  void dequantize_rows(std::size_t begin, std::size_t end, float* out) const { dequantize_rows_as<float>(begin, end, out); }
  // The whole tensor as float, Float16 or BFloat16: out (rows, cols); one further rounding for the 16-bit types.
  template <class Out>
  void dequantize(Out* out) const {
    dequantize_rows_as<Out>(0, rows(), out);
  }

  // What kernels see; valid while the tensor lives and is not moved.
  detail::CanonicalWeights canonical() const {
    detail::CanonicalWeights w;
    w.codes = parts_.codes.data();
    w.n = parts_.rows;
    w.k = parts_.cols;
    w.element = detail::element_of(parts_.format);
    w.block = parts_.block;
    if (double_quantized()) {
      w.scale_codes = parts_.scale_codes.data();
      w.nested = parts_.nested.data();
      w.map = parts_.nested_map.data();
      w.nested_block = nested_block_size;
      w.offset = parts_.offset;
    } else {
      w.scales = parts_.scales.data();
    }
    if (parts_.format == Format::llm_int8) w.scale_factor = llm_int8_inverse_127;
    w.codebook = &codebook_;
    return w;
  }
  const detail::CodebookTables& codebook() const { return codebook_; }  // what kernels look codes up in

 private:
  template <class Out>
  void dequantize_rows_as(std::size_t begin, std::size_t end, Out* out) const {
    require(begin <= end && end <= rows(), [&] {
      return "rows [" + decimal(begin) + ", " + decimal(end) + ") of a tensor of shape " + shape_string(rows(), cols());
    });
    const detail::DefaultFloatEnvironment environment;
    const std::size_t first = begin * cols(), last = end * cols();
    switch (detail::element_of(format())) {
      case detail::Element::f32: return dense<float>(first, last, out);
      case detail::Element::f16: return dense<Float16>(first, last, out);
      case detail::Element::bf16: return dense<BFloat16>(first, last, out);
      case detail::Element::int8: {
        const auto* codes = reinterpret_cast<const std::int8_t*>(parts_.codes.data());
        for (std::size_t e = first; e < last; ++e) {
          const float code = static_cast<float>(codes[e]), s = parts_.scales[e / parts_.block];
          *out++ = DenseElement<Out>::encode(format() == Format::llm_int8 ? rounded(rounded(code * s) * llm_int8_inverse_127)
                                                                          : rounded(code * s));
        }
        return;
      }
      case detail::Element::four_bit: {
        if (!double_quantized())
          return dequantize_four_bit(parts_.table.data(), parts_.codes.data(), parts_.scales.data(), first, last, block_size(),
                                     out);
        for (std::size_t e = first; e < last;) {  // block by block, so that only one scale is decoded at a time
          const std::size_t b = e / block_size(), stop = (std::min)(last, (b + 1) * block_size());
          const float s = scale(b);
          const std::size_t origin = b * block_size();  // even: a block starts at a byte
          dequantize_four_bit(parts_.table.data(), parts_.codes.data() + origin / 2, &s, e - origin, stop - origin, block_size(),
                              out);
          out += stop - e;
          e = stop;
        }
        return;
      }
    }
  }
  template <class In, class Out>
  void dense(std::size_t first, std::size_t last, Out* out) const {
    const auto* p = reinterpret_cast<const In*>(parts_.codes.data());
    for (std::size_t e = first; e < last; ++e) {
      if constexpr (std::is_same_v<In, Out>)
        *out++ = p[e];
      else
        *out++ = DenseElement<Out>::encode(to_float(p[e]));
    }
  }
  void check() const {
    const std::size_t n = checked_mul(rows(), cols(), "tensor shape");
    const auto expect = [&](std::size_t found, std::size_t expected, const char* what) {
      require(found == expected, [&] {
        return std::string(format_name(format())) + " tensor of shape " + shape_string(rows(), cols()) + ": expected " +
               decimal(expected) + " " + what + ", found " + decimal(found);
      });
    };
    expect(parts_.codes.size(), detail::element_bytes(format(), n), "bytes of elements");
    if (detail::element_bits(format()) >= 16) {
      expect(parts_.block, 0, "as block size (dense)");
      return;
    }
    require(parts_.block > 0 && (detail::element_bits(format()) != 4 || valid_block_size(parts_.block)), [&] {
      return std::string(format_name(format())) + " tensor: block size " + decimal(parts_.block) + " is not supported";
    });
    const std::size_t blocks = block_count(n, parts_.block);
    if (double_quantized()) {
      require(detail::element_bits(format()) == 4,
              [&] { return std::string(format_name(format())) + " tensor: cannot be double-quantized"; });
      expect(parts_.scale_codes.size(), blocks, "absmax codes");
      expect(parts_.nested.size(), ceil_div(blocks, nested_block_size), "nested absmax values");
    } else {
      expect(parts_.scales.size(), blocks, "scales");
    }
  }
  TensorParts parts_;
  detail::CodebookTables codebook_{};
};

// Throws InvalidArgument that names the first NaN or infinity of w (rows, cols).
inline void require_finite(const float* w, std::size_t rows, std::size_t cols) {
  const std::size_t n = rows * cols, i = first_non_finite(w, n);
  require(i == n, [&] {
    return "weights of shape " + shape_string(rows, cols) + ": element (" + decimal(i / cols) + ", " + decimal(i % cols) +
           ") is NaN or infinite; quantizing would spread it over its block (allow_non_finite = true permits it)";
  });
}

}  // namespace lowbit::inline LOWBIT_ABI
