// SPDX-License-Identifier: MIT
// The formats that lowbit knows, what their bytes mean, and where to find their scalar code.  These layouts are canonical: files
// hold them and tests compare them.  All multi-byte values are little-endian; tensors are row-major, weights are (out, in).
//
//   f32, f16, bf16  (dense.hpp)  IEEE binary32, IEEE binary16, the upper half of binary32.  Conversions round to nearest even once.
//
//   int8  (int8.hpp)  8 bits an element, symmetric: w = code * scale, code in -127..127, scale = absmax / 127 in float, one scale
//   per
//       flat group of elements; normally a group is a row.  A group of zeros has scale 0.
//
//   llm_int8  (int8.hpp)  bitsandbytes' LLM.int8(): w = code * SCB / 127 with one float SCB per row, the absmax of the row after
//   its
//       rounding to fp16.  Activations are quantized the same way on each call, with large elements taken out.
//
//   nf4, fp4  (four_bit.hpp, codebook.hpp)  4 bits an element: w = table[code] * absmax.  The tensor is one flat array, cut into
//       blocks of 32 to 4096 elements (64 by default) regardless of rows; a block has one float absmax.  Byte j holds element 2j in
//       its high nibble, 2j + 1 in its low one.  64 elements take 32 + 4 bytes, 4.5 bits an element.
//       Double-quantized (dynamic8.hpp), absmax itself takes 8 bits: absmax = map[q] * nested_absmax[i / 256] + offset, with the
//       256-entry dynamic map, one float per 256 blocks and one offset per tensor: 4.127 bits an element.
//
// NaN and infinity: the quantizers code them as the producer of the format does.  Who wants to refuse them asks
// first_non_finite() (finite.hpp) before.
// Flags: codes, scales and decoded values are the same at every optimization level, -march and -ffast-math, for finite data.  Where
// the program flushes subnormals to zero (GCC's -ffast-math does so when it links), subnormal inputs and results count as zero.
#pragma once
#include <cstdint>

#include "lowbit/base/config.hpp"
#include "lowbit/format/codebook.hpp"
#include "lowbit/format/dense.hpp"
#include "lowbit/format/dynamic8.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/format/four_bit.hpp"
#include "lowbit/format/int8.hpp"
#include "lowbit/format/scale_search.hpp"

namespace lowbit::inline LOWBIT_ABI {

// What the bytes of weights mean; the files of format/ say it in full.
enum class Format : std::uint8_t { f32, f16, bf16, int8, nf4, fp4, llm_int8 };

// The format's name in messages and tables, e.g. "nf4".
constexpr const char* format_name(Format format) {
  switch (format) {
    case Format::f32: return DenseElement<float>::name;
    case Format::f16: return DenseElement<Float16>::name;
    case Format::bf16: return DenseElement<BFloat16>::name;
    case Format::int8: return "int8";
    case Format::nf4: return Nf4::name;
    case Format::fp4: return Fp4::name;
    case Format::llm_int8: return "llm_int8";
  }
  return "unknown";
}

}  // namespace lowbit::inline LOWBIT_ABI
