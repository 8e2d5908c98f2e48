// SPDX-License-Identifier: MIT
// Looks for NaN and infinity in float data, by bits: also where -ffast-math lets the compiler believe that there are none.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

inline constexpr std::uint32_t infinity_bits = 0x7F800000u;
inline constexpr std::uint32_t smallest_normal_bits = 0x00800000u;

// The bits of |x|; magnitudes order as these integers do.  By reference, so that no float value that may be NaN is ever passed.
LOWBIT_INLINE std::uint32_t magnitude_bits(const float& x) { return std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu; }

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// The index of the first NaN or infinity in x (n), or n if there is none.
// Thread safety: none needed, reads only.
inline std::size_t first_non_finite(const float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    if (detail::magnitude_bits(x[i]) >= detail::infinity_bits) return i;
  return n;
}

}  // namespace lowbit::inline LOWBIT_ABI
