// SPDX-License-Identifier: MIT
// The vocabulary of level avxvnni: avx2 with the byte dot instruction.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : avx2::simd {
  static constexpr bool dots_bytes = true;
  // Assembly as in avx512vnni.  {vex}: the assembler's other choice is AVX-512's encoding, which processors of this level lack; x
  // is any of the 16 registers that VEX can name.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
    return acc;
#else
    return _mm256_dpbusd_avx_epi32(acc, w, x);
#endif
  }
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) { return dot_u8s8(acc, w, x); }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
