// SPDX-License-Identifier: MIT
// The passes of qat/transformer.hpp, forward and back, and its losses.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/qat/transformer.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

inline Loss Transformer::backward(const Batch& batch, const LossOptions& options, Executor& executor) {
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

inline void Transformer::check(const Batch& batch) const {
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

inline void Transformer::forward(const Batch& batch, const LossOptions& options, bool keep, Executor& executor) {
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

inline void Transformer::select(const Batch& batch, const LossOptions& options, Executor& executor) {
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

inline void Transformer::class_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor) {
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

inline void Transformer::language_loss(const Batch& batch, const LossOptions& options, Loss& loss, Executor& executor) {
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
    product(dlogits, language_columns_, MatrixView<float>(dnormed_.data() + (first + begin) * c, n, c), executor, {}, false, true);
    if (!token_embedding.frozen) gradient_.add(dlogits, x, c, token_embedding.gradient.data(), executor);
  }
  for (const float l : losses_) loss.language += static_cast<double>(l);
  loss.language /= static_cast<double>(count);
}

inline void Transformer::block_backward(std::size_t index, const Batch& batch, const LossOptions& options, Executor& executor) {
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

}  // namespace lowbit::qat::inline LOWBIT_ABI
