// SPDX-License-Identifier: MIT
// A linear layer in training: y = x w^T + b with the gradients of all three, and optionally fake-quantized.
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "lowbit/qat/fake_quantize.hpp"
#include "lowbit/qat/panels.hpp"
#include "lowbit/qat/parameter.hpp"

namespace lowbit::qat::detail::inline LOWBIT_ABI {

// sums [n] += the sum of x (rows, n)'s rows, always in the same order.
inline void add_row_sums(const float* x, std::size_t rows, std::size_t n, float* sums, Executor& executor) {
  constexpr std::size_t part = 192;
  executor.run(ceil_div(n, part), [&](std::size_t i) {
    const std::size_t first = i * part;
    lowbit::detail::training_kernels().add_rows(x + first, rows, (std::min)(part, n - first), n, sums + first);
  });
}

// to (cols, to_stride) = from (rows, cols) transposed; the floats of a row from `rows` on are left alone.
inline void transpose(const float* from, std::size_t rows, std::size_t cols, std::size_t from_stride, float* to,
                      std::size_t to_stride, Executor& executor) {
  constexpr std::size_t part = 64;
  executor.run(ceil_div(cols, part), [&](std::size_t i) {
    const std::size_t first = i * part;
    lowbit::detail::kernels().transpose(from + first, rows, (std::min)(part, cols - first), from_stride, to + first * to_stride,
                                        to_stride, 1.0f);
  });
}

// gradient (n, k) += dy (T, n)^T x (T, k): the gradient of a weight in y = x w^T.
class WeightGradient {
 public:
  void add(MatrixView<const float> dy, const float* x, std::size_t k, float* gradient, Executor& executor) {
    const std::size_t tokens = dy.rows, n = dy.cols;
    const std::size_t padded = ceil_div(tokens, lowbit::detail::group_k) * lowbit::detail::group_k;
    // rows that stand a multiple of 1 KiB apart share a few sets of the cache
    const std::size_t stride = padded % 256 == 0 ? padded + 16 : padded;
    transposed_.grow(checked_mul(n, stride, "gradient"));
    transpose(dy.data, tokens, n, dy.stride, transposed_.data(), stride, executor);
    for (std::size_t i = 0; i < n && tokens != padded; ++i)
      std::fill_n(transposed_.data() + i * stride + tokens, padded - tokens, 0.0f);
    inputs_.lay_columns(x, tokens, k, k, executor);
    product(MatrixView<const float>(transposed_.data(), n, tokens, stride), inputs_, MatrixView<float>(gradient, n, k), executor,
            {}, true, true);
  }

 private:
  AlignedBuffer<float> transposed_;
  Panels inputs_;
};

}  // namespace lowbit::qat::detail::inline LOWBIT_ABI

namespace lowbit::qat::inline LOWBIT_ABI {

// T: tokens.  One call at a time.
class Linear {
 public:
  Parameter weight;  // (out, in)
  Parameter bias;    // [out]

  Linear() = default;
  // module: "transformer.h.0.attn.c_attn".
  Linear(const std::string& module, std::size_t out, std::size_t in)
      : weight(module + ".weight", out, in, true), bias(module + ".bias", 1, out, false) {
    weight.linear = true;
  }

  // Lays the weights out for forward() and, where asked, backward(); after every change of them.  They are rounded to what the
  // exported tensor holds.  rounded: scratch.
  void prepare(Quantization quantization, bool with_backward, AlignedBuffer<float>& rounded, Executor& executor) {
    quantization_ = quantization;
    with_backward_ = with_backward;
    const std::size_t out = weight.rows, in = weight.cols;
    const float* w = weight.value.data();
    if (quantization != Quantization::none) {
      rounded.grow(weight.size());
      fake_quantize_weights(quantization, w, out, in, rounded.data(), executor);
      w = rounded.data();
    }
    forward_.lay_rows(w, out, in, in, executor);
    if (with_backward) backward_.lay_columns(w, out, in, in, executor);
  }
  // y (T, out) = x w^T + b.  int8: x (T, in) is fake-quantized in place; backward() wants it so.
  void forward(float* x, std::size_t tokens, float* y, Executor& executor) const {
    if (quantization_ == Quantization::int8) fake_quantize_rows(x, tokens, weight.cols, x, executor);
    product(MatrixView<const float>(x, tokens, weight.cols), forward_, MatrixView<float>(y, tokens, weight.rows), executor,
            bias.value.span());
  }
  // From dy (T, out): adds to the gradients of weight and bias, and writes dx (T, in) unless it is null.  x: as forward() left it.
  // Throws InvalidArgument if the layer was not prepared for it.
  void backward(const float* x, const float* dy, std::size_t tokens, float* dx, detail::WeightGradient& gradient,
                Executor& executor) {
    require(with_backward_, [&] { return weight.name + ": the layer was prepared for forward() alone"; });
    const MatrixView<const float> dy_view(dy, tokens, weight.rows);
    if (dx) product(dy_view, backward_, MatrixView<float>(dx, tokens, weight.cols), executor);
    if (!weight.frozen) gradient.add(dy_view, x, weight.cols, weight.gradient.data(), executor);
    if (!bias.frozen) detail::add_row_sums(dy, tokens, weight.rows, bias.gradient.data(), executor);
  }

 private:
  Quantization quantization_ = Quantization::none;
  bool with_backward_ = false;
  Panels forward_, backward_;
};

}  // namespace lowbit::qat::inline LOWBIT_ABI
