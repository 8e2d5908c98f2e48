// SPDX-License-Identifier: MIT
// A tensor as a file holds it: name, element type, shape and bytes, with typed access; and TensorSource, what every reader of model
// files looks like from outside.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/io/in_quotes.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

static_assert(std::endian::native == std::endian::little, "tensors are read and written as little-endian bytes");

// The element types of the safetensors format, by their names there.
enum class DType : std::uint8_t {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64,
};

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {
struct DTypeInfo {
  std::string_view name;
  std::size_t bits;
};
// In the order of the enumeration.
inline constexpr std::array<DTypeInfo, 22> dtype_table{
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};

template <class T>
struct DTypeOf;
// clang-format off
template <> struct DTypeOf<double> { static constexpr DType value = DType::F64; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::F32; };
template <> struct DTypeOf<Float16> { static constexpr DType value = DType::F16; };
template <> struct DTypeOf<BFloat16> { static constexpr DType value = DType::BF16; };
template <> struct DTypeOf<std::int64_t> { static constexpr DType value = DType::I64; };
template <> struct DTypeOf<std::int32_t> { static constexpr DType value = DType::I32; };
template <> struct DTypeOf<std::int16_t> { static constexpr DType value = DType::I16; };
template <> struct DTypeOf<std::int8_t> { static constexpr DType value = DType::I8; };
template <> struct DTypeOf<std::uint64_t> { static constexpr DType value = DType::U64; };
template <> struct DTypeOf<std::uint32_t> { static constexpr DType value = DType::U32; };
template <> struct DTypeOf<std::uint16_t> { static constexpr DType value = DType::U16; };
template <> struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::U8; };
// clang-format on

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// "F32"; the size of one element in bits; and back from the name.
constexpr std::string_view dtype_name(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].name; }
// Of one element.
constexpr std::size_t dtype_bits(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].bits; }
// None for a name that is not the format's.
constexpr std::optional<DType> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtype_table.size(); ++i)
    if (detail::dtype_table[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}
// The DType that holds elements of type T: float, double, Float16, BFloat16 and the fixed-width integers.
template <class T>
inline constexpr DType dtype_of = detail::DTypeOf<T>::value;

// Bytes of a tensor; none if they do not fit in a size, or (below 8 bits an element) do not fill whole bytes.
constexpr std::optional<std::size_t> byte_size(DType dtype, std::span<const std::size_t> shape) {
  std::size_t bits = dtype_bits(dtype);
  for (const std::size_t n : shape) {
    if (n != 0 && bits > SIZE_MAX / n) return std::nullopt;
    bits *= n;
  }
  return bits % 8 == 0 ? std::optional(bits / 8) : std::nullopt;
}

// "[2, 3]"; "[]" is a scalar.
inline std::string shape_string(std::span<const std::size_t> shape) {
  std::string result = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i == 8) return result + ", ...]";
    if (i != 0) result += ", ";
    result += decimal(shape[i]);
  }
  return result + "]";
}

// One tensor of a file, row-major, little-endian.  The bytes belong to the file object and live as long as it does; nothing
// promises that they are aligned.  data.size() equals *byte_size(dtype, shape).  Reading from several threads is safe.
struct TensorView {
  std::string name;                 // as the file has it
  DType dtype = DType::U8;          // of the elements
  std::vector<std::size_t> shape;   // {} is a scalar: one element
  std::span<const std::byte> data;  // the bytes
  std::string file;                 // where it comes from, for messages

  // The product of the shape.
  std::size_t elements() const { return data.size() * 8 / dtype_bits(dtype); }
  // `model.safetensors: tensor "wte.weight"`, how every message about this tensor starts.
  std::string where() const { return file + ": tensor " + in_quotes(name); }

  // The elements in place.  Throws FormatError if the tensor is not of T's type, or lies at an address that T does not allow
  // (see is_aligned() and copy()).
  template <class T>
  std::span<const T> as_span() const {
    check_dtype(dtype_of<T>);
    if (!is_aligned<T>())
      raise<FormatError>(where() + ": " + std::string(dtype_name(dtype)) + " data does not start at a multiple of " +
                         decimal(alignof(T)) + " bytes; copy it");
    if (data.empty()) return {};
    return {reinterpret_cast<const T*>(data.data()), elements()};
  }
  // Whether as_span<T>() may be called.
  template <class T>
  bool is_aligned() const {
    return data.empty() || reinterpret_cast<std::uintptr_t>(data.data()) % alignof(T) == 0;
  }
  // The elements copied, whatever their alignment.  Throws FormatError if the tensor is not of T's type.
  template <class T>
  AlignedBuffer<T> copy() const {
    check_dtype(dtype_of<T>);
    AlignedBuffer<T> result(elements());
    if (!data.empty()) std::memcpy(result.data(), data.data(), data.size());
    return result;
  }

  // Throw FormatError that names the tensor, what was expected and what was found.
  void check_dtype(DType expected) const {
    if (dtype != expected)
      raise<FormatError>(where() + ": expected dtype " + std::string(dtype_name(expected)) + ", found " +
                         std::string(dtype_name(dtype)));
  }
  // The same of the shape.
  void check_shape(std::initializer_list<std::size_t> expected) const {
    const std::span<const std::size_t> wanted(expected.begin(), expected.size());
    if (std::vector<std::size_t>(expected) != shape)
      raise<FormatError>(where() + ": expected shape " + shape_string(wanted) + ", found " + shape_string(shape));
  }
};

// Converts F64, F32, F16 or BF16 to float: exact, except F64, which is rounded to nearest even (beyond float's range: infinity;
// below its normal range: 0 in programs that flush subnormals, as -ffast-math makes them on x86).
// `out` has view.elements() elements (InvalidArgument otherwise).  Throws FormatError for any other element type.
inline void read_floats(const TensorView& view, std::span<float> out) {
  require(out.size() == view.elements(), [&] {
    return view.where() + ": room for " + decimal(out.size()) + " floats, the tensor has " + decimal(view.elements());
  });
  const auto convert = [&]<class T>(T) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      T element;
      std::memcpy(&element, view.data.data() + i * sizeof(T), sizeof(T));
      if constexpr (std::is_same_v<T, double>)
        out[i] = static_cast<float>(element);
      else
        out[i] = to_float(element);
    }
  };
  switch (view.dtype) {
    case DType::F64: return convert(double{});
    case DType::F32:  // as bytes: a signalling NaN stays what it is
      if (!out.empty()) std::memcpy(out.data(), view.data.data(), view.data.size());
      return;
    case DType::F16: return convert(Float16{});
    case DType::BF16: return convert(BFloat16{});
    default: raise<FormatError>(view.where() + ": expected a float dtype, found " + std::string(dtype_name(view.dtype)));
  }
}

// Tensors by name, wherever they are stored.  References stay valid as long as the source.  Reading from several threads is safe.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The file or folder, for messages.
  virtual const std::string& location() const = 0;
  // Every name, in the file's order.
  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(std::string_view name) const = 0;  // whether at() finds it
  // Throws FormatError that names the location, the tensor, and the names nearest to it.
  virtual const TensorView& at(std::string_view name) const = 0;

 protected:
  TensorSource() = default;
  TensorSource(TensorSource&&) = default;
  TensorSource& operator=(TensorSource&&) = default;
};

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {
// Throws the FormatError of TensorSource::at.  Near is what shares the longest beginning and end: that finds both a misspelt
// name and one whose prefix is missing ("h.0.ln_1.weight" for "transformer.h.0.ln_1.weight").
[[noreturn]] inline void raise_missing(const TensorSource& source, std::string_view name) {
  struct Near {
    std::size_t shared = 0;
    std::string name;
  };
  std::array<Near, 3> best;
  for (const std::string& other : source.names()) {
    const std::size_t shorter = (std::min)(name.size(), other.size());
    std::size_t front = 0, back = 0;
    while (front < shorter && name[front] == other[front]) ++front;
    while (front + back < shorter && name[name.size() - 1 - back] == other[other.size() - 1 - back]) ++back;
    Near candidate{front + back, other};
    for (Near& place : best)
      if (candidate.shared > place.shared) std::swap(candidate, place);
  }
  std::string message = source.location() + ": no tensor " + in_quotes(name);
  for (const Near& candidate : best)
    if (candidate.shared > 0) message += (&candidate == &best[0] ? "; nearest: " : ", ") + in_quotes(candidate.name);
  raise<FormatError>(message);
}

}  // namespace lowbit::io::detail::inline LOWBIT_ABI
