// SPDX-License-Identifier: MIT
// What a product must give, in double, and how far from it a right one may lie: for some rows and columns of y, the first and the
// last among them.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lowbit/matmul.hpp"
#include "lowbit/tensor/tensor.hpp"
#include "support/products.hpp"
#include "support/tolerance.hpp"

namespace bench {

// Fills a row of k numbers.
using Row = std::function<void(std::size_t, std::span<double>)>;

struct Oracle {
  std::size_t m = 0, n = 0, k = 0;
  Row x, w;                   // as the arithmetic sees them: what it rounds is rounded already
  std::size_t roundings = 0;  // between a product and the result
  std::function<lowbit_test::Bounded(lowbit_test::Bounded, std::size_t, std::size_t)> epilogue;  // of y(row, column), or none
};

// "" if y (m, n) is right, else what is wrong first.
inline std::string find_wrong(const Oracle& o, const float* y) {
  const auto some = [](std::size_t n, std::size_t want) {
    std::vector<std::size_t> at;
    for (std::size_t i = 0; i < std::min(n, want); ++i) at.push_back(n <= want ? i : i * (n - 1) / (want - 1));
    return at;
  };
  const std::vector<std::size_t> rows = some(o.m, 5), columns = some(o.n, 101);
  std::vector<double> x(rows.size() * o.k), w(o.k);
  for (std::size_t r = 0; r < rows.size(); ++r) o.x(rows[r], std::span(x).subspan(r * o.k, o.k));
  std::vector<float> found;
  std::vector<lowbit_test::Bounded> expected;
  for (const std::size_t c : columns) {
    o.w(c, w);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      double sum = 0, size = 0;
      for (std::size_t i = 0; i < o.k; ++i) {
        const double p = x[r * o.k + i] * w[i];
        sum += p;
        size += std::fabs(p);
      }
      lowbit_test::Bounded e{sum, lowbit_test::gamma(o.roundings) * size};
      expected.push_back(o.epilogue ? o.epilogue(e, rows[r], c) : e);
      found.push_back(y[rows[r] * o.n + c]);
    }
  }
  return lowbit_test::outside(found, expected);
}

inline void round_to_bf16(std::span<double> values) {
  for (double& v : values) v = static_cast<double>(lowbit::to_float(lowbit::to_bfloat16(static_cast<float>(v))));
}

// Row `row` of weights as a product in `compute` sees it: decoded, with what the compute type rounds rounded.
// folded: packed for level amx, which rounds a code times its scale to bfloat16 where a row has several blocks.
inline void weights_as_computed(const lowbit::Tensor& t, lowbit::Compute compute, bool folded, std::size_t row,
                                std::span<double> out) {
  if (lowbit::detail::element_bits(t.format()) != 4) {
    std::vector<float> values(t.cols());
    t.dequantize_rows(row, row + 1, values.data());
    std::copy(values.begin(), values.end(), out.begin());
    if (compute == lowbit::Compute::bf16 && lowbit::detail::element_bits(t.format()) > 8) round_to_bf16(out);
    return;
  }
  const lowbit::TensorParts& parts = t.parts();
  std::vector<double> table(parts.table.begin(), parts.table.end());
  double largest = 0;
  for (const double v : table) largest = std::max(largest, std::fabs(v));
  folded = folded && compute == lowbit::Compute::bf16 && parts.block < t.cols();
  if (compute == lowbit::Compute::bf16 && !folded) round_to_bf16(table);
  if (compute == lowbit::Compute::int8)
    for (double& v : table) v = std::round(v * 127 / largest) * largest / 127;
  for (std::size_t i = 0; i < t.cols(); ++i) {
    const std::size_t e = row * t.cols() + i;
    const std::uint8_t byte = parts.codes[e / 2];
    out[i] = table[e % 2 == 0 ? byte >> 4 : byte & 15] * static_cast<double>(t.scale(e / parts.block));
  }
  if (folded) round_to_bf16(out);
}

// The same for activations x (m, k).  threshold: of LLM.int8().
inline void activations_as_computed(const float* x, std::size_t k, const lowbit::Tensor& t, lowbit::Compute compute,
                                    float threshold, std::span<double> out) {
  std::copy(x, x + k, out.begin());
  if (compute == lowbit::Compute::bf16) round_to_bf16(out);
  if (compute != lowbit::Compute::int8) return;
  const bool llm = t.format() == lowbit::Format::llm_int8;
  const lowbit_test::QuantizedRow q = lowbit_test::quantize_row(x, k, llm, llm ? threshold : 0.0f);
  for (std::size_t i = 0; i < k; ++i)
    if (!llm || std::fabs(x[i]) < threshold) out[i] = static_cast<double>(q.codes[i]) * static_cast<double>(q.scale);
}

}  // namespace bench
