// SPDX-License-Identifier: MIT
// Packing, unpacking, and the bytes of a packed tensor: a header, the panels, nested absmax values, kept scale codes, and slack for
// loads past the end.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/layout/packed_elements.hpp"
#include "lowbit/tensor/packed_tensor.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Little-endian.  Another layout of panels gets another version.
struct PackedHeader {
  static constexpr char own_magic[8] = {'l', 'o', 'w', 'b', 'i', 't', 'P', 'K'};
  static constexpr std::uint32_t own_version = 1;

  char magic[8];
  std::uint32_t version;
  char format[12];  // its name, zero-padded
  std::uint64_t rows, cols, block;
  std::uint64_t panel_bytes, nested, kept_scale_codes;  // bytes; floats; codes
  float offset;
  std::uint32_t odd_tail;
  float table[16], nested_map[256];
};
static_assert(sizeof(PackedHeader) % sizeof(std::uint64_t) == 0 && std::is_trivially_copyable_v<PackedHeader>);
static_assert(std::endian::native == std::endian::little, "lowbit reads and writes little-endian numbers in place");

// Where the parts stand, in bytes.
struct PackedPlaces {
  static constexpr std::size_t panels =
      (sizeof(PackedHeader) + PackedTensor::alignment - 1) / PackedTensor::alignment * PackedTensor::alignment;
  std::size_t nested, kept, bytes;

  PackedPlaces(std::size_t panel_bytes, std::size_t nested_count, std::size_t kept_count) {
    constexpr const char* what = "packed tensor";
    nested = checked_add(panels, panel_bytes, what);
    kept = checked_add(nested, checked_mul(nested_count, sizeof(float), what), what);
    bytes = checked_add(checked_add(kept, kept_count, what), AlignedBuffer<std::byte>::slack_bytes, what);
  }
};

// The 256 scales that the codes of a nested block stand for.
inline std::array<float, 256> nested_scales(const float* map, float nested, float offset) {
  std::array<float, 256> scales;
  for (std::size_t c = 0; c < 256; ++c) scales[c] = double_dequantize(map, static_cast<std::uint8_t>(c), nested, offset);
  return scales;
}
// Whether a scale has one code in every nested block.
inline bool scale_codes_come_back(const TensorParts& t) {
  return std::all_of(t.nested.begin(), t.nested.end(), [&](float nested) {
    const auto scales = nested_scales(t.nested_map.data(), nested, t.offset);
    return std::adjacent_find(scales.begin(), scales.end(), [](float a, float b) { return !(a < b); }) == scales.end();
  });
}
inline std::size_t kept_scale_codes(const TensorParts& t) { return scale_codes_come_back(t) ? 0 : t.scale_codes.size(); }

inline void require_packable(const Tensor& t) {
  require(PackedTensor::packable(t), [&] {
    return std::string(format_name(t.format())) + " tensor of shape " + shape_string(t.rows(), t.cols()) + " with block size " +
           decimal(t.block_size()) +
           ": blocks cross rows at places that are no multiple of 32, and too few rows share theirs, so it cannot be packed";
  });
}

LOWBIT_FUNCTION std::size_t packed_bytes(const Tensor& t) {
  require_packable(t);
  const DefaultFloatEnvironment environment;
  const PackedShape shape(t.format(), t.rows(), t.cols(), t.block_size());
  return PackedPlaces(shape.bytes, t.parts().nested.size(), kept_scale_codes(t.parts())).bytes;
}

// Has p's pointers point into `bytes`.
inline void attach(PackedState& p, std::span<const std::byte> bytes, std::size_t nested, std::size_t kept) {
  const PackedPlaces places(p.shape.bytes, nested, kept);
  p.bytes = bytes.first(places.bytes);
  p.panels = reinterpret_cast<const std::uint8_t*>(bytes.data() + places.panels);
  p.nested = {reinterpret_cast<const float*>(bytes.data() + places.nested), nested};
  p.kept_scale_codes = {reinterpret_cast<const std::uint8_t*>(bytes.data() + places.kept), kept};
}

inline void put_panels(std::uint8_t* panels, const PackedShape& shape, const TensorParts& t) {
  const Element element = shape.layout.element;
  const std::uint32_t padding = packed_padding(element, t.table.data());
  const std::size_t item = element == Element::f16 ? 2 : 4;
  shape.for_each_dword([&](std::size_t row, std::size_t k0, int run, std::size_t at) {
    std::uint32_t word = 0;
    for_each_element(element, run, [&](int k, int bit) {
      const std::size_t col = k0 + static_cast<std::size_t>(k);
      const bool there = row < shape.rows && col < shape.cols;
      word |= (there ? packed_element(element, t.codes.data(), row * shape.cols + col) : padding) << bit;
    });
    std::memcpy(panels + at, &word, item);
  });
}

LOWBIT_FUNCTION void pack(PackedState& p, const Tensor& t, std::span<std::byte> memory) {
  require_packable(t);
  const DefaultFloatEnvironment environment;
  const TensorParts& parts = t.parts();
  p.format = t.format();
  p.shape = PackedShape(t.format(), t.rows(), t.cols(), t.block_size());
  p.table = parts.table;
  p.codebook = t.codebook();
  const std::size_t n = t.size(), kept = kept_scale_codes(parts);
  const PackedPlaces places(p.shape.bytes, parts.nested.size(), kept);
  require(memory.size() >= places.bytes && reinterpret_cast<std::uintptr_t>(memory.data()) % PackedTensor::alignment == 0, [&] {
    return "memory for a packed tensor: expected " + decimal(places.bytes) + " bytes aligned to " +
           decimal(PackedTensor::alignment) + ", found " + decimal(memory.size()) + " bytes" +
           (memory.size() >= places.bytes ? ", not so aligned" : "");
  });
  std::memset(memory.data(), 0, PackedPlaces::panels);
  auto* panels = reinterpret_cast<std::uint8_t*>(memory.data() + PackedPlaces::panels);
  put_panels(panels, p.shape, parts);
  if (p.shape.layout.scaled)
    p.shape.for_each_scale([&](std::size_t row, std::size_t b, std::size_t at) {
      const float s = row < p.shape.rows ? t.scale(p.shape.scale_index(row, b)) : 0.0f;
      std::memcpy(panels + at, &s, sizeof s);
    });
  if (p.shape.layout.element == Element::four_bit && n % 2 != 0) p.odd_tail = parts.codes[n / 2] & 15;
  if (t.double_quantized()) {
    p.nested_map = parts.nested_map;
    p.offset = parts.offset;
    std::memcpy(memory.data() + places.nested, parts.nested.data(), parts.nested.size_bytes());
    if (kept != 0) std::memcpy(memory.data() + places.kept, parts.scale_codes.data(), kept);
  }
  std::memset(memory.data() + places.kept + kept, 0, places.bytes - places.kept - kept);
  attach(p, memory, parts.nested.size(), kept);

  PackedHeader h{};
  std::copy(std::begin(h.own_magic), std::end(h.own_magic), h.magic);
  h.version = h.own_version;
  const std::string name = format_name(p.format);
  std::copy(name.begin(), name.end(), h.format);
  h.rows = p.shape.rows;
  h.cols = p.shape.cols;
  h.block = p.shape.block;
  h.panel_bytes = p.shape.bytes;
  h.nested = p.nested.size();
  h.kept_scale_codes = kept;
  h.offset = p.offset;
  h.odd_tail = p.odd_tail;
  std::copy(p.table.begin(), p.table.end(), h.table);
  std::copy(p.nested_map.begin(), p.nested_map.end(), h.nested_map);
  std::memcpy(memory.data(), &h, sizeof h);
}

template <class Message>
void require_packed(bool holds, const Message& message) {
  if (!holds) raise<FormatError>(std::string("packed tensor: ") + message());
}

inline Format format_of_name(const char (&characters)[12]) {
  const std::string_view name(characters,
                              static_cast<std::size_t>(std::find(std::begin(characters), std::end(characters), '\0') - characters));
  for (const Format f : {Format::f32, Format::f16, Format::bf16, Format::int8, Format::nf4, Format::fp4, Format::llm_int8})
    if (name == format_name(f)) return f;
  raise<FormatError>("packed tensor: its header names a format that is not known");
}

LOWBIT_FUNCTION void map_packed(PackedState& p, std::span<const std::byte> bytes) {
  const DefaultFloatEnvironment environment;
  const auto expect = [](std::uint64_t found, std::uint64_t expected, const char* what) {
    require_packed(found == expected, [&] { return "expected " + decimal(expected) + " " + what + ", found " + decimal(found); });
  };
  PackedHeader h;
  require_packed(bytes.size() >= sizeof h,
                 [&] { return "expected at least " + decimal(sizeof h) + " bytes, found " + decimal(bytes.size()); });
  std::memcpy(&h, bytes.data(), sizeof h);
  require_packed(std::equal(std::begin(h.magic), std::end(h.magic), std::begin(h.own_magic)),
                 [] { return std::string("expected bytes that begin with \"lowbitPK\", found others"); });
  expect(h.version, h.own_version, "as version of the layout");
  p.format = format_of_name(h.format);
  const std::size_t bits = element_bits(p.format);
  require_packed(bits >= 16  ? h.block == 0
                 : bits == 8 ? h.block != 0
                             : valid_block_size(h.block),
                 [&] { return std::string(format_name(p.format)) + " with block size " + decimal(h.block) + " does not exist"; });
  // Every element takes half a byte at least; beyond that no size below can overflow.
  constexpr std::uint64_t most = std::uint64_t{1} << 40;
  require_packed(h.rows <= most && h.cols <= most && (h.rows == 0 || h.cols <= 2 * bytes.size() / h.rows),
                 [&] { return "found shape " + shape_string(h.rows, h.cols) + " in " + decimal(bytes.size()) + " bytes"; });
  require_packed(PackedShape::exists(h.rows, h.cols, h.block),
                 [&] { return "no layout for shape " + shape_string(h.rows, h.cols) + " with block size " + decimal(h.block); });
  p.shape = PackedShape(p.format, h.rows, h.cols, h.block);
  expect(h.panel_bytes, p.shape.bytes, "bytes of panels");
  const std::size_t blocks = h.block == 0 ? 0 : block_count(h.rows * h.cols, h.block);
  if (h.nested != 0) expect(h.nested, bits == 4 ? ceil_div(blocks, nested_block_size) : 0, "nested absmax values");
  if (h.kept_scale_codes != 0) expect(h.kept_scale_codes, h.nested != 0 ? blocks : 0, "scale codes");
  expect(bytes.size(), PackedPlaces(h.panel_bytes, h.nested, h.kept_scale_codes).bytes, "bytes in all");
  require_packed(reinterpret_cast<std::uintptr_t>(bytes.data()) % PackedTensor::alignment == 0,
                 [] { return "expected memory aligned to " + decimal(PackedTensor::alignment) + " bytes"; });
  require_packed(bits != 4 || std::all_of(h.table, h.table + 16, [](float v) { return std::isfinite(v); }),
                 [] { return std::string("its table of 16 values holds NaN or infinity"); });
  p.offset = h.offset;
  p.odd_tail = static_cast<std::uint8_t>(h.odd_tail & 15);
  std::copy_n(h.table, 16, p.table.begin());
  std::copy_n(h.nested_map, 256, p.nested_map.begin());
  if (bits == 4) p.codebook = make_codebook_tables(p.table.data());
  attach(p, bytes, h.nested, h.kept_scale_codes);
}

// The codes of double-quantized scales, by looking every scale up among the 256 of its nested block.  Throws FormatError where one
// is not among them: bytes that were mapped may hold anything.
inline void recover_scale_codes(const PackedState& p, AlignedBuffer<std::uint8_t>& codes) {
  std::array<float, 256> scales{};
  for (std::size_t b = 0; b < codes.size(); ++b) {
    if (b % nested_block_size == 0) scales = nested_scales(p.nested_map.data(), p.nested[b / nested_block_size], p.offset);
    float s;
    std::memcpy(&s, p.panels + p.shape.scale_place(b), sizeof s);
    const auto at = std::lower_bound(scales.begin(), scales.end(), s);
    require_packed(at != scales.end() && std::bit_cast<std::uint32_t>(*at) == std::bit_cast<std::uint32_t>(s),
                   [&] { return "scale " + decimal(b) + " is none of its nested block's"; });
    codes[b] = static_cast<std::uint8_t>(at - scales.begin());
  }
}

LOWBIT_FUNCTION Tensor unpack(const PackedState& p) {
  const DefaultFloatEnvironment environment;
  TensorParts parts;
  parts.format = p.format;
  parts.rows = p.shape.rows;
  parts.cols = p.shape.cols;
  parts.block = p.shape.block;
  parts.table = p.table;
  const std::size_t n = parts.rows * parts.cols, item = p.shape.layout.element == Element::f16 ? 2 : 4;
  parts.codes.reset(element_bytes(p.format, n));
  p.shape.for_each_dword([&](std::size_t row, std::size_t k0, int run, std::size_t at) {
    std::uint32_t word = 0;
    std::memcpy(&word, p.panels + at, item);
    for_each_element(p.shape.layout.element, run, [&](int k, int bit) {
      const std::size_t col = k0 + static_cast<std::size_t>(k);
      if (row < parts.rows && col < parts.cols)
        put_canonical_element(p.shape.layout.element, parts.codes.data(), row * parts.cols + col, word >> bit);
    });
  });
  if (p.shape.layout.element == Element::four_bit && n % 2 != 0) parts.codes[n / 2] |= p.odd_tail;
  if (!p.shape.layout.scaled) return Tensor(std::move(parts));
  const std::size_t blocks = block_count(n, parts.block);
  if (!p.nested.empty()) {
    parts.scale_codes.reset(blocks);
    if (p.kept_scale_codes.empty())
      recover_scale_codes(p, parts.scale_codes);
    else
      std::copy(p.kept_scale_codes.begin(), p.kept_scale_codes.end(), parts.scale_codes.begin());
    parts.nested.reset(p.nested.size());
    std::copy(p.nested.begin(), p.nested.end(), parts.nested.begin());
    parts.nested_map = p.nested_map;
    parts.offset = p.offset;
  } else {
    parts.scales.reset(blocks);
    p.shape.for_each_scale([&](std::size_t row, std::size_t b, std::size_t at) {
      if (row < parts.rows) std::memcpy(&parts.scales[p.shape.scale_index(row, b)], p.panels + at, sizeof(float));
    });
  }
  return Tensor(std::move(parts));
}

LOWBIT_FUNCTION void dequantize_packed_rows(const PackedState& p, std::size_t begin, std::size_t end, float* out) {
  require(begin <= end && end <= p.shape.rows, [&] {
    return "rows [" + decimal(begin) + ", " + decimal(end) + ") of a packed tensor of shape " +
           shape_string(p.shape.rows, p.shape.cols);
  });
  const DefaultFloatEnvironment environment;
  const Element element = p.shape.layout.element;
  const std::size_t cols = p.shape.cols, item = element == Element::f16 ? 2 : 4;
  for (std::size_t row = begin; row < end; ++row, out += cols) {
    float scale = 1;
    const auto on_scale = [&](std::size_t at) { std::memcpy(&scale, p.panels + at, sizeof scale); };
    const auto value = [&](std::uint32_t bits) {
      switch (element) {
        case Element::f32: return std::bit_cast<float>(bits);
        case Element::f16: return to_float(Float16{static_cast<std::uint16_t>(bits)});
        case Element::bf16: return to_float(BFloat16{static_cast<std::uint16_t>(bits)});
        case Element::int8: {
          const float scaled = rounded(static_cast<float>(static_cast<int>(bits & 255u) - 128) * scale);
          return p.format == Format::llm_int8 ? rounded(scaled * llm_int8_inverse_127) : scaled;
        }
        case Element::four_bit: return rounded(p.table[bits & 15] * scale);
      }
      return 0.0f;
    };
    p.shape.visit_row(row, on_scale, [&](std::size_t k0, int run, std::size_t at) {
      std::uint32_t word = 0;
      std::memcpy(&word, p.panels + at, item);
      for_each_element(element, run, [&](int k, int bit) {
        const std::size_t col = k0 + static_cast<std::size_t>(k);
        if (col < cols) out[col] = value(word >> bit);
      });
    });
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
