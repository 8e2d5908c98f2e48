// SPDX-License-Identifier: MIT
// What the state beside a bitsandbytes weight says, read and checked.  Rule: bitsandbytes functional.QuantState.from_dict.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/tensor_view.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"

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
  const JsonDocument document(parse_json(text, state.where()));
  const Json& json = *document;
  const auto fail = [&](const char* name, const char* expected) {
    raise<FormatError>(state.where() + ": " + name + ": expected " + expected);
  };
  const auto member = [&](const char* name) -> const Json& {
    if (!json.is_object() || !json.contains(name)) fail(name, "a value, found nothing");
    return json[name];
  };
  FourBitFile p;
  const bool nf4 = key.ends_with("nf4");
  if (!is_text(member("quant_type"), nf4 ? "nf4" : "fp4")) fail("quant_type", nf4 ? "\"nf4\"" : "\"fp4\"");
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
