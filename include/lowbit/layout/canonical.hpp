// SPDX-License-Identifier: MIT
// The canonical layout, which is that of checkpoints: row-major elements and flat blocks.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/layout/codebook_tables.hpp"
#include "lowbit/layout/element.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Row-major elements (4-bit: high nibble first) with scales over flat blocks that ignore rows.
struct CanonicalWeights {
  const void* codes = nullptr;
  std::size_t n = 0, k = 0;
  Element element = Element::f32;
  std::size_t block = 0;                      // elements that share a scale; 0: no scales
  const float* scales = nullptr;              // [ceil(n*k / block)], or null where double-quantized:
  const std::uint8_t* scale_codes = nullptr;  // scale i = round(map[code i] * nested[i / nested_block]) + offset
  const float* nested = nullptr;
  const float* map = nullptr;
  std::size_t nested_block = 0;
  float offset = 0;
  float scale_factor = 1;  // as in PackedWeights
  const CodebookTables* codebook = nullptr;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
