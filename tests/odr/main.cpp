// SPDX-License-Identifier: MIT
#include <cstdio>

#include "sides.hpp"

int main() {
  const Report plain = check_plain(), native = check_native();
  std::printf("plain: baseline %d, %zu wrong; native: baseline %d, %zu wrong\n", plain.baseline, plain.wrong, native.baseline,
              native.wrong);
  return plain.wrong == 0 && native.wrong == 0 ? 0 : 1;
}
