// SPDX-License-Identifier: MIT
// A GPT-2 classifier in training: forward with everything that the backward pass reads, the loss, and the gradients of all
// parameters.  Linear layers of the blocks are fake-quantized where asked; everything else stays float, as in the exported model.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/qat/linear.hpp"
#include "lowbit/qat/operator_times.hpp"
#include "lowbit/qat/operators.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// Rows one behind the other: row r is ids[offsets[r] .. offsets[r+1]), offsets[0] = 0, its class labels[r].
struct Batch {
  std::vector<std::int32_t> ids;                      // of all rows
  std::vector<std::size_t> offsets;                   // [rows + 1]
  std::vector<std::int32_t> labels;                   // [rows]
  std::size_t rows() const { return labels.size(); }  // of the batch
  std::size_t tokens() const { return ids.size(); }   // of all rows together
};

// loss = mean cross-entropy of the class at each row's last token + language_weight * mean cross-entropy of the next token.
struct LossOptions {
  float label_smoothing = 0;       // of the classes
  float language_weight = 0;       // 0: no language loss
  double language_share = 1;       // of the tokens that have a successor, those whose prediction counts; drawn anew for every batch
  float dropout = 0;               // probability, of residual branches and embedding
  std::uint64_t stream = 0;        // decides what is dropped and drawn
  float scale = 1;                 // multiplies the gradients
  OperatorTimes* times = nullptr;  // where the time of operators is added; null: nowhere
};

// The loss of a batch, and its parts.
struct Loss {
  double total = 0, classes = 0, language = 0;  // means; total as LossOptions weighs them
  std::size_t right = 0;                        // rows whose largest logit is their class
};

// One layer of the model.
struct TrainedBlock {
  LayerNorm ln_1, ln_2;                                 // before attention; before the MLP
  Linear attention_in, attention_out, mlp_in, mlp_out;  // as in gpt2::Block
};

// T: tokens of a batch, C: width, V: vocabulary.  One call at a time; a call uses the executor's threads, and its result does not
// depend on how many they are.
class Transformer {
 public:
  gpt2::Config config;                            // shape
  Parameter token_embedding, position_embedding;  // (V, C), (positions, C)
  std::vector<TrainedBlock> blocks;               // [layers]
  LayerNorm ln_f;                                 // after the last block
  Parameter score;                                // (classes, C)

  // Random weights as GPT-2's: normal with deviation 0.02, those that lead into the residual stream 0.02 / sqrt(2 layers).
  // Throws InvalidArgument if the shape is none of a classifier.
  Transformer(const gpt2::Config& shape, std::uint64_t seed) : Transformer(shape) {
    const auto residual = static_cast<float>(0.02 / std::sqrt(2.0 * static_cast<double>(config.layers)));
    std::uint64_t stream = 0;
    for_each_parameter([&](Parameter& p) {
      if (p.decays) fill_normal(p.value.span(), p.name.ends_with("c_proj.weight") ? residual : 0.02f, random_stream(seed, stream));
      ++stream;
    });
  }
  // The weights of a model, decoded where they are quantized.  classes: of a new random head, for a source without one.  Throws as
  // the source does.
  explicit Transformer(const gpt2::ParameterSource& source, std::size_t classes = 0, std::uint64_t seed = 1)
      : Transformer(with_classes(source.config(), classes)) {
    const std::string prefix = "transformer.";
    for_each_parameter([&](Parameter& p) {
      const std::string name = p.name.starts_with(prefix) ? p.name.substr(prefix.size()) : p.name;
      if (p.linear)
        source.linear(name.substr(0, name.size() - std::string(".weight").size()), p.rows, p.cols).dequantize(p.value.data());
      else if (&p == &score && source.config().classes == 0)
        fill_normal(p.value.span(), 0.02f, random_stream(seed, 0));
      else
        p.value = source.floats(name, p.rows, p.cols);
    });
  }

  // visit(Parameter&), in an order that never changes.
  template <class Visit>
  void for_each_parameter(const Visit& visit) {
    const auto norm = [&](LayerNorm& n) { visit(n.gain), visit(n.shift); };
    const auto linear = [&](Linear& l) { visit(l.weight), visit(l.bias); };
    visit(token_embedding);
    visit(position_embedding);
    for (TrainedBlock& b : blocks) {
      norm(b.ln_1);
      linear(b.attention_in);
      linear(b.attention_out);
      norm(b.ln_2);
      linear(b.mlp_in);
      linear(b.mlp_out);
    }
    norm(ln_f);
    visit(score);
  }
  // Numbers in all parameters.
  std::size_t parameter_count() {
    std::size_t n = 0;
    for_each_parameter([&](const Parameter& p) { n += p.size(); });
    return n;
  }
  // Sets all gradients to 0.
  void clear_gradients() {
    for_each_parameter([](Parameter& p) { std::fill(p.gradient.begin(), p.gradient.end(), 0.0f); });
  }

  // Lays out the weights; before anything else, and after every change of them.
  void prepare(Quantization quantization, bool with_backward, Executor& executor, OperatorTimes* times = nullptr) {
    const detail::Timer timer(times, "laying out weights");
    executor.run(4 * blocks.size(), [&](std::size_t i) {
      TrainedBlock& b = blocks[i / 4];
      Linear* const layers[] = {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out};
      const lowbit::detail::PerThread<RoundedWeights> rounded;
      SerialExecutor serial;
      layers[i % 4]->prepare(quantization, with_backward, rounded->values, serial);
    });
    score_rows_.lay_rows(score.value.data(), score.rows, score.cols, score.cols, executor);
  }

  // logits (rows, classes) of the batch, without dropout.  Throws InvalidArgument if the batch is none.
  void classify(const Batch& batch, std::span<float> logits, Executor& executor) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    check(batch);
    require(logits.size() == batch.rows() * config.classes,
            [&] { return "classify: room for " + decimal(logits.size()) + " logits"; });
    forward(batch, {}, false, executor);
    select(batch, {}, executor);
    product(MatrixView<const float>(normed_.data(), batch.rows(), config.width), score_rows_,
            MatrixView<float>(logits.data(), batch.rows(), config.classes), executor);
  }

  // The loss of a batch; adds its gradient to every parameter's that is not frozen.  Throws InvalidArgument if the batch is none.
  Loss backward(const Batch& batch, const LossOptions& options, Executor& executor);

 private:
  struct RoundedWeights {  // of one thread
    AlignedBuffer<float> values;
  };
  struct BlockState {
    AlignedBuffer<float> x, normed_1, qkv, attended, middle, normed_2, inner, activated;
  };

  explicit Transformer(const gpt2::Config& shape) : config(shape) {
    require(config.layers != 0 && config.heads != 0 && config.width != 0 && config.width % config.heads == 0 && config.inner != 0 &&
                config.positions != 0 && config.vocab != 0 && config.classes != 0 && config.tied,
            [&] {
              return "training: expected a classifier with tied embeddings, its width a multiple of its heads; found " +
                     decimal(config.layers) + " layers, " + decimal(config.heads) + " heads, width " + decimal(config.width) +
                     ", " + decimal(config.positions) + " positions, vocabulary " + decimal(config.vocab) + ", " +
                     decimal(config.classes) + " classes" + (config.tied ? "" : ", a head of its own");
            });
    require(config.activation == Activation::gelu_tanh, [] { return std::string("training: expected the activation gelu_new"); });
    const std::size_t c = config.width;
    token_embedding = Parameter("transformer.wte.weight", config.vocab, c, true);
    position_embedding = Parameter("transformer.wpe.weight", config.positions, c, true);
    for (std::size_t i = 0; i < config.layers; ++i) {
      const std::string h = "transformer.h." + decimal(i) + ".";
      TrainedBlock b;
      b.ln_1 = LayerNorm(h + "ln_1", c);
      b.attention_in = Linear(h + "attn.c_attn", 3 * c, c);
      b.attention_out = Linear(h + "attn.c_proj", c, c);
      b.ln_2 = LayerNorm(h + "ln_2", c);
      b.mlp_in = Linear(h + "mlp.c_fc", config.inner, c);
      b.mlp_out = Linear(h + "mlp.c_proj", c, config.inner);
      blocks.push_back(std::move(b));
    }
    ln_f = LayerNorm("transformer.ln_f", c);
    score = Parameter("score.weight", config.classes, c, true);
  }

  static gpt2::Config with_classes(gpt2::Config shape, std::size_t classes) {
    if (shape.classes == 0) shape.classes = classes;
    return shape;
  }
  // Box-Muller.
  static void fill_normal(std::span<float> values, float deviation, std::uint64_t stream) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double radius = std::sqrt(-2 * std::log(1 - random_unit(stream, 2 * i)));
      values[i] = static_cast<float>(radius * std::cos(2 * std::numbers::pi * random_unit(stream, 2 * i + 1))) * deviation;
    }
  }

  void check(const Batch& batch) const;

  static Dropout dropout(const LossOptions& o, std::uint64_t place) { return {o.dropout, random_stream(o.stream, place)}; }
  double linear_flops(const Linear& l, std::size_t tokens) const { return 2.0 * static_cast<double>(l.weight.size() * tokens); }
  double attention_flops(const Batch& batch) const {  // of one product over the causal half
    double squares = 0;
    for (std::size_t r = 0; r < batch.rows(); ++r)
      squares += std::pow(static_cast<double>(batch.offsets[r + 1] - batch.offsets[r]), 2);
    return squares * static_cast<double>(config.width);
  }

  // Leaves the residual stream behind the last block in x_.  keep: every block's state, for the backward pass.
  void forward(const Batch& batch, const LossOptions& options, bool keep, Executor& executor);

  // The tokens that are read: each row's last, then those whose successor is predicted; their rows of x_, normalized.
  void select(const Batch& batch, const LossOptions& options, Executor& executor);

  void class_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor);

  // By chunks of tokens: the logits of all of them at once would be the largest thing in memory.
  void language_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor);

  // dx_ (T, C): from the gradient behind block b to the one in front of it.
  void block_backward(std::size_t index, const Batch& batch, const LossOptions& options, Executor& executor);

  std::vector<BlockState> states_;
  AlignedBuffer<float> x_, temporary_, gathered_, normed_, logits_, language_logits_;
  AlignedBuffer<float> dx_, dbranch_, dnorm_, dwide_, dnormed_, dgathered_;
  std::vector<std::size_t> selected_;
  std::vector<std::int32_t> targets_;
  std::vector<float> losses_;
  Panels score_rows_, score_columns_, language_rows_, language_columns_;
  detail::WeightGradient gradient_;
};

}  // namespace lowbit::qat::inline LOWBIT_ABI

#include "lowbit/qat/transformer-inl.hpp"
