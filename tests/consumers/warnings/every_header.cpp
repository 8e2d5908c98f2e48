// SPDX-License-Identifier: MIT
// Compiled, not run: every header after what windows.h, complex.h and sys/sysmacros.h define, and a use of what is a template.
#include "others.hpp"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wunused-macros"
#endif
// NOLINTBEGIN
#define min(a, b) other_peoples_min
#define max(a, b) other_peoples_max
#define near
#define far
#define small char
#define hyper char
#define interface struct
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define DELETE 0x10000
#define STRICT 1
#define ABSOLUTE 1
#define RELATIVE 2
#define DIFFERENCE 11
#define DOMAIN 1
#define OVERFLOW 3
#define UNDERFLOW 4
#define I other_peoples_i
#define linux 1
#define unix 1
#define major(device) other_peoples_major
#define minor(device) other_peoples_minor
// NOLINTEND
#include "every_header.hpp"

void use(const float* x, float* y);
void use(const float* x, float* y) {
  const auto nf4 = lowbit::NF4Tensor<>::quantize(x, 4, 64);
  const auto fp4 = lowbit::FP4Tensor<>::quantize(x, 4, 64);
  const auto int8 = lowbit::Int8Tensor<>::quantize(x, 4, 64);
  const auto llm = lowbit::LlmInt8Tensor::quantize(x, 4, 64);
  const auto dense = lowbit::DenseTensor<lowbit::BFloat16>::quantize(x, 4, 64);
  lowbit::matmul(x, 1, lowbit::PackedTensor::pack(nf4), y);
  lowbit::matmul(x, 1, fp4, y);
  lowbit::matmul(x, 1, int8, y);
  lowbit::matmul(x, 1, llm, y);
  const lowbit::Linear layer(lowbit::DenseTensor<float>::quantize(x, 4, 64));
  layer.forward(x, 1, y);
}
