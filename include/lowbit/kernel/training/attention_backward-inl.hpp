// SPDX-License-Identifier: MIT
// The gradient of causal attention for one head.  With P = softmax(scale Q K^T): dV = P^T dO, dP = dO V^T,
// dS = P (dP - the row's sum of P dP) scale, dQ = dS K, dK = dS^T Q; five small products, whose tiles leave out what the causal
// mask makes zero.  P is computed again.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// One tile of c (4, C registers) = a b over depth k: element (r, i) of a is a[r * a_row + i * a_step]; b and c are row-major.
template <std::size_t C>
LOWBIT_NOINLINE void small_tile(const float* a, std::size_t a_row, std::size_t a_step, const float* b, std::size_t b_stride,
                                std::size_t k, float* c, std::size_t c_stride) {
  using S = simd;
  using V = typename S::vf;
  V acc[4][C];
  LOWBIT_UNROLL for (std::size_t r = 0; r < 4; ++r) { LOWBIT_UNROLL for (std::size_t j = 0; j < C; ++j) acc[r][j] = S::zero(); }
  for (std::size_t i = 0; i < k; ++i, a += a_step, b += b_stride) {
    V right[C];
    LOWBIT_UNROLL for (std::size_t j = 0; j < C; ++j) right[j] = S::load(b + j * S::lanes);
    LOWBIT_UNROLL for (std::size_t r = 0; r < 4; ++r) {
      const V left = S::set1(a[r * a_row]);
      LOWBIT_UNROLL for (std::size_t j = 0; j < C; ++j) acc[r][j] = S::fma(left, right[j], acc[r][j]);
    }
  }
  LOWBIT_UNROLL for (std::size_t r = 0; r < 4; ++r) {
    LOWBIT_UNROLL for (std::size_t j = 0; j < C; ++j) S::store(c + r * c_stride + j * S::lanes, acc[r][j]);
  }
}
// The columns [0, n) of such rows, n a multiple of the registers.
LOWBIT_INLINE void small_rows(const float* a, std::size_t a_row, std::size_t a_step, const float* b, std::size_t b_stride,
                              std::size_t k, float* c, std::size_t c_stride, std::size_t n) {
  constexpr std::size_t L = simd::lanes, C = L == 16 ? 4 : 2;
  std::size_t j = 0;
  for (; j + C * L <= n; j += C * L) small_tile<C>(a, a_row, a_step, b + j, b_stride, k, c + j, c_stride);
  for (; j < n; j += L) small_tile<1>(a, a_row, a_step, b + j, b_stride, k, c + j, c_stride);
}

inline void attention_backward(const AttentionBackwardArgs& a) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes;
  constexpr float log2_e = 1.44269504f;
  const std::size_t t_end = a.positions, p = (t_end + 15) / 16 * 16, d = (a.depth + 15) / 16 * 16;
  float* q = a.scratch;  // (p, d), zero outside (positions, depth); so are the next three
  float* k = q + p * d;
  float* v = k + p * d;
  float* dout = v + p * d;
  float* result = dout + p * d;  // (p, d)
  float* k_t = result + p * d;   // (d, p)
  float* v_t = k_t + d * p;
  float* prob = v_t + d * p;   // (p, p)
  float* grad = prob + p * p;  // dP, then dS
  stage_rows(a.q, a.stride, t_end, a.depth, q, p, d);
  stage_rows(a.k, a.stride, t_end, a.depth, k, p, d);
  stage_rows(a.v, a.stride, t_end, a.depth, v, p, d);
  stage_rows(a.dout, a.out_stride, t_end, a.depth, dout, p, d);
  transpose(k, p, d, d, k_t, p);
  transpose(v, p, d, d, v_t, p);
  const auto whole = [](std::size_t n) { return (n + L - 1) / L * L; };

  for (std::size_t t = 0; t < p; t += 4) {
    const std::size_t n = whole(t + 4 < p ? t + 4 : p);
    small_rows(q + t * d, d, 1, k_t, p, a.depth, prob + t * p, p, n);
    small_rows(dout + t * d, d, 1, v_t, p, a.depth, grad + t * p, p, n);
    for (std::size_t r = t; r < t + 4; ++r) {
      float* pr = prob + r * p;
      float* g = grad + r * p;
      if (r >= t_end) {  // no such query
        for (std::size_t s = 0; s < n; s += L) {
          S::store(pr + s, S::zero());
          S::store(g + s, S::zero());
        }
        continue;
      }
      for (std::size_t s = r + 1; s < n; ++s) pr[s] = -3.0e38f;
      V top = S::set1(-3.0e38f);
      for (std::size_t s = 0; s < n; s += L) top = S::maximum(top, S::load(pr + s));
      const V largest = S::set1(S::reduce_max(top)), factor = S::set1(a.scale * log2_e);
      V sum = S::zero();
      for (std::size_t s = 0; s < n; s += L) {
        const V e = exp2(S::mul(S::sub(S::load(pr + s), largest), factor));
        S::store(pr + s, e);
        sum = S::add(sum, e);
      }
      const V inverse = S::set1(1.0f / S::reduce_add(sum));
      V dot = S::zero();
      for (std::size_t s = 0; s < n; s += L) {
        const V e = S::mul(S::load(pr + s), inverse);
        S::store(pr + s, e);
        dot = S::fma(e, S::load(g + s), dot);
      }
      for (std::size_t s = r + 1; s < n; ++s) pr[s] = 0;
      const V mean = S::set1(S::reduce_add(dot)), scale = S::set1(a.scale);
      for (std::size_t s = 0; s < n; s += L) S::store(g + s, S::mul(S::mul(S::load(pr + s), S::sub(S::load(g + s), mean)), scale));
    }
  }

  // Rows of `result`, 4 at a time, to the caller's memory.
  const auto put = [&](float* to, std::size_t first) {
    for (std::size_t r = first; r < first + 4 && r < t_end; ++r)
      for_registers(a.depth, [&](std::size_t i, auto n)
                                 LOWBIT_INLINE_LAMBDA { store_some(to + r * a.stride + i, load_some(result + r * d + i, n), n); });
  };
  for (std::size_t t = 0; t < t_end; t += 4) {  // dQ: keys up to the last query of the tile (a row's later ones are zero)
    small_rows(grad + t * p, p, 1, k, d, t + 4 < t_end ? t + 4 : t_end, result + t * d, d, d);
    put(a.dq, t);
  }
  for (std::size_t s = 0; s < t_end; s += 4) {  // dV, dK: queries from the tile's first key on
    const std::size_t queries = t_end - s;
    small_rows(prob + s * p + s, 1, p, dout + s * d, d, queries, result + s * d, d, d);
    put(a.dv, s);
    small_rows(grad + s * p + s, 1, p, q + s * d, d, queries, result + s * d, d, d);
    put(a.dk, s);
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
