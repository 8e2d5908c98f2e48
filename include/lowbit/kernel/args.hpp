// SPDX-License-Identifier: MIT
// What the kernels of products share: converted activations, what follows the product.  Plain structs of pointers and sizes; shapes
// were checked by the caller.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/compute.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// What is taken out of the int8 codes of a row and multiplied in float.
struct OutlierRow {
  const std::uint32_t* column = nullptr;  // packed: int8_byte() of it
  const float* value = nullptr;
  std::size_t count = 0;
};
// Converted rows of x.  packed layout: depth padded to k with zeros; int8 codes permuted in eights (int8_k order), or as 16-bit
// words in order where the level has no byte dot instruction (Kernels::int8_words).
struct Activations {
  const void* data = nullptr;  // float, bfloat16 bits or int8 codes
  std::size_t stride_bytes = 0;
  const float* scale = nullptr;          // int8: value = code * scale, per row
  const std::int32_t* offset = nullptr;  // int8, packed: -128 * sum of the codes, per row and chunk
  std::size_t offset_stride = 0;
  const OutlierRow* outliers = nullptr;  // [m], or null
};

// y = activation(product + bias) + residual.
// y may be float, or bfloat16 bits for a product that reads them, or both.
struct EpilogueArgs {
  const float* bias = nullptr;      // [n]
  const float* residual = nullptr;  // (m, n)
  std::size_t residual_stride = 0;
  Activation activation = Activation::none;
  std::uint16_t* bf16 = nullptr;  // (m, n) with this stride in elements
  std::size_t bf16_stride = 0;
};

// The values of two codes, for levels without look-ups in registers.
struct CodePair {
  float low, high;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
