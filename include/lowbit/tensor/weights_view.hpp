// SPDX-License-Identifier: MIT
// A weight matrix in canonical bytes that somebody else owns: an engine's arena, a mapped file.  Nothing is copied.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// What a WeightsView is made of, as TensorParts, but by pointer.  Everything must outlive the view.
struct WeightsViewParts {
  Format format = Format::f32;                // what the codes mean
  std::size_t rows = 0, cols = 0;             // output and input features
  const void* codes = nullptr;                // as many bytes as the format has for rows x cols elements; not one more is read
  std::size_t block = 0;                      // elements that share a scale; 0: dense
  const float* scales = nullptr;              // [ceil(rows cols / block)], or null where double-quantized:
  const std::uint8_t* scale_codes = nullptr;  // as many
  const float* nested = nullptr;              // one per 256 scale codes
  const float* nested_map = nullptr;          // [256]; null: bitsandbytes' dynamic map
  float offset = 0;                           // of double quantization, added to every scale
  const float* table = nullptr;               // [16], nf4 and fp4; null: the format's own
};

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

LOWBIT_FUNCTION void make_view(const WeightsViewParts& parts, Format& format, CanonicalWeights& weights, CodebookTables& codebook);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Copyable.  Reading it from several threads is safe.
class WeightsView {
 public:
  // Throws InvalidArgument if a size or pointer is missing that the format needs.
  explicit WeightsView(const WeightsViewParts& parts) { detail::make_view(parts, format_, weights_, codebook_); }
  WeightsView(const WeightsView& other) : format_(other.format_), weights_(other.weights_), codebook_(other.codebook_) { rebind(); }
  WeightsView& operator=(const WeightsView& other) {
    format_ = other.format_;
    weights_ = other.weights_;
    codebook_ = other.codebook_;
    rebind();
    return *this;
  }

  Format format() const { return format_; }                               // of the elements
  std::size_t rows() const { return weights_.n; }                         // output features
  std::size_t cols() const { return weights_.k; }                         // input features
  const detail::CanonicalWeights& canonical() const { return weights_; }  // what kernels see

 private:
  void rebind() { weights_.codebook = &codebook_; }
  Format format_ = Format::f32;
  detail::CanonicalWeights weights_;
  detail::CodebookTables codebook_{};
};

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/tensor/weights_view-inl.hpp"
#endif
