// SPDX-License-Identifier: MIT
// How far one array is from another: the usual measures of a quantizer.
#pragma once
#include <cmath>
#include <cstddef>
#include <limits>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// How far one array of floats is from another.
struct ErrorStatistics {
  double max = 0;     // largest |a - b|, in the units of the data
  double rms = 0;     // root of the mean of (a - b)^2
  double snr_db = 0;  // 10 log10(sum a^2 / sum (a - b)^2); infinite if they are equal
  double cosine = 1;  // a.b / (|a| |b|); 1 if both are zero
};

// Compares `approximate` with `exact`, both [n].  NaN in either makes the results NaN.  Thread safe.
inline ErrorStatistics error_statistics(const float* exact, const float* approximate, std::size_t n) {
  const detail::DefaultFloatEnvironment environment;
  double max = 0, error = 0, aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double a = static_cast<double>(exact[i]), b = static_cast<double>(approximate[i]), d = std::fabs(a - b);
    if (!(d <= max) && !std::isnan(max)) max = d;
    error += d * d;
    aa += a * a;
    bb += b * b;
    ab += a * b;
  }
  ErrorStatistics s;
  s.max = max;
  s.rms = n == 0 ? 0 : std::sqrt(error / static_cast<double>(n));
  s.snr_db = error == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(aa / error);
  s.cosine = aa == 0 && bb == 0 ? 1 : ab / std::sqrt(aa * bb);
  return s;
}

// What quantizing w (rows, cols) to `tensor` cost.  Throws InvalidArgument if the shapes differ.
inline ErrorStatistics error_statistics(const float* w, std::size_t rows, std::size_t cols, const Tensor& tensor) {
  require(rows == tensor.rows() && cols == tensor.cols(), [&] {
    return "error statistics: weights of shape " + shape_string(rows, cols) + " against a tensor of shape " +
           shape_string(tensor.rows(), tensor.cols());
  });
  AlignedBuffer<float> decoded(tensor.size());
  tensor.dequantize(decoded.data());
  return error_statistics(w, decoded.data(), tensor.size());
}

}  // namespace lowbit::inline LOWBIT_ABI
