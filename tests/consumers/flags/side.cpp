// SPDX-License-Identifier: MIT
// Compiled once per set of flags: SIDE is the name of this copy.  All numbers are small integers and all weights -1, 0 or 1, which
// every format holds exactly, so the product equals the one worked out with integers below, bit for bit.
#include <lowbit/lowbit.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "side.hpp"

namespace {

constexpr std::size_t m = 9, out = 65, in = 192;

struct Rows {
  float w[out * in], x[m * in], expected[m * out], y[m * out];
};

void fill(Rows& r) {
  std::uint32_t state = 7;
  const auto below = [&](std::uint32_t n) { return static_cast<int>(((state = state * 1664525u + 1013904223u) >> 16) % n); };
  for (std::size_t i = 0; i < out * in; ++i) r.w[i] = i % 64 == 0 ? 1.0f : static_cast<float>(below(3) - 1);
  for (float& v : r.x) v = static_cast<float>(below(17) - 8);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < out; ++j) {
      int sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += static_cast<int>(r.x[i * in + k]) * static_cast<int>(r.w[j * in + k]);
      r.expected[i * out + j] = static_cast<float>(sum);
    }
}

bool right(const Rows& r) { return std::memcmp(r.y, r.expected, sizeof r.y) == 0; }

// A product of w in every way that has code of its own; returns how many were wrong.
template <class Q>
int wrong_products(Rows& r, lowbit::ThreadPool& pool) {
  int wrong = 0;
  const Q q = Q::quantize(r.w, out, in);
  const auto multiply = [&](const auto& w) {
    std::memset(r.y, 0, sizeof r.y);
    lowbit::matmul(r.x, m, w, r.y, {{.compute = lowbit::Compute::f32}, {}, {.executor = &pool}});
    wrong += !right(r);
  };
  multiply(q);
  multiply(lowbit::PackedTensor::pack(q));
  return wrong;
}

}  // namespace

extern "C" Report LOWBIT_CHECK_NAME(SIDE)(void (*fail)(const char*)) {
  Report report{};
#if LOWBIT_EXCEPTIONS
  (void)fail;
  try {
    lowbit::NF4Tensor<>::quantize(nullptr, ~std::size_t{0}, 2);
  } catch (const lowbit::InvalidArgument&) {
    report.caught = true;
  }
#else
  lowbit::set_error_handler(fail);
  report.caught = true;
#endif
  static Rows r;
  fill(r);
  lowbit::ThreadPool pool(3);
  report.wrong = wrong_products<lowbit::NF4Tensor<>>(r, pool) + wrong_products<lowbit::FP4Tensor<>>(r, pool) +
                 wrong_products<lowbit::DenseTensor<float>>(r, pool) +
                 wrong_products<lowbit::DenseTensor<lowbit::BFloat16>>(r, pool);
  const float bias[out] = {};
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(r.w, out, in), bias, {{.compute = lowbit::Compute::f32}});
  layer.forward(r.x, m, r.y);
  report.wrong += !right(r);
  // int8 compute rounds; that it runs at all is what is asked.
  lowbit::matmul(r.x, m, lowbit::Int8Tensor<>::quantize(r.w, out, in), r.y, {{.compute = lowbit::Compute::int8}});
  report.level = static_cast<int>(lowbit::active_level());
  return report;
}

// What main.cpp must be able to catch.
extern "C" void LOWBIT_THROW_NAME(SIDE)() { lowbit::NF4Tensor<>::quantize(nullptr, ~std::size_t{0}, 2); }
