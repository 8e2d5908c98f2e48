// SPDX-License-Identifier: MIT
// How one weight is stored, whichever format gives it its meaning.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/base/checked.hpp"
#include "lowbit/format/format.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// How one weight is stored.
enum class Element : std::uint8_t { f32, f16, bf16, int8, four_bit };

constexpr Element element_of(Format f) {
  switch (f) {
    case Format::f32: return Element::f32;
    case Format::f16: return Element::f16;
    case Format::bf16: return Element::bf16;
    case Format::int8:
    case Format::llm_int8: return Element::int8;
    case Format::nf4:
    case Format::fp4: return Element::four_bit;
  }
  return Element::f32;
}
constexpr std::size_t element_bits(Format f) {
  switch (element_of(f)) {
    case Element::f32: return 32;
    case Element::f16:
    case Element::bf16: return 16;
    case Element::int8: return 8;
    case Element::four_bit: return 4;
  }
  return 0;
}
// Bytes of n elements.
inline std::size_t element_bytes(Format f, std::size_t n) {
  return element_bits(f) == 4 ? packed_size(n) : checked_mul(n, element_bits(f) / 8, "tensor size");
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
