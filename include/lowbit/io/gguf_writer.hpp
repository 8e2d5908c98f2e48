// SPDX-License-Identifier: MIT
// Writing GGUF files, version 3: keys, and tensors in F32, F16 and Q8_0, tensor after tensor, so that memory holds a part of one.
// io/gguf.hpp describes the format and reads it.
#pragma once
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/format/absmax_block.hpp"
#include "lowbit/format/dense.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/tensor_view.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// ggml's numbers.
enum class GgufType : std::uint32_t { f32 = 0, f16 = 1, q8_0 = 8 };

// Elements of a block of Q8_0, and its bytes.
inline constexpr std::size_t q8_0_block = 32, q8_0_block_bytes = 34;

// Bytes of `n` elements in whole rows.
constexpr std::size_t gguf_bytes(GgufType type, std::size_t n) {
  return type == GgufType::f32 ? 4 * n : type == GgufType::f16 ? 2 * n : n / q8_0_block * q8_0_block_bytes;
}

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {

template <class T>
void append_raw(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
inline void append_text(std::string& bytes, std::string_view text) {
  append_raw<std::uint64_t>(bytes, text.size());
  bytes += text;
}

inline bool is_finite_as_half(float x) {
  return lowbit::detail::magnitude_bits(to_float(to_float16(x))) < lowbit::detail::infinity_bits;
}

// One block of Q8_0; false if its scale would not be finite.  Whole numbers nearest to v, halves away from zero, as roundf gives them.
inline bool encode_q8_0(const float* x, std::byte* out) {
  const std::uint32_t largest = lowbit::detail::largest_magnitude(x, q8_0_block);
  if (largest >= lowbit::detail::infinity_bits) return false;
  const float d = quotient(std::bit_cast<float>(largest), 127.0f);
  if (!is_finite_as_half(d)) return false;
  // Where 1 / d would overflow, d is 0 as float16.
  const float factor = d < std::bit_cast<float>(lowbit::detail::smallest_normal_bits) ? 0.0f : quotient(1.0f, d);
  const Float16 scale = to_float16(d);
  std::memcpy(out, &scale, 2);
  for (std::size_t i = 0; i < q8_0_block; ++i) {
    const float v = rounded(x[i] * factor);
    const auto whole = static_cast<std::int32_t>(v);
    const float rest = v - static_cast<float>(whole);
    out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0)));
  }
  return true;
}

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// Encodes x, whole blocks, to out (gguf_bytes).  F16: rounded to nearest, ties to even.  Q8_0, of each block of 32: d = largest |x| /
// 127, q = round(x * (1 / d)), halves away from zero; d is rounded to float16 after that.  Rule: quantize_row_q8_0_ref in
// ggml-quants.c of llama.cpp; where |x| is below 2^-119 throughout, and d is 0, the codes are 0 here.
// Returns the index of the first element that is not finite as it decodes, or x.size().  Thread safe on distinct outputs.
inline std::size_t encode_gguf(GgufType type, std::span<const float> x, std::byte* out) {
  const lowbit::detail::DefaultFloatEnvironment environment;
  if (type == GgufType::q8_0) {
    for (std::size_t i = 0; i < x.size(); i += q8_0_block, out += q8_0_block_bytes) {
      if (detail::encode_q8_0(x.data() + i, out)) continue;
      while (detail::is_finite_as_half(quotient(x[i], 127.0f))) ++i;
      return i;
    }
    return x.size();
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (type == GgufType::f16) {
      const Float16 half = to_float16(x[i]);
      if (!detail::is_finite_as_half(x[i])) return i;
      std::memcpy(out + 2 * i, &half, 2);
    } else {
      if (lowbit::detail::magnitude_bits(x[i]) >= lowbit::detail::infinity_bits) return i;
      std::memcpy(out + 4 * i, &x[i], 4);
    }
  }
  return x.size();
}

// The keys of a file, in its order.  Names are the caller's to keep apart.
class GgufKeys {
 public:
  // Adds a key: a string, an unsigned number, a float, a truth value, or a list of strings or of numbers.
  void add(std::string_view name, std::string_view text) { detail::append_text(begin(name, 8), text); }
  void add(std::string_view name, const char* text) { add(name, std::string_view(text)); }
  void add(std::string_view name, std::uint32_t value) { detail::append_raw(begin(name, 4), value); }
  void add(std::string_view name, float value) { detail::append_raw(begin(name, 6), value); }
  void add(std::string_view name, std::same_as<bool> auto value) {
    detail::append_raw(begin(name, 7), static_cast<std::uint8_t>(value));
  }
  void add(std::string_view name, std::span<const std::string> texts) {
    std::string& bytes = begin(name, 9);
    detail::append_raw(bytes, std::uint32_t{8});
    detail::append_raw<std::uint64_t>(bytes, texts.size());
    for (const std::string& text : texts) detail::append_text(bytes, text);
  }
  void add(std::string_view name, std::span<const std::int32_t> values) {
    std::string& bytes = begin(name, 9);
    detail::append_raw(bytes, std::uint32_t{5});
    detail::append_raw<std::uint64_t>(bytes, values.size());
    for (const std::int32_t value : values) detail::append_raw(bytes, value);
  }

  std::size_t count() const { return count_; }         // keys so far
  const std::string& bytes() const { return bytes_; }  // as the file has them

 private:
  std::string& begin(std::string_view name, std::uint32_t type) {
    ++count_;
    detail::append_text(bytes_, name);
    detail::append_raw(bytes_, type);
    return bytes_;
  }
  std::string bytes_;
  std::size_t count_ = 0;
};

// A tensor on its way to a GGUF file.
struct GgufTensorToWrite {
  std::string name;                // as the file shall have it
  GgufType type = GgufType::f32;   // of its elements
  std::vector<std::size_t> shape;  // the slowest first, at most 4; rows of whole blocks for Q8_0
};
// Takes the next rows of a tensor.
using GgufRows = std::function<void(std::span<const float>)>;

// Writes a file as a whole or not at all (write_atomically).  values(i, rows) hands the values of tensor i to rows, from the first to
// the last, in parts of whole rows.  Throws IoError; InvalidArgument, which names the tensor, if a shape does not suit its type, if
// values() gives more or fewer than it takes, or a value that is not finite in that type.  What values() throws passes through.
inline void write_gguf(const std::filesystem::path& path, const GgufKeys& keys, std::span<const GgufTensorToWrite> tensors,
                       const std::function<void(std::size_t, const GgufRows&)>& values) {
  constexpr std::size_t alignment = 32;
  const auto padding = [](std::size_t n) { return std::string(ceil_div(n, alignment) * alignment - n, '\0'); };
  const auto where = [&](const GgufTensorToWrite& t) { return path.string() + ": tensor " + in_quotes(t.name) + ": "; };
  std::string head = "GGUF";
  detail::append_raw(head, std::uint32_t{3});
  detail::append_raw<std::uint64_t>(head, tensors.size());
  detail::append_raw<std::uint64_t>(head, keys.count());
  head += keys.bytes();
  std::vector<std::size_t> elements;
  std::size_t offset = 0;
  for (const GgufTensorToWrite& t : tensors) {
    std::size_t n = 1;
    const std::string what = where(t) + "shape " + shape_string(t.shape);
    for (const std::size_t d : t.shape) n = checked_mul(n, d, what.c_str());
    static_cast<void>(checked_mul(n, 4, what.c_str()));  // as many bytes as any type takes
    if (t.shape.empty() || t.shape.size() > 4 || n == 0 || (t.type == GgufType::q8_0 && t.shape.back() % q8_0_block != 0))
      raise<InvalidArgument>(where(t) + "expected 1 to 4 dimensions of 1 and more" +
                             (t.type == GgufType::q8_0 ? ", rows of a multiple of 32 for Q8_0" : "") + ", found shape " +
                             shape_string(t.shape));
    detail::append_text(head, t.name);
    detail::append_raw(head, static_cast<std::uint32_t>(t.shape.size()));
    for (std::size_t d = t.shape.size(); d != 0; --d) detail::append_raw<std::uint64_t>(head, t.shape[d - 1]);
    detail::append_raw(head, static_cast<std::uint32_t>(t.type));
    detail::append_raw<std::uint64_t>(head, offset);
    offset =
        checked_add(offset, checked_add(gguf_bytes(t.type, n), alignment - 1, what.c_str()) / alignment * alignment, what.c_str());
    elements.push_back(n);
  }
  write_atomically(path, [&](FileWriter& writer) {
    writer.write(head);
    writer.write(padding(head.size()));
    std::vector<std::byte> encoded;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const GgufTensorToWrite& t = tensors[i];
      std::size_t done = 0;
      values(i, [&](std::span<const float> rows) {
        if (rows.size() > elements[i] - done || rows.size() % t.shape.back() != 0)
          raise<InvalidArgument>(where(t) + "expected whole rows of shape " + shape_string(t.shape) + ", found " +
                                 decimal(rows.size()) + " values after " + decimal(done));
        encoded.resize(gguf_bytes(t.type, rows.size()));
        if (const std::size_t bad = encode_gguf(t.type, rows, encoded.data()); bad != rows.size())
          raise<InvalidArgument>(where(t) + "expected finite values, found " + decimal(rows[bad]) + " at element " +
                                 decimal(done + bad) + (t.type == GgufType::f32 ? "" : ", which is not finite as float16"));
        writer.write(encoded);
        done += rows.size();
      });
      if (done != elements[i])
        raise<InvalidArgument>(where(t) + "expected " + decimal(elements[i]) + " values, found " + decimal(done));
      writer.write(padding(gguf_bytes(t.type, elements[i])));
    }
  });
}

}  // namespace lowbit::io::inline LOWBIT_ABI
