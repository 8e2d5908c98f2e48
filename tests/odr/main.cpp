// SPDX-License-Identifier: MIT
#include <cstdio>

#include "sides.hpp"

int main() {
  const Report plain = check_plain(), native = check_native();
  std::printf("plain: baseline %d, %zu wrong; native: baseline %d, %zu wrong\n", plain.baseline, plain.wrong, native.baseline,
              native.wrong);
  // Right numbers do not show a merge: on this machine both can run either code.
  const bool merged = plain.baseline != native.baseline && plain.matmul == native.matmul;
  if (merged) std::puts("the linker merged code that was compiled with different flags");
  return plain.wrong == 0 && native.wrong == 0 && !merged ? 0 : 1;
}
