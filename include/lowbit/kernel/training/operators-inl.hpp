// SPDX-License-Identifier: MIT
// What training needs beside products and attention: sums of rows, the gradients of layer normalization, GELU and
// cross-entropy, and AdamW.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// step(i, n): registers of n = S::lanes elements, then what is left.
template <class Step>
LOWBIT_INLINE void for_registers(std::size_t n, const Step& step) {
  std::size_t i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) step(i, std::integral_constant<std::size_t, simd::lanes>());
  if (i < n) step(i, n - i);
}
LOWBIT_INLINE simd::vf load_some(const float* p, std::integral_constant<std::size_t, simd::lanes>) { return simd::load(p); }
LOWBIT_INLINE simd::vf load_some(const float* p, std::size_t n) { return simd::load_n(p, n); }
LOWBIT_INLINE void store_some(float* p, simd::vf a, std::integral_constant<std::size_t, simd::lanes>) { simd::store(p, a); }
LOWBIT_INLINE void store_some(float* p, simd::vf a, std::size_t n) { simd::store_n(p, a, n); }

inline void decode_codes(const std::int8_t* codes, float scale, float* out, std::size_t n) {
  using S = simd;
  std::size_t i = 0;
  for (; i + S::lanes <= n; i += S::lanes) S::store(out + i, S::mul(S::load_i8(codes + i), S::set1(scale)));
  for (; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

// By blocks of rows: a register's column through all of them would touch a page per row.
inline void add_rows(const float* x, std::size_t rows, std::size_t n, std::size_t stride, float* sums) {
  using S = simd;
  constexpr std::size_t block = 16;
  for (std::size_t first = 0; first < rows; first += block) {
    const std::size_t end = first + block < rows ? first + block : rows;
    for_registers(n, [&](std::size_t i, auto count) LOWBIT_INLINE_LAMBDA {
      typename S::vf s = load_some(sums + i, count);
      for (std::size_t r = first; r < end; ++r) s = S::add(s, load_some(x + r * stride + i, count));
      store_some(sums + i, s, count);
    });
  }
}

// With z = (x - mean) / deviation and g = dy * gain: dx = (g - mean(g) - z * mean(g z)) / deviation.
inline void layer_norm_backward(const LayerNormBackwardArgs& a) {
  using S = simd;
  using V = typename S::vf;
  const float inverse_n = 1.0f / static_cast<float>(a.n);
  for (std::size_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.n;
    const float* dy = a.dy + r * a.n;
    float* dx = a.dx + r * a.n;
    V sum = S::zero();
    for_registers(a.n, [&](std::size_t i, auto n) LOWBIT_INLINE_LAMBDA { sum = S::add(sum, load_some(x + i, n)); });
    const float mean = S::reduce_add(sum) * inverse_n;
    const V vmean = S::set1(mean);
    float means[S::lanes];  // so that the lanes behind the end are 0 - 0
    S::store(means, vmean);
    V squares = S::zero();
    for_registers(a.n, [&](std::size_t i, auto n) LOWBIT_INLINE_LAMBDA {
      const V d = S::sub(load_some(x + i, n), load_some(means, n));
      squares = S::fma(d, d, squares);
    });
    const float inverse = 1.0f / std::sqrt(S::reduce_add(squares) * inverse_n + a.epsilon);
    const V vinverse = S::set1(inverse);
    V sum_g = S::zero(), sum_gz = S::zero();
    for_registers(a.n, [&](std::size_t i, auto n) LOWBIT_INLINE_LAMBDA {
      const V z = S::mul(S::sub(load_some(x + i, n), vmean), vinverse), d = load_some(dy + i, n);  // d is 0 behind the end
      const V g = S::mul(d, load_some(a.gain + i, n));
      sum_g = S::add(sum_g, g);
      sum_gz = S::fma(g, z, sum_gz);
      store_some(a.dgain + i, S::fma(d, z, load_some(a.dgain + i, n)), n);
      store_some(a.dshift + i, S::add(d, load_some(a.dshift + i, n)), n);
    });
    const V mean_g = S::set1(S::reduce_add(sum_g) * inverse_n), mean_gz = S::set1(S::reduce_add(sum_gz) * inverse_n);
    for_registers(a.n, [&](std::size_t i, auto n) LOWBIT_INLINE_LAMBDA {
      const V z = S::mul(S::sub(load_some(x + i, n), vmean), vinverse);
      const V g = S::mul(load_some(dy + i, n), load_some(a.gain + i, n));
      const V d = S::mul(S::sub(S::sub(g, mean_g), S::mul(z, mean_gz)), vinverse);
      store_some(dx + i, a.add ? S::add(load_some(dx + i, n), d) : d, n);
    });
  }
}

// gelu(x) = x s with s = 1 / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3); so gelu' = s + x * 2 u' s (1 - s).  Below -10 both
// are of the size of the smallest normal float; above 10, 1 - s is 0.
inline void gelu_backward(const float* x, const float* dy, float* dx, std::size_t n) {
  using S = simd;
  using V = typename S::vf;
  constexpr double log2_e = 1.44269504088896341, c = 2 * 0.79788456080286536;
  for_registers(n, [&](std::size_t i, auto count) LOWBIT_INLINE_LAMBDA {
    const V v = S::minimum(S::maximum(S::set1(-10.0f), load_some(x + i, count)), S::set1(10.0f));
    const V square = S::mul(v, v), one = S::set1(1.0f);
    const V t =
        S::mul(v, S::fma(square, S::set1(static_cast<float>(-c * 0.044715 * log2_e)), S::set1(static_cast<float>(-c * log2_e))));
    const V e = exp2(t), s = S::div(one, S::add(e, one));
    const V slope = S::fma(square, S::set1(static_cast<float>(3 * 0.044715 * c)), S::set1(static_cast<float>(c)));  // 2 u'
    const V derivative = S::fma(S::mul(S::mul(v, slope), s), S::mul(e, s), s);                                      // 1 - s = e s
    store_some(dx + i, S::mul(load_some(dy + i, count), derivative), count);
  });
}

inline float cross_entropy(float* logits, std::size_t n, std::size_t target, float smoothing, float factor) {
  using S = simd;
  using V = typename S::vf;
  constexpr float log2_e = 1.44269504f;
  const std::size_t full = n / S::lanes * S::lanes;
  V top = S::set1(-3.0e38f);
  for (std::size_t i = 0; i < full; i += S::lanes) top = S::maximum(top, S::load(logits + i));
  float largest = S::reduce_max(top);
  for (std::size_t i = full; i < n; ++i) largest = logits[i] > largest ? logits[i] : largest;
  const float of_target = logits[target] - largest, even = smoothing / static_cast<float>(n);
  V sums = S::zero(), logit_sums = S::zero();
  float rest[S::lanes];
  for (std::size_t j = 0; j < S::lanes; ++j) rest[j] = -3.0e38f;  // weigh nothing: an exponential of 2^-126
  for (std::size_t i = full; i < n; ++i) rest[i - full] = logits[i];
  const auto weigh = [&](const float* from, float* to, std::size_t count) LOWBIT_INLINE_LAMBDA {
    const V d = S::sub(S::load(from), S::set1(largest));
    const V e = exp2(S::mul(d, S::set1(log2_e)));
    sums = S::add(sums, e);
    if (count == S::lanes)
      S::store(to, e);
    else
      S::store_n(to, e, count);
  };
  float logit_sum = 0;
  if (smoothing > 0) {
    for (std::size_t i = 0; i < full; i += S::lanes) logit_sums = S::add(logit_sums, S::sub(S::load(logits + i), S::set1(largest)));
    logit_sum = S::reduce_add(logit_sums);
    for (std::size_t i = full; i < n; ++i) logit_sum += logits[i] - largest;
  }
  for (std::size_t i = 0; i < full; i += S::lanes) weigh(logits + i, logits + i, S::lanes);
  if (full < n) weigh(rest, logits + full, n - full);
  const float total = S::reduce_add(sums), scale = factor / total, shift = -even * factor;
  for_registers(n, [&](std::size_t i, auto count) LOWBIT_INLINE_LAMBDA {
    store_some(logits + i, S::fma(load_some(logits + i, count), S::set1(scale), S::set1(shift)), count);
  });
  logits[target] -= (1.0f - smoothing) * factor;
  return std::log(total) - (1.0f - smoothing) * of_target - even * logit_sum;
}

inline void adamw(const AdamWArgs& a) {
  using S = simd;
  using V = typename S::vf;
  const V b1 = S::set1(a.beta1), b2 = S::set1(a.beta2), one_b1 = S::set1(1.0f - a.beta1), one_b2 = S::set1(1.0f - a.beta2);
  for_registers(a.n, [&](std::size_t i, auto n) LOWBIT_INLINE_LAMBDA {
    const V g = S::mul(load_some(a.gradient + i, n), S::set1(a.gradient_scale));
    const V m = S::fma(b1, load_some(a.m + i, n), S::mul(one_b1, g));
    const V v = S::fma(b2, load_some(a.v + i, n), S::mul(one_b2, S::mul(g, g)));
    const V w = load_some(a.w + i, n);
    const V step = S::div(S::mul(S::set1(a.rate), m), S::fma(S::sqrt(v), S::set1(a.v_scale), S::set1(a.epsilon)));
    store_some(a.m + i, m, n);
    store_some(a.v + i, v, n);
    store_some(a.w + i, S::sub(S::sub(w, S::mul(S::set1(a.decay), w)), step), n);
  });
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
