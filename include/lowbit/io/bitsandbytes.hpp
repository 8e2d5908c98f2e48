// SPDX-License-Identifier: MIT
// bitsandbytes' state dict <-> tensors: NF4 and FP4 (plain or double-quantized) and LLM.int8(), read as published checkpoints hold
// them and written back byte for byte.  Rule: bitsandbytes functional.QuantState.as_dict / from_dict, nn.Linear8bitLt.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"
#include "lowbit/tensor/weights_view.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// A 4-bit weight and what its state says beside it.
struct FourBitState {
  Tensor tensor;                         // nf4 or fp4
  std::string dtype;                     // the type its producer decodes to: "float16", "bfloat16" or "float32"
  std::string nested_dtype = "float32";  // of the nested absmax, as the state says
};

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {

inline std::string four_bit_state_key(const TensorSource& source, const std::string& weight) {
  for (const char* type : {"nf4", "fp4"}) {
    std::string key = weight + ".quant_state.bitsandbytes__" + type;
    if (source.contains(key)) return key;
  }
  return {};
}
inline void check_elements(const TensorView& view, std::size_t n) {
  if (view.elements() != n)
    raise<FormatError>(view.where() + ": expected " + decimal(n) + " elements, found " + decimal(view.elements()));
}
inline void fill(AlignedBuffer<float>& out, const TensorView& view, std::size_t n) {
  check_elements(view, n);
  out.reset(n);
  read_floats(view, out.span());
}

// A 4-bit weight's tensors, as the file has them, and what its state says.
struct FourBitFile {
  Format format = Format::nf4;
  std::size_t rows = 0, cols = 0, block = 0;
  std::size_t elements = 0, blocks = 0;
  std::string dtype, nested_dtype = "float32";
  float offset = 0;
  const TensorView *codes = nullptr, *table = nullptr, *absmax = nullptr;
  const TensorView *nested = nullptr, *nested_map = nullptr;  // where absmax is double-quantized
  bool transposed_absmax = false;
};

// The parts of absmax codes: p has all that is not theirs.
inline void read_double_quantization(FourBitFile& p, const TensorSource& source, const std::string& weight, const TensorView& state,
                                     const Json& json) {
  const auto expect = [&](bool holds, const char* name, const char* expected) {
    if (!holds) raise<FormatError>(state.where() + ": " + name + ": expected " + expected);
  };
  const TensorView& absmax = *p.absmax;
  if (absmax.data.size() != p.blocks)
    raise<FormatError>(absmax.where() + ": expected " + decimal(p.blocks) + " blocks, found " + decimal(absmax.data.size()));
  const auto size = json.find("nested_blocksize"), offset = json.find("nested_offset"), dtype = json.find("nested_dtype");
  expect(size != json.end(), "nested_blocksize", "a value, found nothing");
  expect(size->is_number_unsigned() && size->get<std::size_t>() == nested_block_size, "nested_blocksize", "256");
  expect(offset != json.end(), "nested_offset", "a value, found nothing");
  expect(offset->is_number() && std::fabs(offset->get<double>()) <= static_cast<double>((std::numeric_limits<float>::max)()),
         "nested_offset", "a number that fits in a float");
  p.offset = static_cast<float>(offset->get<double>());
  if (dtype != json.end()) p.nested_dtype = dtype->is_string() ? dtype->get<std::string>() : "";
  if (p.nested_dtype != "float32")
    raise<FormatError>(state.where() + ": nested_dtype: expected \"float32\", found " + in_quotes(p.nested_dtype) +
                       "; the file was saved again after a repacking that rounded its scales");
  p.nested = &source.at(weight + ".nested_absmax");
  p.nested_map = &source.at(weight + ".nested_quant_map");
}

inline FourBitFile read_four_bit_state(const TensorSource& source, const std::string& weight) {
  const std::string key = detail::four_bit_state_key(source, weight);
  if (key.empty())
    raise<FormatError>(source.location() + ": tensor " + in_quotes(weight) +
                       " has no quant_state.bitsandbytes__nf4 or __fp4 beside it");
  const TensorView& state = source.at(key);
  const auto bytes = state.as_span<std::uint8_t>();
  std::string text(bytes.begin(), bytes.end());
  text.erase(std::find(text.begin(), text.end(), '\0'), text.end());
  const Json json = parse_json(text, state.where());
  const auto fail = [&](const char* name, const char* expected) {
    raise<FormatError>(state.where() + ": " + name + ": expected " + expected);
  };
  const auto member = [&](const char* name) -> const Json& {
    if (!json.is_object() || !json.contains(name)) fail(name, "a value, found nothing");
    return json[name];
  };
  FourBitFile p;
  const bool nf4 = key.ends_with("nf4");
  if (!member("quant_type").is_string() || member("quant_type") != (nf4 ? "nf4" : "fp4"))
    fail("quant_type", nf4 ? "\"nf4\"" : "\"fp4\"");
  p.format = nf4 ? Format::nf4 : Format::fp4;
  if (!member("blocksize").is_number_unsigned() || !valid_block_size(member("blocksize").get<std::size_t>()))
    fail("blocksize", "a power of two from 32 to 4096");
  p.block = member("blocksize").get<std::size_t>();
  const Json& shape = member("shape");
  if (!shape.is_array() || shape.size() != 2 || !shape[0].is_number_unsigned() || !shape[1].is_number_unsigned())
    fail("shape", "[out, in]");
  p.rows = shape[0].get<std::size_t>();
  p.cols = shape[1].get<std::size_t>();
  if (p.cols != 0 && p.rows > SIZE_MAX / p.cols) fail("shape", "[out, in] whose product fits in a size");
  if (!member("dtype").is_string()) fail("dtype", "a string");
  p.dtype = member("dtype").get<std::string>();

  p.codes = &source.at(weight);
  p.elements = checked_mul(p.rows, p.cols, "4-bit weight");
  p.blocks = block_count(p.elements, p.block);
  if (p.codes->data.size() != packed_size(p.elements))
    raise<FormatError>(p.codes->where() + ": expected " + decimal(packed_size(p.elements)) + " bytes for shape " +
                       lowbit::shape_string(p.rows, p.cols) + ", found " + decimal(p.codes->data.size()));
  p.table = &source.at(weight + ".quant_map");
  p.absmax = &source.at(weight + ".absmax");
  const TensorView& absmax = *p.absmax;
  if (absmax.dtype == DType::U8) {
    read_double_quantization(p, source, weight, state, json);
  } else {
    // Saved again after bitsandbytes repacked it for a CPU with AVX512-BF16: transposed and rounded to bf16.
    p.transposed_absmax = absmax.dtype == DType::BF16 && absmax.shape.size() == 2 && p.cols % p.block == 0 &&
                          absmax.shape[0] == p.cols / p.block && absmax.shape[1] == p.rows;
  }
  return p;
}

// The codes of an LLM.int8() layer, row-major [out, in].
inline const TensorView& llm_int8_codes(const TensorSource& source, const std::string& module) {
  const TensorView& weight = source.at(module + ".weight");
  weight.check_dtype(DType::I8);
  if (weight.shape.size() != 2)
    raise<FormatError>(weight.where() + ": expected shape [out, in], found " + shape_string(weight.shape));
  if (source.contains(module + ".weight_format")) {
    const TensorView& format = source.at(module + ".weight_format");
    const auto code = format.as_span<std::uint8_t>();
    if (code.size() != 1 || code[0] != 0)
      raise<FormatError>(format.where() +
                         ": expected 0 (row-major), found another layout; save the model again with a current bitsandbytes");
  }
  return weight;
}

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// Whether `weight` (for example "transformer.h.0.attn.c_attn.weight") is held in 4 bits.
inline bool is_four_bit(const TensorSource& source, const std::string& weight) {
  return !detail::four_bit_state_key(source, weight).empty();
}

// Reads a 4-bit weight (out, in).  The tables, offset and block size are those of the file; the packed bytes may be stored as any
// type (quant_storage).  Throws FormatError that names the tensor, what was expected and what was found.
inline FourBitState read_four_bit(const TensorSource& source, const std::string& weight) {
  const detail::FourBitFile f = detail::read_four_bit_state(source, weight);
  FourBitState result;
  result.dtype = f.dtype;
  result.nested_dtype = f.nested_dtype;
  TensorParts p;
  p.format = f.format;
  p.rows = f.rows;
  p.cols = f.cols;
  p.block = f.block;
  const std::size_t n = f.elements, blocks = f.blocks;
  p.codes.reset(packed_size(n));
  if (n != 0) std::memcpy(p.codes.data(), f.codes->data.data(), f.codes->data.size());
  AlignedBuffer<float> table;
  detail::fill(table, *f.table, 16);
  std::copy_n(table.data(), 16, p.table.begin());
  if (f.nested != nullptr) {
    const auto quantized = f.absmax->as_span<std::uint8_t>();
    p.scale_codes.reset(blocks);
    std::copy(quantized.begin(), quantized.end(), p.scale_codes.data());
    p.offset = f.offset;
    detail::fill(p.nested, *f.nested, ceil_div(blocks, nested_block_size));
    AlignedBuffer<float> map;
    detail::fill(map, *f.nested_map, 256);
    std::copy_n(map.data(), 256, p.nested_map.begin());
  } else if (f.transposed_absmax) {
    AlignedBuffer<float> transposed;
    detail::fill(transposed, *f.absmax, blocks);
    p.scales.reset(blocks);
    const std::size_t per_row = p.cols / p.block;
    for (std::size_t i = 0; i < blocks; ++i)
      p.scales[i] = transposed[i % per_row * p.rows + i / per_row];  // rows may be 2^62 of none
  } else {
    detail::fill(p.scales, *f.absmax, blocks);
  }
  result.tensor = Tensor(std::move(p));
  return result;
}

// A 4-bit weight (out, in) where it lies: nothing but the state's JSON is read, and nothing is copied.  For matmul on a mapped file,
// whose pages are then read as they are needed.  The source must outlive the view.  Throws FormatError as read_four_bit() does, and
// where the file does not hold what kernels read in place: scales in another type than F32 or U8, or not aligned to their type.
inline WeightsView view_four_bit(const TensorSource& source, const std::string& weight) {
  const detail::FourBitFile f = detail::read_four_bit_state(source, weight);
  WeightsViewParts p;
  p.format = f.format;
  p.rows = f.rows;
  p.cols = f.cols;
  p.block = f.block;
  p.codes = f.codes->data.data();
  const std::size_t blocks = f.blocks;
  std::array<float, 16> table;  // the view keeps what it makes of it
  detail::check_elements(*f.table, 16);
  read_floats(*f.table, table);
  p.table = table.data();
  if (f.nested != nullptr) {
    p.scale_codes = f.absmax->as_span<std::uint8_t>().data();
    p.nested = f.nested->as_span<float>().data();
    p.offset = f.offset;
    detail::check_elements(*f.nested, ceil_div(blocks, nested_block_size));
    detail::check_elements(*f.nested_map, 256);
    std::array<float, 256> map;
    read_floats(*f.nested_map, map);
    // The library's own, where it is the same, spares the file's page.
    if (!std::ranges::equal(std::as_bytes(std::span(map)), std::as_bytes(std::span(dynamic_map()))))
      p.nested_map = f.nested_map->as_span<float>().data();
  } else {
    p.scales = f.absmax->as_span<float>().data();
    detail::check_elements(*f.absmax, blocks);
  }
  return WeightsView(p);
}

// Whether `module` (for example "transformer.h.0.attn.c_attn") is an LLM.int8() layer.
inline bool is_llm_int8(const TensorSource& source, const std::string& module) {
  return source.contains(module + ".SCB") && source.contains(module + ".weight");
}

// Reads the weights (out, in) of an LLM.int8() layer.  Throws FormatError as above; tile formats of old versions are refused.
inline LlmInt8Tensor read_llm_int8(const TensorSource& source, const std::string& module) {
  const TensorView &weight = detail::llm_int8_codes(source, module), &scb = source.at(module + ".SCB");
  AlignedBuffer<float> scales;
  detail::fill(scales, scb, weight.shape[0]);
  return LlmInt8Tensor::from_codes(weight.as_span<std::int8_t>().data(), scales.data(), weight.shape[0], weight.shape[1]);
}

// The weights (out, in) of an LLM.int8() layer where they lie; as view_four_bit().
inline WeightsView view_llm_int8(const TensorSource& source, const std::string& module) {
  const TensorView &weight = detail::llm_int8_codes(source, module), &scb = source.at(module + ".SCB");
  WeightsViewParts p;
  p.format = Format::llm_int8;
  p.rows = weight.shape[0];
  p.cols = weight.shape[1];
  p.codes = weight.data.data();
  p.block = p.cols;
  p.scales = scb.as_span<float>().data();
  detail::check_elements(scb, p.rows);
  return WeightsView(p);
}

// Tensors to write, and the bytes that they point at; those of the tensor itself are not copied, so it must live on.
struct StateDict {
  std::vector<TensorToWrite> tensors;         // in the order of the file
  std::vector<std::vector<std::byte>> owned;  // the bytes of those that add_owned() added

  // Adds a tensor whose bytes are the caller's.
  void add(std::string name, DType dtype, std::vector<std::size_t> shape, const void* data, std::size_t bytes) {
    tensors.push_back({std::move(name), dtype, std::move(shape), {static_cast<const std::byte*>(data), bytes}});
  }
  // The same with a copy of the bytes.
  void add_owned(std::string name, DType dtype, std::vector<std::size_t> shape, const void* data, std::size_t bytes) {
    owned.emplace_back(static_cast<const std::byte*>(data), static_cast<const std::byte*>(data) + bytes);
    add(std::move(name), dtype, std::move(shape), owned.back().data(), bytes);
  }
};

// Adds a 4-bit weight under the name `weight`, with keys, order and JSON as bitsandbytes writes them.  storage: the type that the
// file gives the codes (quant_storage), whose size divides theirs.
inline void add_four_bit(StateDict& out, const std::string& weight, const Tensor& tensor, const std::string& dtype,
                         DType storage = DType::U8) {
  const TensorParts& p = tensor.parts();
  require(p.format == Format::nf4 || p.format == Format::fp4,
          [&] { return in_quotes(weight) + ": expected a 4-bit tensor, found " + format_name(p.format); });
  const std::size_t blocks = block_count(tensor.size(), p.block);
  const std::size_t stored = dtype_bits(storage) / 8;
  require(stored != 0 && p.codes.size() % stored == 0, [&] {
    return in_quotes(weight) + ": " + decimal(p.codes.size()) + " bytes of codes cannot be stored as " +
           std::string(dtype_name(storage));
  });
  out.add(weight, storage, {p.codes.size() / stored, 1}, p.codes.data(), p.codes.size_bytes());
  Json json = {{"quant_type", format_name(p.format)}, {"blocksize", p.block}, {"dtype", dtype}, {"shape", {p.rows, p.cols}}};
  if (tensor.double_quantized()) {
    out.add(weight + ".absmax", DType::U8, {blocks}, p.scale_codes.data(), p.scale_codes.size_bytes());
    out.add(weight + ".quant_map", DType::F32, {16}, p.table.data(), 64);
    out.add(weight + ".nested_absmax", DType::F32, {p.nested.size()}, p.nested.data(), p.nested.size_bytes());
    out.add(weight + ".nested_quant_map", DType::F32, {256}, p.nested_map.data(), 1024);
    json["nested_blocksize"] = nested_block_size;
    json["nested_dtype"] = "float32";
    json["nested_offset"] = static_cast<double>(p.offset);
  } else {
    out.add(weight + ".absmax", DType::F32, {blocks}, p.scales.data(), p.scales.size_bytes());
    out.add(weight + ".quant_map", DType::F32, {16}, p.table.data(), 64);
  }
  std::string text = json.dump(-1, ' ', true);
  // Python's json.dumps separates with ", " and ": "; no string of this object holds either character.
  std::string spaced;
  for (const char c : text) {
    spaced += c;
    if (c == ',' || c == ':') spaced += ' ';
  }
  out.add_owned(weight + ".quant_state.bitsandbytes__" + format_name(p.format), DType::U8, {spaced.size()}, spaced.data(),
                spaced.size());
}
// Adds the weights of an LLM.int8() layer.
inline void add_llm_int8(StateDict& out, const std::string& module, const Tensor& tensor) {
  const TensorParts& p = tensor.parts();
  require(p.format == Format::llm_int8,
          [&] { return in_quotes(module) + ": expected an LLM.int8() tensor, found " + format_name(p.format); });
  const std::uint8_t row_major = 0;
  out.add(module + ".weight", DType::I8, {p.rows, p.cols}, p.codes.data(), p.codes.size());
  out.add(module + ".SCB", DType::F32, {p.rows}, p.scales.data(), p.rows * 4);
  out.add_owned(module + ".weight_format", DType::U8, {}, &row_major, 1);
}

}  // namespace lowbit::io::inline LOWBIT_ABI
