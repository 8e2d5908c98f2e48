// SPDX-License-Identifier: MIT
// Activations in the form a product wants them: rows of float to bfloat16, or to int8 codes with a scale per row.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

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
// The same, stored.  The instruction takes subnormal numbers as zero, which rounding keeps.
template <class S = simd>
LOWBIT_INLINE void store_bf16(std::uint16_t* p, typename S::vf f) {
  if constexpr (S::native_bf16) {
    if (!S::any_subnormal(f)) return S::store_bf16(p, f);
  }
  S::store_u16(p, bf16_bits(f));
}

inline void bf16_rows(const Bf16RowsArgs& a) {
  using S = simd;
  for (std::size_t r = 0; r < a.m; ++r) {
    const float* x = a.x + r * a.x_stride;
    std::uint16_t* out = a.out + r * a.k_padded;
    std::size_t i = 0;
    for (; i + S::lanes <= a.k; i += S::lanes) store_bf16(out + i, S::load(x + i));
    for (; i < a.k; ++i) out[i] = to_bfloat16(x[i]).bits;
    for (; i < a.k_padded; ++i) out[i] = 0;
  }
}

// The largest |x|, of elements under the threshold only where there is one.  `finite` is cleared if x holds a NaN or an infinity.
// Absolute values are ordered as their bits are, so integers decide both, and fast-math cannot interfere.
LOWBIT_INLINE float row_absmax(const float* x, std::size_t k, float threshold, bool& finite) {
  using S = simd;
  const typename S::vi magnitude = S::iset1(0x7FFFFFFF), limit = S::iset1(std::bit_cast<std::int32_t>(threshold));
  typename S::vi all[4], under[4];
  for (std::size_t j = 0; j < 4; ++j) all[j] = under[j] = S::izero();
  std::size_t i = 0;
  const auto take = [&](std::size_t j, typename S::vi bits) LOWBIT_INLINE_LAMBDA {
    bits = S::iand(bits, magnitude);
    all[j] = S::imax(all[j], bits);
    if (threshold > 0) under[j] = S::imax(under[j], S::ikeep_less(bits, limit));
  };
  for (; i + 4 * S::lanes <= k; i += 4 * S::lanes)
    LOWBIT_UNROLL for (std::size_t j = 0; j < 4; ++j) take(j, S::iload(x + i + j * S::lanes));
  for (; i < k; i += S::lanes) take(0, S::as_int(k - i < S::lanes ? S::load_n(x + i, k - i) : S::load(x + i)));
  const auto largest = [](const typename S::vi* v)
                           LOWBIT_INLINE_LAMBDA { return S::ireduce_max(S::imax(S::imax(v[0], v[1]), S::imax(v[2], v[3]))); };
  const std::int32_t top = largest(all);
  finite = top < 0x7F800000;
  return std::bit_cast<float>(threshold > 0 ? largest(under) : top);
}

inline std::size_t find_outliers(const float* x, std::size_t k, float threshold, std::uint32_t* column) {
  using S = simd;
  // as integers, so that a NaN is an outlier on every level alike (its row gives NaN in any case)
  const typename S::vi magnitude = S::iset1(0x7FFFFFFF), least = S::iset1(std::bit_cast<std::int32_t>(threshold) - 1);
  std::size_t found = 0;
  for (std::size_t i = 0; i < k; i += S::lanes) {
    const typename S::vi bits = S::iand(magnitude, S::as_int(k - i < S::lanes ? S::load_n(x + i, k - i) : S::load(x + i)));
    for (std::uint32_t mask = S::igreater_mask(bits, least); mask != 0; mask &= mask - 1)
      column[found++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(std::countr_zero(mask));
  }
  return found;
}

// The sum of 8 codes.
inline std::int32_t sum_of_eight(const std::int8_t* q) {
  std::uint64_t v;
  std::memcpy(&v, q, 8);
  v ^= 0x8080808080808080u;  // code + 128
  v = (v & 0x00FF00FF00FF00FFu) + ((v >> 8) & 0x00FF00FF00FF00FFu);
  return static_cast<std::int32_t>((v * 0x0001000100010001u) >> 48) - 8 * 128;
}
inline std::int32_t sum_of_eight(const std::int16_t* q) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < 8; ++i) sum += q[i];
  return sum;
}

// What the codes of a row are made with.
struct RowScale {
  float absmax = 0, scale = 0, inverse = 0;
  bool finite = true;
};
inline RowScale row_scale(const QuantizeRowsArgs& a, std::size_t r) {
  RowScale s;
  s.absmax = row_absmax(a.x + r * a.x_stride, a.k, a.threshold, s.finite);
  // llm_int8: two roundings, as bitsandbytes.  absmax: the code is round(x / scale) with one true division, see below.
  s.scale = quotient(s.absmax, 127.0f);
  if (a.rule == QuantizeRule::llm_int8)
    s.inverse = s.absmax < 0x1p-120f ? 0.0f : rounded(127.0f * quotient(1.0f, s.absmax));  // below, 127 / absmax could overflow
  else
    s.inverse = s.scale < 0x1p-120f ? 0.0f : quotient(1.0f, s.scale);  // below, 1 / scale could, and scale has lost digits: divide
  return s;
}

// The codes of one row, its scale and its offsets, in one layout (Code: int8_t or int16_t).
template <class Code>
inline void quantize_row(const QuantizeRowsArgs& a, std::size_t r, const RowScale& row) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t batch = 4 * S::lanes;
  const float* x = a.x + r * a.x_stride;
  Code* q = static_cast<Code*>(a.codes) + r * a.k_padded;
  const std::size_t chunks = a.offset ? (a.k_padded + a.kc - 1) / a.kc : 0;
  std::int32_t* offset = a.offset + r * chunks;
  if (!row.finite) {  // a row that holds a NaN or an infinity gives a row of NaN, never a plausible number
    std::memset(q, 0, a.k_padded * sizeof(Code));
    a.scale[r] = std::bit_cast<float>(0x7FC00000u);
    for (std::size_t c = 0; c < chunks; ++c) offset[c] = 0;
    return;
  }
  a.scale[r] = row.scale;
  const bool llm = a.rule == QuantizeRule::llm_int8, takes_outliers = llm && a.threshold > 0;
  const bool divide = !llm && row.inverse == 0.0f && row.scale != 0.0f;
  const float inverse = row.inverse, scale = row.scale;
  const V vinverse = S::set1(inverse), vscale = S::set1(scale), limit = S::set1(127.0f), threshold = S::set1(a.threshold);
  // Codes of `batch` values at from, written to `to`; their lanes' sums.
  const auto quantize = [&](const float* from, Code* to) LOWBIT_INLINE_LAMBDA {
    V v[4], p[4];
    typename S::vi code[4];
    LOWBIT_UNROLL for (std::size_t j = 0; j < 4; ++j) {
      v[j] = S::load(from + j * S::lanes);
      if (takes_outliers) v[j] = S::if_less(S::abs(v[j]), threshold, v[j], S::zero());
      p[j] = S::mul(v[j], vinverse);
      code[j] = S::to_int(p[j]);
    }
    if (!llm) {
      // x * (1/scale) differs from x / scale in the last bits, which matter only near a tie: there, divide.
      V off = S::zero();
      LOWBIT_UNROLL for (std::size_t j = 0; j < 4; ++j) off = S::max_fraction(off, p[j]);
      if (divide || S::any_greater(off, S::set1(0.4999f)))
        for (std::size_t j = 0; j < 4; ++j)
          code[j] = S::to_int(S::maximum(S::minimum(S::div(v[j], vscale), limit), S::set1(-127.0f)));
    }
    S::store_codes(to, code, a.permute);
    return S::iadd(S::iadd(code[0], code[1]), S::iadd(code[2], code[3]));
  };
  const bool sum_lanes = chunks != 0 && !a.column_is_outlier && (a.kc % batch == 0 || chunks == 1);
  typename S::vi sum = S::izero();
  std::size_t i = 0, left = a.kc;  // k until the chunk's end
  for (; i + batch <= a.k; i += batch) {
    sum = S::iadd(sum, quantize(x + i, q + i));
    if (sum_lanes && chunks != 1 && (left -= batch) == 0) {
      *offset++ = -128 * S::ireduce_add(sum);
      sum = S::izero();
      left = a.kc;
    }
  }
  bool pending = chunks == 1 || left != a.kc;
  if (i < a.k_padded) {
    pending = true;
    float rest[batch] = {};
    Code codes[batch];
    std::memcpy(rest, x + i, (a.k - i) * sizeof(float));
    sum = S::iadd(sum, quantize(rest, codes));
    std::memcpy(q + i, codes, (a.k_padded - i) * sizeof(Code));
  }
  if (a.column_is_outlier)
    for (std::size_t c = 0; c < a.k; ++c)
      if (a.column_is_outlier[c]) q[a.permute ? c / 8 * 8 + int8_place(c % 8) : c] = 0;
  if (sum_lanes) {
    if (pending) *offset = -128 * S::ireduce_add(sum);
  } else {
    for (std::size_t c = 0; c < chunks; ++c) {
      std::int32_t t = 0;
      const std::size_t end = (c + 1) * a.kc < a.k_padded ? (c + 1) * a.kc : a.k_padded;
      for (std::size_t g = c * a.kc; g < end; g += 8) t += sum_of_eight(q + g);
      offset[c] = -128 * t;
    }
  }
}

// Scales of a few rows first: their divisions wait for nothing but their own row, and overlap.
template <class Code>
inline void quantize_rows_of(const QuantizeRowsArgs& a) {
  constexpr std::size_t batch_rows = 4;
  RowScale scales[batch_rows];
  for (std::size_t r = 0; r < a.m; r += batch_rows) {
    const std::size_t rows = a.m - r < batch_rows ? a.m - r : batch_rows;
    for (std::size_t i = 0; i < rows; ++i) scales[i] = row_scale(a, r + i);
    for (std::size_t i = 0; i < rows; ++i) quantize_row<Code>(a, r + i, scales[i]);
  }
}
inline void quantize_rows(const QuantizeRowsArgs& a) {
  a.words ? quantize_rows_of<std::int16_t>(a) : quantize_rows_of<std::int8_t>(a);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
