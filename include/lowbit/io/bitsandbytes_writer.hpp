// SPDX-License-Identifier: MIT
// Tensors as bitsandbytes' state dict, byte for byte as it writes them.  Rule: bitsandbytes functional.QuantState.as_dict,
// nn.Linear8bitLt.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/bitsandbytes_state.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/tensor_view.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

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
