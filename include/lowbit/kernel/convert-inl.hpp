// SPDX-License-Identifier: MIT
// Activations in the form a product wants them: rows of float to bfloat16, or to int8 codes with a scale per row.
// Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// bfloat16 bits (nearest even) in the low half of every dword.  NaN stays NaN: its payload is cut and the quiet bit set.
LOWBIT_INLINE simd::vi bf16_bits(simd::vf f) {
  using S = simd;
  const typename S::vi u = S::as_int(f);
  const typename S::vi odd = S::iand(S::template shift_right<16>(u), S::iset1(1));
  const typename S::vi sum = S::template shift_right<16>(S::iadd(u, S::iadd(odd, S::iset1(0x7FFF))));
  // exponent all ones with a mantissa: 0x7F800000 - |u| is negative as an integer
  const typename S::vi over = S::isub(S::iset1(0x7F800000), S::iand(u, S::iset1(0x7FFFFFFF)));
  const typename S::vi is_nan = S::isub(S::izero(), S::template shift_right<31>(over));  // all ones or zero
  const typename S::vi quiet = S::ior(S::template shift_right<16>(u), S::iset1(0x40));
  return S::ior(S::iand(is_nan, quiet), S::isub(sum, S::iand(is_nan, sum)));
}

inline void bf16_rows(const Bf16RowsArgs& a) {
  using S = simd;
  for (std::size_t r = 0; r < a.m; ++r) {
    const float* x = a.x + r * a.x_stride;
    std::uint16_t* out = a.out + r * a.k_padded;
    std::size_t i = 0;
    for (; i + S::lanes <= a.k; i += S::lanes) S::store_u16(out + i, bf16_bits(S::load(x + i)));
    for (; i < a.k; ++i) out[i] = to_bfloat16(x[i]).bits;
    for (; i < a.k_padded; ++i) out[i] = 0;
  }
}

// The largest |x|, of elements under the threshold only where there is one.  `finite` is cleared if x holds a NaN or an infinity;
// asked of the bits, so that fast-math cannot answer.
LOWBIT_INLINE float row_absmax(const float* x, std::size_t k, float threshold, bool& finite) {
  using S = simd;
  const typename S::vf limit = S::set1(threshold);
  typename S::vf m = S::zero();
  typename S::vi bad = S::izero();
  std::size_t i = 0;
  for (; i + S::lanes <= k; i += S::lanes) {
    const typename S::vf v = S::abs(S::load(x + i));
    bad = S::ior(bad, S::isub(S::iset1(0x7F7FFFFF), S::as_int(v)));  // negative for NaN and infinity
    m = threshold > 0 ? S::max(m, S::if_less(v, limit, v, S::zero())) : S::max(m, v);
  }
  float best = S::reduce_max(m);
  finite = S::ireduce_add(S::template shift_right<31>(bad)) == 0;
  for (; i < k; ++i) {
    const float v = std::fabs(x[i]);
    finite = finite && is_finite_bits(x[i]);
    if (v > best && (threshold <= 0 || v < threshold)) best = v;
  }
  return best;
}

inline void quantize_rows(const QuantizeRowsArgs& a) {
  using S = simd;
  const bool llm = a.rule == QuantizeRule::llm_int8;
  for (std::size_t r = 0; r < a.m; ++r) {
    const float* x = a.x + r * a.x_stride;
    std::int8_t* q = a.codes + r * a.k_padded;
    bool finite = true;
    const float absmax = row_absmax(x, a.k, a.threshold, finite);
    if (!finite) {  // a row that holds a NaN or an infinity gives a row of NaN, never a plausible number
      std::memset(q, 0, a.k_padded);
      a.scale[r] = std::bit_cast<float>(0x7FC00000u);
      if (a.offset)
        for (std::size_t b = 0, blocks = a.k_padded / a.block; b < blocks; ++b) a.offset[r * blocks + b] = 0;
      continue;
    }
    // llm_int8: two roundings, as bitsandbytes.  absmax: the code is round(x / scale) with one true division, see below.
    const float scale = quotient(absmax, 127.0f);
    const bool empty = llm ? absmax < 0x1p-120f : scale == 0.0f;  // llm_int8: where 127 / absmax could overflow
    const bool divide = scale < 0x1p-120f;                        // absmax: where 1 / scale could
    const float inverse = empty ? 0.0f : llm ? rounded(127.0f * quotient(1.0f, absmax)) : quotient(1.0f, scale);
    const typename S::vf vinverse = S::set1(inverse), vscale = S::set1(scale), near_tie = S::set1(0.4999f), limit = S::set1(127.0f),
                         minus_limit = S::set1(-127.0f);
    const typename S::vf threshold = S::set1(a.threshold);
    std::size_t i = 0;
    for (; i + S::lanes <= a.k; i += S::lanes) {
      typename S::vf v = S::load(x + i);
      if (a.threshold > 0) v = S::if_less(S::abs(v), threshold, v, S::zero());
      typename S::vf p = S::mul(v, vinverse);
      if (!llm && !empty) {
        // x * (1/scale) differs from x / scale in the last bits, which matter only near a tie: there, divide.
        if (divide || S::any_greater(S::abs(S::sub(p, S::round(p))), near_tie)) p = S::div(v, vscale);
      }
      S::store_i8(q + i, S::to_int(S::max(S::min(p, limit), minus_limit)));
    }
    for (; i < a.k; ++i) {
      const float v = a.threshold > 0 && !(std::fabs(x[i]) < a.threshold) ? 0.0f : x[i];
      const float p = empty ? 0.0f : llm ? rounded(v * inverse) : quotient(v, scale);
      q[i] = static_cast<std::int8_t>(std::nearbyint(p > 127.0f ? 127.0f : p < -127.0f ? -127.0f : p));
    }
    for (; i < a.k_padded; ++i) q[i] = 0;
    if (a.column_is_outlier)
      for (std::size_t c = 0; c < a.k; ++c)
        if (a.column_is_outlier[c]) q[c] = 0;
    a.scale[r] = scale;
    if (a.offset)
      for (std::size_t b = 0, blocks = a.k_padded / a.block; b < blocks; ++b) {
        std::int32_t sum = 0;
        for (std::size_t c = 0; c < a.block; ++c) sum += q[b * a.block + c];
        a.offset[r * blocks + b] = -128 * sum;
      }
    if (a.permute)
      for (std::size_t g = 0; g < a.k_padded; g += 8) {
        std::int8_t t[8];
        std::memcpy(t, q + g, 8);
        for (int s = 0; s < 2; ++s)
          for (int j = 0; j < 4; ++j) q[g + static_cast<std::size_t>(4 * s + j)] = t[int8_k(s, j)];
      }
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
