/* SPDX-License-Identifier: MIT */
/* What everything.c asks of the C++ interface, to compare with. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* format, type, compute and activation: lowbit.h's constants, whose names are looked up by it. */
struct product {
  int32_t format, compute, activation, x_type, y_type, pack, double_quantized;
  size_t block_size, rows, cols, m, x_stride, y_stride;
};

/* Quantizes w and decodes it to `type`; returns what Tensor::resident_bytes() says. */
size_t reference_dequantize(const struct product* p, const float* w, int32_t type, void* out);
/* Quantizes w, and multiplies. */
void reference_multiply(const struct product* p, const float* w, const float* bias, const void* x, void* y);
/* Writes FOLDER/model.safetensors with "nf4.weight" (rows, cols; double-quantized), "llm.weight" (LLM.int8()), "f32.weight",
 * "bf16.weight" (both as the last), "vector" (cols), "cube" (2, 2, 2) and "ints" (U8). */
void reference_write(const char* folder, const float* w, size_t rows, size_t cols);
/* 1: the next allocation fails; 2: it throws something that is no std::exception; 0: as ever.  Returns what it was. */
int fail_next_allocation(int how);

#ifdef __cplusplus
}
#endif

#endif
