// SPDX-License-Identifier: MIT
// The shortest useful program: quantize a weight matrix three ways, multiply, and see what it cost.
#include <cmath>
#include <cstdio>
#include <vector>

#include <lowbit/lowbit.hpp>

int main() {
  const std::size_t out = 512, in = 256, rows = 4;
  std::vector<float> weights(out * in), x(rows * in), exact(rows * out), y(rows * out);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(0.7f * static_cast<float>(i)) * 0.05f;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(0.3f * static_cast<float>(i));

  const auto w32 = lowbit::DenseTensor<float>::quantize(weights.data(), out, in);
  const auto w8 = lowbit::Int8Tensor<>::quantize(weights.data(), out, in);  // one scale per output row
  const auto w4 = lowbit::NF4Tensor<>::quantize(weights.data(), out, in);   // block 64, double-quantized: bitsandbytes' bytes

  lowbit::matmul(x.data(), rows, w32, exact.data());  // exact (rows, out) = x (rows, in) * weights (out, in)^T
  const auto report = [&](const lowbit::Tensor& w, const lowbit::MatmulPlan& plan) {
    const auto error = lowbit::error_statistics(exact.data(), y.data(), y.size());
    std::printf("%6zu bytes, SNR %4.1f dB: %s\n", w.resident_bytes(), error.snr_db, to_string(plan).c_str());
  };
  report(w32, lowbit::matmul(x.data(), rows, w32, y.data(), {.compute = lowbit::Compute::bf16}));
  report(w8, lowbit::matmul(x.data(), rows, w8, y.data(), {.compute = lowbit::Compute::int8}));
  report(w4, lowbit::matmul(x.data(), rows, w4, y.data()));  // decoded on the fly, never as a whole
  report(w4, lowbit::matmul(x.data(), rows, lowbit::PackedTensor::pack(w4), y.data(), {.compute = lowbit::Compute::int8}));
}
