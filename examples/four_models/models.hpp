// SPDX-License-Identifier: MIT
// Which models the comparison knows, by id, and how each is made.
#pragma once
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "lowbit/gpt2/transformer.hpp"

namespace four_models {

struct ModelKind {
  std::string_view id, name, weights;  // weights: how the linear layers hold theirs
  bool headline;                       // one of the paper's four
};
inline constexpr std::array<ModelKind, 9> model_kinds = {{
    {"fp32", "FP32", "float32", true},
    {"int8_scratch", "INT8 (scratch)", "int8 per row, trained with quantization in the loop", true},
    {"int8_bnb", "INT8 (bnb)", "LLM.int8()", true},
    {"nf4_bnb", "NF4 (bnb)", "NF4", true},
    {"nf4_f32", "NF4, f32", "NF4", false},
    {"nf4_int8", "NF4, int8", "NF4", false},
    {"int8", "INT8 per row", "int8 per row, quantized after training", false},
    {"fp4", "FP4", "FP4", false},
    {"bf16", "BF16", "bfloat16", false},
}};
inline constexpr std::string_view baseline_id = "fp32";

// The kind of an id; null if there is none.
constexpr const ModelKind* find_kind(std::string_view id) {
  for (const ModelKind& kind : model_kinds)
    if (kind.id == id) return &kind;
  return nullptr;
}

// What the command line may change about them.
struct Tuning {
  std::size_t four_bit_block = 64;
  bool double_quantized = true;
  float int8_threshold = 6.0f;
  lowbit::Outliers outliers = lowbit::Outliers::per_row;
  // Of nf4_bnb and fp4; default: bf16 where the processor is fast at it, else int8.
  std::optional<lowbit::Compute> compute = std::nullopt;
};

// The compute type of nf4_bnb and fp4 on this machine.
lowbit::Compute four_bit_compute(const Tuning& tuning);

// Makes a model; weights that the source holds in another format are quantized.  Throws as Model<...>::load does.
lowbit::gpt2::Transformer make_model(const ModelKind& kind, const lowbit::gpt2::ParameterSource& source, const Tuning& tuning);

}  // namespace four_models
