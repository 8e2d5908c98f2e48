// SPDX-License-Identifier: MIT
// The sources of packed products: where the weights of a step come from, and which activations belong to them.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// A source has: bytes, of a group of 8 k of one panel; column_bytes, from one column to the next; get(), the operand of a step for
// the columns from `column` on; magic_bias, whether int8 sums run over at most magic_bias_k; decodes, whether get() needs registers
// of its own; rows, up to how many it is worth using.

// Nothing to look up in.
struct NoTable {
  struct Table {};
  static LOWBIT_INLINE Table table(const CodebookTables*) { return {}; }
};

// Operands as they are: packed so, or decoded before.
template <class C>
struct Direct : NoTable {
  static constexpr std::size_t bytes = panel_cols * 4 * C::steps, column_bytes = 4, rows = any_rows;
  static constexpr bool magic_bias = false, decodes = false;
  static LOWBIT_INLINE typename C::operand get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    return C::load(w + (step * panel_cols + column) * 4);
  }
};

// 4-bit codes decoded to bytes in memory, without the 128 where the dots want them so.
struct DecodedCodes : Direct<ComputeInt8> {
  static constexpr bool magic_bias = true;
  static LOWBIT_INLINE simd::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    return simd::iload(w + (step * panel_cols + column) * 4);
  }
};
// The same where an instruction multiplies pairs: both dwords of a column side by side.
template <class S>
struct DecodedPairs : Direct<ComputeInt8> {
  static constexpr bool magic_bias = true, paired = true;
  static LOWBIT_INLINE typename S::vi pair(const std::uint8_t* w, std::size_t half, std::size_t column) {
    return S::iload(w + (half * panel_cols + column) * 4);
  }
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    const typename S::vi a = pair(w, 0, column), b = pair(w, 1, column);
    return step == 0 ? S::even(a, b) : S::odd(a, b);
  }
};
template <class Source>
inline constexpr bool is_paired = requires {
  requires Source::paired;
};
template <class C>
using Decoded = std::conditional_t<C::compute != Compute::int8, Direct<C>,
                                   std::conditional_t<multiplies_pairs<simd>, DecodedPairs<simd>,
                                                      std::conditional_t<signs_tables<simd>, DecodedCodes, Direct<C>>>>;

// 4-bit codes, looked up in registers.  The word is read again for every step: the shift takes it from memory, no register is held.
template <class C>
struct Nibbles;
template <>
struct Nibbles<ComputeF32> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4, column_bytes = 4, rows = S::lookup_rows;
  static constexpr bool magic_bias = false, decodes = true;
  using Table = typename S::floats16;
  static LOWBIT_INLINE Table table(const CodebookTables* t) { return S::load_floats16(t->f32.data()); }
  static LOWBIT_INLINE typename S::vf get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi word = S::iload(w + column * 4);
    switch (step) {  // the nibble of k = step
      case 0: return S::lookup(t, word);
      case 1: return S::lookup(t, S::template shift_right<16>(word));
      case 2: return S::lookup(t, S::template shift_right<4>(word));
      case 3: return S::lookup(t, S::template shift_right<20>(word));
      case 4: return S::lookup(t, S::template shift_right<8>(word));
      case 5: return S::lookup(t, S::template shift_right<24>(word));
      case 6: return S::lookup(t, S::template shift_right<12>(word));
      default: return S::lookup(t, S::template shift_right<28>(word));
    }
  }
};
template <>
struct Nibbles<ComputeBf16> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4, column_bytes = 4, rows = S::lookup_pairs_rows;
  static constexpr bool magic_bias = false, decodes = true;
  using Table = typename S::pairs16;
  static LOWBIT_INLINE Table table(const CodebookTables* t) { return S::load_pairs(*t); }
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi word = S::iload(w + column * 4);
    switch (step) {
      case 0: return S::lookup_pairs(t, word);
      case 1: return S::lookup_pairs(t, S::template shift_right<4>(word));
      case 2: return S::lookup_pairs(t, S::template shift_right<8>(word));
      default: return S::lookup_pairs(t, S::template shift_right<12>(word));
    }
  }
};
// Step s of the 16-bit form: the bytes of half s & 1 of the group, even or odd ones by s >> 1 (see int8_k).
LOWBIT_INLINE simd::vi byte_to_word(simd::vi bytes, std::size_t step) {
  return step < 2 ? simd::iand(bytes, simd::iset1(0x00FF00FF))
                  : simd::iand(simd::template shift_right<8>(bytes), simd::iset1(0x00FF00FF));
}
// The codes of the low or the high nibbles of a word.
template <class S = simd>
LOWBIT_INLINE typename S::vi lookup_nibbles(const typename S::bytes16& t, typename S::vi word, bool high) {
  if constexpr (requires { S::lookup_high_nibbles(t, word); })
    return high ? S::lookup_high_nibbles(t, word) : S::lookup_bytes(t, word);
  else
    return S::lookup_bytes(t, high ? S::template shift_right<4>(word) : word);
}
template <>
struct Nibbles<ComputeInt8> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4, column_bytes = 4, rows = S::lookup_bytes_rows;
  static constexpr bool magic_bias = true, decodes = true;
  using Table = typename S::bytes16;
  template <class V = S>
  static LOWBIT_INLINE Table table(const CodebookTables* t) {
    if constexpr (signs_tables<V>)
      return V::to_signed(V::load_bytes16(t->bytes.data()));
    else
      return V::load_bytes16(t->bytes.data());
  }
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi codes = lookup_nibbles(t, S::iload(w + column * 4), step % 2 != 0);
    if constexpr (ComputeInt8::words)
      return byte_to_word(codes, step);
    else
      return codes;
  }
};

// int8 codes, widened in registers: for a few rows, where decoding them into memory first would cost more.
struct Widened : NoTable {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 8, column_bytes = 4, rows = S::minimal ? 0 : 4;
  static constexpr bool magic_bias = false, decodes = true;
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    return byte_to_word(S::iload(w + (step % 2 * panel_cols + column) * 4), step);
  }
};

// Half floats, widened in registers where the level has an instruction for it.
struct Halves : NoTable {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 16, column_bytes = 2, rows = S::lanes >= 8 ? any_rows : 0;
  static constexpr bool magic_bias = false, decodes = true;
  static LOWBIT_INLINE typename S::vf get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(w) + step * panel_cols + column);
  }
};

// bfloat16 in float compute: the halves of a dword, in place.
struct WidenedBf16 : NoTable {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 16, column_bytes = 4, rows = S::minimal ? 0 : S::lanes >= 8 ? any_rows : 8;
  static constexpr bool magic_bias = false, decodes = true;
  static LOWBIT_INLINE typename S::vf get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    const typename S::vi pair = S::iload(w + (step / 2 * panel_cols + column) * 4);
    return S::as_float(step % 2 == 0 ? S::template shift_left<16>(pair)
                                     : S::iand(pair, S::iset1(static_cast<std::int32_t>(0xFFFF0000u))));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
