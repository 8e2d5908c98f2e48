// SPDX-License-Identifier: MIT
// How far each linear layer's weights are from the float model's once they are quantized.
#pragma once
#include <string>
#include <vector>

#include "examples/common/models.hpp"
#include "examples/four_models/checkpoints.hpp"

namespace examples {

struct LayerError {
  std::string layer;        // its tensor's module: "h.0.attn.c_attn"
  double relative_rms = 0;  // |quantized - float| / |float|, in Frobenius norms
};

// By kind and layer, of `source`'s weights as the kind's checkpoint holds them, or quantized here where it has none.  Empty for kinds
// whose weights are not a quantization of these: float32, and int8_scratch, which was trained to its own; and for all where the source
// holds no floats.
std::vector<std::vector<LayerError>> weight_errors(const std::vector<const ModelKind*>& kinds,
                                                   const lowbit::gpt2::ParameterSource& source, const Checkpoints& checkpoints,
                                                   const Tuning& tuning);

}  // namespace examples
