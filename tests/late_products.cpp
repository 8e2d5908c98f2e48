// SPDX-License-Identifier: MIT
// Products in destructors of static and thread_local objects: after the pool's threads have ended, and after the buffers that a
// thread keeps are gone.  Exits with 0 where every one is right; argument "exit": through exit() in another thread.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "lowbit/lowbit.hpp"

namespace {

int failures = 0;

// Multiplies when it is made and when it is destroyed, with packed, canonical, LLM.int8() and weights in block-offset classes.
struct Multiplies {
  static constexpr std::size_t m = 32, k = 256, n = 384, odd_n = 768, odd_k = 100;
  const char* place;
  std::vector<float> weights, x;
  std::vector<float> first;

  explicit Multiplies(const char* where) : place(where), weights(n * k), x(m * k), first(results()) {}
  ~Multiplies() {
    if (results() == first) return;
    std::fprintf(stderr, "late_products: another result in %s\n", place);
    std::_Exit(1);
  }
  std::vector<float> results() {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));
    const auto nf4 = lowbit::NF4Tensor<>::quantize(weights.data(), n, k);
    const auto uneven = lowbit::NF4Tensor<>::quantize(weights.data(), odd_n, odd_k);
    const auto llm = lowbit::LlmInt8Tensor::quantize(weights.data(), n, k);
    std::vector<float> all;
    const auto add = [&](std::size_t rows, const auto& w, const lowbit::MatmulOptions& options) {
      std::vector<float> y(rows * w.rows());
      lowbit::matmul(x.data(), rows, w, y.data(), options);
      all.insert(all.end(), y.begin(), y.end());
    };
    for (const std::size_t rows : {std::size_t{1}, std::size_t{5}, m}) {
      add(rows, nf4, {{.compute = lowbit::Compute::int8}});
      add(rows, lowbit::PackedTensor::pack(nf4), {{.compute = lowbit::Compute::bf16}});
      add(rows, lowbit::PackedTensor::pack(nf4), {{.compute = lowbit::Compute::int8}});
      add(rows, lowbit::PackedTensor::pack(uneven), {{.compute = lowbit::Compute::int8}});
      add(rows, llm, {{.outlier_threshold = 0.9f, .outliers = lowbit::Outliers::per_call}});
    }
    return all;
  }
};

Multiplies& earlier() {  // made before the thread has buffers of its own: destroyed after them
  thread_local Multiplies object("a thread_local object");
  return object;
}
Multiplies static_object("a static object");

}  // namespace

int main(int argc, char** argv) {
  std::thread([] { earlier(); }).join();
  earlier();
  static Multiplies local("a static object of a function");
  if (argc > 1 && std::strcmp(argv[1], "exit") == 0) std::thread([] { std::exit(failures); }).join();
  return failures;
}
