// SPDX-License-Identifier: MIT
// A matrix that somebody else owns: pointer, shape and row stride.  Row-major; the stride is in elements.
#pragma once
#include <cstddef>
#include <string>
#include <type_traits>

#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Pointer, shape and row stride of a matrix of somebody else's.
template <class T>
struct MatrixView {
  T* data = nullptr;               // element (0, 0)
  std::size_t rows = 0, cols = 0;  // shape
  std::size_t stride = 0;          // elements from one row to the next, at least cols

  constexpr MatrixView() = default;
  // Shape (r, c); rows one behind the other, or s elements apart.
  constexpr MatrixView(T* d, std::size_t r, std::size_t c) : data(d), rows(r), cols(c), stride(c) {}
  constexpr MatrixView(T* d, std::size_t r, std::size_t c, std::size_t s) : data(d), rows(r), cols(c), stride(s) {}
  // A view of T is a view of const T.
  template <class U>
  requires(std::is_same_v<T, const U>) constexpr MatrixView(const MatrixView<U>& other)
      : data(other.data), rows(other.rows), cols(other.cols), stride(other.stride) {}

  constexpr T* row(std::size_t r) const { return data + r * stride; }  // first element of row r
  constexpr T& operator()(std::size_t r, std::size_t c) const { return data[r * stride + c]; }
};

// "(rows, cols)" for messages.
LOWBIT_COLD inline std::string shape_string(std::size_t rows, std::size_t cols) {
  return "(" + decimal(rows) + ", " + decimal(cols) + ")";
}

}  // namespace lowbit::inline LOWBIT_ABI
