// SPDX-License-Identifier: MIT
// The compute types of packed products: how a group of 8 k is multiplied, in steps of one operand per column.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// Whether dots take x from lane 0 of a register, and whether they want codes without the 128 that the layout adds.
template <class S>
inline constexpr bool by_element = requires {
  requires S::by_element;
};
template <class S>
inline constexpr bool signs_codes = requires {
  requires S::signs_codes;
};
// Whether codes of a codebook are signed, and dots that take them so.
template <class S>
inline constexpr bool signs_tables = requires(typename S::vi v) {
  S::dot_signed_codes(v, v, v);
};
// Whether an instruction multiplies two rows with two columns.
template <class S>
inline constexpr bool multiplies_pairs = requires {
  requires S::multiplies_pairs;
};

// steps: dot instructions per group.  x_bytes: activations of a group.
struct ComputeF32 {
  using S = simd;
  using acc = typename S::rf;
  using operand = typename S::rf;
  static constexpr Compute compute = Compute::f32;
  static constexpr std::size_t steps = 8, x_bytes = 32;
  static LOWBIT_INLINE operand load(const std::uint8_t* p) { return S::load(reinterpret_cast<const float*>(p)); }
  template <class V = S>
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) {
    if constexpr (by_element<V>)
      return V::element(reinterpret_cast<const float*>(p));
    else
      return V::set1(*reinterpret_cast<const float*>(p));
  }
  template <class V = S>
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) {
    if constexpr (by_element<V>)
      return V::fma_element(w, x, a);
    else
      return V::fma(w, x, a);
  }
  static LOWBIT_INLINE acc start(std::int32_t) { return S::zero(); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return a; }
};

template <class S = simd>
LOWBIT_INLINE typename S::ri broadcast_dword(const std::uint8_t* p) {
  if constexpr (by_element<S>)
    return S::element(reinterpret_cast<const std::int32_t*>(p));
  else
    return S::iset1(*reinterpret_cast<const std::int32_t*>(p));
}

struct ComputeBf16 {
  using S = simd;
  using acc = typename S::rf;
  using operand = typename S::ri;
  static constexpr Compute compute = Compute::bf16;
  static constexpr std::size_t steps = 4, x_bytes = 16;
  static LOWBIT_INLINE operand load(const std::uint8_t* p) { return S::iload(p); }
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) { return broadcast_dword(p); }
  template <class V = S>  // only the level that has the instruction compiles it
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) {
    if constexpr (by_element<V>)
      return V::dot_bf16_element(a, w, x);
    else
      return V::dot_bf16(a, w, x);
  }
  static LOWBIT_INLINE acc start(std::int32_t) { return S::zero(); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return a; }
};

// With a byte dot instruction: four codes a step.  Without: codes widened to 16 bits, two a step, k in order (pmaddubsw saturates).
// An int32 sum is exact either way.
struct ComputeInt8 {
  using S = simd;
  using acc = typename S::ri;
  using operand = typename S::ri;
  static constexpr Compute compute = Compute::int8;
  static constexpr bool words = !S::dots_bytes;
  static constexpr std::size_t steps = words ? 4 : 2, x_bytes = words ? 16 : 8;
  static constexpr bool offsets = !signs_codes<S>;  // sums start with the row's offset
  template <class V = S>
  static LOWBIT_INLINE operand load(const std::uint8_t* p) {
    if constexpr (signs_codes<V>)
      return V::to_signed(V::iload(p));
    else
      return V::iload(p);
  }
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) { return broadcast_dword(p); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::dot_codes(a, w, x); }
  template <class V = S>
  static LOWBIT_INLINE acc dot_pairs(acc a, operand w, operand x) {
    return V::dot_pairs(a, w, x);
  }
  static LOWBIT_INLINE acc start(std::int32_t offset) { return S::iset1(offset); }
  static LOWBIT_INLINE int bias() { return 0; }  // of sums of pairs
  static LOWBIT_INLINE typename S::vf to_float(acc a, int) { return S::to_float(a); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return S::to_float(a); }
};

// An int32 sum that starts at the bits of 1.5 * 2^23 ends as the float 1.5 * 2^23 + sum, as long as |sum| < 2^22: one exact
// subtraction instead of a conversion.
inline constexpr std::int32_t magic_bias_bits = 0x4B400000;
static_assert(magic_bias_k * 128 * 127 < (1u << 22));

// int8 compute on codes that are signed as they are looked up: all sums start alike.
template <class V>
struct ComputeSignedCodes : ComputeInt8 {
  static constexpr bool offsets = false;
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return V::dot_signed_codes(a, w, x); }
  static LOWBIT_INLINE acc dot_pairs(acc a, operand w, operand x) { return V::dot_signed_pairs(a, w, x); }
  static LOWBIT_INLINE acc start(std::int32_t) {
    alignas(16) static constexpr std::int32_t bits[4] = {magic_bias_bits, magic_bias_bits, magic_bias_bits, magic_bias_bits};
    return V::reload(bits);
  }
  static LOWBIT_INLINE typename V::vf bias() { return V::as_float(start(0)); }
  static LOWBIT_INLINE typename V::vf to_float(acc a, typename V::vf bias) { return V::sub(V::as_float(a), bias); }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
