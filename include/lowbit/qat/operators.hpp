// SPDX-License-Identifier: MIT
// The operators of a GPT-2 beside its linear layers, forward and backward: layer normalization, GELU, causal attention, embedding,
// dropout and cross-entropy.  T: tokens of all rows of a batch together, C: width.  Every result is the same for any number of
// threads: sums over tokens run in fixed parts, in order.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "lowbit/gpt2/attention.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/qat/parameter.hpp"

namespace lowbit::qat::detail::inline LOWBIT_ABI {
// part(begin, end) over [0, n) in runs of `grain`.
template <class Part>
void for_runs(std::size_t n, std::size_t grain, Executor& executor, const Part& part) {
  executor.run(ceil_div(n, grain), [&](std::size_t i) { part(i * grain, (std::min)(n, (i + 1) * grain)); });
}
inline constexpr std::size_t float_grain = std::size_t{1} << 15;

}  // namespace lowbit::qat::detail::inline LOWBIT_ABI

namespace lowbit::qat::inline LOWBIT_ABI {

// Layer normalization with its gradients.
struct LayerNorm {
  Parameter gain, shift;  // [C]

  LayerNorm() = default;
  // Gain 1, shift 0, named MODULE.weight and MODULE.bias.
  LayerNorm(const std::string& module, std::size_t width)
      : gain(module + ".weight", 1, width, false), shift(module + ".bias", 1, width, false) {
    for (float& g : gain.value) g = 1;
  }
  // y (T, C) = normalized x (T, C).
  void forward(const float* x, std::size_t tokens, float epsilon, float* y, Executor& executor) const {
    detail::for_runs(tokens, 64, executor, [&](std::size_t begin, std::size_t end) {
      lowbit::detail::LayerNormArgs a;
      a.n = gain.cols;
      a.x = x + begin * a.n;
      a.out = y + begin * a.n;
      a.gain = gain.value.data();
      a.shift = shift.value.data();
      a.rows = end - begin;
      a.epsilon = epsilon;
      lowbit::detail::transformer_kernels().layer_norm(a);
    });
  }
  // dx (T, C) += (or =) the gradient that dy (T, C) sends to x; adds to those of gain and shift.
  void backward(const float* x, const float* dy, std::size_t tokens, float epsilon, float* dx, bool add, Executor& executor) {
    constexpr std::size_t most_parts = 16;
    const std::size_t n = gain.cols, parts = (std::min<std::size_t>)(most_parts, ceil_div(tokens, 8));
    sums_.reset(parts * 2 * n);
    executor.run(parts, [&](std::size_t i) {
      const std::size_t begin = tokens * i / parts, end = tokens * (i + 1) / parts;
      lowbit::detail::LayerNormBackwardArgs a;
      a.n = n;
      a.x = x + begin * n;
      a.dy = dy + begin * n;
      a.dx = dx + begin * n;
      a.gain = gain.value.data();
      a.dgain = sums_.data() + i * 2 * n;
      a.dshift = a.dgain + n;
      a.rows = end - begin;
      a.epsilon = epsilon;
      a.add = add;
      lowbit::detail::training_kernels().layer_norm_backward(a);
    });
    const lowbit::detail::DefaultFloatEnvironment environment;
    const lowbit::detail::TrainingKernels& kernel = lowbit::detail::training_kernels();
    if (!gain.frozen) kernel.add_rows(sums_.data(), parts, n, 2 * n, gain.gradient.data());
    if (!shift.frozen) kernel.add_rows(sums_.data() + n, parts, n, 2 * n, shift.gradient.data());
  }

 private:
  AlignedBuffer<float> sums_;
};

// y [n] = gelu_new(x).
inline void gelu(const float* x, std::size_t n, float* y, Executor& executor) {
  detail::for_runs(n, detail::float_grain, executor, [&](std::size_t begin, std::size_t end) {
    lowbit::detail::training_kernels().gelu(x + begin, y + begin, end - begin);
  });
}
// dx [n] = dy * gelu_new'(x); dx may be dy.
inline void gelu_backward(const float* x, const float* dy, std::size_t n, float* dx, Executor& executor) {
  detail::for_runs(n, detail::float_grain, executor, [&](std::size_t begin, std::size_t end) {
    lowbit::detail::training_kernels().gelu_backward(x + begin, dy + begin, dx + begin, end - begin);
  });
}

// out (T, C) from qkv (T, 3C), row r of the batch being tokens [offsets[r], offsets[r+1]); as the model runs it.
using gpt2::attention;
// dqkv (T, 3C) from dout (T, C).
inline void attention_backward(const float* qkv, const float* dout, std::span<const std::size_t> offsets, std::size_t heads,
                               std::size_t width, float* dqkv, Executor& executor) {
  gpt2::for_each_head(offsets, heads, width, executor, [&](const gpt2::HeadPlace& p) {
    const lowbit::detail::PerThread<gpt2::AttentionScratch> scratch;
    auto a = p.args<lowbit::detail::AttentionBackwardArgs>(qkv);
    a.dq = dqkv + p.q;
    a.dk = dqkv + p.k;
    a.dv = dqkv + p.v;
    a.dout = dout + p.out;
    scratch->floats.grow(lowbit::detail::attention_backward_scratch_floats(p.positions, p.depth));
    a.scratch = scratch->floats.data();
    lowbit::detail::training_kernels().attention_backward(a);
  });
}

// x (T, C): token embedding (vocab, C) of ids [T] + position embedding (positions, C) of the place in the row.
inline void embed(const Parameter& tokens, const Parameter& positions, std::span<const std::int32_t> ids,
                  std::span<const std::size_t> offsets, float* x, Executor& executor) {
  const std::size_t c = tokens.cols;
  executor.run(offsets.size() - 1, [&](std::size_t r) {
    for (std::size_t t = offsets[r]; t < offsets[r + 1]; ++t) {
      const float* e = tokens.value.data() + static_cast<std::size_t>(ids[t]) * c;
      const float* p = positions.value.data() + (t - offsets[r]) * c;
      for (std::size_t i = 0; i < c; ++i) x[t * c + i] = e[i] + p[i];
    }
  });
}
// Adds dx (T, C) to the gradients of both tables.
inline void embed_backward(Parameter& tokens, Parameter& positions, std::span<const std::int32_t> ids,
                           std::span<const std::size_t> offsets, const float* dx, Executor& executor) {
  const std::size_t c = tokens.cols;
  constexpr std::size_t part = 64;  // columns, so that no two threads add to the same number
  executor.run(ceil_div(c, part), [&](std::size_t piece) {
    const std::size_t begin = piece * part, end = (std::min)(c, begin + part);
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
      for (std::size_t t = offsets[r]; t < offsets[r + 1]; ++t) {
        const float* d = dx + t * c;
        const auto add_to = [&](Parameter& table, std::size_t row) {
          if (table.frozen) return;
          float* g = table.gradient.data() + row * c;
          for (std::size_t i = begin; i < end; ++i) g[i] += d[i];
        };
        add_to(tokens, static_cast<std::size_t>(ids[t]));
        add_to(positions, t - offsets[r]);
      }
  });
}

// Dropout: element i survives, divided by 1 - probability, by a number that `stream` and i decide; so the backward pass needs no
// mask.  Used on residual branches and on the embedding, as GPT-2 does (resid_pdrop, embd_pdrop); attention weights are not
// dropped.
struct Dropout {
  float probability = 0;     // in [0, 1)
  std::uint64_t stream = 0;  // decides what is dropped

  // y [n] = dropped x (+ residual where there is one); y may be x or residual.
  void apply(const float* x, const float* residual, std::size_t n, float* y, Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    const auto limit = static_cast<std::uint32_t>(static_cast<double>(probability) * 4294967296.0);
    const float factor = 1.0f / (1.0f - probability);
    detail::for_runs(n, detail::float_grain, executor, [&](std::size_t begin, std::size_t end) {
      if (limit == 0) {
        for (std::size_t i = begin; i < end; ++i) y[i] = residual ? x[i] + residual[i] : x[i];
        return;
      }
      std::uint64_t bits = 0;
      for (std::size_t i = begin; i < end; ++i) {  // two decisions per number; runs begin at even places
        bits = i % 2 == 0 ? random_bits(stream, i / 2) : bits >> 32;
        const float kept = static_cast<std::uint32_t>(bits) < limit ? 0.0f : x[i] * factor;
        y[i] = residual ? kept + residual[i] : kept;
      }
    });
  }
};

}  // namespace lowbit::qat::inline LOWBIT_ABI
