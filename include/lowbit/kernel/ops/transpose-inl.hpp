// SPDX-License-Identifier: MIT
// Transposing: for attention, for results of weights in block-offset classes, and for training.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// to (cols, rows) = from (rows, cols) * factor, transposed; strides in floats.  Strips side by side fill whole lines of `to`; of
// many rows a few are taken at a time, so that lines of `from` are still in L1 when their next columns are read.
inline void transpose(const float* from, std::size_t rows, std::size_t cols, std::size_t stride, float* to, std::size_t to_stride,
                      float factor = 1.0f) {
  constexpr std::size_t R = simd::strip_rows, C = 4, few = 16;
  const std::size_t full_rows = rows / R * R, full_cols = cols / C * C;
  const auto one_by_one = [&](std::size_t first_row, std::size_t end_row, std::size_t first_col) {
    for (std::size_t c = first_col; c < cols; ++c)
      for (std::size_t r = first_row; r < end_row; ++r) to[c * to_stride + r] = from[r * stride + c] * factor;
  };
  for (std::size_t first = 0; first < full_rows; first += few) {
    const std::size_t end = full_rows - first < few ? full_rows : first + few;
    for (std::size_t c = 0; c < full_cols; c += C)
      for (std::size_t r = first; r < end; r += R)
        simd::transpose_strip(from + r * stride + c, stride, to + c * to_stride + r, to_stride, factor);
  }
  if (full_cols != cols) one_by_one(0, full_rows, full_cols);
  if (full_rows != rows) one_by_one(full_rows, rows, 0);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
