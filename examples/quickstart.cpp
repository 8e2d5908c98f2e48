// SPDX-License-Identifier: MIT
// A linear layer with 4-bit weights: quantize once, then one call per batch.
#include <cstdio>
#include <vector>

#include <lowbit/lowbit.hpp>

int main() {
  const std::size_t in = 768, out = 3072, m = 8;
  const std::vector<float> w(out * in, 0.01f), x(m * in, 1.0f), bias(out, 0.5f);
  std::vector<float> y(m * out);

  // Packs the weights (out, in) for the kernels and picks the compute type for this processor.
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w.data(), out, in), bias);
  layer.forward(x.data(), m, y.data(), {.activation = lowbit::gelu_tanh});  // y (m, out) = gelu(x (m, in) w^T + bias)

  std::printf("%s, %zu bytes\n", to_string(layer.plan()).c_str(), layer.resident_bytes());
}
