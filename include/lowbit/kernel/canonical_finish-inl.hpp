// SPDX-License-Identifier: MIT
// The epilogue of canonical products: sums of some rows of the weights, for one row of x, into y.
// Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// y[row][n .. n + count) = activation(sum * scale + extra + bias) + residual; extra: null, or outliers' sums.
inline void finish_columns(const CanonicalGemmArgs& a, std::size_t row, std::size_t n, std::size_t count, const float* sum,
                           float scale, const float* extra) {
  using S = simd;
  using V = typename S::vf;
  float* y = a.y + row * a.y_stride + n;
  const float* residual = a.epilogue.residual ? a.epilogue.residual + row * a.epilogue.residual_stride + n : nullptr;
  for (std::size_t c = 0; c < count; c += S::lanes) {
    const std::size_t left = count - c;
    const auto load = [&](const float* p) LOWBIT_INLINE_LAMBDA { return left < S::lanes ? S::load_n(p, left) : S::load(p); };
    V f = S::mul(load(sum + c), S::set1(scale));
    if (extra) f = S::add(S::keep(f), load(extra + c));
    if (a.epilogue.bias) f = S::add(S::keep(f), load(a.epilogue.bias + n + c));
    if (a.epilogue.activation == Activation::gelu_tanh) f = gelu(f);
    if (residual) f = S::add(S::keep(f), load(residual + c));
    if (left < S::lanes)
      S::store_n(y + c, f, left);
    else
      S::store(y + c, f);
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
