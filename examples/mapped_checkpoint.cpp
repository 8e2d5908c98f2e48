// SPDX-License-Identifier: MIT
// A mapped checkpoint as weights: every NF4 or FP4 matrix of a bitsandbytes file is multiplied where it lies.  Nothing is copied, and
// pages are read from the file when a product needs them.
//   mapped_checkpoint FOLDER|FILE
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/model_files.hpp>
#include <lowbit/io/stored_weights.hpp>
#include <lowbit/lowbit.hpp>

namespace {

// One row of ones through the layer.
std::vector<float> product(const lowbit::Linear& layer) {
  const std::vector<float> x(layer.cols(), 1.0f);
  std::vector<float> y(layer.rows());
  layer.forward(x.data(), 1, y.data());
  return y;
}

// Multiplies by every 4-bit matrix, in place and as a copy; whether both gave the same bits.
bool multiply_all(const char* path) {
  const auto files = lowbit::io::ModelFiles::open(path);  // maps; must outlive the layers below
  std::size_t matrices = 0, mapped = 0, held = 0, copied = 0;
  bool equal = true;
  for (const lowbit::io::StoredWeight& weight : lowbit::io::stored_weights(files)) {
    if (weight.kind != lowbit::io::StoredWeight::Kind::four_bit) continue;
    const lowbit::Linear in_place(lowbit::io::view_four_bit(files, weight.name));

    const lowbit::Linear copy(lowbit::io::read_four_bit(files, weight.name).tensor, {}, {{}, /*pack=*/false});
    equal = equal && product(in_place) == product(copy);

    ++matrices;
    for (const std::string& part : weight.parts) mapped += files.at(part).data.size();
    held += in_place.resident_bytes();
    copied += copy.resident_bytes();
  }
  if (matrices == 0) std::fprintf(stderr, "%s: expected NF4 or FP4 weights, found none\n", path);
  std::printf("%zu matrices, %zu bytes of the file; layers hold %zu bytes (copies: %zu); same bits as from copies: %s\n", matrices,
              mapped, held, copied, equal ? "yes" : "NO");
  return matrices != 0 && held == 0 && equal;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER|FILE   NF4 or FP4, from bitsandbytes or: lowbit-quantize quantize MODEL FOLDER\n",
                 argv[0]);
    return 2;
  }
  try {
    return multiply_all(argv[1]) ? 0 : 1;
  } catch (const lowbit::Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}
