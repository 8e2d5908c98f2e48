// SPDX-License-Identifier: MIT
// PackedTensor: the same weights re-laid in panels for the kernels (the layout is described in layout/packed.hpp).  Made once per
// model, in memory of its own or of the caller's, and saved and mapped again as it is; nothing is lost, unpack() gives the canonical
// bytes back.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "lowbit/layout/packed_shape.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// What a PackedTensor is: `bytes` hold a header (tensor/packed_tensor-inl.hpp), then the panels, nested absmax values and kept scale
// codes, to which the pointers point.
struct PackedState {
  Format format = Format::f32;
  PackedShape shape;
  std::array<float, 16> table{};
  CodebookTables codebook{};
  std::array<float, 256> nested_map = dynamic_map();
  float offset = 0;
  std::uint8_t odd_tail = 0;  // the last nibble of an odd number of elements, which belongs to none
  std::span<const std::byte> bytes;
  const std::uint8_t* panels = nullptr;
  std::span<const float> nested;
  // The codes of double-quantized scales come back by looking the decoded scale up; where two decode to one float they are kept.
  std::span<const std::uint8_t> kept_scale_codes;
  AlignedBuffer<std::byte> memory;  // the bytes', where they are nobody else's
};

LOWBIT_FUNCTION std::size_t packed_bytes(const Tensor& t);
LOWBIT_FUNCTION void pack(PackedState& p, const Tensor& t, std::span<std::byte> memory);
LOWBIT_FUNCTION void map_packed(PackedState& p, std::span<const std::byte> bytes);
LOWBIT_FUNCTION Tensor unpack(const PackedState& p);
LOWBIT_FUNCTION void dequantize_packed_rows(const PackedState& p, std::size_t begin, std::size_t end, float* out);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Double-quantized scales are decoded to fp32 (4 bytes a block instead of 1): decoding them in the kernel costs up to 45 % of the
// M = 1 arithmetic for 8 % of the bytes.  Move-only; reading from several threads is safe.
class PackedTensor {
 public:
  static constexpr std::size_t alignment = 64;  // of the bytes

  PackedTensor() = default;
  PackedTensor(PackedTensor&& other) noexcept : state_(std::exchange(other.state_, {})) {}
  PackedTensor& operator=(PackedTensor&& other) noexcept {
    state_ = std::exchange(other.state_, {});
    return *this;
  }

  // Whether the layout can hold `t`.  Blocks may cross rows where all of them begin at multiples of 32 inside a row, as blocks of
  // 4096 do at 768 columns: scales are then held for as many elements as surely share one.  Elsewhere, as with blocks of 64 at 100
  // columns, rows whose blocks begin alike make panels of their own, if there are enough rows to fill them (two thirds).  Where the
  // layout cannot hold it, products run on the canonical tensor.
  static bool packable(const Tensor& t) { return detail::PackedShape::exists(t.rows(), t.cols(), t.block_size()); }

  // Throws InvalidArgument if t is not packable.
  static PackedTensor pack(const Tensor& t) {
    PackedTensor p;
    p.state_.memory.reset(packed_bytes(t));
    detail::pack(p.state_, t, p.state_.memory.span());
    return p;
  }

  // Bytes that t takes when it is packed.  Throws as pack().
  static std::size_t packed_bytes(const Tensor& t) { return detail::packed_bytes(t); }
  // Packs t into memory of the caller's: packed_bytes(t) bytes, aligned to 64, which must outlive the result.  Throws as pack(), and
  // InvalidArgument if the memory is too small or not aligned.
  static PackedTensor pack_into(const Tensor& t, std::span<std::byte> memory) {
    PackedTensor p;
    detail::pack(p.state_, t, memory);
    return p;
  }
  // The whole, to be written to a file or kept in an arena; valid while this lives.
  std::span<const std::byte> bytes() const { return state_.bytes; }
  // Such bytes as a tensor again, without a copy: they must outlive it, be aligned to 64 (a mapped file is), and not change.  Throws
  // FormatError if they are not what a version of the library with this layout wrote: any bytes may be given.
  static PackedTensor map(std::span<const std::byte> bytes) {
    PackedTensor p;
    detail::map_packed(p.state_, bytes);
    return p;
  }

  // The canonical tensor, byte for byte.
  Tensor unpack() const { return detail::unpack(state_); }
  // Rows [begin, end) as floats: out (end - begin, cols), those of the canonical tensor, bit for bit.  Throws InvalidArgument if the
  // range is not inside the tensor.  Thread safe.
  void dequantize_rows(std::size_t begin, std::size_t end, float* out) const {
    detail::dequantize_packed_rows(state_, begin, end, out);
  }

  Format format() const { return state_.format; }         // of the elements
  std::size_t rows() const { return state_.shape.rows; }  // output features
  std::size_t cols() const { return state_.shape.cols; }  // input features
  // Elements that share a scale; 0 where there are no scales.
  std::size_t block_size() const { return state_.shape.block; }
  bool double_quantized() const { return !state_.nested.empty(); }  // whether its canonical tensor is
  // Bytes of the elements alone (the paper's account, without padding and scales), and of everything but the header.
  std::size_t element_bytes() const { return detail::element_bytes(format(), rows() * cols()); }
  // The same with scales and padding.
  std::size_t resident_bytes() const {
    return state_.shape.bytes + state_.nested.size_bytes() + state_.kept_scale_codes.size_bytes();
  }

  // What kernels see; valid while this lives and is not moved.
  detail::PackedWeights view() const { return state_.shape.view(state_.panels, &state_.codebook); }

 private:
  detail::PackedState state_;
};

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/tensor/packed_tensor-inl.hpp"
#endif
