// SPDX-License-Identifier: MIT
// std::vector under a name of our own: what the standard library makes of std::vector<float> is shared by all files of a program,
// whatever processor they were compiled for.
#pragma once
#include <memory>
#include <vector>

#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

template <class T>
struct Allocator : std::allocator<T> {
  Allocator() = default;
  template <class U>
  constexpr Allocator(const Allocator<U>&) noexcept {}  // NOLINT: as every allocator
  template <class U>
  struct rebind {
    using other = Allocator<U>;
  };
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace lowbit::detail::inline LOWBIT_ABI
