// SPDX-License-Identifier: MIT
// Weights as floats, whatever they are stored as: for commands that compare values.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/quantize/model_folder.hpp"
#include "lowbit/format/format.hpp"
#include "lowbit/io/stored_weights.hpp"

namespace quantize {

// A weight, decoded; of linear layers [out, in], also where the file has Conv1D's [in, out].
struct Decoded {
  std::vector<std::size_t> shape;
  lowbit::AlignedBuffer<float> values;
};

// Empty for a tensor of integers.  Throws FormatError that names the tensor.
std::optional<Decoded> decode(const ModelFolder& model, const lowbit::io::StoredWeight& weight);

// What a weight is stored as: "nf4", "f32", "I64"; its block ("64", "64 (8-bit scales)", "row"; empty where there is none); all bytes.
struct Description {
  std::string format, block;
  std::vector<std::size_t> shape;
  std::size_t elements = 0, bytes = 0;
};
Description describe(const ModelFolder& model, const lowbit::io::StoredWeight& weight);

}  // namespace quantize
