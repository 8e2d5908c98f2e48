// SPDX-License-Identifier: MIT
// Products for compare.py, as C functions of a shared library: lowbit's own, or, compiled with LOWBIT_TILE_MODEL, those of the
// software model, whose functions have names of their own.
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>

#include "lowbit/lowbit.hpp"

#if defined(LOWBIT_TILE_MODEL)
#define BENCH(name) model_##name
#else
#define BENCH(name) bench_##name
#endif

namespace {

using namespace lowbit;

Tensor quantized(const std::string& format, const float* w, std::size_t n, std::size_t k) {
  if (format == "f32") return DenseTensor<float>::quantize(w, n, k);
  if (format == "f16") return DenseTensor<Float16>::quantize(w, n, k);
  if (format == "bf16") return DenseTensor<BFloat16>::quantize(w, n, k);
  if (format == "int8") return Int8Tensor<>::quantize(w, n, k);
  if (format == "llm_int8") return LlmInt8Tensor::quantize(w, n, k);
  if (format == "int8_blocks") return Int8Tensor<Blockwise<64>>::quantize(w, n, k);
  if (format == "fp4") return FP4Tensor<>::quantize(w, n, k);
  return NF4Tensor<>::quantize(w, n, k);
}
Compute compute_of(const char* name) {
  return std::strcmp(name, "f32") == 0 ? Compute::f32 : std::strcmp(name, "bf16") == 0 ? Compute::bf16 : Compute::int8;
}

}  // namespace

extern "C" {

// 0 if this build and processor have the level.
int BENCH(level)(const char* name) {
  try {
    set_level(level_from_name(name));
    return 0;
  } catch (const Error&) {
    return 1;
  }
}
// Null where the layout cannot hold them.
void* BENCH(weights)(const char* format, const float* w, std::size_t n, std::size_t k) {
  const Tensor tensor = quantized(format, w, n, k);
  return PackedTensor::packable(tensor) ? new PackedTensor(PackedTensor::pack(tensor)) : nullptr;
}
void BENCH(free)(void* weights) { delete static_cast<PackedTensor*>(weights); }
void* BENCH(pool)(std::size_t threads) { return new ThreadPool(threads); }
// y (m, n), `calls` times; returns the seconds of one.
double BENCH(run)(void* weights, const float* x, std::size_t m, float* y, const char* compute, void* pool, std::size_t calls) {
  MatmulOptions options;
  options.compute = compute_of(compute);
  options.outlier_threshold = 0;
  options.executor = static_cast<ThreadPool*>(pool);
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < calls; ++i) matmul(x, m, *static_cast<const PackedTensor*>(weights), y, options);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(calls);
}
}
