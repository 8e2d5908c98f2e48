// SPDX-License-Identifier: MIT
// reference.h by the C++ interface.
#include "reference.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <lowbit.h>
#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/bitsandbytes_writer.hpp>
#include <lowbit/io/file_writer.hpp>
#include <lowbit/io/safetensors_writer.hpp>
#include <lowbit/lowbit.hpp>

namespace {

int failing = 0;
void* allocate(std::size_t size, std::size_t alignment) {
  if (const int how = std::exchange(failing, 0); how == 1)
    throw std::bad_alloc();
  else if (how == 2)
    throw 2;
  void* const p = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

template <class T>
lowbit::Tensor four_bit(const product& p, const float* w) {
  return T::quantize(w, p.rows, p.cols,
                     {.block_size = p.block_size == 0 ? 64 : p.block_size, .double_quantized = p.double_quantized == 1});
}
lowbit::Tensor quantize(const product& p, const float* w) {
  switch (p.format) {
    case LOWBIT_F32: return lowbit::DenseTensor<>::quantize(w, p.rows, p.cols);
    case LOWBIT_F16: return lowbit::DenseTensor<lowbit::Float16>::quantize(w, p.rows, p.cols);
    case LOWBIT_BF16: return lowbit::DenseTensor<lowbit::BFloat16>::quantize(w, p.rows, p.cols);
    case LOWBIT_NF4: return four_bit<lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>>(p, w);
    case LOWBIT_FP4: return four_bit<lowbit::FP4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>>(p, w);
    case LOWBIT_LLM_INT8: return lowbit::LlmInt8Tensor::quantize(w, p.rows, p.cols);
    default: break;
  }
  if (p.block_size == 128) return lowbit::Int8Tensor<lowbit::Blockwise<128>>::quantize(w, p.rows, p.cols);
  return lowbit::Int8Tensor<>::quantize(w, p.rows, p.cols);
}
lowbit::Compute compute(std::int32_t c) {
  return c == LOWBIT_COMPUTE_F32    ? lowbit::Compute::f32
         : c == LOWBIT_COMPUTE_BF16 ? lowbit::Compute::bf16
         : c == LOWBIT_COMPUTE_INT8 ? lowbit::Compute::int8
                                    : lowbit::Compute::automatic;
}
lowbit::Activation activation(std::int32_t a) {
  return a == LOWBIT_ACTIVATION_RELU        ? lowbit::Activation::relu
         : a == LOWBIT_ACTIVATION_GELU      ? lowbit::Activation::gelu
         : a == LOWBIT_ACTIVATION_GELU_TANH ? lowbit::Activation::gelu_tanh
         : a == LOWBIT_ACTIVATION_SILU      ? lowbit::Activation::silu
                                            : lowbit::Activation::none;
}
lowbit::Input input(const product& p, const void* x) {
  if (p.x_type == LOWBIT_F16) return {static_cast<const lowbit::Float16*>(x), p.m, p.cols, p.x_stride};
  if (p.x_type == LOWBIT_BF16) return {static_cast<const lowbit::BFloat16*>(x), p.m, p.cols, p.x_stride};
  return {static_cast<const float*>(x), p.m, p.cols, p.x_stride};
}
lowbit::Output output(const product& p, void* y) {
  if (p.y_type == LOWBIT_F16) return {static_cast<lowbit::Float16*>(y), p.m, p.rows, p.y_stride};
  if (p.y_type == LOWBIT_BF16) return {static_cast<lowbit::BFloat16*>(y), p.m, p.rows, p.y_stride};
  return {static_cast<float*>(y), p.m, p.rows, p.y_stride};
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size, 16); }
void* operator new[](std::size_t size) { return allocate(size, 16); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, static_cast<std::size_t>(alignment)); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return allocate(size, static_cast<std::size_t>(alignment)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

extern "C" {

size_t reference_dequantize(const product* p, const float* w, std::int32_t type, void* out) {
  const lowbit::Tensor t = quantize(*p, w);
  if (type == LOWBIT_F16)
    t.dequantize(static_cast<lowbit::Float16*>(out));
  else if (type == LOWBIT_BF16)
    t.dequantize(static_cast<lowbit::BFloat16*>(out));
  else
    t.dequantize(static_cast<float*>(out));
  return t.resident_bytes();
}
void reference_multiply(const product* p, const float* w, const float* bias, const void* x, void* y) {
  const lowbit::Linear layer(quantize(*p, w), bias, {{.compute = compute(p->compute)}, p->pack == 1});
  layer.forward(input(*p, x), output(*p, y), {.activation = activation(p->activation)});
}
void reference_write(const char* folder, const float* w, size_t rows, size_t cols) {
  namespace io = lowbit::io;
  const std::filesystem::path path = std::filesystem::path(folder) / "model.safetensors";
  const auto nf4 = lowbit::NF4Tensor<>::quantize(w, rows, cols);
  const auto llm = lowbit::LlmInt8Tensor::quantize(w, rows, cols);
  const auto bf16 = lowbit::DenseTensor<lowbit::BFloat16>::quantize(w, rows, cols);
  std::vector<float> f32(rows * cols);
  bf16.dequantize(f32.data());
  io::StateDict state;
  io::add_four_bit(state, "nf4.weight", nf4, "float32");
  io::add_llm_int8(state, "llm", llm);
  state.add("f32.weight", io::DType::F32, {rows, cols}, f32.data(), f32.size() * 4);
  state.add("bf16.weight", io::DType::BF16, {rows, cols}, bf16.data(), f32.size() * 2);
  state.add("vector", io::DType::F32, {cols}, f32.data(), cols * 4);
  state.add("cube", io::DType::F32, {2, 2, 2}, f32.data(), 32);
  state.add("ints", io::DType::U8, {8}, f32.data(), 8);
  io::write_safetensors(path, state.tensors);
  io::write_atomically(std::filesystem::path(folder) / "broken.safetensors", "not a header");
}
int fail_next_allocation(int how) { return std::exchange(failing, how); }

}  // extern "C"
