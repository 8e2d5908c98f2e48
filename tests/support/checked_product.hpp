// SPDX-License-Identifier: MIT
// A product with what follows it, in rows with gaps: run, and compared with what it should be; nothing else may be written.
#pragma once
#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/products.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace lowbit_test {

inline constexpr float sentinel = -77777.25f;  // what stands where nothing may be written

// What follows the product, and the product with it.
struct Epilogue {
  bool bias = false, residual = false, in_place = false;
  lowbit::Activation activation = lowbit::Activation::none;
};

inline constexpr lowbit::Activation all_activations[] = {lowbit::Activation::none, lowbit::Activation::relu,
                                                         lowbit::Activation::gelu, lowbit::Activation::gelu_tanh,
                                                         lowbit::Activation::silu};
inline constexpr const char* activation_names[] = {"", " relu", " gelu", " gelu_tanh", " silu"};

inline Epilogue random_epilogue(Random& random) {
  return {random.coin(), random.coin(), random.coin(), random.one_of(all_activations)};
}

inline std::string describe(const Epilogue& e) {
  return std::string(e.bias ? " bias" : "") + activation_names[static_cast<int>(e.activation)] +
         (e.residual ? e.in_place ? " residual in place" : " residual" : "");
}

// The numbers of an epilogue of an (m, n) product.
struct EpilogueValues {
  std::vector<float> bias, residual;
  EpilogueValues(std::size_t m, std::size_t n, Random& random) : bias(random.normals(n)), residual(random.normals(m * n)) {}

  // What it makes of a product.
  void follow(std::vector<Bounded>& expected, const Epilogue& e) const {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      Bounded& b = expected[i];
      if (e.bias) b = plus(b, bias[i % bias.size()]);
      b = activated(e.activation, b);
      if (e.residual) b = plus(b, residual[i]);
    }
  }
};

// x (m, k) w^T with its epilogue, at the current level, in rows x_gap and y_gap longer than they must be.  y: the result without gaps.
// "", or where something was written outside.
inline std::string run_with_gaps(const std::vector<float>& x, std::size_t m, const lowbit::Weights& w,
                                 lowbit::MatmulOptions options, const Epilogue& e, const EpilogueValues& values, std::size_t x_gap,
                                 std::size_t y_gap, std::vector<float>& y) {
  const std::size_t n = w.rows(), k = w.cols(), x_stride = k + x_gap, y_stride = n + y_gap;
  std::vector<float> strided(m * x_stride, std::numeric_limits<float>::quiet_NaN()), out((m + 1) * y_stride, sentinel);
  for (std::size_t r = 0; r < m; ++r) std::copy_n(&x[r * k], k, &strided[r * x_stride]);
  if (e.bias) options.bias = values.bias;
  options.activation = e.activation;
  if (e.residual) {
    options.residual = {values.residual.data(), m, n};
    if (e.in_place) {
      for (std::size_t r = 0; r < m; ++r) std::copy_n(&values.residual[r * n], n, &out[r * y_stride]);
      options.residual = {out.data(), m, n, y_stride};
    }
  }
  lowbit::matmul(lowbit::MatrixView<const float>(strided.data(), m, k, x_stride), w,
                 lowbit::MatrixView<float>(out.data(), m, n, y_stride), options);
  y.clear();
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i / y_stride < m && i % y_stride < n)
      y.push_back(out[i]);
    else if (out[i] != sentinel)
      return "written outside y, at " + std::to_string(i / y_stride) + ", " + std::to_string(i % y_stride);
  }
  return "";
}

// The same with random numbers and gaps, compared with `expected`, the product alone.
inline std::string check_product(const std::vector<float>& x, std::size_t m, const Weights& w, bool packed,
                                 const lowbit::MatmulOptions& options, std::vector<Bounded> expected, const Epilogue& e,
                                 Random& random) {
  const std::size_t x_gap = random.below(3), y_gap = random.below(4);
  const EpilogueValues values(m, w.tensor.rows(), random);
  values.follow(expected, e);
  std::vector<float> y;
  const std::string wrong =
      run_with_gaps(x, m, packed ? lowbit::Weights(*w.packed) : lowbit::Weights(w.tensor), options, e, values, x_gap, y_gap, y);
  return wrong.empty() ? outside(y, expected) : wrong;
}

}  // namespace lowbit_test
