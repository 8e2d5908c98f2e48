// SPDX-License-Identifier: MIT
// What the two copies of side.cpp define.  Nothing of lowbit in here: main.cpp must not bring a third set of flags.
#pragma once
#include <cstddef>

struct Report {
  int baseline;        // the level that the copy's flags guarantee
  std::size_t wrong;   // output elements that differ from the scalar reference
  const void* matmul;  // the copy's own, unless the linker merged the two
};
Report check_plain();
Report check_native();
