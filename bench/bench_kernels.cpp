// SPDX-License-Identifier: MIT
// Speed of products at GPT-2 small's layer shapes, one thread, packed weights.  Names are IMPL/FORMAT/COMPUTE/NxKxM/tT.  Every case
// is checked against the double-precision reference before it is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "lowbit/lowbit.hpp"

namespace {

struct Shape {
  std::size_t n, k;
};
constexpr Shape shapes[] = {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}};
constexpr std::size_t rows[] = {1, 8, 52, 512};

// Deterministic values, roughly normal: a sum of four uniforms.
std::vector<float> values(std::size_t n, float scale, std::uint32_t seed) {
  std::vector<float> v(n);
  for (float& x : v) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      seed = seed * 1664525u + 1013904223u;
      sum += static_cast<float>(seed >> 8) * (2.0f / 16777216.0f) - 1.0f;
    }
    x = sum * scale;
  }
  return v;
}

// The share of its norm by which a product may miss the exact one on the decoded weights: rounding for f32; 2^-8 for inputs rounded
// to bfloat16; 2 % for activations and codebooks rounded to 8 bits.
double tolerance(lowbit::Compute c) { return c == lowbit::Compute::f32 ? 2e-6 : c == lowbit::Compute::bf16 ? 4e-3 : 2e-2; }

// Empty if `y` is right in the first and last rows, else what is wrong.
std::string check(const std::vector<float>& x, std::size_t m, const lowbit::Tensor& w, const std::vector<float>& y,
                  lowbit::Compute c) {
  for (const std::size_t r : {std::size_t{0}, m - 1}) {
    std::vector<double> exact(w.rows());
    lowbit::reference_matmul(x.data() + r * w.cols(), 1, w, exact.data());
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < w.rows(); ++i) {
      const double d = static_cast<double>(y[r * w.rows() + i]) - exact[i];
      error += d * d;
      norm += exact[i] * exact[i];
    }
    if (!(std::sqrt(error) <= tolerance(c) * std::sqrt(norm)))
      return "wrong result: relative error " + std::to_string(std::sqrt(error / norm));
  }
  return {};
}

template <class T>
void run(benchmark::State& state, Shape s, std::size_t m, lowbit::Compute compute) {
  const std::vector<float> w = values(s.n * s.k, 0.02f, 1), x = values(m * s.k, 1.0f, 2);
  const T tensor = T::quantize(w.data(), s.n, s.k);
  const auto packed = lowbit::PackedTensor::pack(tensor);
  std::vector<float> y(m * s.n);
  lowbit::SerialExecutor serial;
  lowbit::MatmulOptions options;
  options.compute = compute;
  options.executor = &serial;
  lowbit::matmul(x.data(), m, packed, y.data(), options);
  if (const std::string wrong = check(x, m, tensor, y, compute); !wrong.empty()) {
    state.SkipWithError(wrong.c_str());
    return;
  }
  for (auto _ : state) {
    lowbit::matmul(x.data(), m, packed, y.data(), options);
    benchmark::DoNotOptimize(y.data());
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(m * s.n * s.k) * n, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(packed.resident_bytes()) * n, benchmark::Counter::kIsRate);
}

template <class T>
void add(const char* format, lowbit::Compute compute) {
  for (const Shape s : shapes)
    for (const std::size_t m : rows) {
      const std::string name = std::string("lowbit/") + format + "/" + lowbit::compute_name(compute) + "/" + std::to_string(s.n) +
                               "x" + std::to_string(s.k) + "x" + std::to_string(m) + "/t1" + (m == 1 ? "/hot" : "");
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run<T>(state, s, m, compute); })->UseRealTime();
    }
}

}  // namespace

int main(int argc, char** argv) {
  using lowbit::Compute;
  add<lowbit::DenseTensor<float>>("f32", Compute::f32);
  add<lowbit::DenseTensor<lowbit::BFloat16>>("bf16", Compute::bf16);
  add<lowbit::Int8Tensor<>>("int8", Compute::int8);
  for (const Compute c : {Compute::f32, Compute::bf16, Compute::int8}) add<lowbit::NF4Tensor<>>("nf4", c);
  benchmark::AddCustomContext("lowbit_level", lowbit::level_name(lowbit::active_level()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
