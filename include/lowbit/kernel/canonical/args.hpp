// SPDX-License-Identifier: MIT
// What a product with canonical weights is called with, and how a thread cuts its part of it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/kernel/args.hpp"
#include "lowbit/layout/canonical.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

struct CanonicalGemmArgs {
  CanonicalWeights w;
  Activations x;  // natural order, no padding; bf16: bits for 4-bit weights, else floats that were rounded to bfloat16
  std::size_t m = 0;
  float* y = nullptr;
  std::size_t y_stride = 0;
  EpilogueArgs epilogue;
  std::size_t row_begin = 0, row_end = 0;  // rows of w = columns of y
  std::uint8_t* scratch = nullptr;         // canonical_scratch_bytes(), 64-byte aligned, one per thread
};

// How a thread cuts its part of a canonical product, and the scratch that this takes: tables, results, scales, rows.
struct CanonicalPlan {
  static constexpr std::size_t batch = 16;   // rows of w whose results are finished together
  static constexpr std::size_t streams = 4;  // rows that are read at a time
  static constexpr std::size_t stream_rows = batch / streams;
  static constexpr std::size_t group = 32;  // 4-bit elements that surely share a scale, and begin at a byte
  static constexpr std::size_t table_bytes = 2048;
  std::size_t rows = 0;         // of x that are held at a time
  std::size_t row_bytes = 0;    // of a row of x, or of a decoded row of w
  std::size_t leads = 1;        // 4-bit: the places in a group where a row can begin; x is held for each
  std::size_t scale_slots = 0;  // 4-bit: floats for the scales of a row
  std::size_t held_bytes = 0;   // rows of x, or decoded rows of w

  CanonicalPlan(const CanonicalWeights& w, std::size_t m) {
    const std::size_t padded = (w.k + group - 1 + 127) / 128 * 128;
    row_bytes = padded * 4;
    rows = m < 32 ? m : 32;
    held_bytes = 4 * row_bytes;
    if (w.element != Element::four_bit) return;
    while (w.k * leads % group != 0) leads *= 2;
    const std::size_t fit = (std::size_t{1} << 19) / (leads * row_bytes + 1);  // half of an L2 cache
    rows = fit == 0 ? 1 : fit < rows ? fit : rows;
    scale_slots = padded / group + 4;
    held_bytes = rows * leads * row_bytes;
  }
  std::size_t result_bytes() const { return rows * batch * 4; }
  std::size_t scale_bytes() const { return ((batch + 4) * scale_slots + 144 + 15) / 16 * 64; }
  std::size_t scratch_bytes() const { return table_bytes + result_bytes() + scale_bytes() + held_bytes; }
};
inline std::size_t canonical_scratch_bytes(const CanonicalWeights& w, std::size_t m) { return CanonicalPlan(w, m).scratch_bytes(); }

}  // namespace lowbit::detail::inline LOWBIT_ABI
