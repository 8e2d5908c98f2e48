// SPDX-License-Identifier: MIT
// What a product is, before it is called: made once from the weights and what was asked of them.
#pragma once
#include <string>
#include <type_traits>

#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/product/input.hpp"
#include "lowbit/product/options.hpp"
#include "lowbit/tensor/packed_tensor.hpp"
#include "lowbit/tensor/weights_view.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The table of a level for one kind of weights.
using GemmKernelsOf = const GemmKernels* (*)(Level);
inline GemmKernelsOf gemm_kernels_for(Format format) {
  return element_bits(format) == 4 ? &gemm_kernels_of<true> : &gemm_kernels_of<false>;
}
// A tensor whose type says its format, and the kernels of that.
template <class T>
concept TensorOfFormat = std::is_base_of_v<Tensor, T> && requires {
  T::tensor_format;
};
template <TensorOfFormat T>
inline constexpr GemmKernelsOf gemm_kernels_of_type = &gemm_kernels_of<element_bits(T::tensor_format) == 4>;

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// What a product runs as.
struct MatmulPlan {
  Format format = Format::f32;     // of the weights
  Compute compute = Compute::f32;  // never automatic
  Level level = Level::base;       // whose kernels run
  bool packed = false;             // layout of the weights
  bool native_bf16 = false;        // bf16 compute by the instruction, not widened to float
};

// The weights (out, in) of a product, in either layout: a Tensor, a PackedTensor or a WeightsView, which must outlive it.
// A tensor whose type says its format brings the kernels of that alone into a header-only program.
class Weights {
 public:
  template <detail::TensorOfFormat T>
  Weights(const T& t) : Weights(t, detail::gemm_kernels_of_type<T>) {}                  // NOLINT: as the arguments they stand for
  Weights(const Tensor& t) : Weights(t, detail::gemm_kernels_for(t.format())) {}        // NOLINT
  Weights(const WeightsView& v) : Weights(v, detail::gemm_kernels_for(v.format())) {}   // NOLINT
  Weights(const PackedTensor& t) : Weights(t, detail::gemm_kernels_for(t.format())) {}  // NOLINT
  // With the kernels of the format, for who knows it.
  Weights(const Tensor& t, detail::GemmKernelsOf table)
      : format_(t.format()), rows_(t.rows()), cols_(t.cols()), canonical_(t.canonical()), kernels_(table) {}
  Weights(const WeightsView& v, detail::GemmKernelsOf table)
      : format_(v.format()), rows_(v.rows()), cols_(v.cols()), canonical_(v.canonical()), kernels_(table) {}
  Weights(const PackedTensor& t, detail::GemmKernelsOf table)
      : format_(t.format()), rows_(t.rows()), cols_(t.cols()), is_packed_(true), packed_(t.view()), kernels_(table) {}
  Format format() const { return format_; }                                 // of the elements
  std::size_t rows() const { return rows_; }                                // output features
  std::size_t cols() const { return cols_; }                                // input features
  bool is_packed() const { return is_packed_; }                             // whether packed() may be called
  const detail::PackedWeights& packed() const { return packed_; }           // where it is
  const detail::CanonicalWeights& canonical() const { return canonical_; }  // where it is not
  detail::GemmKernelsOf kernels() const { return kernels_; }                // of the format

 private:
  Format format_;
  std::size_t rows_, cols_;
  bool is_packed_ = false;
  detail::PackedWeights packed_;
  detail::CanonicalWeights canonical_;
  detail::GemmKernelsOf kernels_;
};

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// Sums of int8 products: depth * 128 * 127 must stay below 2^31.  128, because the packed layout adds 128 to its codes and takes it
// off the sum again, and because a file may hold the code -128.
inline constexpr std::size_t largest_int8_depth = 0x7FFFFFFFu / (128 * 127);

struct ProductPlan {
  MatmulPlan runs_as;
  const Kernels* kernel = nullptr;
  const GemmKernels* gemm = nullptr;  // null where there are no weights
  InputForm form;                     // how the rows of x must stand
};

// Throws InvalidArgument if the format has no such compute type, or if integer sums could overflow.
LOWBIT_FUNCTION ProductPlan make_plan(const Weights& w, const ComputeOptions& options);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// What Compute::automatic stands for with weights of this format, on this processor at the active level.  Thread safe.
LOWBIT_FUNCTION Compute automatic_compute(Format format);

// "nf4 weights (packed), int8 compute, avx2".
LOWBIT_COLD LOWBIT_FUNCTION std::string to_string(const MatmulPlan& plan);

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/product/plan-inl.hpp"
#endif
