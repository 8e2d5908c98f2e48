// SPDX-License-Identifier: MIT
// Compiled, not run: a product under sanitizers, of which GCC warns where they keep a loop from being unrolled as it was told.
#include <lowbit/lowbit.hpp>

void use(const float* w, const float* x, float* y);
void use(const float* w, const float* x, float* y) { lowbit::matmul(x, 4, lowbit::NF4Tensor<>::quantize(w, 64, 64), y); }
