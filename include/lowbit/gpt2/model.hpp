// SPDX-License-Identifier: MIT
// A GPT-2 with its linear weights in a chosen format: Model<NF4Tensor<>>, Model<Int8Tensor<>>, Model<DenseTensor<float>>, ...
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "lowbit/gpt2/transformer.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// How Weights' model is made and computed.
template <class Weights>
struct ModelOptions {
  typename Weights::Options quantize = {};  // for weights that the folder holds in another format
  LinearOptions linear = {};                // how the linear layers are packed and computed
  Format rest = Format::f32;  // embeddings, norms and biases: f32, or f16 (rounded to it; held as halves where that saves memory)
  // wte, wpe and a head of its own: int8 (a scale per row), nf4 or fp4 (blocks of 64, double-quantized), or f32, f16 or bf16.  Tied or
  // not, the head is then a product on packed weights.  By default they are as the rest, and the head is a product in f32.
  std::optional<Format> embeddings = std::nullopt;
  Compute head = Compute::automatic;  // of that product
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// What is not a linear layer, see ModelOptions.
struct RestOptions {
  Format rest = Format::f32;
  std::optional<Format> embeddings;
  Compute head = Compute::automatic;
};

inline Tensor embedding_tensor(const std::string& name, const float* values, std::size_t rows, std::size_t cols, Format format) {
#if LOWBIT_EXCEPTIONS
  try {
#endif
    switch (format) {
      case Format::f32: return DenseTensor<float>::quantize(values, rows, cols);
      case Format::f16: return DenseTensor<Float16>::quantize(values, rows, cols);
      case Format::bf16: return DenseTensor<BFloat16>::quantize(values, rows, cols);
      case Format::int8: return Int8Tensor<>::quantize(values, rows, cols);
      case Format::nf4: return NF4Tensor<>::quantize(values, rows, cols);
      case Format::fp4: return FP4Tensor<>::quantize(values, rows, cols);
      case Format::llm_int8: break;
    }
    raise<InvalidArgument>(std::string("embeddings can be of any format but ") + format_name(format));
#if LOWBIT_EXCEPTIONS
  } catch (const InvalidArgument& error) {
    raise<InvalidArgument>(name + ": " + error.what());
  }
#else
  static_cast<void>(name);
#endif
}

// All parameters of a model.  weights(name, tensor): a linear layer's weights in the model's format from what the source holds; a
// function object, so that this is compiled once and not for every format.
inline void read_transformer(Transformer& model, const ParameterSource& source, const RestOptions& others,
                             const LinearOptions& options, const std::function<Tensor(const std::string&, Tensor)>& weights) {
  const Format rest = others.rest;
  require(rest == Format::f32 || rest == Format::f16,
          [&] { return std::string("model: the rest can be f32 or f16, not ") + format_name(rest); });
  const Config config = source.config();
  const std::size_t c = config.width;
  const bool half = rest == Format::f16;
  const auto dense = [&](const char* name, std::size_t rows) {
    const AlignedBuffer<float> values = source.floats(name, rows, c);
    return half ? Tensor(DenseTensor<Float16>::quantize(values.data(), rows, c))
                : Tensor(DenseTensor<float>::quantize(values.data(), rows, c));
  };
  const auto embedding = [&](const char* name, std::size_t rows, bool is_head) -> Embedding {
    if (!others.embeddings) return dense(name, rows);
    Tensor t = embedding_tensor(name, source.floats(name, rows, c).data(), rows, c, *others.embeddings);
    return is_head ? Embedding::head(std::move(t), others.head) : Embedding(std::move(t));
  };
  const auto vector = [&](const std::string& name, std::size_t n) {
    AlignedBuffer<float> values = source.floats(name, 1, n);
    if (half)
      for (float& v : values) v = to_float(to_float16(v));
    return values;
  };
  const auto norm = [&](const std::string& name) { return LayerNorm{vector(name + ".weight", c), vector(name + ".bias", c)}; };
  const auto linear = [&](const std::string& name, std::size_t out, std::size_t in) {
    return Linear(weights(name, source.linear(name, out, in)), vector(name + ".bias", out), options);
  };
  model.config = config;
  model.rest_format = rest;
  model.token_embedding = embedding("wte.weight", config.vocab, config.tied);
  model.position_embedding = embedding("wpe.weight", config.positions, false);
  for (std::size_t i = 0; i < config.layers; ++i) {
    const std::string h = "h." + decimal(i) + ".";
    Block b;
    b.ln_1 = norm(h + "ln_1");
    b.attention_in = linear(h + "attn.c_attn", 3 * c, c);
    b.attention_out = linear(h + "attn.c_proj", c, c);
    b.ln_2 = norm(h + "ln_2");
    b.mlp_in = linear(h + "mlp.c_fc", config.inner, c);
    b.mlp_out = linear(h + "mlp.c_proj", c, config.inner);
    model.blocks.push_back(std::move(b));
  }
  model.ln_f = norm("ln_f");
  if (config.classes != 0) model.score = dense("score.weight", config.classes);
  if (!config.tied && source.contains("lm_head.weight")) model.lm_head = embedding("lm_head.weight", config.vocab, true);
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A GPT-2 whose linear layers are held as Weights.  Const members are thread safe.
template <class Weights>
class Model : public Transformer {
 public:
  using Options = ModelOptions<Weights>;  // how it is made

  Model() = default;

  // Reads a Hugging Face folder.  Weights that are held in Weights' format are taken as they are, others are decoded and quantized.
  // base: where a folder without embeddings (an int8 twin) has them.  Peak memory: the model and its largest layer.
  // Throws IoError or FormatError that name the file, tensor, expectation and finding; InvalidArgument, which names the layer, if
  // its weights cannot be quantized.
  static Model load(const std::filesystem::path& folder, const Options& options = {},
                    const std::optional<std::filesystem::path>& base = std::nullopt) {
    return Model(FolderParameters(folder, base), options);
  }
  // From any source of parameters.  Throws as load().
  explicit Model(const ParameterSource& source, const Options& options = {}) {
    detail::read_transformer(*this, source, {options.rest, options.embeddings, options.head}, options.linear,
                             [&](const std::string& name, Tensor t) { return weights(name, std::move(t), options); });
  }

 private:
  static Tensor weights(const std::string& name, Tensor t, const Options& options) {
    if (t.format() == Weights::tensor_format) return t;
    if (t.format() == Format::f32)
      return quantize(name, reinterpret_cast<const float*>(t.parts().codes.data()), t.rows(), t.cols(), options);
    AlignedBuffer<float> values(t.size());
    t.dequantize(values.data());
    return quantize(name, values.data(), t.rows(), t.cols(), options);
  }
  static Tensor quantize(const std::string& name, const float* w, std::size_t rows, std::size_t cols, const Options& options) {
#if LOWBIT_EXCEPTIONS
    try {
      return Weights::quantize(w, rows, cols, options.quantize);
    } catch (const InvalidArgument& error) {
      raise<InvalidArgument>(name + ".weight: " + error.what());
    }
#else
    static_cast<void>(name);
    return Weights::quantize(w, rows, cols, options.quantize);
#endif
  }
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
