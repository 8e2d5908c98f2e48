// SPDX-License-Identifier: MIT
// The vocabulary of level avx512vnni: avx512 with the byte dot instruction.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

struct simd : avx512::simd {
  static constexpr bool dots_bytes = true;
  // Assembly for the same reason as in avx512.
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
#else
    return _mm512_dpbusd_epi32(acc, w, x);
#endif
  }
};

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
