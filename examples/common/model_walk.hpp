// SPDX-License-Identifier: MIT
// A forward pass of GPT-2 with a clock at every operator, on the model's own layers and real activations.
#pragma once
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lowbit/gpt2/transformer.hpp"

namespace examples {

enum class Operator { embedding, layer_norm, attention, attention_in, attention_out, mlp_in, mlp_out, score };
inline constexpr std::array operator_names = {"embedding",     "layer norm", "attention", "attention_in",
                                              "attention_out", "mlp_in",     "mlp_out",   "score"};
using OperatorTimes = std::array<double, operator_names.size()>;  // seconds

class ModelWalk {
 public:
  ModelWalk(const lowbit::gpt2::Transformer& net, std::size_t tokens, lowbit::Executor& executor)
      : net_(net),
        executor_(executor),
        tokens_(tokens),
        x_(tokens * net.config.width),
        normed_(x_.size()),
        attended_(x_.size()),
        wide_(tokens * std::max(3 * net.config.width, net.config.inner)),
        scratch_(wide_.size()) {}

  // Called before every linear layer, in order, with its input (tokens, in); may be empty.
  std::function<void(const lowbit::Linear&, lowbit::MatrixView<const float>)> before_product;

  // One pass.  bare: products are timed without what is fused into them (GELU, residual), which then follows untimed.
  OperatorTimes run(std::span<const std::int32_t> ids, bool bare) {
    using lowbit::Activation;
    using lowbit::MatrixView;
    times_ = {};
    const std::size_t c = net_.config.width, inner = net_.config.inner;
    const MatrixView<float> x(x_.data(), tokens_, c), normed(normed_.data(), tokens_, c), attended(attended_.data(), tokens_, c),
        qkv(wide_.data(), tokens_, 3 * c), hidden(wide_.data(), tokens_, inner);
    const auto product = [&](Operator o, const lowbit::Linear& l, MatrixView<float> in, MatrixView<float> out,
                             Activation activation, MatrixView<const float> residual) {
      if (before_product) before_product(l, in);
      if (bare) clock(o, [&] { l.forward(in, {scratch_.data(), tokens_, l.rows()}, {}, {&executor_}); });
      const auto whole = [&] { l.forward(in, out, {activation, residual}, {&executor_}); };
      if (bare)
        whole();
      else
        clock(o, whole);
    };
    clock(Operator::embedding, [&] { embed(ids); });
    for (const lowbit::gpt2::Block& b : net_.blocks) {
      clock(Operator::layer_norm, [&] { layer_norm(b.ln_1, tokens_, x_.data(), normed_.data()); });
      product(Operator::attention_in, b.attention_in, normed, qkv, Activation::none, {});
      clock(Operator::attention, [&] { attention(); });
      product(Operator::attention_out, b.attention_out, attended, x, Activation::none, x);
      clock(Operator::layer_norm, [&] { layer_norm(b.ln_2, tokens_, x_.data(), normed_.data()); });
      product(Operator::mlp_in, b.mlp_in, normed, hidden, net_.config.activation, {});
      product(Operator::mlp_out, b.mlp_out, hidden, x, Activation::none, x);
    }
    if (net_.config.classes == 0) return times_;
    clock(Operator::layer_norm, [&] { layer_norm(net_.ln_f, 1, x.row(tokens_ - 1), normed_.data()); });
    clock(Operator::score, [&] {
      logits_.resize(net_.config.classes);
      lowbit::MatmulOptions o;
      o.compute = lowbit::Compute::f32;  // as the model does
      o.executor = &executor_;
      lowbit::matmul(MatrixView<const float>(normed_.data(), 1, c), net_.score, {logits_.data(), 1, logits_.size()}, o);
    });
    return times_;
  }
  // Of the last pass; must be those of classify().  Empty for a model without classes.
  const std::vector<float>& logits() const { return logits_; }

 private:
  template <class Action>
  void clock(Operator o, const Action& action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    times_[static_cast<std::size_t>(o)] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  void embed(std::span<const std::int32_t> ids) {
    const std::size_t c = net_.config.width;
    for (std::size_t t = 0; t < tokens_; ++t) {
      float* out = x_.data() + t * c;
      const auto id = static_cast<std::size_t>(ids[t]);
      net_.token_embedding.dequantize_rows(id, id + 1, out);
      net_.position_embedding.dequantize_rows(t, t + 1, scratch_.data());
      for (std::size_t i = 0; i < c; ++i) out[i] += scratch_[i];
    }
  }
  void layer_norm(const lowbit::gpt2::LayerNorm& n, std::size_t rows, const float* x, float* out) {
    const std::size_t c = net_.config.width, parts = std::max<std::size_t>(1, std::min(executor_.concurrency(), rows / 16));
    executor_.run(parts, [&](std::size_t i) {
      const std::size_t begin = rows * i / parts, end = rows * (i + 1) / parts;
      lowbit::detail::LayerNormArgs a;
      a.x = x + begin * c;
      a.out = out + begin * c;
      a.gain = n.gain.data();
      a.shift = n.shift.data();
      a.rows = end - begin;
      a.n = c;
      a.epsilon = net_.config.epsilon;
      lowbit::detail::transformer_kernels().layer_norm(a);
    });
  }
  void attention() {
    const std::size_t offsets[] = {0, tokens_};
    lowbit::gpt2::attention(wide_.data(), offsets, net_.config.heads, net_.config.width, attended_.data(), executor_);
  }

  const lowbit::gpt2::Transformer& net_;
  lowbit::Executor& executor_;
  std::size_t tokens_;
  std::vector<float> x_, normed_, attended_, wide_, scratch_, logits_;
  OperatorTimes times_{};
};

}  // namespace examples
