// SPDX-License-Identifier: MIT
// The vocabulary of level avx512bf16: avx512vnni with the bfloat16 dot instruction, and with byte look-ups in a whole register,
// which need no masks.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : avx512vnni::simd {
  static constexpr bool native_bf16 = true;
  // As bits: vfpclassps takes subnormal numbers for zeros where MXCSR does, as in programs linked with -ffast-math.
  static LOWBIT_INLINE bool any_subnormal(vf a) {
    const vi bits = as_int(a), exponent = _mm512_set1_epi32(0x7F800000), mantissa = _mm512_set1_epi32(0x007FFFFF);
    return _mm512_mask_test_epi32_mask(_mm512_testn_epi32_mask(bits, exponent), bits, mantissa) != 0;
  }
  static LOWBIT_INLINE void store_bf16(std::uint16_t* p, vf a) {
#if defined(__GNUC__) || defined(__clang__)
    __m256i bits;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(bits) : "v"(a));
#else
    const __m256bh half = _mm512_cvtneps_pbh(a);
    const __m256i bits = reinterpret_cast<const __m256i&>(half);
#endif
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bits);
  }
  // The table of 16 bytes stands four times: of an index, the two bits above the code do not matter.
  static LOWBIT_INLINE vi lookup_bytes(const bytes16& t, vi index) { return _mm512_permutexvar_epi8(index, t); }
  static LOWBIT_INLINE vf dot_bf16(vf acc, vi w, vi x) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
#else
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh&>(w), reinterpret_cast<__m512bh&>(x));
#endif
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
