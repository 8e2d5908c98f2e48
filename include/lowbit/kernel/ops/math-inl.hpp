// SPDX-License-Identifier: MIT
// The float functions of a transformer over the vocabulary: powers of two (softmax's exponential, by way of log2 e) and activations.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// 2^t for t < 128, within 2 ulp: 2^n times a polynomial on [-1/2, 1/2], minimax for the relative error (2e-9) with 2^0 = 1.  Below
// -126 the result stays at 2^-126.  NaN stays NaN: of a number and a NaN, max gives the second operand (x86) or NaN (arm64).
LOWBIT_INLINE simd::vf exp2(simd::vf t) {
  using S = simd;
  using V = typename S::vf;
  t = S::maximum(S::set1(-126.0f), t);
  const V n = S::round(t), f = S::sub(t, n);  // exact
  V p = S::set1(1.5353362e-4f);
  p = S::fma(p, f, S::set1(1.3398874e-3f));
  p = S::fma(p, f, S::set1(9.6184369e-3f));
  p = S::fma(p, f, S::set1(5.5503324e-2f));
  p = S::fma(p, f, S::set1(2.4022648e-1f));
  p = S::fma(p, f, S::set1(6.9314718e-1f));
  p = S::fma(p, f, S::set1(1.0f));
  return S::times_pow2(p, n);
}

// 0.5 x (1 + tanh(u)) is x / (1 + e^(-2u)), e^(-2u) = 2^(x (a + b x^2)): no cancellation near zero.  Below -10 the result is of the
// size of the smallest normal float, and stays there.  A true division: reciprocal estimates differ between makers of processors.
LOWBIT_INLINE simd::vf gelu_tanh(simd::vf x) {
  using S = simd;
  using V = typename S::vf;
  constexpr double log2_e = 1.44269504088896341, a = -2 * 0.79788456080286536 * log2_e, b = a * 0.044715;
  x = S::maximum(S::set1(-10.0f), x);
  const V t = S::mul(x, S::fma(S::mul(x, x), S::set1(static_cast<float>(b)), S::set1(static_cast<float>(a))));
  return S::div(x, S::add(exp2(t), S::set1(1.0f)));
}

// x Phi(x) is max(x, 0) - |x| Phi(-|x|), in which nothing cancels.  Phi(-a) = e^(-a^2/2) r(a); r, half of the scaled complementary
// error function, is a polynomial in 1 / (1 + 0.3 a), minimax for the relative error on [0, 13] (1.1e-7).  Beyond 13 the second term
// stays at 8e-38.
LOWBIT_INLINE simd::vf gelu(simd::vf x) {
  using S = simd;
  using V = typename S::vf;
  const V one = S::set1(1.0f), a = S::minimum(S::set1(13.0f), S::abs(x)), t = S::div(one, S::fma(a, S::set1(0.3f), one));
  V r = S::set1(0.036194872f);
  r = S::fma(r, t, S::set1(-0.15937834f));
  r = S::fma(r, t, S::set1(0.21011842f));
  r = S::fma(r, t, S::set1(-0.057167362f));
  r = S::fma(r, t, S::set1(0.13041644f));
  r = S::fma(r, t, S::set1(0.099347129f));
  r = S::fma(r, t, S::set1(0.12084553f));
  r = S::fma(r, t, S::set1(0.11962327f));
  const V tail = S::mul(S::mul(r, t), exp2(S::mul(S::mul(a, a), S::set1(-0.72134752f))));
  return S::sub(S::maximum(S::set1(0.0f), x), S::keep(S::mul(a, tail)));
}

// Below -87 the result stays at -1.5e-36.
LOWBIT_INLINE simd::vf silu(simd::vf x) {
  using S = simd;
  x = S::maximum(S::set1(-87.0f), x);
  return S::div(x, S::add(exp2(S::mul(x, S::set1(-1.44269504f))), S::set1(1.0f)));
}

LOWBIT_INLINE simd::vf activate(Activation activation, simd::vf x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return simd::maximum(simd::set1(0.0f), x);
    case Activation::gelu: return gelu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
    case Activation::silu: return silu(x);
  }
  return x;
}

inline void exp2_array(const float* x, float* out, std::size_t n) {
  using S = simd;
  std::size_t i = 0;
  for (; i + S::lanes <= n; i += S::lanes) S::store(out + i, exp2(S::load(x + i)));
  if (i < n) S::store_n(out + i, exp2(S::load_n(x + i, n - i)), n - i);
}
inline void gelu_array(const float* x, float* out, std::size_t n) {
  using S = simd;
  std::size_t i = 0;
  for (; i + S::lanes <= n; i += S::lanes) S::store(out + i, gelu_tanh(S::load(x + i)));
  if (i < n) S::store_n(out + i, gelu_tanh(S::load_n(x + i, n - i)), n - i);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
