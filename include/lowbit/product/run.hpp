// SPDX-License-Identifier: MIT
// One call of a product, whatever its weights, input and result.
#pragma once
#include <cstddef>

#include "lowbit/base/half.hpp"
#include "lowbit/layout/element.hpp"
#include "lowbit/product/plan.hpp"
#include "lowbit/product/workspace.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

template <class T>
inline constexpr Element element_type = Element::f32;
template <>
inline constexpr Element element_type<Float16> = Element::f16;
template <>
inline constexpr Element element_type<BFloat16> = Element::bf16;
template <class T>
concept Number = std::is_same_v<T, float> || std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

// Rows of one of these numbers, in memory of somebody else.  Void: void or const void.
template <class Void>
struct AnyRows {
  Void* data = nullptr;
  Element element = Element::f32;
  std::size_t rows = 0, cols = 0, stride = 0;

  AnyRows() = default;
  template <class T>
  requires(Number<std::remove_const_t<T>>&& std::is_convertible_v<T*, Void*>)
      AnyRows(const MatrixView<T>& v)  // NOLINT: as the argument it stands for
      : data(v.data), element(element_type<std::remove_const_t<T>>), rows(v.rows), cols(v.cols), stride(v.stride) {}
  // (r, c) row-major, `s` elements from row to row.
  template <class T>
  requires(Number<std::remove_const_t<T>>&& std::is_convertible_v<T*, Void*>)
      AnyRows(T* d, std::size_t r, std::size_t c, std::size_t s)
      : AnyRows(MatrixView<T>(d, r, c, s)) {}
  template <class T>
  requires(Number<std::remove_const_t<T>>&& std::is_convertible_v<T*, Void*>) AnyRows(T* d, std::size_t r, std::size_t c)
      : AnyRows(MatrixView<T>(d, r, c)) {}
};

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// The x of a product: a MatrixView of float, Float16 or BFloat16, or input that was prepared.
struct Input : detail::AnyRows<const void> {
  using AnyRows::AnyRows;
  // Rows that were prepared, for products of the kind that they were prepared for.
  Input(const PreparedInput& x) : prepared(&x.rows_in_memory()) {  // NOLINT
    rows = x.rows();
    cols = stride = x.cols();
  }
  const detail::InputRows* prepared = nullptr;  // null: to be converted
};
// The y of a product: a MatrixView of float, Float16 or BFloat16.
using Output = detail::AnyRows<void>;

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// y = activation(x w^T + bias) + residual.  plan: made for w.  y may lack data where only epilogue.next is wanted.
LOWBIT_FUNCTION void run(const ProductPlan& plan, const Weights& w, const Input& x, const Output& y, const Bias& bias,
                         const Epilogue& epilogue, const CallOptions& call);

}  // namespace lowbit::detail::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/product/run-inl.hpp"
#endif
