// SPDX-License-Identifier: MIT
// Lists of sizes in a loop: for (const std::size_t n : Sizes{1, 2, 3}), without a conversion from int.
#pragma once
#include <cstddef>
#include <initializer_list>

namespace lowbit_test {

using Sizes = std::initializer_list<std::size_t>;

}  // namespace lowbit_test
