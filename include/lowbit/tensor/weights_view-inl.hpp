// SPDX-License-Identifier: MIT
// What weights_view.hpp promises.
#pragma once
#include <string>

#include "lowbit/tensor/weights_view.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

inline constexpr std::array<float, 256> usual_nested_map = dynamic_map();

LOWBIT_FUNCTION void make_view(const WeightsViewParts& p, Format& format, CanonicalWeights& w, CodebookTables& codebook) {
  const DefaultFloatEnvironment environment;
  const std::size_t n = checked_mul(p.rows, p.cols, "weights"), bits = element_bits(p.format);
  const auto needs = [&](bool there, const char* what) {
    require(there || n == 0, [&] {
      return std::string(format_name(p.format)) + " weights of shape " + shape_string(p.rows, p.cols) + ": expected " + what;
    });
  };
  needs(p.codes != nullptr, "codes, found a null pointer");
  needs(bits >= 16 ? p.block == 0 : p.block != 0, bits >= 16 ? "no block size (dense)" : "a block size");
  needs(bits != 4 || valid_block_size(p.block), "a block size that is a power of two from 32 to 4096");
  const bool twice = p.scale_codes != nullptr;
  needs(bits >= 16 || (p.scales != nullptr) != twice, "scales, or else scale codes");
  needs(!twice || (bits == 4 && p.nested != nullptr), "nested absmax values beside the scale codes of 4-bit weights");
  format = p.format;
  w.codes = p.codes;
  w.n = p.rows;
  w.k = p.cols;
  w.element = element_of(p.format);
  w.block = p.block;
  w.scales = p.scales;
  w.scale_codes = p.scale_codes;
  if (twice) {
    w.nested = p.nested;
    w.map = p.nested_map ? p.nested_map : usual_nested_map.data();
    w.nested_block = nested_block_size;
    w.offset = p.offset;
  }
  if (p.format == Format::llm_int8) w.scale_factor = llm_int8_inverse_127;
  const float* own = p.format == Format::fp4 ? Fp4::table.data() : Nf4::table.data();
  if (bits == 4) codebook = make_codebook_tables(p.table ? p.table : own);
  w.codebook = &codebook;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
