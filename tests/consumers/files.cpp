// SPDX-License-Identifier: MIT
// A program that wants lowbit::io: writes a tensor to a safetensors file in memory and reads it back.
#include <cstdio>
#include <vector>

#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/bitsandbytes_writer.hpp>
#include <lowbit/io/safetensors_writer.hpp>
#include <lowbit/lowbit.hpp>

int main() {
  const std::vector<float> w(64 * 64, 0.25f);
  const auto tensor = lowbit::NF4Tensor<>::quantize(w.data(), 64, 64);
  lowbit::io::StateDict state;
  lowbit::io::add_four_bit(state, "w", tensor, "float32");
  const auto bytes = lowbit::io::serialize_safetensors(state.tensors);
  const auto read = lowbit::io::read_four_bit(lowbit::io::SafeTensors::parse(bytes, "memory"), "w");
  std::vector<float> a(w.size()), b(w.size());
  tensor.dequantize(a.data());
  read.tensor.dequantize(b.data());
  std::printf("%s\n", a == b ? "right" : "WRONG");
  return a == b ? 0 : 1;
}
