// SPDX-License-Identifier: MIT
// The installed headers are the ones that are found, and they are of the version that the package says.
#if __has_include(<lowbit/lowbit.hpp>)
#include <lowbit/lowbit.hpp>
#else
#include <lowbit/base/config.hpp>
#endif

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc != 2 || std::strcmp(argv[1], LOWBIT_VERSION) != 0) {
    std::printf("the package says %s, the headers say %s\n", argc == 2 ? argv[1] : "nothing", LOWBIT_VERSION);
    return 1;
  }
#if __has_include(<lowbit/lowbit.hpp>)
  // (2, 64) identity-like weights: y[j] = x[j], exactly, because 0 and 1 are NF4 values.
  float w[2 * 64] = {}, x[64] = {}, y[2] = {};
  w[0] = w[64 + 1] = 1.0f;
  x[0] = 3.0f;
  x[1] = -5.0f;
  lowbit::matmul(x, 1, lowbit::NF4Tensor<>::quantize(w, 2, 64), y, {{.compute = lowbit::Compute::f32}});
  if (y[0] != 3.0f || y[1] != -5.0f) {
    std::printf("matmul gave %g and %g instead of 3 and -5\n", static_cast<double>(y[0]), static_cast<double>(y[1]));
    return 1;
  }
#endif
  return 0;
}
