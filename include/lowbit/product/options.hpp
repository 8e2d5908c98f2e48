// SPDX-License-Identifier: MIT
// What a caller says of a product, in three groups: what belongs to the weights, what follows the product, what belongs to the call.
#pragma once
#include <cstddef>
#include <span>

#include "lowbit/base/view.hpp"
#include "lowbit/compute.hpp"

namespace lowbit::inline LOWBIT_ABI {

class Executor;
class PreparedInput;
class Workspace;

// What belongs to the weights: decided once for a layer.
struct ComputeOptions {
  Compute compute = Compute::automatic;    // arithmetic of the product
  float outlier_threshold = 6.0f;          // LLM.int8(): |x| from which on an activation is an outlier; 0: none
  Outliers outliers = Outliers::per_row;   // LLM.int8(): where they are looked for
  bool round_activations_to_fp16 = false;  // LLM.int8(): quantize fp16(x), as bitsandbytes does on fp16 models
};

// What follows the product, in this order: + bias, the activation, + residual.
struct Epilogue {
  Activation activation = Activation::none;  // applied after the bias
  MatrixView<const float> residual = {};     // (m, out), or without data; may be y itself
  PreparedInput* next = nullptr;             // receives the result as the input of a later product, see input_for()
};

// What belongs to the call.
struct CallOptions {
  Executor* executor = nullptr;    // default: default_executor()
  Workspace* workspace = nullptr;  // default: the calling thread's, see ThreadWorkspace
};

// [out] floats: a pointer alone is taken at its word, a span (or vector) is checked.
class Bias {
 public:
  Bias() = default;
  Bias(std::nullptr_t) {}                         // NOLINT: as the argument it stands for
  Bias(const float* values) : values_(values) {}  // NOLINT
  // Anything that a std::span of const float can be made of.
  template <class Range>
  requires(std::is_constructible_v<std::span<const float>, const Range&>) Bias(const Range& range) {  // NOLINT
    const std::span<const float> values(range);
    values_ = values.empty() ? nullptr : values.data();
    size_ = values.size();
  }
  const float* data() const { return values_; }
  std::size_t size() const { return size_; }  // 0: unknown, or none

 private:
  const float* values_ = nullptr;
  std::size_t size_ = 0;
};

// Everything about one product: MatmulOptions o; o.compute = ...; or in place {{.compute = ...}, {.activation = ...}, {.executor = ...}}.
struct MatmulOptions : ComputeOptions, Epilogue, CallOptions {
  Bias bias = {};  // [out], or none

  MatmulOptions() = default;
  // By groups, each of which may be {}.
  MatmulOptions(const ComputeOptions& compute_options, const Epilogue& epilogue = {}, const CallOptions& call = {},  // NOLINT
                const Bias& its_bias = {})
      : ComputeOptions(compute_options), Epilogue(epilogue), CallOptions(call), bias(its_bias) {}
};

}  // namespace lowbit::inline LOWBIT_ABI
