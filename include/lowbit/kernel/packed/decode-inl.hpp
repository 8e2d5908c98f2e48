// SPDX-License-Identifier: MIT
// The decode prologue of packed products: weights of one panel, without their scales, as operands of a compute type.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// What a byte of two 4-bit codes, low nibble first, stands for, where the level has no look-ups in registers: floats, or the codes
// of int8 compute as two words.  Made once a call.
template <class C>
struct ByteTable {
  static constexpr bool used = !C::S::looks_up, words = C::compute == Compute::int8;
  ByteTable([[maybe_unused]] Element element, [[maybe_unused]] const CodebookTables* codebook) {
    if constexpr (used) {
      if (element != Element::four_bit) return;
      for (std::size_t b = 0; b < 256; ++b)
        if constexpr (words) {
          entry[b] = codebook->bytes[b & 15] | static_cast<std::uint32_t>(codebook->bytes[b >> 4]) << 16;
        } else {
          const auto& value = C::compute == Compute::bf16 ? codebook->bf16 : codebook->f32;
          entry[b] = {value[b & 15], value[b >> 4]};
        }
    }
  }
  std::array<std::conditional_t<words, std::uint32_t, CodePair>, used ? 256 : 1> entry;
};

// `k` weights of a panel, from the packed layout to what Decoded<C> reads.
template <class C>
LOWBIT_NOINLINE void decode_chunk(Element element, const CodebookTables* codebook, [[maybe_unused]] const ByteTable<C>& table,
                                  const std::uint8_t* w, std::size_t k, std::uint8_t* out, [[maybe_unused]] bool round_to_bf16) {
  using S = typename C::S;
  using V = typename S::vf;
  using Int = typename S::vi;
  const std::size_t bytes = group_bytes(element);
  const Int byte = S::iset1(255), high_half = S::iset1(static_cast<std::int32_t>(0xFFFF0000u));
  // Two floats whose low halves are zero, as one pair.
  const auto pair = [&](V low, V high)
                        LOWBIT_INLINE_LAMBDA { return S::ior(S::template shift_right<16>(S::as_int(low)), S::as_int(high)); };
  for (std::size_t g = 0; g < k / group_k; ++g, w += bytes, out += Direct<C>::bytes)
    for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
      const auto dword = [&](std::size_t i) LOWBIT_INLINE_LAMBDA { return S::iload(w + (i * panel_cols + c) * 4); };
      const auto put = [&](std::size_t i, Int value) LOWBIT_INLINE_LAMBDA { S::istore(out + (i * panel_cols + c) * 4, value); };
      if constexpr (!S::looks_up) {
        if (element == Element::four_bit) {
          // Byte i of a dword holds two codes whose k are 2 apart: 0 and 2, 4 and 6, 1 and 3, 5 and 7 (four_bit_k).
          const auto byte_of = [&](std::size_t i) LOWBIT_INLINE_LAMBDA { return w + c * 4 + i; };
          if constexpr (C::compute == Compute::int8) {
            const Int low_half = S::iset1(0xFFFF);
            for (std::size_t half = 0; half < 2; ++half) {
              const Int a = S::lookup_strided(table.entry.data(), byte_of(half)),
                        b = S::lookup_strided(table.entry.data(), byte_of(half + 2));
              put(2 * half, S::ior(S::iand(a, low_half), S::template shift_left<16>(b)));
              put(2 * half + 1, S::ior(S::template shift_right<16>(a), S::iand(b, high_half)));
            }
          } else {
            for (std::size_t half = 0; half < 2; ++half) {
              V value[4];  // of k, k + 2, k + 1 and k + 3, from k = 4 half on
              S::lookup_strided(table.entry.data(), byte_of(half), value[0], value[1]);
              S::lookup_strided(table.entry.data(), byte_of(half + 2), value[2], value[3]);
              for (std::size_t i = 0; i < 2; ++i)
                if constexpr (C::compute == Compute::f32) {
                  put(4 * half + 2 * i, S::as_int(value[i]));
                  put(4 * half + 2 * i + 1, S::as_int(value[i + 2]));
                } else {
                  put(2 * half + i, pair(value[i], value[i + 2]));
                }
            }
          }
          continue;
        }
      }
      if constexpr (C::compute == Compute::int8) {
        Int codes[2];
        if (element == Element::int8) {
          codes[0] = dword(0);
          codes[1] = dword(1);
        } else {
          const auto t = Nibbles<ComputeInt8>::table(codebook);
          codes[0] = lookup_nibbles(t, dword(0), false);
          codes[1] = lookup_nibbles(t, dword(0), true);
        }
        if constexpr (C::words) {
          for (std::size_t step = 0; step < C::steps; ++step) put(step, byte_to_word(codes[step % 2], step));
        } else if constexpr (multiplies_pairs<S>) {
          put(0, S::zip_low(codes[0], codes[1]));
          put(1, S::zip_high(codes[0], codes[1]));
        } else {
          put(0, codes[0]);
          put(1, codes[1]);
        }
      } else if (element == Element::four_bit) {
        const auto t = S::load_floats16(C::compute == Compute::bf16 ? codebook->bf16.data() : codebook->f32.data());
        const Int q = dword(0);
        const V value[group_k] = {S::lookup(t, q),
                                  S::lookup(t, S::template shift_right<4>(q)),
                                  S::lookup(t, S::template shift_right<8>(q)),
                                  S::lookup(t, S::template shift_right<12>(q)),
                                  S::lookup(t, S::template shift_right<16>(q)),
                                  S::lookup(t, S::template shift_right<20>(q)),
                                  S::lookup(t, S::template shift_right<24>(q)),
                                  S::lookup(t, S::template shift_right<28>(q))};
        if constexpr (C::compute == Compute::f32) {
          for (std::size_t i = 0; i < group_k; ++i)
            put(static_cast<std::size_t>(four_bit_k(static_cast<int>(i))), S::as_int(value[i]));
        } else {
          for (std::size_t i = 0; i < group_k / 2; ++i) put(i, pair(value[i], value[i + 4]));
        }
      } else {
        V value[group_k];  // k in order
        switch (element) {
          case Element::f32:
            for (std::size_t i = 0; i < group_k; ++i) value[i] = S::as_float(dword(i));
            break;
          case Element::f16:
            for (std::size_t i = 0; i < group_k; ++i)
              value[i] = S::load_f16(reinterpret_cast<const std::uint16_t*>(w) + i * panel_cols + c);
            break;
          case Element::bf16:
            for (std::size_t i = 0; i < group_k / 2; ++i) {
              value[2 * i] = S::as_float(S::template shift_left<16>(dword(i)));
              value[2 * i + 1] = S::as_float(S::iand(dword(i), high_half));
            }
            break;
          default:  // int8
            for (std::size_t t = 0; t < 2; ++t) {
              const Int q = dword(t), bias = S::iset1(128);
              const auto code = [&](Int b) LOWBIT_INLINE_LAMBDA { return S::to_float(S::isub(S::iand(b, byte), bias)); };
              value[2 * t] = code(q);
              value[4 + 2 * t] = code(S::template shift_right<8>(q));
              value[2 * t + 1] = code(S::template shift_right<16>(q));
              value[4 + 2 * t + 1] = code(S::template shift_right<24>(q));
            }
            break;
        }
        if constexpr (C::compute == Compute::f32) {
          if (round_to_bf16)
            for (std::size_t i = 0; i < group_k; ++i) value[i] = S::as_float(S::template shift_left<16>(bf16_bits(value[i])));
          for (std::size_t i = 0; i < group_k; ++i) put(i, S::as_int(value[i]));
        } else if (element == Element::int8) {  // integers up to 128 are bfloat16 as they are
          for (std::size_t i = 0; i < group_k / 2; ++i) put(i, pair(value[2 * i], value[2 * i + 1]));
        } else {
          for (std::size_t i = 0; i < group_k / 2; ++i)
            put(i, S::ior(bf16_bits(value[2 * i]), S::template shift_left<16>(bf16_bits(value[2 * i + 1]))));
        }
      }
    }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
