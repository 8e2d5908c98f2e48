// SPDX-License-Identifier: MIT
// The right operand of a training product: a float matrix laid in panels for the library's f32 micro-kernel, again for every step,
// because every step has other weights.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "lowbit/base/per_thread.hpp"
#include "lowbit/matmul.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// A float matrix as training multiplies by it.  Thread safe to read.
class Panels {
 public:
  // For y = x w^T: w (n, k) row-major, `stride` floats from row to row.
  void lay_rows(const float* w, std::size_t n, std::size_t k, std::size_t stride, Executor& executor) {
    shape(n, k);
    const auto& kernel = lowbit::detail::kernels();
    executor.run(layout_.panels(), [&](std::size_t p) {
      float* to = panel(p);
      const std::size_t first = p * cols, count = (std::min)(cols, n - first);
      if (count < cols) std::fill_n(to, layout_.k * cols, 0.0f);
      kernel.transpose(w + first * stride, count, k, stride, to, cols, 1.0f);
      std::fill_n(to + k * cols, (layout_.k - k) * cols, 0.0f);
    });
  }
  // For y = x b: b (k, n) row-major.
  void lay_columns(const float* b, std::size_t k, std::size_t n, std::size_t stride, Executor& executor) {
    shape(n, k);
    executor.run(layout_.panels(), [&](std::size_t p) {
      float* to = panel(p);
      const std::size_t first = p * cols, count = (std::min)(cols, n - first);
      for (std::size_t i = 0; i < k; ++i, to += cols) {
        std::memcpy(to, b + i * stride + first, count * sizeof(float));
        std::fill_n(to + count, cols - count, 0.0f);
      }
      std::fill_n(to, (layout_.k - k) * cols, 0.0f);
    });
  }
  std::size_t n() const { return layout_.n; }  // columns of the product
  std::size_t k() const { return k_; }         // depth
  // What the micro-kernel reads; valid until the panels are laid again.
  lowbit::detail::PackedWeights view() const {
    lowbit::detail::PackedWeights w = layout_;
    w.data = reinterpret_cast<const std::uint8_t*>(data_.data());
    return w;
  }

 private:
  static constexpr std::size_t cols = lowbit::detail::panel_cols;
  void shape(std::size_t n, std::size_t k) {
    require(n != 0 && k != 0, [&] { return "product: the right operand is empty (" + shape_string(n, k) + ")"; });
    k_ = k;
    layout_.n = n;
    layout_.k = layout_.block = ceil_div(k, lowbit::detail::group_k) * lowbit::detail::group_k;
    data_.grow(checked_mul(layout_.panels() * cols, layout_.k, "panels"));
  }
  float* panel(std::size_t p) { return data_.data() + p * layout_.k * cols; }

  lowbit::detail::PackedWeights layout_;
  std::size_t k_ = 0;
  AlignedBuffer<float> data_;
};

// Of one thread.
struct ProductScratch {
  AlignedBuffer<float> padded;       // rows of x
  AlignedBuffer<std::uint8_t> gemm;  // of the kernel
};

// y (m, n) = x (m, k) times the panels' matrix, + bias [n] where there is one, + y itself where `add` says so.
// zero_tail: behind its k floats every row of x has zeros up to a whole group (8), inside its stride; else rows that are no whole
// groups are copied.  The order of summation depends on k alone.  Throws InvalidArgument if shapes do not match.
inline void product(MatrixView<const float> x, const Panels& b, MatrixView<float> y, Executor& executor,
                    std::span<const float> bias = {}, bool add = false, bool zero_tail = false) {
  namespace d = lowbit::detail;
  require(x.cols == b.k() && y.rows == x.rows && y.cols == b.n() && (bias.empty() || bias.size() == b.n()) &&
              (!zero_tail || x.stride >= b.view().k),
          [&] {
            return "product: x " + shape_string(x.rows, x.cols) + ", right operand " + shape_string(b.k(), b.n()) + ", y " +
                   shape_string(y.rows, y.cols) + ", bias " + decimal(bias.size());
          });
  const d::PackedWeights w = b.view();
  const d::GemmKernels& gemm = *d::gemm_kernels_of<false>(d::kernels().level);
  // By rows where there are enough of them: then nothing is left over when the panels are few.
  constexpr std::size_t tile = 8;
  const std::size_t tiles = ceil_div(x.rows, tile), threads = executor.concurrency();
  const bool by_rows = tiles >= 4 * threads;
  const std::size_t units = by_rows ? tiles : w.panels();
  const std::size_t parts = threads == 1 ? 1 : (std::min)(units, 4 * threads);
  executor.run(parts, [&](std::size_t i) {
    const std::size_t begin = units * i / parts, end = units * (i + 1) / parts;
    const std::size_t row = by_rows ? begin * tile : 0, rows = (by_rows ? (std::min)(end * tile, x.rows) : x.rows) - row;
    const d::PerThread<ProductScratch> scratch;
    d::PackedGemmArgs g;
    g.w = w;
    g.x.data = x.row(row);
    g.x.stride_bytes = x.stride * sizeof(float);
    if (w.k != x.cols && !zero_tail) {  // the kernel reads whole groups of k
      scratch->padded.reset(rows * w.k);
      for (std::size_t r = 0; r < rows; ++r) std::copy_n(x.row(row + r), x.cols, scratch->padded.data() + r * w.k);
      g.x.data = scratch->padded.data();
      g.x.stride_bytes = w.k * sizeof(float);
    }
    g.m = rows;
    g.y = y.data + row * y.stride;
    g.y_stride = y.stride;
    g.epilogue.bias = bias.empty() ? nullptr : bias.data();
    if (add) {
      g.epilogue.residual = g.y;
      g.epilogue.residual_stride = y.stride;
    }
    g.panel_begin = by_rows ? 0 : begin;
    g.panel_end = by_rows ? w.panels() : end;
    scratch->gemm.grow(d::packed_scratch_bytes(w, Compute::f32));
    g.scratch = scratch->gemm.data();
    gemm.packed(Compute::f32, g);
  });
}

}  // namespace lowbit::qat::inline LOWBIT_ABI
