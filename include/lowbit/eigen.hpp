// SPDX-License-Identifier: MIT
// Eigen in and out, without copies: Map, Ref, Matrix and blocks of row-major float matrices as arguments of matmul and quantize.
// Opt-in: lowbit.hpp does not include it, and nothing of Eigen's is ever stored (its types change with compiler flags).
#pragma once
#include <Eigen/Core>
#include <cstddef>
#include <utility>

#include "lowbit/matmul.hpp"

namespace lowbit::inline LOWBIT_ABI {

// A row-major float matrix of any size: what lowbit computes on.
using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
// Binds to matrices, maps and blocks whose rows are contiguous, with any distance between rows; never to an expression or a
// column-major matrix, which would need a copy.
using ConstMatrixRef = Eigen::Ref<const RowMajorMatrix, 0, Eigen::OuterStride<>>;
// The same, to be written.
using MatrixRef = Eigen::Ref<RowMajorMatrix, 0, Eigen::OuterStride<>>;

// The same memory as a view.
template <class Derived>
MatrixView<const float> view_of(const Eigen::DenseBase<Derived>& matrix) {
  static_assert(Derived::IsRowMajor || Derived::IsVectorAtCompileTime, "lowbit computes on row-major matrices");
  static_assert(std::is_same_v<typename Derived::Scalar, float> && bool(Derived::Flags & Eigen::DirectAccessBit),
                "expected float values in memory");
  const Derived& m = matrix.derived();
  require(m.innerStride() == 1 || m.cols() <= 1,
          [] { return std::string("Eigen matrix: the elements of a row must be contiguous"); });
  const auto rows = static_cast<std::size_t>(m.rows()), cols = static_cast<std::size_t>(m.cols());
  return {m.data(), rows, cols, rows > 1 ? static_cast<std::size_t>(m.outerStride()) : cols};
}
// The same memory as a view to write through.
template <class Derived>
MatrixView<float> mutable_view_of(Eigen::DenseBase<Derived>& matrix) {
  const MatrixView<const float> v = view_of(matrix);
  return {matrix.derived().data(), v.rows, v.cols, v.stride};
}

// y (m, out) = x (m, in) w^T, as lowbit::matmul, on Eigen's memory: nothing is copied.
// y must have its size and not be x; throws InvalidArgument if shapes do not match.  Thread safe.
template <class X, class Weights, class Y>
MatmulPlan matmul(const Eigen::DenseBase<X>& x, const Weights& w, Eigen::DenseBase<Y>& y, const MatmulOptions& options = {}) {
  return matmul(view_of(x), w, mutable_view_of(y), options);
}
template <class X, class Weights, class Y>
MatmulPlan matmul(const Eigen::DenseBase<X>& x, const Weights& w, Eigen::DenseBase<Y>&& y, const MatmulOptions& options = {}) {
  return matmul(view_of(x), w, mutable_view_of(y), options);
}

// Quantizes a weight matrix (out, in) to the tensor type T.  Throws as T::quantize.
template <class T>
T quantize(ConstMatrixRef weights, const typename T::Options& options = {}) {
  const MatrixView<const float> v = view_of(weights);
  if (v.stride == v.cols) return T::quantize(v.data, v.rows, v.cols, options);
  AlignedBuffer<float> rows(checked_mul(v.rows, v.cols, "weights"));  // blocks run over the flattened matrix, so rows must touch
  for (std::size_t r = 0; r < v.rows; ++r) std::copy_n(v.row(r), v.cols, rows.data() + r * v.cols);
  return T::quantize(rows.data(), v.rows, v.cols, options);
}

// The decoded weights (out, in).
inline RowMajorMatrix dequantize(const Tensor& tensor) {
  RowMajorMatrix m(static_cast<Eigen::Index>(tensor.rows()), static_cast<Eigen::Index>(tensor.cols()));
  tensor.dequantize(m.data());
  return m;
}

}  // namespace lowbit::inline LOWBIT_ABI
