// SPDX-License-Identifier: MIT
// Products as they should come out: weights in every format, and what each compute type must give, worked out in double and in
// 64-bit integers from the bytes of the tensor, element by element.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/matmul.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"
#include "lowbit/tensor/packed_tensor.hpp"
#include "lowbit/tensor/reference_matmul.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace lowbit_test {

// ---- weights
// --------------------------------------------------------------------------------------------------------------------- A tensor,
// and its packed twin where the layout can hold it.
struct Weights {
  std::string name;
  lowbit::Tensor tensor;
  std::optional<lowbit::PackedTensor> packed;

  Weights(std::string n, lowbit::Tensor t) : name(std::move(n)), tensor(std::move(t)) {
    if (lowbit::PackedTensor::packable(tensor)) packed = lowbit::PackedTensor::pack(tensor);
  }
};

inline constexpr std::size_t four_bit_blocks[] = {32, 64, 128, 256, 512, 1024, 2048, 4096};

template <class Codebook>
Weights four_bit_weights(const std::vector<float>& w, std::size_t rows, std::size_t cols, std::size_t block,
                         bool double_quantized) {
  lowbit::FourBitOptions options;
  options.block_size = block;
  options.double_quantized = double_quantized;
  return {std::string(Codebook::name) + " block " + std::to_string(block) + (double_quantized ? " double-quantized" : " plain"),
          lowbit::FourBitTensor<Codebook, lowbit::any_block_size, lowbit::AnyAbsmax>::quantize(w.data(), rows, cols, options)};
}
template <class T>
Weights quantized(std::string name, const std::vector<float>& w, std::size_t rows, std::size_t cols) {
  return {std::move(name), T::quantize(w.data(), rows, cols)};
}

// One of every kind, with random block sizes where there are many.
inline std::vector<Weights> one_of_every_kind(std::size_t rows, std::size_t cols, Random& random) {
  using namespace lowbit;
  const std::vector<float> w = random.uneven(rows * cols);
  std::vector<Weights> all;
  all.push_back(quantized<DenseTensor<float>>("f32", w, rows, cols));
  all.push_back(quantized<DenseTensor<Float16>>("f16", w, rows, cols));
  all.push_back(quantized<DenseTensor<BFloat16>>("bf16", w, rows, cols));
  all.push_back(quantized<Int8Tensor<PerRow>>("int8 per row", w, rows, cols));
  all.push_back(quantized<Int8Tensor<PerTensor>>("int8 per tensor", w, rows, cols));
  all.push_back(quantized<Int8Tensor<Blockwise<24>>>("int8 block 24", w, rows, cols));
  all.push_back(quantized<Int8Tensor<Blockwise<64>>>("int8 block 64", w, rows, cols));
  all.push_back(quantized<Int8Tensor<Blockwise<100>>>("int8 block 100", w, rows, cols));
  all.push_back(quantized<LlmInt8Tensor>("LLM.int8()", w, rows, cols));
  for (const bool double_quantized : {false, true}) {
    all.push_back(four_bit_weights<Nf4>(w, rows, cols, random.one_of(four_bit_blocks), double_quantized));
    all.push_back(four_bit_weights<Fp4>(w, rows, cols, random.one_of(four_bit_blocks), double_quantized));
  }
  return all;
}

// A copy, which the library makes nobody by accident.
inline lowbit::TensorParts clone(const lowbit::TensorParts& p) {
  lowbit::TensorParts c;
  c.format = p.format;
  c.rows = p.rows;
  c.cols = p.cols;
  c.codes = p.codes.clone();
  c.block = p.block;
  c.scales = p.scales.clone();
  c.scale_codes = p.scale_codes.clone();
  c.nested = p.nested.clone();
  c.nested_map = p.nested_map;
  c.offset = p.offset;
  c.table = p.table;
  return c;
}

inline std::vector<float> decoded(const lowbit::Tensor& t) {
  std::vector<float> out(t.size());
  t.dequantize(out.data());
  return out;
}
template <class T>
std::vector<T> copy_of(const lowbit::AlignedBuffer<T>& buffer) {
  return {buffer.begin(), buffer.end()};
}
// What differs, or "".
inline std::string difference(const lowbit::TensorParts& a, const lowbit::TensorParts& b) {
  const auto same_floats = [](const auto& x, const auto& y) {
    return x.size() == y.size() && (x.size() == 0 || std::memcmp(x.data(), y.data(), x.size() * 4) == 0);
  };
  if (a.format != b.format || a.rows != b.rows || a.cols != b.cols || a.block != b.block) return "shape";
  if (copy_of(a.codes) != copy_of(b.codes)) return "codes";
  if (!same_floats(a.scales, b.scales)) return "scales";
  if (copy_of(a.scale_codes) != copy_of(b.scale_codes)) return "scale codes";
  if (!same_floats(a.nested, b.nested)) return "nested";
  if (!a.scale_codes.empty() && !same_floats(a.nested_map, b.nested_map)) return "nested map";
  if (std::memcmp(&a.offset, &b.offset, 4) != 0) return "offset";
  if (!same_floats(a.table, b.table)) return "table";
  return "";
}

inline bool has_compute(lowbit::Format format, lowbit::Compute compute) {
  return compute != lowbit::Compute::int8 || lowbit::detail::element_bits(format) <= 8;
}
inline constexpr lowbit::Compute all_computes[] = {lowbit::Compute::f32, lowbit::Compute::bf16, lowbit::Compute::int8};

// ---- a tensor taken apart
// -------------------------------------------------------------------------------------------------------- A float that no compiler
// keeps in more digits or fuses away.
inline float once_rounded(float x) {
  volatile float kept = x;
  return kept;
}

// w(element) = value[element] * scale[element] * factor, value being what the code stands for.
struct Elements {
  std::vector<double> value, scale;
  std::vector<std::int64_t> code;    // int8 compute: the integer that is multiplied
  std::vector<std::size_t> block;    // int8 compute: sums run over these
  double factor = 1, code_unit = 1;  // value = code * code_unit, nearly
};

inline Elements take_apart(const lowbit::Tensor& t) {
  const lowbit::TensorParts& p = t.parts();
  Elements e;
  const auto as_int8 = [](std::uint8_t byte) { return byte < 128 ? int{byte} : int{byte} - 256; };
  float largest = 0;
  for (const float v : p.table) largest = std::max(largest, std::fabs(v));
  for (std::size_t i = 0; i < t.size(); ++i) {
    const std::size_t block = p.block == 0 ? 0 : i / p.block;
    float scale = 1;
    if (!p.scale_codes.empty())
      scale = once_rounded(once_rounded(p.nested_map[p.scale_codes[block]] * p.nested[block / 256]) + p.offset);
    else if (p.block != 0)
      scale = p.scales[block];
    double value = 0;
    std::int64_t code = 0;
    switch (p.format) {
      case lowbit::Format::f32: value = reinterpret_cast<const float*>(p.codes.data())[i]; break;
      case lowbit::Format::f16: value = lowbit::to_float(reinterpret_cast<const lowbit::Float16*>(p.codes.data())[i]); break;
      case lowbit::Format::bf16: value = lowbit::to_float(reinterpret_cast<const lowbit::BFloat16*>(p.codes.data())[i]); break;
      case lowbit::Format::int8:
      case lowbit::Format::llm_int8:
        code = as_int8(p.codes[i]);
        value = static_cast<double>(code);
        break;
      case lowbit::Format::nf4:
      case lowbit::Format::fp4:
        value = p.table[i % 2 == 0 ? p.codes[i / 2] >> 4 : p.codes[i / 2] & 15];
        code = std::llround(value * 127 / static_cast<double>(largest));
        break;
    }
    e.value.push_back(value);
    e.scale.push_back(scale);
    e.code.push_back(code);
    e.block.push_back(block);
  }
  if (p.format == lowbit::Format::llm_int8) e.factor = 1.0 / 127;
  if (lowbit::detail::element_bits(p.format) == 4) e.code_unit = static_cast<double>(largest) / 127;
  return e;
}

// ---- activations, by the rules in words
// ------------------------------------------------------------------------------------------ One row quantized.  absmax: scale =
// absmax / 127 by a true division, code = x / scale rounded half to even. LLM.int8(): stat = largest |x| below the threshold, code
// = x * (127 * (1 / stat)) in float, scale = stat / 127; what reaches the threshold has code 0; a row below 2^-120, where 127 /
// stat could overflow, has codes 0.  A row with NaN or infinity has codes 0 and scale NaN.
struct QuantizedRow {
  std::vector<std::int64_t> codes;
  float scale = 0;
};
inline QuantizedRow quantize_row(const float* x, std::size_t k, bool llm, float threshold) {
  QuantizedRow q{std::vector<std::int64_t>(k), 0};
  float absmax = 0;
  for (std::size_t i = 0; i < k; ++i) {
    if (!std::isfinite(x[i])) return {q.codes, std::nanf("")};
    if (threshold <= 0 || std::fabs(x[i]) < threshold) absmax = std::max(absmax, std::fabs(x[i]));
  }
  q.scale = once_rounded(absmax / 127.0f);
  if (q.scale == 0 || (llm && absmax < 0x1p-120f)) return q;
  const float factor = llm ? once_rounded(127.0f * once_rounded(1.0f / absmax)) : 0.0f;
  for (std::size_t i = 0; i < k; ++i) {
    if (threshold > 0 && std::fabs(x[i]) >= threshold) continue;
    const double exact = static_cast<double>(llm ? once_rounded(x[i] * factor) : once_rounded(x[i] / q.scale));
    q.codes[i] = static_cast<std::int64_t>(std::clamp(std::nearbyint(exact), -127.0, 127.0));
  }
  return q;
}

// ---- what a product must give
// ---------------------------------------------------------------------------------------------------- f32: exactly decoded
// weights, by the library's reference product.
inline std::vector<Bounded> expected_f32(const std::vector<float>& x, std::size_t m, const lowbit::Tensor& w) {
  std::vector<double> y(m * w.rows()), size(m * w.rows());
  lowbit::reference_matmul(x.data(), m, w, y.data(), size.data());
  std::vector<Bounded> result;
  const double g = gamma(product_roundings(w.cols(), w.block_size()));
  for (std::size_t i = 0; i < y.size(); ++i)
    result.push_back({y[i], g * size[i] + static_cast<double>(w.cols()) * smallest_normal});
  return result;
}

// Whether level amx rounds code times scale to bfloat16, not the code alone: where a packed row has several blocks.
inline bool folds_scales(const lowbit::PackedTensor& w, std::size_t row) {
  const lowbit::detail::PackedWeights view = w.view();
  return view.scaled && (view.block_offsets ? view.offset_class(row % view.class_count) : view).blocks() > 1;
}
// bf16: code values and activations rounded to bfloat16, scales in float.  Products of two bfloat16 are exact in float.  The
// instruction takes subnormal operands as zero and flushes subnormal sums: hence the second part of the bound.  folded: the packed
// twin, for the rounding of folds_scales().
inline std::vector<Bounded> expected_bf16(const std::vector<float>& x, std::size_t m, const lowbit::Tensor& w, const Elements& e,
                                          const lowbit::PackedTensor* folded = nullptr) {
  const auto round = [](double v) { return static_cast<double>(lowbit::to_float(lowbit::to_bfloat16(static_cast<float>(v)))); };
  const std::size_t k = w.cols(), n = w.rows();
  const double g = gamma(product_roundings(k, w.block_size()));
  std::vector<char> fold(n);
  for (std::size_t c = 0; folded && c < n; ++c) fold[c] = folds_scales(*folded, c);
  std::vector<Bounded> result;
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < n; ++c) {
      double sum = 0, size = 0, flushed = 0;
      for (std::size_t i = 0; i < k; ++i) {
        double scale = e.scale[c * k + i] * e.factor, v = round(e.value[c * k + i]);
        const double a = round(static_cast<double>(x[r * k + i]));
        if (fold[c]) {
          v = round(once_rounded(static_cast<float>(e.value[c * k + i]) * static_cast<float>(e.scale[c * k + i])));
          scale = e.factor;
        }
        sum += a * v * scale;
        size += std::fabs(a * v * scale);
        flushed += (std::fabs(a) + std::fabs(v) + 2) * std::fabs(scale) + 1;
      }
      result.push_back({sum, g * size + smallest_normal * flushed});
    }
  return result;
}

// What LLM.int8() takes out of the integer product, besides the threshold.
struct OutlierRule {
  float threshold = 0;  // 0: nothing
  bool per_call = false;
};

// int8: exact integer sums of the blocks inside a row (of 256 k where blocks of 4-bit codes are longer; of 8 k and fewer where
// these are canonical), then float.  Roundings: a sum to float, its product with the scale and the addition to the total, once per
// sum; row scale times format factor (and the factor itself), their product with the total; for outliers one per term, and the
// factors.
inline std::vector<Bounded> expected_int8(const std::vector<float>& x, std::size_t m, const lowbit::Tensor& w, const Elements& e,
                                          bool packed, const OutlierRule& rule = {}) {
  const std::size_t k = w.cols(), n = w.rows();
  const bool llm = w.format() == lowbit::Format::llm_int8, four_bit = lowbit::detail::element_bits(w.format()) == 4;
  const bool lanes = four_bit && !packed;
  const auto is_outlier = [&](std::size_t r, std::size_t i) {
    if (rule.threshold <= 0) return false;
    if (!rule.per_call) return std::fabs(x[r * k + i]) >= rule.threshold;
    for (std::size_t other = 0; other < m; ++other)
      if (std::fabs(x[other * k + i]) >= rule.threshold) return true;
    return false;
  };
  std::vector<char> out_of_row(m * k);
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t i = 0; i < k; ++i) out_of_row[r * k + i] = is_outlier(r, i);
  std::vector<Bounded> result;
  for (std::size_t r = 0; r < m; ++r) {
    QuantizedRow q = quantize_row(x.data() + r * k, k, llm, rule.threshold);
    std::size_t outliers = 0;
    for (std::size_t i = 0; i < k; ++i)
      if (out_of_row[r * k + i]) q.codes[i] = 0, ++outliers;
    for (std::size_t c = 0; c < n; ++c) {
      const double unit = static_cast<double>(q.scale) * e.factor * e.code_unit;
      double sum = 0, size = 0;
      std::size_t blocks = 0;
      for (std::size_t i = 0; i < k; ++blocks) {
        const std::size_t first = c * k + i, block = e.block[first];
        std::int64_t exact = 0;
        std::int64_t exact_size = 0;  // sums of parts of the block may be larger than its own
        for (; i < k && e.block[c * k + i] == block; ++i) {
          exact += q.codes[i] * e.code[c * k + i];
          exact_size += std::abs(q.codes[i] * e.code[c * k + i]);
        }
        const std::size_t run = i - (first - c * k), four_bit_sum = lowbit::detail::magic_bias_k,
                          record = record_k(k, w.block_size());
        const std::size_t longest = four_bit ? std::min(record, four_bit_sum) : record;
        const bool parts = lanes || run > longest;
        if (parts) blocks += run / longest + 1;
        sum += static_cast<double>(exact) * e.scale[first] * unit;
        size += std::fabs(static_cast<double>(parts ? exact_size : exact) * e.scale[first] * unit);
      }
      // a lane takes one sum of 32 k or more, rounded as product and as total where there is no fma; up to 16 lanes are added up
      if (lanes) blocks = 2 * (k / 32 + 2) + 4;
      double taken = 0, taken_size = 0;
      for (std::size_t i = 0; i < k; ++i)
        if (out_of_row[r * k + i]) {
          const double p =
              static_cast<double>(x[r * k + i]) * static_cast<double>(e.code[c * k + i]) * e.scale[c * k + i] * e.factor;
          taken += p;
          taken_size += std::fabs(p);
        }
      double bound = gamma(blocks + 6) * size + smallest_normal * static_cast<double>(blocks + 4);
      if (outliers != 0) bound += gamma(outliers + 6) * taken_size + unit_roundoff * (std::fabs(sum + taken) + size + taken_size);
      result.push_back({sum + taken, bound});
    }
  }
  return result;
}

inline std::vector<Bounded> expected_product(const std::vector<float>& x, std::size_t m, const lowbit::Tensor& w,
                                             lowbit::Compute compute, bool packed, const OutlierRule& rule = {}) {
  if (compute == lowbit::Compute::f32) return expected_f32(x, m, w);
  if (compute == lowbit::Compute::bf16) return expected_bf16(x, m, w, take_apart(w));
  return expected_int8(x, m, w, take_apart(w), packed, rule);
}

// The same for packed or canonical weights at every level: amx has a rounding of its own.
struct ExpectedAtLevels {
  std::vector<Bounded> usual, tiles;
  const std::vector<Bounded>& at(lowbit::Level level) const { return tiles.empty() || level != lowbit::Level::amx ? usual : tiles; }
};
inline ExpectedAtLevels expected_at_levels(const std::vector<float>& x, std::size_t m, const Weights& w, lowbit::Compute compute,
                                           bool packed) {
  ExpectedAtLevels e;
  e.usual = expected_product(x, m, w.tensor, compute, packed);
  if (compute == lowbit::Compute::bf16 && packed && lowbit::cpu_supports(lowbit::Level::amx))
    e.tiles = expected_bf16(x, m, w.tensor, take_apart(w.tensor), &*w.packed);
  return e;
}

// ---- running one
// -----------------------------------------------------------------------------------------------------------------
inline lowbit::MatmulPlan run_product(lowbit::MatrixView<const float> x, const Weights& w, bool packed, lowbit::MatrixView<float> y,
                                      const lowbit::MatmulOptions& options) {
  return packed ? lowbit::matmul(x, *w.packed, y, options) : lowbit::matmul(x, w.tensor, y, options);
}
inline std::vector<float> run_product(const std::vector<float>& x, std::size_t m, const Weights& w, bool packed,
                                      const lowbit::MatmulOptions& options) {
  std::vector<float> y(m * w.tensor.rows(), -77.0f);
  run_product({x.data(), m, w.tensor.cols()}, w, packed, {y.data(), m, w.tensor.rows()}, options);
  return y;
}

}  // namespace lowbit_test
