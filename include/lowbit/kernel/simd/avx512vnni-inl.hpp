// SPDX-License-Identifier: MIT
// The vocabulary of level avx512vnni: avx512 with the byte dot instruction.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : avx512::simd {
  static constexpr bool dots_bytes = true;
  static constexpr std::size_t lookup_bytes_rows = any_rows;
  // Assembly for the same reason as in avx512.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
#else
    return _mm512_dpbusd_epi32(acc, w, x);
#endif
  }
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) { return dot_u8s8(acc, w, x); }

  // ---- for rows of canonical weights ----
  // a is made unsigned by adding 128, which 128 * -b takes off again; b must not hold -128.
  static constexpr std::size_t bytes_step = 64;
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) {
    const vi sign = _mm512_set1_epi8(-128), x = _mm512_loadu_si512(b);
    acc = dot_u8s8(acc, _mm512_xor_si512(_mm512_loadu_si512(a), sign), x);
    return dot_u8s8(acc, sign, _mm512_sub_epi8(_mm512_setzero_si512(), x));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
