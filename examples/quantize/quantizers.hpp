// SPDX-License-Identifier: MIT
// The library's 4-bit quantizers, compiled for what the processor has.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "lowbit/format/format.hpp"

namespace quantize {

// format: nf4 or fp4.  As the library's functions of the same names.
void quantize_four_bit(lowbit::Format format, const float* x, std::size_t n, std::size_t block, std::uint8_t* packed,
                       float* absmax);
void search_scales(lowbit::Format format, const float* x, std::size_t n, std::size_t block, float* scales,
                   std::span<const float> column_weights = {});
void quantize_four_bit_with(lowbit::Format format, const float* scales, const float* x, std::size_t n, std::size_t block,
                            std::uint8_t* packed);

}  // namespace quantize
