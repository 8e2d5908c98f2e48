// SPDX-License-Identifier: MIT
// The smallest model that can be trained, for checkpoints of a few kilobytes.
#pragma once
#include "lowbit/qat/checkpoint.hpp"
#include "lowbit/qat/transformer.hpp"

namespace lowbit_fuzz {

inline lowbit::qat::Transformer small_model() {
  lowbit::gpt2::Config shape;
  shape.layers = shape.heads = 1;
  shape.width = shape.inner = 2;
  shape.positions = shape.vocab = shape.classes = 2;
  return lowbit::qat::Transformer(shape, 1);
}

}  // namespace lowbit_fuzz
