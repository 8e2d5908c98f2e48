// SPDX-License-Identifier: MIT
// The elements of one dword of the packed layout, from and to canonical codes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lowbit/layout/packed.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// visit(k inside the group, bit position) for the elements of dword `run` of a group.
template <class Visit>
void for_each_element(Element e, int run, const Visit& visit) {
  switch (e) {
    case Element::f32:
    case Element::f16: visit(run, 0); break;
    case Element::bf16:
      visit(2 * run, 0);
      visit(2 * run + 1, 16);
      break;
    case Element::int8:
      for (int j = 0; j < 4; ++j) visit(int8_k(run, j), 8 * j);
      break;
    case Element::four_bit:
      for (int i = 0; i < 8; ++i) visit(four_bit_k(i), 4 * i);
      break;
  }
}

// Element i (flat) of canonical codes, as the packed layout holds it.
inline std::uint32_t packed_element(Element element, const std::uint8_t* codes, std::size_t i) {
  switch (element) {
    case Element::f32: {
      std::uint32_t v;
      std::memcpy(&v, codes + 4 * i, 4);
      return v;
    }
    case Element::f16:
    case Element::bf16: {
      std::uint16_t v;
      std::memcpy(&v, codes + 2 * i, 2);
      return v;
    }
    case Element::int8: return codes[i] ^ 0x80u;  // + 128
    case Element::four_bit: return four_bit_code(codes, i);
  }
  return 0;
}
// And back; the bits of a 4-bit element must be zero.
inline void put_canonical_element(Element element, std::uint8_t* codes, std::size_t i, std::uint32_t v) {
  switch (element) {
    case Element::f32: std::memcpy(codes + 4 * i, &v, 4); break;
    case Element::f16:
    case Element::bf16: {
      const auto h = static_cast<std::uint16_t>(v);
      std::memcpy(codes + 2 * i, &h, 2);
      break;
    }
    case Element::int8: codes[i] = static_cast<std::uint8_t>((v & 255u) ^ 0x80u); break;
    case Element::four_bit: codes[i / 2] |= static_cast<std::uint8_t>((v & 15u) << (i % 2 == 0 ? 4 : 0)); break;
  }
}

// What stands where there is no weight: zero times any activation.
inline std::uint32_t packed_padding(Element element, const float* table) {
  if (element == Element::int8) return 128;
  if (element != Element::four_bit) return 0;
  for (std::uint32_t c = 0; c < 16; ++c)
    if (table[c] == 0.0f) return c;
  return 0;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
