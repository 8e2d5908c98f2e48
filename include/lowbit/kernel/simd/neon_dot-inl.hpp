// SPDX-License-Identifier: MIT
// The vocabulary of level neon_dot: neon with FEAT_DotProd, whose byte dot takes signed codes.  Included by targets.hpp only.
//
// Assembly: clang 14 has the intrinsics only where the file's own flags have the instruction.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : neon::simd {
  static constexpr bool dots_bytes = true;
  static constexpr std::size_t lookup_bytes_rows = 16;
  // Codes are made signed as they are loaded, or looked up: their sums need no offset.
  static constexpr bool signs_codes = true;
  static LOWBIT_INLINE vi to_signed(vi a) { return vreinterpretq_s32_u8(to_signed(bytes(a))); }
  static LOWBIT_INLINE bytes16 to_signed(bytes16 a) { return veorq_u8(a, vdupq_n_u8(0x80)); }
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {  // x stands in lane 0
    __asm__ volatile("sdot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  static LOWBIT_INLINE vi dot_signed_codes(vi acc, vi w, vi x) { return dot_codes(acc, w, x); }
  static LOWBIT_INLINE vi dot_signed(vi acc, vi a, vi b) {
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(a), "w"(b));
    return acc;
  }
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) { return dot_signed(acc, iload(a), iload(b)); }
  // (w - 128) x, and -128 x taken off.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
    return vsubq_s32(dot_signed(acc, to_signed(w), x), dot_signed(izero(), iset1(static_cast<std::int32_t>(0x80808080u)), x));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
