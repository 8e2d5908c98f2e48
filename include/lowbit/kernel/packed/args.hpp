// SPDX-License-Identifier: MIT
// What a product with packed weights is called with, and the scratch that it takes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/kernel/args.hpp"
#include "lowbit/layout/packed.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

struct PackedGemmArgs {
  PackedWeights w;
  Activations x;
  std::size_t m = 0;
  float* y = nullptr;  // null where only epilogue.bf16 is wanted
  std::size_t y_stride = 0;
  EpilogueArgs epilogue;
  float* sums = nullptr;                       // instead of results: (panels, m, panel_cols), not yet times result_scale()
  std::size_t panel_begin = 0, panel_end = 0;  // the unit of parallel work
  std::uint8_t* scratch = nullptr;             // packed_scratch_bytes(), 64-byte aligned, one per thread
  std::size_t threads = 1;                     // of the call

  // The same for `count` rows from row `begin` on, where results are wanted.
  PackedGemmArgs of_rows(std::size_t begin, std::size_t count) const {
    PackedGemmArgs a = *this;
    a.m = count;
    if (begin == 0) return a;
    a.x.data = static_cast<const std::uint8_t*>(x.data) + begin * x.stride_bytes;
    if (x.scale) a.x.scale += begin;
    if (x.offset) a.x.offset += begin * x.offset_stride;
    if (x.outliers) a.x.outliers += begin;
    if (y) a.y += begin * y_stride;
    if (epilogue.residual) a.epilogue.residual += begin * epilogue.residual_stride;
    if (epilogue.bf16) a.epilogue.bf16 += begin * epilogue.bf16_stride;
    return a;
  }
};
// What the sums of row `row` are multiplied by.
inline float result_scale(const PackedWeights& w, const Activations& x, Compute c, std::size_t row) {
  const bool int8 = c == Compute::int8;
  const float code_scale = w.scale_factor * (int8 && w.element == Element::four_bit ? w.codebook->byte_scale : 1.0f);
  return int8 ? x.scale[row] * code_scale : code_scale;
}
inline constexpr std::size_t row_block = 128;  // rows that share one decode: 128 x 768 floats are 384 KiB of a 1 MiB L2
inline constexpr std::size_t any_rows = ~std::size_t{0};

// Panels that a kernel takes at a time for m rows, at most: parts of parallel work are best cut there.
constexpr std::size_t nr_unroll_of(std::size_t m) { return m == 1 ? 4 : m == 2 ? 2 : 1; }

// k of a panel that are decoded at a time: whole chunks, together 24 KiB of floats, bfloat16 or bytes where chunks are short enough
// (48 KiB of 16-bit codes).
constexpr std::size_t decoded_k(const PackedWeights& w, Compute c) {
  const std::size_t most = c == Compute::f32 ? 128 : c == Compute::bf16 ? 256 : 512;
  const std::size_t kc = w.kc(c) < w.k ? w.kc(c) : w.k;
  return kc < most && kc != 0 ? most / kc * kc : kc;
}
// Totals of a row block, then the decoded part of one panel: 4 bytes a weight at most (f32 compute).
inline std::size_t packed_scratch_bytes(const PackedWeights& w, Compute c) {
  return (row_block + decoded_k(w, c)) * panel_cols * 4;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
