// SPDX-License-Identifier: MIT
#include <cstdio>

#include "sides.hpp"

int main() {
  const Report first = LOWBIT_ODR_NAME(FIRST)(), second = LOWBIT_ODR_NAME(SECOND)();
  std::printf("first: baseline %d, %zu wrong; second: baseline %d, %zu wrong\n", first.baseline, first.wrong, second.baseline,
              second.wrong);
  // Right numbers do not show a merge: on this machine both can run either code.
  const bool merged = first.baseline != second.baseline && first.matmul == second.matmul;
  if (merged) std::puts("the linker merged code that was compiled with different flags");
  return first.wrong == 0 && second.wrong == 0 && !merged ? 0 : 1;
}
