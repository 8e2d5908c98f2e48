// SPDX-License-Identifier: MIT
// The oracle: a product summed in double over exactly decoded weights.  Never optimised; every kernel is compared with it.
#pragma once
#include <cmath>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// y (m, rows) = x (m, cols) * w^T, all row-major, in double.  magnitude (m, rows), if given, receives sum |x| |w|: rounding errors
// of a float product are at most a small multiple of cols * 2^-24 times it.
inline void reference_matmul(const float* x, std::size_t m, const Tensor& w, double* y, double* magnitude = nullptr) {
  const detail::DefaultFloatEnvironment environment;
  AlignedBuffer<float> row(w.cols());
  for (std::size_t n = 0; n < w.rows(); ++n) {
    w.dequantize_rows(n, n + 1, row.data());
    for (std::size_t i = 0; i < m; ++i) {
      double sum = 0, size = 0;
      for (std::size_t k = 0; k < w.cols(); ++k) {
        const double p = static_cast<double>(x[i * w.cols() + k]) * static_cast<double>(row[k]);
        sum += p;
        size += std::fabs(p);
      }
      y[i * w.rows() + n] = sum;
      if (magnitude) magnitude[i * w.rows() + n] = size;
    }
  }
}

}  // namespace lowbit::inline LOWBIT_ABI
