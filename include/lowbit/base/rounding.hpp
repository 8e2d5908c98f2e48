// SPDX-License-Identifier: MIT
// Roundings that are promised.  Compilers contract a * b + c into one fma and, under fast-math, reorder divisions; a value that
// passed through rounded() has been rounded to float, and what is computed from it is computed from that.
#pragma once
#include <type_traits>

#include "lowbit/base/config.hpp"

namespace lowbit::inline LOWBIT_ABI {

// x, rounded to its type here: what follows is computed from the rounded value.
LOWBIT_INLINE constexpr float rounded(float x) {
  if (!std::is_constant_evaluated()) {
#if (defined(__GNUC__) || defined(__clang__)) && LOWBIT_X86
    asm("" : "+x"(x));
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
    asm("" : "+w"(x));
#else
    volatile float kept = x;
    x = kept;
#endif
  }
  return x;
}

LOWBIT_INLINE constexpr double rounded(double x) {
  if (!std::is_constant_evaluated()) {
#if (defined(__GNUC__) || defined(__clang__)) && LOWBIT_X86
    asm("" : "+x"(x));
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
    asm("" : "+w"(x));
#else
    volatile double kept = x;
    x = kept;
#endif
  }
  return x;
}

// a / b, rounded once to float.  Fast-math replaces float divisions by approximate reciprocals; in double even a reciprocal and a
// product are right to 2^-51, and no quotient of two floats lies that near to the middle between two floats without being it.
LOWBIT_INLINE constexpr float quotient(float a, float b) {
  return rounded(static_cast<float>(rounded(static_cast<double>(a) / static_cast<double>(b))));
}

}  // namespace lowbit::inline LOWBIT_ABI
