// SPDX-License-Identifier: MIT
// The epilogue of canonical products and of those in block-offset classes: sums of some rows of the weights, for one row of x, into y.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// y[n .. n + count) = activation(sum * scale + extra + bias) + residual in row `row`; extra: null, or outliers' sums.
inline void finish_columns(const EpilogueArgs& e, float* y, std::size_t row, std::size_t n, std::size_t count, const float* sum,
                           float scale, const float* extra) {
  using S = simd;
  using V = typename S::vf;
  y += n;
  const float* residual = e.residual ? e.residual + row * e.residual_stride + n : nullptr;
  for (std::size_t c = 0; c < count; c += S::lanes) {
    const std::size_t left = count - c;
    const auto load = [&](const float* p) LOWBIT_INLINE_LAMBDA { return left < S::lanes ? S::load_n(p, left) : S::load(p); };
    V f = S::mul(load(sum + c), S::set1(scale));
    if (extra) f = S::add(S::keep(f), load(extra + c));
    if (e.bias) f = S::add(S::keep(f), load(e.bias + n + c));
    f = activate(e.activation, f);
    if (residual) f = S::add(S::keep(f), load(residual + c));
    if (left < S::lanes)
      S::store_n(y + c, f, left);
    else
      S::store(y + c, f);
  }
}

inline void finish_row(const EpilogueArgs& e, std::size_t row, const float* sum, std::size_t n, float* y) {
  finish_columns(e, y, row, 0, n, sum, 1.0f, nullptr);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
