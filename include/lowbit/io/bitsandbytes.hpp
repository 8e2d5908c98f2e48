// SPDX-License-Identifier: MIT
// bitsandbytes' state dict as tensors: NF4 and FP4 (plain or double-quantized) and LLM.int8(), read as published checkpoints hold
// them.  Rule: bitsandbytes functional.QuantState.from_dict, nn.Linear8bitLt.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "lowbit/io/bitsandbytes_state.hpp"
#include "lowbit/io/tensor_view.hpp"
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

}  // namespace lowbit::io::inline LOWBIT_ABI
