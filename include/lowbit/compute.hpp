// SPDX-License-Identifier: MIT
// The words in which a caller says what a product computes.
#pragma once
#include "lowbit/base/config.hpp"

namespace lowbit::inline LOWBIT_ABI {

// The arithmetic of a product.
//   f32        exact decode, float sums
//   bf16       weights and activations rounded to bfloat16 (nearest even), products summed in float
//   int8       activations quantized per row, exact integer sums
//   automatic  what is fast on this processor: int8 weights in int8; 4-bit weights in bf16 where the processor multiplies bfloat16
//              as fast as bytes (level avx512bf16, cpu_has_fast_bf16()), else in int8; bfloat16 weights in bf16 on such a processor
//              and at level amx; everything else in f32
enum class Compute { f32, bf16, int8, automatic };
// "f32", "bf16", "int8" or "automatic".
constexpr const char* compute_name(Compute c) {
  return c == Compute::f32 ? "f32" : c == Compute::bf16 ? "bf16" : c == Compute::int8 ? "int8" : "automatic";
}

// What follows the product.
//   relu       max(x, 0)
//   gelu       x Phi(x), Phi the normal distribution's: 0.5 x (1 + erf(x / sqrt(2)))
//   gelu_tanh  GPT-2's gelu_new: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
//   silu       x / (1 + e^-x)
enum class Activation { none, relu, gelu, gelu_tanh, silu };
// The same, shorter.
inline constexpr Activation gelu_tanh = Activation::gelu_tanh;

// Which columns LLM.int8() takes out of the integer product.  per_row: where this row has an outlier, so that a row's result does
// not depend on its neighbours.  per_call: where any row of the call has one, as bitsandbytes does.
enum class Outliers { per_row, per_call };

}  // namespace lowbit::inline LOWBIT_ABI
