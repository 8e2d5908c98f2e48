// SPDX-License-Identifier: MIT
// DenseTensor: a weight matrix in float, Float16 or BFloat16.
#pragma once
#include <cstring>
#include <utility>

#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Options of DenseTensor::quantize(); there are none.
struct DenseOptions {};

// A matrix (rows, cols) of T.
template <class T = float>
class DenseTensor : public Tensor {
 public:
  using Options = DenseOptions;  // how it is quantized
  // The format of the elements.
  static constexpr Format tensor_format = std::is_same_v<T, float>     ? Format::f32
                                          : std::is_same_v<T, Float16> ? Format::f16
                                                                       : Format::bf16;

  DenseTensor() = default;
  // Takes parts of the right format.  Throws InvalidArgument if they are of another one.
  explicit DenseTensor(TensorParts parts) : Tensor(std::move(parts)) {
    require(format() == tensor_format, [&] {
      return std::string("dense tensor: expected ") + format_name(tensor_format) + ", found " + format_name(format());
    });
  }
  // Rounds w (rows, cols) row-major to T (nearest even); any value is allowed.
  static DenseTensor quantize(const float* w, std::size_t rows, std::size_t cols, const DenseOptions& = {}) {
    TensorParts p;
    p.format = tensor_format;
    p.rows = rows;
    p.cols = cols;
    const std::size_t n = checked_mul(rows, cols, "tensor shape");
    p.codes.reset(checked_mul(n, sizeof(T), "tensor size"));
    T* out = reinterpret_cast<T*>(p.codes.data());
    for (std::size_t i = 0; i < n; ++i) out[i] = DenseElement<T>::encode(w[i]);
    return DenseTensor(std::move(p));
  }
  const T* data() const { return reinterpret_cast<const T*>(parts().codes.data()); }
};

}  // namespace lowbit::inline LOWBIT_ABI
