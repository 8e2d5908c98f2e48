// SPDX-License-Identifier: MIT
// What the copies of side.cpp define.  Nothing of lowbit in here: main.cpp must not bring another set of flags.
#pragma once
#include <cstddef>

struct Report {
  int baseline;        // the level that the copy's flags guarantee
  std::size_t wrong;   // output elements that differ from the scalar reference
  const void* matmul;  // the copy's own, unless the linker merged it with another's
};
#define LOWBIT_ODR_NAME_(side) check_##side
#define LOWBIT_ODR_NAME(side) LOWBIT_ODR_NAME_(side)
Report check_plain();
Report check_avxvnni();
Report check_native();
