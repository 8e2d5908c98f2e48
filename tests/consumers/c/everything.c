/* SPDX-License-Identifier: MIT */
/* The whole of lowbit.h from C99: results are those of the C++ interface bit for bit, every error code is reached, every NULL refused.
 * Argument: a folder to write in. */
#include <lowbit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

static int failures = 0;
static void check(int ok, const char* what, int line) {
  if (ok) return;
  printf("line %d: FAILED: %s\n", line, what);
  ++failures;
}
#define CHECK(condition) check(condition, #condition, __LINE__)
/* Refused, with that code and a message that holds the text. */
#define REFUSED(call, code, text) \
  do { \
    CHECK((call) == (code)); \
    check(strstr(lowbit_last_error_message(), text) != NULL, lowbit_last_error_message(), __LINE__); \
  } while (0)

enum { rows = 100, cols = 256, rows_of_x = 5, x_stride = cols + 3, y_stride = rows + 1 };
static float w[rows * cols], bias[rows], x32[rows_of_x * x_stride];
static uint16_t x16[2][rows_of_x * x_stride]; /* half, bfloat16 */
static float decoded[2][rows * cols];
static float y[2][rows_of_x * y_stride];

static void fill(void) {
  uint32_t seed = 1;
  size_t i;
  for (i = 0; i < rows * cols; ++i) {
    seed = seed * 1664525u + 1013904223u;
    w[i] = (float)((int)(seed >> 20) - 2048) / 1024.0f;
  }
  for (i = 0; i < rows; ++i) bias[i] = (float)i / 8.0f;
  for (i = 0; i < rows_of_x * x_stride; ++i) {
    seed = seed * 1664525u + 1013904223u;
    x32[i] = (float)(seed >> 25) / 16.0f;                            /* 0 to 7.9: outliers of LLM.int8() among them */
    x16[0][i] = (uint16_t)(0x3000u + (seed >> 20 & 0x1FFFu));        /* 0.125 to 7.99 */
    x16[1][i] = (uint16_t)(0x3E00u + (seed >> 20 & 0x01FFu));        /* 0.125 to 2^1 */
  }
}

static void products(void) {
  static const lowbit_format formats[] = {LOWBIT_F32, LOWBIT_F16, LOWBIT_BF16, LOWBIT_INT8, LOWBIT_NF4, LOWBIT_FP4, LOWBIT_LLM_INT8};
  static const lowbit_compute computes[] = {LOWBIT_COMPUTE_F32, LOWBIT_COMPUTE_BF16, LOWBIT_COMPUTE_INT8, LOWBIT_COMPUTE_AUTOMATIC};
  lowbit_pool* pool = NULL;
  size_t f, c, v, compared = 0;
  CHECK(lowbit_pool_create(3, &pool) == LOWBIT_OK);
  CHECK(lowbit_pool_threads(pool) == 3);
  for (f = 0; f < sizeof formats / sizeof *formats; ++f) {
    const int four = formats[f] == LOWBIT_NF4 || formats[f] == LOWBIT_FP4, blocks = four || formats[f] == LOWBIT_INT8;
    for (v = 0; v < 4; ++v) { /* variants: plain; blocks; double quantization; both */
      struct product p;
      lowbit_tensor* tensor = NULL;
      lowbit_tensor_info info;
      memset(&p, 0, sizeof p);
      p.format = formats[f];
      p.rows = rows;
      p.cols = cols;
      p.block_size = v % 2 == 1 ? 128 : 0;
      p.double_quantized = v / 2 == 1;
      if ((p.block_size != 0 && !blocks) || (p.double_quantized && !four)) continue;
      CHECK(lowbit_quantize(p.format, w, rows, cols, p.block_size, p.double_quantized, &tensor) == LOWBIT_OK);

      CHECK(lowbit_tensor_describe(tensor, &info) == LOWBIT_OK);
      CHECK(info.rows == rows && info.cols == cols && info.format == p.format && info.double_quantized == p.double_quantized);
      CHECK(info.block_size == (p.block_size != 0 ? 128 : four ? 64 : p.format == LOWBIT_INT8 || p.format == LOWBIT_LLM_INT8 ? cols : 0));
      CHECK(info.element_bytes == (four ? rows * cols / 2 : p.format == LOWBIT_F32 ? rows * cols * 4 : blocks || p.format == LOWBIT_LLM_INT8 ? rows * cols : rows * cols * 2));
      for (c = 0; c < 3; ++c) {
        const lowbit_format type = c == 0 ? LOWBIT_F32 : c == 1 ? LOWBIT_F16 : LOWBIT_BF16;
        memset(decoded, 0x7F, sizeof decoded);
        CHECK(lowbit_dequantize(tensor, type, decoded[0], rows * cols) == LOWBIT_OK);
        CHECK(reference_dequantize(&p, w, type, decoded[1]) == info.resident_bytes);
        CHECK(memcmp(decoded[0], decoded[1], sizeof decoded[0]) == 0);
      }

      for (c = 0; c < 4 * 2 * 3; ++c) {
        lowbit_linear* layer = NULL;
        lowbit_linear_info linear_info;
        const void* x;
        p.compute = computes[c % 4];
        p.pack = (int32_t)(c / 4 % 2);
        p.x_type = (int32_t)(c / 8);
        p.y_type = (int32_t)((c / 8 + c) % 3);
        p.activation = (int32_t)(c % 5); /* none and all others */
        p.m = 1 + c % rows_of_x;
        x = p.x_type == LOWBIT_F32 ? (const void*)x32 : x16[p.x_type == LOWBIT_BF16];
        if (p.compute == LOWBIT_COMPUTE_INT8 && p.format <= LOWBIT_BF16) {
          REFUSED(lowbit_linear_create(tensor, bias, p.compute, p.pack, &layer), LOWBIT_INVALID_ARGUMENT, "int8");
          CHECK(layer == NULL);
          continue;
        }
        CHECK(lowbit_linear_create(tensor, c % 2 == 0 ? bias : NULL, p.compute, p.pack, &layer) == LOWBIT_OK);
        CHECK(lowbit_linear_describe(layer, &linear_info) == LOWBIT_OK);
        CHECK(linear_info.rows == rows && linear_info.cols == cols && linear_info.format == p.format && linear_info.packed == p.pack);
        CHECK(linear_info.compute != LOWBIT_COMPUTE_AUTOMATIC);
        CHECK(p.compute == LOWBIT_COMPUTE_AUTOMATIC || linear_info.compute == p.compute);
        CHECK(linear_info.resident_bytes >= info.element_bytes);
        memset(y, 0x7F, sizeof y);
        p.x_stride = c % 5 == 0 ? cols : x_stride;
        p.y_stride = c % 5 == 0 ? rows : y_stride;
        CHECK(lowbit_multiply(layer, p.x_type, x, p.m, c % 5 == 0 ? 0 : x_stride, p.y_type, y[0], c % 5 == 0 ? 0 : y_stride, p.activation,
                              c % 2 == 0 ? pool : NULL) == LOWBIT_OK);
        reference_multiply(&p, w, c % 2 == 0 ? bias : NULL, x, y[1]);
        CHECK(memcmp(y[0], y[1], sizeof y[0]) == 0);
        compared += p.m;
        lowbit_linear_free(layer);
      }
      lowbit_tensor_free(tensor);
    }
  }
  lowbit_pool_free(pool);
  CHECK(compared > 500);
}

static void files(const char* folder) {
  static const char* const loaded[] = {"nf4.weight", "llm.weight", "f32.weight", "bf16.weight"};
  static const lowbit_format formats[] = {LOWBIT_NF4, LOWBIT_LLM_INT8, LOWBIT_F32, LOWBIT_BF16};
  char path[4096];
  lowbit_file* file = NULL;
  lowbit_file* none = NULL;
  lowbit_tensor* tensor = NULL;
  lowbit_tensor_info info;
  lowbit_file_entry entry;
  size_t i, seen = 0;
  reference_write(folder, w, rows, cols);
  CHECK(lowbit_file_open(folder, &file) == LOWBIT_OK);
  for (i = 0; i < lowbit_file_count(file); ++i) {
    CHECK(lowbit_file_describe(file, i, &entry) == LOWBIT_OK);
    if (strcmp(entry.name, "cube") == 0) {
      CHECK(entry.rank == 3 && entry.shape[0] == 2 && entry.shape[2] == 2 && entry.bytes == 32 && strcmp(entry.dtype, "F32") == 0);
      ++seen;
    }
  }
  CHECK(seen == 1 && lowbit_file_count(file) > 10);
  for (i = 0; i < 4; ++i) {
    struct product p;
    memset(&p, 0, sizeof p);
    p.format = formats[i] == LOWBIT_F32 ? LOWBIT_BF16 : formats[i]; /* the floats of the file are bfloat16's */
    p.rows = rows;
    p.cols = cols;
    p.double_quantized = formats[i] == LOWBIT_NF4;
    CHECK(lowbit_file_load(file, loaded[i], &tensor) == LOWBIT_OK);
    CHECK(lowbit_tensor_describe(tensor, &info) == LOWBIT_OK);
    CHECK(info.format == formats[i] && info.rows == rows && info.cols == cols && info.double_quantized == p.double_quantized);
    CHECK(lowbit_dequantize(tensor, LOWBIT_F32, decoded[0], rows * cols) == LOWBIT_OK);
    reference_dequantize(&p, w, LOWBIT_F32, decoded[1]);
    CHECK(memcmp(decoded[0], decoded[1], sizeof decoded[0]) == 0);
    lowbit_tensor_free(tensor);
  }
  CHECK(lowbit_file_load(file, "vector", &tensor) == LOWBIT_OK);
  lowbit_file_free(file); /* the tensor needs it no more */
  CHECK(lowbit_tensor_describe(tensor, &info) == LOWBIT_OK && info.rows == 1 && info.cols == cols);
  CHECK(lowbit_dequantize(tensor, LOWBIT_F32, decoded[0], cols) == LOWBIT_OK);
  CHECK(memcmp(decoded[0], decoded[1], cols * sizeof(float)) == 0);
  lowbit_tensor_free(tensor);

  CHECK(lowbit_file_open(folder, &file) == LOWBIT_OK);
  tensor = NULL;
  REFUSED(lowbit_file_load(file, "cube", &tensor), LOWBIT_FORMAT_ERROR, "[2, 2, 2]");
  REFUSED(lowbit_file_load(file, "ints", &tensor), LOWBIT_FORMAT_ERROR, "U8");
  REFUSED(lowbit_file_load(file, "f32.wait", &tensor), LOWBIT_FORMAT_ERROR, "f32.weight");
  REFUSED(lowbit_file_load(NULL, "cube", &tensor), LOWBIT_INVALID_ARGUMENT, "file");
  REFUSED(lowbit_file_load(file, NULL, &tensor), LOWBIT_INVALID_ARGUMENT, "name");
  REFUSED(lowbit_file_load(file, "vector", NULL), LOWBIT_INVALID_ARGUMENT, "out");
  CHECK(tensor == NULL);
  REFUSED(lowbit_file_describe(file, lowbit_file_count(file), &entry), LOWBIT_INVALID_ARGUMENT, "i");
  REFUSED(lowbit_file_describe(NULL, 0, &entry), LOWBIT_INVALID_ARGUMENT, "file");
  REFUSED(lowbit_file_describe(file, 0, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_file_open(folder, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_file_open(NULL, &none), LOWBIT_INVALID_ARGUMENT, "path");
  sprintf(path, "%.4000s/none.safetensors", folder);
  REFUSED(lowbit_file_open(path, &none), LOWBIT_IO_ERROR, "none.safetensors");
  sprintf(path, "%.4000s/broken.safetensors", folder);
  REFUSED(lowbit_file_open(path, &none), LOWBIT_FORMAT_ERROR, "broken.safetensors");
  CHECK(none == NULL);
  CHECK(lowbit_file_count(NULL) == 0);
  lowbit_file_free(file);
  lowbit_file_free(NULL);
}

static void refusals(void) {
  const size_t huge = (size_t)-1 / 2;
  float nan_weights[64];
  lowbit_tensor* tensor = NULL;
  lowbit_tensor* none = NULL;
  lowbit_linear* layer = NULL;
  lowbit_linear* no_layer = NULL;
  lowbit_pool* no_pool = NULL;
  lowbit_tensor_info info;
  lowbit_linear_info linear_info;
  memset(nan_weights, 0xFF, sizeof nan_weights);
  REFUSED(lowbit_quantize(LOWBIT_NF4, NULL, 2, 64, 0, 1, &none), LOWBIT_INVALID_ARGUMENT, "w: expected a pointer");
  REFUSED(lowbit_quantize(LOWBIT_NF4, w, 2, 64, 0, 1, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_quantize(LOWBIT_NF4, w, 2, 64, 48, 1, &none), LOWBIT_INVALID_ARGUMENT, "48");
  REFUSED(lowbit_quantize(LOWBIT_NF4, w, 2, 64, 0, 2, &none), LOWBIT_INVALID_ARGUMENT, "double_quantized");
  REFUSED(lowbit_quantize(LOWBIT_INT8, w, 2, 64, 0, 1, &none), LOWBIT_INVALID_ARGUMENT, "double_quantized");
  REFUSED(lowbit_quantize(LOWBIT_F32, w, 2, 64, 64, 0, &none), LOWBIT_INVALID_ARGUMENT, "block_size");
  REFUSED(lowbit_quantize(99, w, 2, 64, 0, 0, &none), LOWBIT_INVALID_ARGUMENT, "99");
  REFUSED(lowbit_quantize(LOWBIT_INT8, w, huge, huge, 0, 0, &none), LOWBIT_INVALID_ARGUMENT, "does not fit");
  REFUSED(lowbit_quantize(LOWBIT_INT8, nan_weights, 1, 64, 0, 0, &none), LOWBIT_INVALID_ARGUMENT, "finite");
  REFUSED(lowbit_quantize(LOWBIT_INT8, nan_weights, 1, 64, 32, 0, &none), LOWBIT_INVALID_ARGUMENT, "finite");
  CHECK(none == NULL);
  CHECK(lowbit_quantize(LOWBIT_NF4, NULL, 0, 64, 0, 1, &none) == LOWBIT_OK); /* no element, no pointer */
  lowbit_tensor_free(none);
  none = NULL;

  CHECK(lowbit_quantize(LOWBIT_NF4, w, rows, cols, 0, 1, &tensor) == LOWBIT_OK);
  REFUSED(lowbit_tensor_describe(NULL, &info), LOWBIT_INVALID_ARGUMENT, "tensor");
  REFUSED(lowbit_tensor_describe(tensor, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_dequantize(NULL, LOWBIT_F32, decoded[0], rows * cols), LOWBIT_INVALID_ARGUMENT, "tensor");
  REFUSED(lowbit_dequantize(tensor, LOWBIT_F32, NULL, rows * cols), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_dequantize(tensor, LOWBIT_F32, decoded[0], rows), LOWBIT_INVALID_ARGUMENT, "25600");
  REFUSED(lowbit_dequantize(tensor, LOWBIT_NF4, decoded[0], rows * cols), LOWBIT_INVALID_ARGUMENT, "type");

  REFUSED(lowbit_linear_create(NULL, bias, LOWBIT_COMPUTE_F32, 1, &no_layer), LOWBIT_INVALID_ARGUMENT, "weights");
  REFUSED(lowbit_linear_create(tensor, bias, LOWBIT_COMPUTE_F32, 1, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_linear_create(tensor, bias, -1, 1, &no_layer), LOWBIT_INVALID_ARGUMENT, "compute");
  REFUSED(lowbit_linear_create(tensor, bias, LOWBIT_COMPUTE_F32, 7, &no_layer), LOWBIT_INVALID_ARGUMENT, "pack");
  CHECK(lowbit_linear_create(tensor, bias, LOWBIT_COMPUTE_F32, 1, &layer) == LOWBIT_OK);
  REFUSED(lowbit_linear_describe(NULL, &linear_info), LOWBIT_INVALID_ARGUMENT, "layer");
  REFUSED(lowbit_linear_describe(layer, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_multiply(NULL, LOWBIT_F32, x32, 1, 0, LOWBIT_F32, y[0], 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "layer");
  REFUSED(lowbit_multiply(layer, LOWBIT_F32, NULL, 1, 0, LOWBIT_F32, y[0], 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "x: expected a pointer");
  REFUSED(lowbit_multiply(layer, LOWBIT_F32, x32, 1, 0, LOWBIT_F32, NULL, 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "y: expected a pointer");
  REFUSED(lowbit_multiply(layer, LOWBIT_NF4, x32, 1, 0, LOWBIT_F32, y[0], 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "x_type");
  REFUSED(lowbit_multiply(layer, LOWBIT_F32, x32, 1, 0, 8, y[0], 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "y_type");
  REFUSED(lowbit_multiply(layer, LOWBIT_F32, x32, 1, 0, LOWBIT_F32, y[0], 0, 5, NULL), LOWBIT_INVALID_ARGUMENT, "activation");
  REFUSED(lowbit_multiply(layer, LOWBIT_F32, x32, 2, cols - 1, LOWBIT_F32, y[0], 0, 0, NULL), LOWBIT_INVALID_ARGUMENT, "stride");
  CHECK(lowbit_multiply(layer, LOWBIT_F32, NULL, 0, 0, LOWBIT_F32, NULL, 0, 0, NULL) == LOWBIT_OK);

  REFUSED(lowbit_pool_create(1, NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_level_name(NULL), LOWBIT_INVALID_ARGUMENT, "out");
  REFUSED(lowbit_set_level(NULL), LOWBIT_INVALID_ARGUMENT, "name");
  REFUSED(lowbit_set_level("abacus"), LOWBIT_INVALID_ARGUMENT, "abacus");

  fail_next_allocation(1);
  REFUSED(lowbit_quantize(LOWBIT_F32, w, rows, cols, 0, 0, &none), LOWBIT_OUT_OF_MEMORY, "memory");
  fail_next_allocation(1);
  REFUSED(lowbit_linear_create(tensor, bias, LOWBIT_COMPUTE_F32, 1, &no_layer), LOWBIT_OUT_OF_MEMORY, "memory");
  fail_next_allocation(2);
  REFUSED(lowbit_pool_create(2, &no_pool), LOWBIT_INTERNAL_ERROR, "unknown");
  CHECK(fail_next_allocation(0) == 0);
  CHECK(none == NULL && no_layer == NULL && no_pool == NULL);
  CHECK(lowbit_multiply(layer, LOWBIT_F32, x32, 1, 0, LOWBIT_F32, y[0], 0, 0, NULL) == LOWBIT_OK);

  lowbit_linear_free(layer);
  lowbit_tensor_free(tensor);
  lowbit_tensor_free(NULL);
  lowbit_linear_free(NULL);
  lowbit_pool_free(NULL);
  CHECK(lowbit_pool_threads(NULL) == 0);
}

int main(int argc, char** argv) {
  const char* level = NULL;
  if (argc != 2) return 2;
  fill();
  CHECK(strcmp(lowbit_last_error_message(), "") == 0);
  CHECK(lowbit_c_version() == LOWBIT_C_VERSION);
  CHECK(lowbit_level_name(&level) == LOWBIT_OK && level != NULL);
  CHECK(lowbit_set_level(level) == LOWBIT_OK);
  products();
  files(argv[1]);
  refusals();
  printf("lowbit %s, level %s: %d failures\n", lowbit_version(), level, failures);
  return failures != 0;
}
