// SPDX-License-Identifier: MIT
// A process whose first product is in the last destructor of all, after that of the default pool: it runs in place, and makes no
// thread that nobody would end.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "lowbit/lowbit.hpp"

namespace {

struct MultipliesLast {
  ~MultipliesLast() {
    constexpr std::size_t m = 32, k = 256, n = 384;
    std::vector<float> x(m * k), weights(n * k), y(m * n), want(m * n);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));
    const auto nf4 = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(weights.data(), n, k));
    lowbit::matmul(x.data(), m, nf4, y.data());
    lowbit::SerialExecutor serial;
    lowbit::MatmulOptions in_place;
    in_place.executor = &serial;
    lowbit::matmul(x.data(), m, nf4, want.data(), in_place);
    if (y == want && lowbit::default_executor().concurrency() == 1) return;
    std::fputs("late_first_product: another result, or new threads\n", stderr);
    std::_Exit(1);
  }
};

// Made before every object without a priority, so destroyed after them.
#if defined(__GNUC__) && !defined(__APPLE__)
[[gnu::init_priority(101)]]
#endif
MultipliesLast last;

}  // namespace

int main() {}
