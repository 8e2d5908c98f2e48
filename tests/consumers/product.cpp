// SPDX-License-Identifier: MIT
// The part of a consumer that uses lowbit: a product that is exact, on the pool, by matmul and by Linear.
#include "product.hpp"

#include <vector>

#include <lowbit/lowbit.hpp>

bool product_is_right() {
  // Weights of 0 and 1, which NF4 and bfloat16 hold exactly: y[j] = x[j].
  const std::size_t n = 64, m = 3;
  std::vector<float> w(n * n), x(m * n), y(m * n), z(m * n);
  for (std::size_t i = 0; i < n; ++i) w[i * n + i] = 1.0f;
  for (std::size_t i = 0; i < m * n; ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  lowbit::matmul(x.data(), m, lowbit::NF4Tensor<>::quantize(w.data(), n, n), y.data(), {{.compute = lowbit::Compute::f32}});
  const lowbit::Linear layer(lowbit::DenseTensor<lowbit::BFloat16>::quantize(w.data(), n, n), {},
                             {{.compute = lowbit::Compute::f32}});
  layer.forward(x.data(), m, z.data());
  return y == x && z == x;
}
