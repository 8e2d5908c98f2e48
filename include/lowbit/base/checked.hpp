// SPDX-License-Identifier: MIT
// Sizes that are checked before they are used: products and sums of std::size_t that throw instead of wrapping round.
#pragma once
#include <cstddef>
#include <limits>
#include <string>

#include "lowbit/base/error.hpp"

namespace lowbit::inline LOWBIT_ABI {

// a * b; throws InvalidArgument that names `what` if it does not fit.
inline std::size_t checked_mul(std::size_t a, std::size_t b, const char* what) {
  if (a != 0 && b > (std::numeric_limits<std::size_t>::max)() / a)
    raise<InvalidArgument>(std::string(what) + ": " + decimal(a) + " x " + decimal(b) + " does not fit in a size");
  return a * b;
}
// a + b; throws InvalidArgument that names `what` if it does not fit.
inline std::size_t checked_add(std::size_t a, std::size_t b, const char* what) {
  if (b > (std::numeric_limits<std::size_t>::max)() - a)
    raise<InvalidArgument>(std::string(what) + ": " + decimal(a) + " + " + decimal(b) + " does not fit in a size");
  return a + b;
}
// ceil(a / b), b > 0; never overflows.
constexpr std::size_t ceil_div(std::size_t a, std::size_t b) { return a / b + (a % b != 0); }

}  // namespace lowbit::inline LOWBIT_ABI
