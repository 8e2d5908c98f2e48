// SPDX-License-Identifier: MIT
// A linear layer: weights in some format, packed where the layout allows it, a bias, and how to compute.
#pragma once
#include <optional>
#include <utility>

#include "lowbit/matmul.hpp"

namespace lowbit {

// Everything about a product that a model decides per layer.
struct LinearOptions {
  std::optional<Compute> compute = std::nullopt;
  float outlier_threshold = 6.0f;
  Outliers outliers = Outliers::per_row;
  bool round_activations_to_fp16 = false;
  bool pack = true;  // false: keep the canonical bytes and run on them
};

class Linear {
 public:
  Linear() = default;
  // bias: [weights.rows()] or empty.  The canonical weights are freed once they are packed.
  Linear(Tensor weights, AlignedBuffer<float> bias, const LinearOptions& options = {}) : options_(options), bias_(std::move(bias)) {
    require(bias_.empty() || bias_.size() == weights.rows(), [&] {
      return "linear layer: bias has " + std::to_string(bias_.size()) + " elements, the weights are " +
             shape_string(weights.rows(), weights.cols());
    });
    if (options.pack && weights.rows() != 0 && PackedTensor::packable(weights))
      packed_ = PackedTensor::pack(weights);
    else
      canonical_ = std::move(weights);
  }

  bool packed() const { return packed_.rows() != 0; }
  Format format() const { return packed() ? packed_.format() : canonical_.format(); }
  std::size_t rows() const { return packed() ? packed_.rows() : canonical_.rows(); }
  std::size_t cols() const { return packed() ? packed_.cols() : canonical_.cols(); }
  std::size_t element_bytes() const { return packed() ? packed_.element_bytes() : canonical_.element_bytes(); }
  std::size_t resident_bytes() const { return packed_.resident_bytes() + canonical_.resident_bytes() + bias_.size_bytes(); }
  std::span<const float> bias() const { return bias_.span(); }
  const LinearOptions& options() const { return options_; }

  // y (m, out) = activation(x (m, in) w^T + bias) + residual.  Returns what ran; throws as matmul does.  Thread safe.
  // next: receives y as the input of the layer behind; y may then be without data.
  MatmulPlan forward(MatrixView<const float> x, MatrixView<float> y, Executor& executor, Activation activation = Activation::none,
                     MatrixView<const float> residual = {}, PreparedInput* next = nullptr) const {
    return multiply(x, y, executor, activation, residual, next);
  }
  // The same on input that stands as this layer reads it, see shape().
  MatmulPlan forward(const PreparedInput& x, MatrixView<float> y, Executor& executor, Activation activation = Activation::none,
                     MatrixView<const float> residual = {}, PreparedInput* next = nullptr) const {
    return multiply(x, y, executor, activation, residual, next);
  }
  // Gives `input` the form that forward() reads, for prepare_input() or the layer in front to fill.  Its memory is kept.
  void shape(PreparedInput& input) const {
    packed() ? shape_input(input, packed_, matmul_options()) : shape_input(input, canonical_, matmul_options());
  }
  // What forward() runs.
  MatmulPlan plan() const { return packed() ? plan_matmul(packed_, matmul_options()) : plan_matmul(canonical_, matmul_options()); }

 private:
  template <class X>
  MatmulPlan multiply(const X& x, MatrixView<float> y, Executor& executor, Activation activation, MatrixView<const float> residual,
                      PreparedInput* next) const {
    MatmulOptions o = matmul_options();
    o.bias = bias_.span();
    o.residual = residual;
    o.activation = activation;
    o.executor = &executor;
    o.next = next;
    return packed() ? matmul(x, packed_, y, o) : matmul(x, canonical_, y, o);
  }
  MatmulOptions matmul_options() const {
    MatmulOptions o;
    o.compute = options_.compute;
    o.outlier_threshold = options_.outlier_threshold;
    o.outliers = options_.outliers;
    o.round_activations_to_fp16 = options_.round_activations_to_fp16;
    return o;
  }
  LinearOptions options_;
  Tensor canonical_;
  PackedTensor packed_;
  AlignedBuffer<float> bias_;
};

}  // namespace lowbit
