// SPDX-License-Identifier: MIT
// The element types of dense tensors, and of decoded values: float, Float16 and BFloat16.
#pragma once
#include <concepts>
#include <cstddef>

#include "lowbit/base/config.hpp"
#include "lowbit/base/half.hpp"

namespace lowbit::inline LOWBIT_ABI {

// DenseElement<T>: name and bytes of T; encode() rounds a float to T once (nearest even), decode() widens exactly.
template <class T>
struct DenseElement;

// 32 bits: as they are.
template <>
struct DenseElement<float> {
  static constexpr const char* name = "f32";                          // of the format
  static constexpr std::size_t bytes = 4;                             // of an element
  LOWBIT_INLINE static constexpr float encode(float x) { return x; }  // once rounded
  LOWBIT_INLINE static constexpr float decode(float x) { return x; }  // exact
};
// 16 bits, IEEE binary16.
template <>
struct DenseElement<Float16> {
  static constexpr const char* name = "f16";
  static constexpr std::size_t bytes = 2;
  LOWBIT_INLINE static constexpr Float16 encode(float x) { return to_float16(x); }
  LOWBIT_INLINE static constexpr float decode(Float16 x) { return to_float(x); }
};
// 16 bits, bfloat16.
template <>
struct DenseElement<BFloat16> {
  static constexpr const char* name = "bf16";
  static constexpr std::size_t bytes = 2;
  LOWBIT_INLINE static constexpr BFloat16 encode(float x) { return to_bfloat16(x); }
  LOWBIT_INLINE static constexpr float decode(BFloat16 x) { return to_float(x); }
};

template <class T>
concept DenseType = requires {
  DenseElement<T>::bytes;
};

}  // namespace lowbit::inline LOWBIT_ABI
