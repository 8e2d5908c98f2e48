// SPDX-License-Identifier: MIT
// One of the shared libraries: a product on the default pool and on one of its own, and an error, all kept inside.
#include <lowbit/lowbit.hpp>

#include <cstddef>
#include <cstring>
#include <vector>

extern "C" __attribute__((visibility("default"))) const char* lowbit_version() { return LOWBIT_VERSION_TEXT; }

extern "C" __attribute__((visibility("default"))) int wrong_products() {
  constexpr std::size_t m = 16, out = 256, in = 256;
  std::vector<float> w(out * in), x(m * in, 1.0f), y(m * out);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = i % 64 == 0 ? 1.0f : static_cast<float>(static_cast<int>(i * i % 3) - 1);
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w.data(), out, in), {}, {{.compute = lowbit::Compute::f32}});
  lowbit::ThreadPool pool(3);
  int wrong = 0;
  for (lowbit::Executor* executor : {&lowbit::default_executor(), static_cast<lowbit::Executor*>(&pool)}) {
    std::memset(y.data(), 0, y.size() * sizeof(float));
    layer.forward(x.data(), m, y.data(), {}, {.executor = executor});
    for (std::size_t j = 0; j < out; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += w[j * in + k];
      for (std::size_t i = 0; i < m; ++i) wrong += y[i * out + j] != sum;
    }
  }
  try {
    lowbit::NF4Tensor<>::quantize(nullptr, ~std::size_t{0}, 2);
    ++wrong;
  } catch (const lowbit::InvalidArgument&) {
  }
  return wrong;
}
