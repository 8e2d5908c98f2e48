// SPDX-License-Identifier: MIT
// A linear layer: weights in some format, packed where the layout allows it, a bias, and how to compute.  The front door: weights in,
// compute chosen for this processor, one call forward.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "lowbit/matmul.hpp"

namespace lowbit::inline LOWBIT_ABI {

// How a layer computes and holds its weights.
struct LinearOptions : ComputeOptions {
  bool pack = true;  // false: keep the canonical bytes and run on them
};

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

struct LinearState {
  ComputeOptions options;
  Tensor canonical;
  PackedTensor packed;
  std::optional<WeightsView> view;  // weights of somebody else's
  AlignedBuffer<float> bias;
  GemmKernelsOf kernels = nullptr;  // of the weights' format
  ProductPlan plan;                 // for the level at which it was made

  bool is_packed() const { return packed.rows() != 0; }
  Weights weights() const {
    return is_packed() ? Weights(packed, kernels) : view ? Weights(*view, kernels) : Weights(canonical, kernels);
  }
};

// Copies the bias, packs the weights where that is asked for and possible, and plans.
LOWBIT_FUNCTION void set_up(LinearState& layer, const Bias& bias, bool pack);
// The plan at the level that is active.
LOWBIT_FUNCTION ProductPlan plan_of(const LinearState& layer);
LOWBIT_FUNCTION MatmulPlan forward(const LinearState& layer, const Input& x, const Output& y, const Epilogue& epilogue,
                                   const CallOptions& call);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// A layer: forward() multiplies by weights of any format as it was planned once, when the layer was made.  Move-only; calls
// from several threads are safe.
class Linear {
 public:
  Linear() = default;
  // weights (out, in); bias [out] or none, copied.  The canonical weights are freed once they are packed.
  // Throws InvalidArgument if the bias does not fit, or the format has no such compute type.
  explicit Linear(Tensor weights, const Bias& bias = {}, const LinearOptions& options = {})
      : s_{options, std::move(weights), {}, {}, {}, nullptr, {}} {
    s_.kernels = detail::gemm_kernels_for(s_.canonical.format());
    detail::set_up(s_, bias, options.pack);
  }
  // The same of a tensor whose type says its format: a header-only program compiles the kernels of that alone.
  template <class T>
  requires detail::TensorOfFormat<T>
  explicit Linear(T weights, const Bias& bias = {}, const LinearOptions& options = {})
      : s_{options, Tensor(std::move(weights)), {}, {}, {}, detail::gemm_kernels_of_type<T>, {}} {
    detail::set_up(s_, bias, options.pack);
  }
  // The same of weights that are packed already.
  explicit Linear(PackedTensor weights, const Bias& bias = {}, const ComputeOptions& options = {})
      : s_{options, {}, std::move(weights), {}, {}, nullptr, {}} {
    s_.kernels = detail::gemm_kernels_for(s_.packed.format());
    detail::set_up(s_, bias, true);
  }
  // The same of canonical bytes that somebody else owns, which must outlive the layer: a mapped checkpoint.  Nothing but the bias is
  // copied.
  explicit Linear(const WeightsView& weights, const Bias& bias = {}, const ComputeOptions& options = {})
      : s_{options, {}, {}, weights, {}, detail::gemm_kernels_for(weights.format()), {}} {
    detail::set_up(s_, bias, false);
  }

  bool packed() const { return s_.is_packed(); }  // whether the weights are in panels
  // The weights, in the layout in which they are held.
  Weights weights() const { return s_.weights(); }
  Format format() const { return weights().format(); }            // of the weights
  std::size_t rows() const { return weights().rows(); }           // output features
  std::size_t cols() const { return weights().cols(); }           // input features
  std::span<const float> bias() const { return s_.bias.span(); }  // [out], or empty
  const ComputeOptions& options() const { return s_.options; }    // as they were given
  // Bytes of the elements alone (the paper's account), and of everything that is held: not what a view shows.
  std::size_t element_bytes() const { return detail::element_bytes(format(), rows() * cols()); }
  // Without what a view shows.
  std::size_t resident_bytes() const { return s_.packed.resident_bytes() + s_.canonical.resident_bytes() + s_.bias.size_bytes(); }

  // y (m, out) = activation(x (m, in) w^T + bias) + residual; x and y as matmul takes them.  Returns what ran; throws as matmul
  // does.  Thread safe.
  MatmulPlan forward(const Input& x, const Output& y, const Epilogue& epilogue = {}, const CallOptions& call = {}) const {
    return detail::forward(s_, x, y, epilogue, call);
  }
  // The same on contiguous floats.
  MatmulPlan forward(const float* x, std::size_t m, float* y, const Epilogue& epilogue = {}, const CallOptions& call = {}) const {
    return forward(MatrixView<const float>(x, m, cols()), MatrixView<float>(y, m, rows()), epilogue, call);
  }
  // Gives `input` the form that forward() reads, for prepare_input(), produce_input() or the layer in front to fill.  Its memory is
  // kept.
  void shape(PreparedInput& input) const {
    input.rows_in_memory().form = detail::plan_of(s_).form;
    input.rows_in_memory().rows = 0;
  }
  // What forward() runs.
  MatmulPlan plan() const { return detail::plan_of(s_).runs_as; }

 private:
  detail::LinearState s_;
};

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/linear-inl.hpp"
#endif
