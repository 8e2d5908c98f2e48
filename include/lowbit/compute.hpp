// SPDX-License-Identifier: MIT
// The words in which a caller says what a product computes.
#pragma once
namespace lowbit {

// The arithmetic of a product.  f32: exact decode, float sums.  bf16: weights and activations rounded to bfloat16 (nearest even),
// products summed in float.  int8: activations quantized per row, exact integer sums.
enum class Compute { f32, bf16, int8 };
constexpr const char* compute_name(Compute c) { return c == Compute::f32 ? "f32" : c == Compute::bf16 ? "bf16" : "int8"; }

// What follows the product: gelu_tanh is GPT-2's gelu_new, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
enum class Activation { none, gelu_tanh };
inline constexpr Activation gelu_tanh = Activation::gelu_tanh;

}  // namespace lowbit
