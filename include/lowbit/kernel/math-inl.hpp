// SPDX-License-Identifier: MIT
// The float functions of a transformer over the vocabulary: exp, GELU, layer normalization, causal attention.
// Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// e^x: 2^n times a polynomial on [-ln2/2, ln2/2]; within 2 ulp.  Below -87.3 the result is flushed to 0 in steps, above 88.7 it
// stays at about 2^127.5; both are out of reach of softmax and GELU.  NaN stays NaN: of a NaN and a number, min and max give the
// second operand (x86) or NaN (arm64).
LOWBIT_INLINE simd::vf exp(simd::vf x) {
  using S = simd;
  using V = typename S::vf;
  x = S::min(S::set1(88.37f), S::max(S::set1(-87.3f), x));
  const V n = S::round(S::mul(x, S::set1(1.44269504088896341f)));
  // ln 2 in two parts: n * 0.693359375 is exact.
  V r = S::fma(n, S::set1(-0.693359375f), x);
  r = S::fma(n, S::set1(2.12194440e-4f), r);
  V p = S::set1(1.9875691500e-4f);
  p = S::fma(p, r, S::set1(1.3981999507e-3f));
  p = S::fma(p, r, S::set1(8.3334519073e-3f));
  p = S::fma(p, r, S::set1(4.1665795894e-2f));
  p = S::fma(p, r, S::set1(1.6666665459e-1f));
  p = S::fma(p, r, S::set1(5.0000001201e-1f));
  p = S::fma(p, S::mul(r, r), S::add(r, S::set1(1.0f)));
  return S::mul(p, S::pow2(n));
}

// 0.5 x (1 + tanh(u)) is x / (1 + e^(-2u)): no cancellation near zero.  Below -16 the result is smaller than any normal float; the
// numerator stops there because the denominator does.
LOWBIT_INLINE simd::vf gelu(simd::vf x) {
  using S = simd;
  using V = typename S::vf;
  constexpr float a = -2.0f * 0.7978845608028654f, b = 0.044715f;
  const V u = S::mul(S::mul(x, S::set1(a)), S::fma(S::mul(x, x), S::set1(b), S::set1(1.0f)));
  return S::div(S::max(S::set1(-16.0f), x), S::add(exp(u), S::set1(1.0f)));
}

inline void exp_array(const float* x, float* out, std::size_t n) {
  using S = simd;
  std::size_t i = 0;
  for (; i + S::lanes <= n; i += S::lanes) S::store(out + i, exp(S::load(x + i)));
  if (i < n) S::store_n(out + i, exp(S::load_n(x + i, n - i)), n - i);
}
inline void gelu_array(const float* x, float* out, std::size_t n) {
  using S = simd;
  std::size_t i = 0;
  for (; i + S::lanes <= n; i += S::lanes) S::store(out + i, gelu(S::load(x + i)));
  if (i < n) S::store_n(out + i, gelu(S::load_n(x + i, n - i)), n - i);
}

inline void layer_norm(const LayerNormArgs& a) {
  using S = simd;
  using V = typename S::vf;
  const std::size_t full = a.n / S::lanes * S::lanes, rest = a.n - full;
  const float inverse_n = 1.0f / static_cast<float>(a.n);
  for (std::size_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.n;
    float* out = a.out + r * a.n;
    V sum = S::zero();
    for (std::size_t i = 0; i < full; i += S::lanes) sum = S::add(sum, S::load(x + i));
    if (rest) sum = S::add(sum, S::load_n(x + full, rest));
    const float mean = S::reduce_add(sum) * inverse_n;
    const V vmean = S::set1(mean);
    V square = S::zero();
    for (std::size_t i = 0; i < full; i += S::lanes) {
      const V d = S::sub(S::load(x + i), vmean);
      square = S::fma(d, d, square);
    }
    float variance = S::reduce_add(square);
    for (std::size_t i = full; i < a.n; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const V inverse = S::set1(1.0f / std::sqrt(variance * inverse_n + a.epsilon));
    for (std::size_t i = 0; i < full; i += S::lanes)
      S::store(out + i, S::fma(S::mul(S::sub(S::load(x + i), vmean), inverse), S::load(a.gain + i), S::load(a.shift + i)));
    if (rest)
      S::store_n(out + full,
                 S::fma(S::mul(S::sub(S::load_n(x + full, rest), vmean), inverse), S::load_n(a.gain + full, rest),
                        S::load_n(a.shift + full, rest)),
                 rest);
  }
}

// Keys are transposed once, so that the scores of a query are vectors over positions and need no horizontal sums.
inline void attention(const AttentionArgs& a) {
  using S = simd;
  using V = typename S::vf;
  const std::size_t padded = (a.positions + 63) / 64 * 64;
  float* keys = a.scratch;                  // (depth, padded)
  float* scores = keys + a.depth * padded;  // [padded]
  for (std::size_t d = 0; d < a.depth; ++d)
    for (std::size_t t = a.positions; t < padded; ++t) keys[d * padded + t] = 0;
  for (std::size_t t = 0; t < a.positions; ++t)
    for (std::size_t d = 0; d < a.depth; ++d) keys[d * padded + t] = a.k[t * a.stride + d];
  constexpr std::size_t wide = 4 * S::lanes;
  for (std::size_t t = a.first_query; t < a.positions; ++t) {
    const float* q = a.q + t * a.stride;
    const std::size_t seen = t + 1;
    V top = S::set1(-3.0e38f);
    for (std::size_t s = 0; s < seen; s += S::lanes) {
      V acc = S::zero();
      for (std::size_t d = 0; d < a.depth; ++d) acc = S::fma(S::set1(q[d]), S::load(keys + d * padded + s), acc);
      acc = S::mul(acc, S::set1(a.scale));
      S::store(scores + s, acc);
      if (s + S::lanes <= seen) top = S::max(top, acc);
    }
    float largest = S::reduce_max(top);
    for (std::size_t s = seen / S::lanes * S::lanes; s < seen; ++s) largest = scores[s] > largest ? scores[s] : largest;
    const V vlargest = S::set1(largest);
    V sum = S::zero();
    std::size_t s = 0;
    for (; s + S::lanes <= seen; s += S::lanes) {
      const V e = exp(S::sub(S::load(scores + s), vlargest));
      S::store(scores + s, e);
      sum = S::add(sum, e);
    }
    float total = S::reduce_add(sum);
    if (s < seen) {
      S::store(scores + s, exp(S::sub(S::load(scores + s), vlargest)));
      for (; s < seen; ++s) total += scores[s];
    }
    const float inverse = 1.0f / total;
    float* out = a.out + t * a.out_stride;
    std::size_t d = 0;
    for (; d + wide <= a.depth; d += wide) {
      V acc0 = S::zero(), acc1 = S::zero(), acc2 = S::zero(), acc3 = S::zero();
      for (std::size_t j = 0; j < seen; ++j) {
        const V p = S::set1(scores[j]);
        const float* v = a.v + j * a.stride + d;
        acc0 = S::fma(p, S::load(v), acc0);
        acc1 = S::fma(p, S::load(v + S::lanes), acc1);
        acc2 = S::fma(p, S::load(v + 2 * S::lanes), acc2);
        acc3 = S::fma(p, S::load(v + 3 * S::lanes), acc3);
      }
      const V scale = S::set1(inverse);
      S::store(out + d, S::mul(acc0, scale));
      S::store(out + d + S::lanes, S::mul(acc1, scale));
      S::store(out + d + 2 * S::lanes, S::mul(acc2, scale));
      S::store(out + d + 3 * S::lanes, S::mul(acc3, scale));
    }
    for (; d < a.depth; d += S::lanes) {
      const std::size_t n = a.depth - d < S::lanes ? a.depth - d : S::lanes;
      V acc = S::zero();
      for (std::size_t j = 0; j < seen; ++j) acc = S::fma(S::set1(scores[j]), S::load_n(a.v + j * a.stride + d, n), acc);
      S::store_n(out + d, S::mul(acc, S::set1(inverse)), n);
    }
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
