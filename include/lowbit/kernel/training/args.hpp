// SPDX-License-Identifier: MIT
// What the kernels of training are called with.
#pragma once
#include <cstddef>

#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The gradient of layer normalization, whose statistics are computed again from x.  dx (rows, n) is written (or added to, where
// `add` says so); dgain and dshift [n] are added to.
struct LayerNormBackwardArgs {
  const float* x = nullptr;
  const float* dy = nullptr;
  const float* gain = nullptr;
  float* dx = nullptr;
  float* dgain = nullptr;
  float* dshift = nullptr;
  std::size_t rows = 0, n = 0;
  float epsilon = 0;
  bool add = false;
};
// The gradient of AttentionArgs' function for one head: dq, dk and dv are written, with the stride of q, k and v.
struct AttentionBackwardArgs {
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;
  std::size_t stride = 0;
  const float* dout = nullptr;
  std::size_t out_stride = 0;
  std::size_t positions = 0, depth = 0;
  float scale = 1;
  float* scratch = nullptr;  // attention_backward_scratch_floats()
};
constexpr std::size_t attention_backward_scratch_floats(std::size_t positions, std::size_t depth) {
  const std::size_t p = (positions + 15) / 16 * 16, d = (depth + 15) / 16 * 16;
  return 5 * p * d + 2 * d * p + 2 * p * p;
}
// One step of AdamW with decoupled weight decay on n parameters: w -= decay w + rate m / (sqrt(v) v_scale + epsilon).  The moments
// start at zero; what corrects them for it is in `rate` and `v_scale`.
struct AdamWArgs {
  float* w = nullptr;
  const float* gradient = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  std::size_t n = 0;
  float gradient_scale = 1;      // of clipping
  float beta1 = 0, beta2 = 0;    // of the moments
  float rate = 0, v_scale = 1;   // learning rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  float epsilon = 0, decay = 0;  // decay: learning rate * weight decay
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
