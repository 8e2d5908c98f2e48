// SPDX-License-Identifier: MIT
// The vocabulary of level neon_i8mm: neon_dot with FEAT_I8MM, whose byte products take unsigned codes as they are packed, and with
// FEAT_BF16.  bfdot rounds sums of pairs to odd and takes subnormal numbers for zeros.  bfmmla, which adds in another order, would make
// results depend on the number of rows beside them; integers are exact.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : neon_dot::simd {
  static constexpr bool native_bf16 = true;
  static constexpr bool signs_codes = false;
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {  // x stands in lane 0
    __asm__ volatile("usdot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  // Two rows times two columns over 8 k, as [c0r0, c0r1, c1r0, c1r1]: twice the products of a dot.
  static constexpr bool multiplies_pairs = true;
  static LOWBIT_INLINE vi dot_pairs(vi acc, vi w, vi x) {
    __asm__ volatile("usmmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  static LOWBIT_INLINE vi dot_signed_pairs(vi acc, vi w, vi x) {
    __asm__ volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  static LOWBIT_INLINE vi load_pair(const std::uint8_t* a, const std::uint8_t* b) {
    return vreinterpretq_s32_u8(vcombine_u8(vld1_u8(a), vld1_u8(b)));
  }
  static LOWBIT_INLINE vi zip_low(vi a, vi b) { return vzip1q_s32(a, b); }
  static LOWBIT_INLINE vi zip_high(vi a, vi b) { return vzip2q_s32(a, b); }
  static LOWBIT_INLINE vi even(vi a, vi b) { return vuzp1q_s32(a, b); }
  static LOWBIT_INLINE vi odd(vi a, vi b) { return vuzp2q_s32(a, b); }
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
    __asm__("usdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  static LOWBIT_INLINE vf dot_bf16(vf acc, vi w, vi x) {
    __asm__("bfdot %0.4s, %1.8h, %2.8h" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  static LOWBIT_INLINE vf dot_bf16_element(vf acc, vi w, vi x) {
    __asm__ volatile("bfdot %0.4s, %1.8h, %2.2h[0]" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
  // bfcvtn takes them for zeros where the control register does.
  static LOWBIT_INLINE bool any_subnormal(vf a) {
    const uint32x4_t u = vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0x7FFFFFFF));
    return vminvq_u32(vsubq_u32(u, vdupq_n_u32(1))) < 0x7FFFFF;  // 0 becomes the largest
  }
  static LOWBIT_INLINE void store_bf16(std::uint16_t* p, vf a) {
    uint16x4_t bits;
    __asm__("bfcvtn %0.4h, %1.4s" : "=w"(bits) : "w"(a));
    vst1_u16(p, bits);
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
