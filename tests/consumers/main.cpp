// SPDX-License-Identifier: MIT
// The program of the consumers; with kernels that are compiled once it is a second file that sees lowbit.
#include <cstdio>

#include <lowbit/lowbit.hpp>

#include "product.hpp"

int main() {
  const bool right = product_is_right() && lowbit::available_processors() != 0;
  std::printf("lowbit %s: %s\n", LOWBIT_VERSION, right ? "right" : "WRONG");
  return right ? 0 : 1;
}
