// SPDX-License-Identifier: MIT
// A header-only file that multiplies by tensors of one format, for one_format.cmake to look at what was compiled for it.
#include "lowbit/lowbit.hpp"

void multiply(const float* w, const float* x, float* y);
void multiply(const float* w, const float* x, float* y) {
  lowbit::matmul(x, 1, lowbit::TENSOR<>::quantize(w, 64, 64), y);
  lowbit::Linear(lowbit::TENSOR<>::quantize(w, 64, 64)).forward(x, 1, y);
}
