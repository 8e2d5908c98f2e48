// SPDX-License-Identifier: MIT
// The packed layout: panels of 48 output columns, laid out for the instructions, with their scales among them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/compute.hpp"
#include "lowbit/layout/codebook_tables.hpp"
#include "lowbit/layout/element.hpp"
#include "lowbit/layout/block_offsets.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Panels of 48 output columns: 3, 6 or 12 registers of 16, 8 or 4 floats, and a divisor of 768, 2304 and 3072.  A panel is one
// stream of records, one per block of `block` k: the 48 fp32 scales (where the format has block scales), then groups of 8 k:
//
//   f32        8 x [48 floats]                                           one k after the other
//   f16        8 x [48 halves]
//   bf16       4 x [48 dwords]      a dword holds k = 2i (low half) and 2i + 1
//   int8       2 x [48 dwords]      a dword holds 4 k in the order int8_k, each code + 128
//   four_bit   1 x [48 dwords]      a dword holds 8 k: nibble i holds k = four_bit_k(i)
//
// Nibble 4h+i of a dword holds k = 2i+h, so one layout serves all computes: dword >> 4i indexes a table of floats, word >> 4i a
// table of bf16 pairs in natural order, byte >> 4t a table of bytes in the order int8_k.  Codes are unsigned for the u8 x s8 dot
// instructions: the correction is -128 * sum(x), one number per row and block, known when the row is quantized.
inline constexpr std::size_t panel_cols = 48;
inline constexpr std::size_t group_k = 8;
constexpr int four_bit_k(int i) { return 2 * (i & 3) + (i >> 2); }                                     // k of nibble i
constexpr int int8_k(int t, int j) { return 4 * (j & 1) + 2 * t + (j >> 1); }                          // k of byte j of dword t
constexpr std::size_t int8_place(std::size_t k) { return (k >> 1 & 1) * 4 + (k & 1) * 2 + (k >> 2); }  // and its inverse: 4 t + j
// Float sums are carried to a second level after this many k: a single running sum loses digits at K = 3072.
inline constexpr std::size_t sum_k = 512;
// Integer sums of 4-bit codes, likewise: |sum| <= 256 * 128 * 127 < 2^22, which a float holds beside 1.5 * 2^23.
inline constexpr std::size_t magic_bias_k = 256;

constexpr std::size_t group_bytes(Element e) {
  switch (e) {
    case Element::f32: return panel_cols * 32;
    case Element::f16:
    case Element::bf16: return panel_cols * 16;
    case Element::int8: return panel_cols * 8;
    case Element::four_bit: return panel_cols * 4;
  }
  return 0;
}
// Where the int8 code of element k of a panel's first column stands: bytes from the panel's first group on.  The other columns
// follow in dwords, so the last two bits say which byte of its dword it is.
constexpr std::size_t int8_byte(std::size_t k) {
  const std::size_t place = int8_place(k % group_k);
  return k / group_k * group_bytes(Element::int8) + place / 4 * panel_cols * 4 + place % 4;
}

// Rows n of the weights that have the same n % class_count, see BlockOffsets.
struct PackedClass {
  std::size_t n = 0, k = 0, lead = 0;  // as in PackedWeights
  std::size_t begin = 0;               // in bytes of the packed data
  std::size_t copy = 0;                // of x that belongs to them
};

struct PackedWeights {
  const std::uint8_t* data = nullptr;
  std::size_t n = 0, k = 0;  // output columns; depth, a multiple of 8 (padded with zeros)
  std::size_t block = 0;     // k of a record; of the first one `lead` less, of the last one what is left
  std::size_t lead = 0;      // a multiple of 8
  Element element = Element::f32;
  bool scaled = false;                       // records start with 48 scales
  float scale_factor = 1;                    // multiplies every scale (LLM.int8() stores absmax, not absmax / 127)
  const CodebookTables* codebook = nullptr;  // four_bit
  // Rows in classes: n and k then describe all of them, and a kernel gets one class at a time.
  BlockOffsets block_offsets;
  const PackedClass* classes = nullptr;
  std::size_t class_count = 1;  // a multiple of block_offsets.classes

  constexpr std::size_t head_bytes() const { return scaled ? panel_cols * 4 : 0; }  // the scales of a record
  constexpr std::size_t blocks() const { return (lead + k + block - 1) / block; }
  // The first k of block b, and one past the last of block b - 1.
  constexpr std::size_t block_begin(std::size_t b) const {
    const std::size_t begin = b == 0 ? 0 : b * block - lead;
    return begin < k ? begin : k;
  }
  constexpr std::size_t block_k(std::size_t b) const { return block_begin(b + 1) - block_begin(b); }
  constexpr std::size_t record_begin(std::size_t b) const {  // in bytes
    return b * head_bytes() + block_begin(b) / group_k * group_bytes(element);
  }
  constexpr std::size_t panel_bytes() const { return record_begin(blocks()); }
  constexpr std::size_t panels() const { return (n + panel_cols - 1) / panel_cols; }
  // k after which a sum is carried to the totals; a block's last chunk may be shorter.
  constexpr std::size_t kc(Compute c) const {
    const std::size_t most = c != Compute::int8 ? sum_k : element == Element::four_bit ? magic_bias_k : block;
    return block < most ? block : most;
  }
  // The rows n with n % class_count == i, as a kernel takes them.
  PackedWeights offset_class(std::size_t i) const {
    PackedWeights w = *this;
    w.n = classes[i].n;
    w.k = classes[i].k;
    w.lead = classes[i].lead;
    if (data) w.data = data + classes[i].begin;  // without: a layout alone
    w.block_offsets = {};
    return w;
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
