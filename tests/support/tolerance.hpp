// SPDX-License-Identifier: MIT
// How far a float result may lie from the exact one: derived from the number of roundings, never measured.
//
// An operation in float gives the exact result times 1 + d with |d| <= u = 2^-24.  n of them in a row give a factor within
// gamma(n) = n u / (1 - n u) of 1 (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1).  So a sum of products
// sum_k x_k w_k, added in whatever order, fused or not, with at most n roundings between any one product and the result, is off by
// at most gamma(n) * sum_k |x_k w_k|.  What follows a product (bias, GELU, residual) takes the error along and adds its own.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "lowbit/compute.hpp"

namespace lowbit_test {

inline constexpr double unit_roundoff = 0x1p-24;
// Below this a result may be flushed to zero; the gradual underflow that other kernels have loses less.
inline constexpr double smallest_normal = 0x1p-126;

inline double gamma(std::size_t n) { return static_cast<double>(n) * unit_roundoff / (1 - static_cast<double>(n) * unit_roundoff); }

// An exact result, and how far from it a computed one may lie.
struct Bounded {
  double value = 0, bound = 0;
};

// fl(a + b).
inline Bounded plus(const Bounded& a, float b) {
  const double sum = a.value + static_cast<double>(b);
  return {sum, a.bound + unit_roundoff * (std::fabs(sum) + a.bound)};
}

// GPT-2's GELU, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in double, in the form that does not cancel for negative x.
inline double gelu_tanh(double x) {
  return x / (1 + std::exp(-2 * std::sqrt(2 / 3.14159265358979323846) * x * (1 + 0.044715 * x * x)));
}
// How far a float GELU may lie from it at x.  It is computed as x / (1 + e^v), v = -2 sqrt(2/pi) x (1 + 0.044715 x^2).  v takes at
// most 6 roundings (two of them of the constants), which change e^v by the factor 6 |v| u; the power adds at most 3 ulp = 6 u; that
// reaches the denominator by the share s = e^v / (1 + e^v).  The sum and the quotient round once each.  Beyond |v| = 87 the result
// is tiny, and may be anything below the smallest normal float.
inline double gelu_tanh_bound(double x) {
  const double v = std::fabs(2 * std::sqrt(2 / 3.14159265358979323846) * x * (1 + 0.044715 * x * x));
  const double share = x < 0 ? 1.0 : std::exp(-std::min(v, 700.0));
  return std::fabs(gelu_tanh(x)) * unit_roundoff * (3 + share * (6 * std::min(v, 100.0) + 7)) + 16 * smallest_normal;
}
// fl(gelu_tanh(a)): its slope is nowhere above 1.13.
inline Bounded gelu_tanh(const Bounded& a) {
  double own = 0;  // at the computed argument, which is somewhere in the interval
  for (const double x : {a.value - a.bound, a.value, a.value + a.bound}) own = std::max(own, gelu_tanh_bound(x));
  return {gelu_tanh(a.value), 1.13 * a.bound + own};
}

// x Phi(x).
inline double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
// Computed as max(x, 0) - a Phi(-a), a = min(|x|, 13).  Of the second term: 2 u from the polynomial, at most 2 roundings a step of
// its 8 (its terms are at most twice its value in sum), 3 roundings of the power's argument, a^2/2, 6 u from the power, 6 others.
inline double gelu_bound(double x) {
  const double a = std::min(std::fabs(x), 13.0), term = a * 0.5 * std::erfc(a / std::sqrt(2.0));
  return unit_roundoff * (std::fabs(gelu(x)) + term * (2 + 32 + 1.5 * a * a + 12)) + 16 * smallest_normal;
}

inline double silu(double x) { return x / (1 + std::exp(-x)); }
// As gelu_tanh's, with v = -x, of at most 2 roundings; below -87 the result stays at -1.5e-36.
inline double silu_bound(double x) {
  const double share = x < 0 ? 1.0 : std::exp(-x);
  return std::fabs(silu(x)) * unit_roundoff * (3 + share * (2 * std::min(std::fabs(x), 87.0) + 7)) + 256 * smallest_normal;
}

// fl(activation(a)).  No slope is above 1.13.
inline Bounded activated(lowbit::Activation activation, const Bounded& a) {
  const auto with = [&](double (*f)(double), double (*bound)(double)) {
    double own = 0;
    for (const double x : {a.value - a.bound, a.value, a.value + a.bound}) own = std::max(own, bound(x));
    return Bounded{f(a.value), 1.13 * a.bound + own};
  };
  switch (activation) {
    case lowbit::Activation::none: return a;
    case lowbit::Activation::relu: return {std::max(a.value, 0.0), a.bound};
    case lowbit::Activation::gelu: return with(gelu, gelu_bound);
    case lowbit::Activation::gelu_tanh: return gelu_tanh(a);
    case lowbit::Activation::silu: return with(silu, silu_bound);
  }
  return a;
}

// The k that are summed before their scale is applied: a block, the row, or, of packed blocks that cross rows, what surely shares a
// scale.
inline std::size_t record_k(std::size_t k, std::size_t block) {
  const std::size_t shared = block == 0 ? k : std::gcd(k, block);
  return shared >= 32 ? shared : block == 0 ? k : std::min(k, block);
}

// Roundings between a product and the result of a kernel: a block is summed in chunks of at most 512 k (canonical kernels: in at
// least 4 lanes), the sums of the blocks are then added up times their scales.  8 more for the lanes' sum, the roundings of decoded
// weights that the reference has and the kernel has not, and the factors of the row and the format.  block: 0 for none.
inline std::size_t product_roundings(std::size_t k, std::size_t block) {
  const std::size_t span = block == 0 ? k : std::min(k, block);
  const std::size_t chunk = std::max(std::min<std::size_t>(span, 512), span / 4 + 4);
  const std::size_t spans = span == 0 ? 0 : k / record_k(k, block) + 2;
  return chunk + spans * (span / 512 + 1) + 8;
}

// "" if every y lies within its bound, else what is wrong first.  NaN lies in no bound.
inline std::string outside(const std::vector<float>& y, const std::vector<Bounded>& expected) {
  if (y.size() != expected.size()) return "sizes differ";
  for (std::size_t i = 0; i < y.size(); ++i)
    if (!(std::fabs(static_cast<double>(y[i]) - expected[i].value) <= expected[i].bound)) {
      std::ostringstream text;
      text.precision(9);
      text << "element " << i << " is " << y[i] << ", expected " << expected[i].value << ", off by "
           << std::fabs(static_cast<double>(y[i]) - expected[i].value) / expected[i].bound << " times the bound";
      return text.str();
    }
  return "";
}

}  // namespace lowbit_test
