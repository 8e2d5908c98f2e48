/* SPDX-License-Identifier: MIT */
/* lowbit for C: quantize a weight matrix or load it from a checkpoint, pack it, multiply by it.  One product is
 *
 *   y (m, out) = activation(x (m, in) w^T + bias),   w (out, in)
 *
 * and all matrices are row-major.  Results are the bits that the C++ interface gives.  Link lowbit::c (CMake), or lowbit-c (pkg-config).
 *
 * Functions that can fail return a lowbit_status, and write their results only where it is LOWBIT_OK; the reason is then in
 * lowbit_last_error_message().  NULL is refused where nothing else is said.  No exception leaves this interface.
 *
 * Objects are made by a function that ends in _create, _open, or by lowbit_quantize and lowbit_file_load, and freed by the _free
 * function of their kind, which takes NULL too.  None keeps a reference to another or to the caller's memory.  Any number of threads
 * may use an object at once, except to free it.
 *
 * What is here stays: later versions add functions and constants, and count LOWBIT_C_VERSION up. */
#ifndef LOWBIT_H
#define LOWBIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(LOWBIT_C_SHARED)
#define LOWBIT_C_API __declspec(dllimport)
#elif defined(_WIN32) && defined(LOWBIT_C_BUILD)
#define LOWBIT_C_API __declspec(dllexport)
#elif defined(__GNUC__) || defined(__clang__)
#define LOWBIT_C_API __attribute__((visibility("default")))
#else
#define LOWBIT_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors and versions ------------------------------------------------------------------------------------------------------- */

/* How a call ended. */
typedef int32_t lowbit_status;
enum {
  LOWBIT_OK = 0,
  LOWBIT_INVALID_ARGUMENT = 1, /* the caller passed something that cannot be computed */
  LOWBIT_FORMAT_ERROR = 2,     /* a file does not say what its format demands, or lacks the tensor */
  LOWBIT_IO_ERROR = 3,         /* the operating system refused a file */
  LOWBIT_OUT_OF_MEMORY = 4,
  LOWBIT_INTERNAL_ERROR = 5 /* anything else */
};

/* Why the last call of this thread that failed did so: it names the argument, file or tensor, what was expected and what was found.
 * Never NULL; valid until the next call of this thread fails.  At most 1023 bytes. */
LOWBIT_C_API const char* lowbit_last_error_message(void);

/* Of this header. */
#define LOWBIT_C_VERSION 1
/* Of the library that is linked. */
LOWBIT_C_API int32_t lowbit_c_version(void);
/* "0.2.0". */
LOWBIT_C_API const char* lowbit_version(void);

/* ---- tensors ------------------------------------------------------------------------------------------------------------------- */

/* What the bytes of weights mean, or the type of an array. */
typedef int32_t lowbit_format;
enum {
  LOWBIT_F32 = 0,
  LOWBIT_F16 = 1,
  LOWBIT_BF16 = 2,
  LOWBIT_INT8 = 3, /* w = code * scale, codes -127 to 127 */
  LOWBIT_NF4 = 4,  /* bitsandbytes' */
  LOWBIT_FP4 = 5,
  LOWBIT_LLM_INT8 = 6 /* bitsandbytes' LLM.int8(): columns of large activations are multiplied in float */
};

/* A weight matrix in the bytes of checkpoints. */
typedef struct lowbit_tensor lowbit_tensor;

/* What a tensor is. */
typedef struct lowbit_tensor_info {
  size_t rows;              /* outputs */
  size_t cols;              /* inputs */
  size_t block_size;        /* elements that share a scale, rows not heeded; 0: no scales */
  size_t element_bytes;     /* of the codes */
  size_t resident_bytes;    /* of all that is held */
  lowbit_format format;     /* of the elements */
  int32_t double_quantized; /* 1: scales are 8-bit codes themselves */
} lowbit_tensor_info;

/* Quantizes w (rows, cols), which may be NULL where that is no element.  Refuses NaN and infinity in all but the float formats.
 * block_size: NF4 and FP4: a power of two from 32 to 4096, or 0 for 64; INT8: any, or 0 for one scale per row; others: 0.
 * double_quantized: 0 or 1; 1 for NF4 and FP4 alone. */
LOWBIT_C_API lowbit_status lowbit_quantize(lowbit_format format, const float* w, size_t rows, size_t cols, size_t block_size,
                                           int32_t double_quantized, lowbit_tensor** out);
/* Says what the tensor is. */
LOWBIT_C_API lowbit_status lowbit_tensor_describe(const lowbit_tensor* tensor, lowbit_tensor_info* out);
/* Decodes to out (rows, cols), whose `elements` must be rows * cols, as LOWBIT_F32, LOWBIT_F16 or LOWBIT_BF16. */
LOWBIT_C_API lowbit_status lowbit_dequantize(const lowbit_tensor* tensor, lowbit_format type, void* out, size_t elements);
/* Frees it; does nothing with NULL. */
LOWBIT_C_API void lowbit_tensor_free(lowbit_tensor* tensor);

/* ---- checkpoints --------------------------------------------------------------------------------------------------------------- */

/* Safetensors files, open. */
typedef struct lowbit_file lowbit_file;

/* A tensor of a file; what it points to belongs to the file. */
typedef struct lowbit_file_entry {
  const char* name;    /* unique in the file */
  const char* dtype;   /* as safetensors calls it: "F32", "U8", ... */
  const size_t* shape; /* `rank` sizes */
  size_t rank;         /* sizes of the shape; 0: one element */
  size_t bytes;        /* of its data */
} lowbit_file_entry;

/* Opens a checkpoint.  path, in UTF-8: a .safetensors file, an index (.json), or a folder with model.safetensors or
 * model.safetensors.index.json, as Hugging Face's libraries and bitsandbytes write them.  Files are mapped: they must not be made shorter while they are open. */
LOWBIT_C_API lowbit_status lowbit_file_open(const char* path, lowbit_file** out);
/* How many tensors it has; 0 for NULL. */
LOWBIT_C_API size_t lowbit_file_count(const lowbit_file* file);
/* Tensor i, in the file's order. */
LOWBIT_C_API lowbit_status lowbit_file_describe(const lowbit_file* file, size_t i, lowbit_file_entry* out);
/* Loads the tensor of that name as what the tensors beside it say that it is: NF4 or FP4 with its quant_state, LLM.int8() with its SCB,
 * else F32, F16 or BF16 of one dimension (a row) or two.  Fails with LOWBIT_FORMAT_ERROR where there is none such. */
LOWBIT_C_API lowbit_status lowbit_file_load(const lowbit_file* file, const char* name, lowbit_tensor** out);
/* Frees it; does nothing with NULL. */
LOWBIT_C_API void lowbit_file_free(lowbit_file* file);

/* ---- threads and processors ---------------------------------------------------------------------------------------------------- */

/* Threads that products run on. */
typedef struct lowbit_pool lowbit_pool;

/* threads: the caller's among them; 0: one per processor that this process may use. */
LOWBIT_C_API lowbit_status lowbit_pool_create(size_t threads, lowbit_pool** out);
/* How many there are; 0 for NULL, or where a child made by fork() could not make its own. */
LOWBIT_C_API size_t lowbit_pool_threads(const lowbit_pool* pool);
/* Frees it; does nothing with NULL. */
LOWBIT_C_API void lowbit_pool_free(lowbit_pool* pool);

/* The instructions that products use: "base", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx",
 * "neon", "neon_dot" or "neon_i8mm"; the best that the processor has, unless LOWBIT_ISA in the environment or lowbit_set_level() names
 * another.  The text is never freed. */
LOWBIT_C_API lowbit_status lowbit_level_name(const char** out);
/* Has products use the instructions of that name from now on; LOWBIT_INVALID_ARGUMENT where the processor lacks them. */
LOWBIT_C_API lowbit_status lowbit_set_level(const char* name);

/* ---- products ------------------------------------------------------------------------------------------------------------------ */

/* The arithmetic of a product. */
typedef int32_t lowbit_compute;
enum {
  LOWBIT_COMPUTE_F32 = 0,      /* exact decode, float sums */
  LOWBIT_COMPUTE_BF16 = 1,     /* weights and activations rounded to bfloat16, float sums */
  LOWBIT_COMPUTE_INT8 = 2,     /* activations quantized per row, exact integer sums */
  LOWBIT_COMPUTE_AUTOMATIC = 3 /* what is fast with this format on this processor */
};

/* What follows a product. */
typedef int32_t lowbit_activation;
enum {
  LOWBIT_ACTIVATION_NONE = 0,
  LOWBIT_ACTIVATION_GELU_TANH = 1, /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
  LOWBIT_ACTIVATION_RELU = 2,      /* max(x, 0) */
  LOWBIT_ACTIVATION_GELU = 3,      /* 0.5 x (1 + erf(x / sqrt(2))) */
  LOWBIT_ACTIVATION_SILU = 4       /* x / (1 + e^-x) */
};

/* Weights as products want them, and a bias. */
typedef struct lowbit_linear lowbit_linear;

/* What a layer is. */
typedef struct lowbit_linear_info {
  size_t rows;            /* outputs */
  size_t cols;            /* inputs */
  size_t resident_bytes;  /* of all that is held */
  lowbit_format format;   /* of the elements */
  lowbit_compute compute; /* never automatic: what runs */
  int32_t packed;         /* 0: multiplied as checkpoints hold them, which is slower */
} lowbit_linear_info;

/* Copies the weights, laid out for the kernels where pack is 1 and the layout can hold them; the tensor may be freed then.  bias: [rows]
 * floats, copied, or NULL for none. */
LOWBIT_C_API lowbit_status lowbit_linear_create(const lowbit_tensor* weights, const float* bias, lowbit_compute compute, int32_t pack,
                                                lowbit_linear** out);
/* Says what the layer is. */
LOWBIT_C_API lowbit_status lowbit_linear_describe(const lowbit_linear* layer, lowbit_linear_info* out);
/* y (m, rows) from x (m, cols).  Types: LOWBIT_F32, LOWBIT_F16 or LOWBIT_BF16, each for itself.  Strides are elements from row to row;
 * 0: rows follow one another.  y must not overlap x.  pool: NULL for the process's own, one thread per processor, made at first use.
 * x and y may be NULL where m is 0. */
LOWBIT_C_API lowbit_status lowbit_multiply(const lowbit_linear* layer, lowbit_format x_type, const void* x, size_t m, size_t x_stride,
                                           lowbit_format y_type, void* y, size_t y_stride, lowbit_activation activation,
                                           lowbit_pool* pool);
/* Frees it; does nothing with NULL. */
LOWBIT_C_API void lowbit_linear_free(lowbit_linear* layer);

#ifdef __cplusplus
}
#endif

#endif
