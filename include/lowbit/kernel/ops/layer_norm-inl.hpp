// SPDX-License-Identifier: MIT
// Layer normalization, row by row.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// out = (x - mean) / sqrt(variance + epsilon) * gain + shift; out may be x.  The variance is that about the mean, in a second pass:
// no cancellation.  Sums run in four registers, which hides the latency of an addition.
inline void normalize_row(const float* x, std::size_t n, const float* gain, const float* shift, float epsilon, float* out) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes;
  const std::size_t fours = n / (4 * L) * (4 * L), full = n / L * L, rest = n - full;
  const float inverse_n = 1.0f / static_cast<float>(n);
  V s0 = S::zero(), s1 = S::zero(), s2 = S::zero(), s3 = S::zero();
  for (std::size_t i = 0; i < fours; i += 4 * L) {
    s0 = S::add(s0, S::load(x + i));
    s1 = S::add(s1, S::load(x + i + L));
    s2 = S::add(s2, S::load(x + i + 2 * L));
    s3 = S::add(s3, S::load(x + i + 3 * L));
  }
  for (std::size_t i = fours; i < full; i += L) s0 = S::add(s0, S::load(x + i));
  if (rest) s1 = S::add(s1, S::load_n(x + full, rest));
  const V mean = S::set1(S::reduce_add(S::add(S::add(s0, s1), S::add(s2, s3))) * inverse_n);

  s0 = s1 = s2 = s3 = S::zero();
  for (std::size_t i = 0; i < fours; i += 4 * L) {
    const V d0 = S::sub(S::load(x + i), mean), d1 = S::sub(S::load(x + i + L), mean);
    const V d2 = S::sub(S::load(x + i + 2 * L), mean), d3 = S::sub(S::load(x + i + 3 * L), mean);
    s0 = S::fma(d0, d0, s0);
    s1 = S::fma(d1, d1, s1);
    s2 = S::fma(d2, d2, s2);
    s3 = S::fma(d3, d3, s3);
  }
  for (std::size_t i = fours; i < full; i += L) {
    const V d = S::sub(S::load(x + i), mean);
    s0 = S::fma(d, d, s0);
  }
  if (rest) {
    float means[L];  // so that the lanes behind the end are 0 - 0
    S::store(means, mean);
    const V d = S::sub(S::load_n(x + full, rest), S::load_n(means, rest));
    s1 = S::fma(d, d, s1);
  }
  const float variance = S::reduce_add(S::add(S::add(s0, s1), S::add(s2, s3))) * inverse_n;
  const V inverse = S::set1(1.0f / std::sqrt(variance + epsilon));

  for (std::size_t i = 0; i < full; i += L)
    S::store(out + i, S::fma(S::mul(S::sub(S::load(x + i), mean), inverse), S::load(gain + i), S::load(shift + i)));
  if (rest)
    S::store_n(out + full,
               S::fma(S::mul(S::sub(S::load_n(x + full, rest), mean), inverse), S::load_n(gain + full, rest),
                      S::load_n(shift + full, rest)),
               rest);
}

inline void layer_norm(const LayerNormArgs& a) {
  for (std::size_t r = 0; r < a.rows; ++r) normalize_row(a.x + r * a.n, a.n, a.gain, a.shift, a.epsilon, a.out + r * a.n);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
