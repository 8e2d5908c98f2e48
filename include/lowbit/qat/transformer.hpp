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
#include <vector>

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
  Loss backward(const Batch& batch, const LossOptions& options, Executor& executor) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    check(batch);
    require(options.dropout >= 0 && options.dropout < 1 && options.label_smoothing >= 0 && options.label_smoothing <= 1 &&
                options.language_weight >= 0 && std::isfinite(options.language_weight) && options.language_share >= 0 &&
                options.language_share <= 1 && std::isfinite(options.scale),
            [] {
              return std::string(
                  "training: expected dropout in [0, 1), label smoothing and language share in [0, 1], a language "
                  "weight from 0 on and a finite scale");
            });
    forward(batch, options, true, executor);
    select(batch, options, executor);
    const std::size_t tokens = batch.tokens(), c = config.width;
    dnormed_.grow(selected_.size() * c);
    Loss loss;
    class_loss(batch, options, loss, executor);
    if (selected_.size() > batch.rows()) language_loss(batch, options, loss, executor);
    loss.total = loss.classes + static_cast<double>(options.language_weight) * loss.language;

    dx_.grow(tokens * c);
    {
      const detail::Timer timer(options.times, "norms");
      dgathered_.grow(selected_.size() * c);
      ln_f.backward(gathered_.data(), dnormed_.data(), selected_.size(), config.epsilon, dgathered_.data(), false, executor);
      std::fill_n(dx_.data(), tokens * c, 0.0f);
      for (std::size_t i = 0; i < selected_.size(); ++i)
        for (std::size_t j = 0; j < c; ++j) dx_[selected_[i] * c + j] += dgathered_[i * c + j];
    }
    for (std::size_t b = blocks.size(); b != 0; --b) block_backward(b - 1, batch, options, executor);
    const detail::Timer timer(options.times, "embedding, dropout, residuals");
    dropout(options, 0).apply(dx_.data(), nullptr, tokens * c, dx_.data(), executor);
    embed_backward(token_embedding, position_embedding, batch.ids, batch.offsets, dx_.data(), executor);
    return loss;
  }

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

  void check(const Batch& batch) const {
    require(batch.rows() != 0 && batch.offsets.size() == batch.rows() + 1 && batch.offsets.front() == 0 &&
                batch.offsets.back() == batch.ids.size(),
            [&] {
              return "training batch: expected offsets from 0 to " + decimal(batch.ids.size()) + " for " + decimal(batch.rows()) +
                     " rows, found " + decimal(batch.offsets.size()) + " offsets";
            });
    for (std::size_t r = 0; r < batch.rows(); ++r) {
      require(batch.offsets[r] < batch.offsets[r + 1] && batch.offsets[r + 1] - batch.offsets[r] <= config.positions, [&] {
        return "training batch: row " + decimal(r) + " is empty or longer than " + decimal(config.positions) + " tokens";
      });
      require(batch.labels[r] >= 0 && static_cast<std::size_t>(batch.labels[r]) < config.classes, [&] {
        return "training batch: row " + decimal(r) + ": expected a class below " + decimal(config.classes) + ", found " +
               decimal(batch.labels[r]);
      });
    }
    for (const std::int32_t id : batch.ids)
      require(id >= 0 && static_cast<std::size_t>(id) < config.vocab,
              [&] { return "training batch: expected token ids below " + decimal(config.vocab) + ", found " + decimal(id); });
  }

  static Dropout dropout(const LossOptions& o, std::uint64_t place) { return {o.dropout, random_stream(o.stream, place)}; }
  double linear_flops(const Linear& l, std::size_t tokens) const { return 2.0 * static_cast<double>(l.weight.size() * tokens); }
  double attention_flops(const Batch& batch) const {  // of one product over the causal half
    double squares = 0;
    for (std::size_t r = 0; r < batch.rows(); ++r)
      squares += std::pow(static_cast<double>(batch.offsets[r + 1] - batch.offsets[r]), 2);
    return squares * static_cast<double>(config.width);
  }

  // Leaves the residual stream behind the last block in x_.  keep: every block's state, for the backward pass.
  void forward(const Batch& batch, const LossOptions& options, bool keep, Executor& executor) {
    const std::size_t tokens = batch.tokens(), c = config.width;
    OperatorTimes* times = options.times;
    states_.resize((std::max<std::size_t>)(states_.size(), keep ? blocks.size() : 1));
    x_.grow(tokens * c);
    temporary_.grow(tokens * c);
    {
      const detail::Timer timer(times, "embedding, dropout, residuals");
      embed(token_embedding, position_embedding, batch.ids, batch.offsets, x_.data(), executor);
      if (options.dropout > 0) dropout(options, 0).apply(x_.data(), nullptr, tokens * c, x_.data(), executor);
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const TrainedBlock& b = blocks[i];
      BlockState& s = states_[keep ? i : 0];
      for (AlignedBuffer<float>* buffer : {&s.x, &s.normed_1, &s.attended, &s.middle, &s.normed_2}) buffer->grow(tokens * c);
      s.qkv.grow(tokens * 3 * c);
      s.inner.grow(tokens * config.inner);
      s.activated.grow(tokens * config.inner);
      std::copy_n(x_.data(), tokens * c, s.x.data());
      const auto norm = [&](const LayerNorm& n, const float* x, float* y) {
        const detail::Timer timer(times, "norms");
        n.forward(x, tokens, config.epsilon, y, executor);
      };
      const auto linear = [&](const Linear& l, float* x, float* y) {
        const detail::Timer timer(times, "linear layers, forward", linear_flops(l, tokens));
        l.forward(x, tokens, y, executor);
      };
      const auto residual = [&](std::uint64_t place, const float* x, float* y) {
        const detail::Timer timer(times, "embedding, dropout, residuals");
        dropout(options, place).apply(temporary_.data(), x, tokens * c, y, executor);
      };
      norm(b.ln_1, s.x.data(), s.normed_1.data());
      linear(b.attention_in, s.normed_1.data(), s.qkv.data());
      {
        const detail::Timer timer(times, "attention, forward", 2 * attention_flops(batch));
        attention(s.qkv.data(), batch.offsets, config.heads, c, s.attended.data(), executor);
      }
      linear(b.attention_out, s.attended.data(), temporary_.data());
      residual(2 * i + 1, s.x.data(), s.middle.data());
      norm(b.ln_2, s.middle.data(), s.normed_2.data());
      linear(b.mlp_in, s.normed_2.data(), s.inner.data());
      {
        const detail::Timer timer(times, "gelu");
        gelu(s.inner.data(), tokens * config.inner, s.activated.data(), executor);
      }
      linear(b.mlp_out, s.activated.data(), temporary_.data());
      residual(2 * i + 2, s.middle.data(), x_.data());
    }
  }

  // The tokens that are read: each row's last, then those whose successor is predicted; their rows of x_, normalized.
  void select(const Batch& batch, const LossOptions& options, Executor& executor) {
    selected_.clear();
    targets_.clear();
    for (std::size_t r = 0; r < batch.rows(); ++r) selected_.push_back(batch.offsets[r + 1] - 1);
    if (options.language_weight > 0) {
      const std::uint64_t stream = random_stream(options.stream, 2 * blocks.size() + 1);
      for (std::size_t r = 0; r < batch.rows(); ++r)
        for (std::size_t t = batch.offsets[r]; t + 1 < batch.offsets[r + 1]; ++t)
          if (options.language_share >= 1 || random_unit(stream, t) < options.language_share) {
            selected_.push_back(t);
            targets_.push_back(batch.ids[t + 1]);
          }
    }
    const std::size_t c = config.width;
    gathered_.grow(selected_.size() * c);
    normed_.grow(selected_.size() * c);
    for (std::size_t i = 0; i < selected_.size(); ++i) std::copy_n(x_.data() + selected_[i] * c, c, gathered_.data() + i * c);
    const detail::Timer timer(options.times, "norms");
    ln_f.forward(gathered_.data(), selected_.size(), config.epsilon, normed_.data(), executor);
  }

  void class_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor) {
    const detail::Timer timer(options.times, "class head");
    const std::size_t rows = batch.rows(), c = config.width, classes = config.classes;
    logits_.grow(rows * classes);
    product(MatrixView<const float>(normed_.data(), rows, c), score_rows_, MatrixView<float>(logits_.data(), rows, classes),
            executor);
    for (std::size_t r = 0; r < rows; ++r) {
      float* logits = logits_.data() + r * classes;
      const auto label = static_cast<std::size_t>(batch.labels[r]);
      if (static_cast<std::size_t>(std::max_element(logits, logits + classes) - logits) == label) ++loss.right;
      const float factor = options.scale / static_cast<float>(rows);
      loss.classes += static_cast<double>(
          lowbit::detail::training_kernels().cross_entropy(logits, classes, label, options.label_smoothing, factor));
    }
    loss.classes /= static_cast<double>(rows);
    score_columns_.lay_columns(score.value.data(), classes, c, c, executor);
    product(MatrixView<const float>(logits_.data(), rows, classes), score_columns_, MatrixView<float>(dnormed_.data(), rows, c),
            executor);
    if (!score.frozen)
      gradient_.add(MatrixView<const float>(logits_.data(), rows, classes), normed_.data(), c, score.gradient.data(), executor);
  }

  // By chunks of tokens: the logits of all of them at once would be the largest thing in memory.
  void language_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor) {
    constexpr std::size_t chunk = 256;
    const std::size_t stride = ceil_div(config.vocab, lowbit::detail::group_k) * lowbit::detail::group_k;
    const std::size_t first = batch.rows(), count = selected_.size() - first, c = config.width, v = config.vocab;
    const float factor = options.scale * options.language_weight / static_cast<float>(count);
    const detail::Timer timer(options.times, "language head", 6.0 * static_cast<double>(count * c * v));
    language_rows_.lay_rows(token_embedding.value.data(), v, c, c, executor);
    language_columns_.lay_columns(token_embedding.value.data(), v, c, c, executor);
    losses_.assign(count, 0.0f);
    for (std::size_t begin = 0; begin < count; begin += chunk) {
      const std::size_t n = (std::min)(chunk, count - begin);
      const float* x = normed_.data() + (first + begin) * c;
      language_logits_.grow(n * stride);
      float* logits = language_logits_.data();
      product(MatrixView<const float>(x, n, c), language_rows_, MatrixView<float>(logits, n, v, stride), executor);
      executor.run(n, [&](std::size_t i) {
        std::fill_n(logits + i * stride + v, stride - v, 0.0f);
        losses_[begin + i] = lowbit::detail::training_kernels().cross_entropy(
            logits + i * stride, v, static_cast<std::size_t>(targets_[begin + i]), 0.0f, factor);
      });
      const MatrixView<const float> dlogits(logits, n, v, stride);
      product(dlogits, language_columns_, MatrixView<float>(dnormed_.data() + (first + begin) * c, n, c), executor, {}, false,
              true);
      if (!token_embedding.frozen) gradient_.add(dlogits, x, c, token_embedding.gradient.data(), executor);
    }
    for (const float l : losses_) loss.language += static_cast<double>(l);
    loss.language /= static_cast<double>(count);
  }

  // dx_ (T, C): from the gradient behind block b to the one in front of it.
  void block_backward(std::size_t index, const Batch& batch, const LossOptions& options, Executor& executor) {
    TrainedBlock& b = blocks[index];
    const BlockState& s = states_[index];
    const std::size_t tokens = batch.tokens(), c = config.width;
    OperatorTimes* times = options.times;
    dbranch_.grow(tokens * c);
    dnorm_.grow(tokens * c);
    dwide_.grow(tokens * (std::max)(3 * c, config.inner));
    const auto branch = [&](std::uint64_t place) {
      if (options.dropout <= 0) return dx_.data();
      const detail::Timer timer(times, "embedding, dropout, residuals");
      dropout(options, place).apply(dx_.data(), nullptr, tokens * c, dbranch_.data(), executor);
      return dbranch_.data();
    };
    const auto linear = [&](Linear& l, const AlignedBuffer<float>& x, const float* dy, float* dx) {
      const detail::Timer timer(times, "linear layers, backward", linear_flops(l, tokens) * (l.weight.frozen ? 1 : 2));
      l.backward(x.data(), dy, tokens, dx, gradient_, executor);
    };
    const auto norm = [&](LayerNorm& n, const AlignedBuffer<float>& x) {
      const detail::Timer timer(times, "norms");
      n.backward(x.data(), dnorm_.data(), tokens, config.epsilon, dx_.data(), true, executor);
    };
    linear(b.mlp_out, s.activated, branch(2 * index + 2), dwide_.data());
    {
      const detail::Timer timer(times, "gelu");
      gelu_backward(s.inner.data(), dwide_.data(), tokens * config.inner, dwide_.data(), executor);
    }
    linear(b.mlp_in, s.normed_2, dwide_.data(), dnorm_.data());
    norm(b.ln_2, s.middle);
    linear(b.attention_out, s.attended, branch(2 * index + 1), dnorm_.data());
    {
      const detail::Timer timer(times, "attention, backward", 5 * attention_flops(batch));
      attention_backward(s.qkv.data(), dnorm_.data(), batch.offsets, config.heads, c, dwide_.data(), executor);
    }
    linear(b.attention_in, s.normed_1, dwide_.data(), dnorm_.data());
    norm(b.ln_1, s.x);
  }

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
