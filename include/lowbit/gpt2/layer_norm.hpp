// SPDX-License-Identifier: MIT
// Layer norm: rows normalized to mean 0 and variance 1, then scaled and shifted; as floats, or as the input of a linear layer.
#pragma once
#include <cstddef>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/matmul.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Gain and shift of a layer norm over rows of C = width.
struct LayerNorm {
  AlignedBuffer<float> gain, shift;  // [C]
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

inline void layer_norm_rows(const LayerNorm& n, float epsilon, const float* x, std::size_t rows, float* out) {
  lowbit::detail::LayerNormArgs a;
  a.x = x;
  a.out = out;
  a.gain = n.gain.data();
  a.shift = n.shift.data();
  a.rows = rows;
  a.n = n.gain.size();
  a.epsilon = epsilon;
  lowbit::detail::transformer_kernels().layer_norm(a);
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// out (rows, C) = normalized x (rows, C).
inline void layer_norm(const LayerNorm& n, float epsilon, const float* x, std::size_t rows, float* out, Executor& executor) {
  lowbit::detail::for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
    detail::layer_norm_rows(n, epsilon, x + begin * n.gain.size(), end - begin, out + begin * n.gain.size());
  });
}
// The same as the input of a linear layer.
inline void layer_norm(const LayerNorm& n, float epsilon, const float* x, std::size_t rows, PreparedInput& out,
                       Executor& executor) {
  produce_input(
      rows,
      [&](std::size_t begin, std::size_t count, float* to) {
        detail::layer_norm_rows(n, epsilon, x + begin * n.gain.size(), count, to);
      },
      out, executor);
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
