// SPDX-License-Identifier: MIT
// Compiled several times, with different flags: SIDE names the function that this copy defines.  All numbers are small integers and
// all weights -1, 0 or 1, which NF4 holds exactly, so the product must equal the one worked out with integers below, bit for bit.
#include <lowbit/lowbit.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sides.hpp"

namespace {

// A repeatable source of small numbers.
struct Numbers {
  std::uint32_t state;
  int below(int n) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int>((state >> 16) % static_cast<std::uint32_t>(n));
  }
};

// Elements of y (m, out) that differ from the integer product.
std::size_t wrong_elements(std::size_t m, std::size_t out, std::size_t in, std::uint32_t seed) {
  Numbers numbers{seed};
  std::vector<int> weight(out * in), input(m * in);
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = i % 64 == 0 ? 1 : numbers.below(3) - 1;  // every block has absmax 1
  for (int& value : input) value = numbers.below(17) - 8;

  const std::vector<float> w(weight.begin(), weight.end()), x(input.begin(), input.end());
  std::vector<float> y(m * out, -1.0f);
  const auto quantized = lowbit::NF4Tensor<>::quantize(w.data(), out, in);
  lowbit::matmul(x.data(), m, quantized, y.data(), {{.compute = lowbit::Compute::f32}});

  std::size_t wrong = 0;
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < out; ++j) {
      int sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += input[i * in + k] * weight[j * in + k];
      if (y[i * out + j] != static_cast<float>(sum)) ++wrong;
    }
  return wrong;
}

}  // namespace

Report LOWBIT_ODR_NAME(SIDE)() {
  using Matmul =
      lowbit::MatmulPlan (*)(const lowbit::Input&, const lowbit::Weights&, const lowbit::Output&, const lowbit::MatmulOptions&);
  Report report{LOWBIT_BASELINE, 0, reinterpret_cast<const void*>(static_cast<Matmul>(&lowbit::matmul))};
  for (const std::size_t m : {1u, 3u, 8u, 33u})
    for (const std::size_t out : {7u, 48u, 65u})
      report.wrong += wrong_elements(m, out, 192, static_cast<std::uint32_t>(m * 100 + out));
  return report;
}
