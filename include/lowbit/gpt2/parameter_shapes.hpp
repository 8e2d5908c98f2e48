// SPDX-License-Identifier: MIT
// Which parameters a GPT-2 of a configuration has, by name, shape and kind; and one with its values.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/parameters.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A parameter to write.  The values are the caller's.
struct NamedParameter {
  std::string name;                // in full ("transformer.h.0.ln_1.bias", "score.weight"), or below "transformer."
  std::vector<std::size_t> shape;  // one or two sizes
  std::span<const float> values;   // row-major
};

// What a parameter of a model is called, in full, and its shape in lowbit's orientation.
struct ParameterShape {
  // What it is to whoever quantizes or initializes it.
  enum class Kind : std::uint8_t { embedding, head, linear_weight, vector };
  std::string name;                // in full
  std::vector<std::size_t> shape;  // (out, in) of a linear layer
  Kind kind;                       // by use
};

// All parameters of a model of this shape, in the order of the forward pass: token and position embeddings, the blocks, the last
// norm, score.weight if it has classes; at the end lm_head.weight if it is not tied, the one parameter that may be left out.
inline std::vector<ParameterShape> parameter_shapes(const Config& config) {
  using Kind = ParameterShape::Kind;
  const std::size_t c = config.width;
  std::vector<ParameterShape> all{{"transformer.wte.weight", {config.vocab, c}, Kind::embedding},
                                  {"transformer.wpe.weight", {config.positions, c}, Kind::embedding}};
  const auto norm = [&](const std::string& name) {
    all.push_back({name + ".weight", {c}, Kind::vector});
    all.push_back({name + ".bias", {c}, Kind::vector});
  };
  const auto linear = [&](const std::string& name, std::size_t out, std::size_t in) {
    all.push_back({name + ".weight", {out, in}, Kind::linear_weight});
    all.push_back({name + ".bias", {out}, Kind::vector});
  };
  for (std::size_t i = 0; i < config.layers; ++i) {
    const std::string h = "transformer.h." + decimal(i) + ".";
    norm(h + "ln_1");
    linear(h + "attn.c_attn", 3 * c, c);
    linear(h + "attn.c_proj", c, c);
    norm(h + "ln_2");
    linear(h + "mlp.c_fc", config.inner, c);
    linear(h + "mlp.c_proj", c, config.inner);
  }
  norm("transformer.ln_f");
  if (config.classes != 0) all.push_back({"score.weight", {config.classes, c}, Kind::head});
  if (!config.tied) all.push_back({"lm_head.weight", {config.vocab, c}, Kind::embedding});
  return all;
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
