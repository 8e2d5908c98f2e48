// SPDX-License-Identifier: MIT
// What a checkpoint holds, weight by weight: a tensor that stands alone, or quantized codes together with the scales, tables and
// state that lie beside them under names of their own.  For programs that go through a file without knowing its model.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/bitsandbytes_state.hpp"
#include "lowbit/io/tensor_view.hpp"
#include "lowbit/tensor/int8_tensor.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// A weight and the tensors that hold it.
struct StoredWeight {
  // plain     a tensor as it is, of any element type
  // four_bit  NF4 or FP4 in bitsandbytes' layout
  // llm_int8  LLM.int8() in bitsandbytes' layout
  // int8      I8 [out, in] with one F32 scale a row, NAME_scale
  enum class Kind : std::uint8_t { plain, four_bit, llm_int8, int8 };
  std::string name;                // of the tensor that holds the elements
  Kind kind = Kind::plain;         // how it is held
  std::vector<std::string> parts;  // every tensor that belongs to it, `name` first
};

// "a.b" of "a.b.weight"; other names are what they are.
inline std::string module_name(std::string_view weight) {
  constexpr std::string_view end = ".weight";
  return std::string(weight.ends_with(end) ? weight.substr(0, weight.size() - end.size()) : weight);
}

// All weights of the source, in its order; each tensor belongs to exactly one.
inline std::vector<StoredWeight> stored_weights(const TensorSource& source) {
  const std::vector<std::string> names = source.names();
  std::vector<StoredWeight> found;
  std::unordered_set<std::string> taken;
  const auto take = [&](StoredWeight& w, const std::string& part) {
    if (source.contains(part) && taken.insert(part).second) w.parts.push_back(part);
  };
  for (const std::string& name : names) {
    if (taken.contains(name)) continue;
    StoredWeight w{name, StoredWeight::Kind::plain, {}};
    if (is_four_bit(source, name)) {
      w.kind = StoredWeight::Kind::four_bit;
      take(w, name);
      for (const char* part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) take(w, name + part);
      take(w, detail::four_bit_state_key(source, name));
    } else if (name.ends_with(".weight") && source.at(name).dtype == DType::I8 && is_llm_int8(source, module_name(name))) {
      w.kind = StoredWeight::Kind::llm_int8;
      take(w, name);
      for (const char* part : {".SCB", ".weight_format"}) take(w, module_name(name) + part);
    } else if (source.at(name).dtype == DType::I8 && source.contains(name + "_scale")) {
      w.kind = StoredWeight::Kind::int8;
      take(w, name);
      take(w, name + "_scale");
    }
    if (w.kind != StoredWeight::Kind::plain) found.push_back(std::move(w));
  }
  // What is left stands alone; in the source's order.
  std::vector<StoredWeight> all;
  all.reserve(names.size());
  auto next = found.begin();
  for (const std::string& name : names) {
    if (next != found.end() && next->name == name)
      all.push_back(std::move(*next++));
    else if (!taken.contains(name))
      all.push_back({name, StoredWeight::Kind::plain, {name}});
  }
  return all;
}

// The int8 weights (out, in) under the name `weight`, with one scale a row in NAME_scale.  Throws FormatError that names the tensor.
inline Int8Tensor<> read_int8_rows(const TensorSource& source, const std::string& weight) {
  const TensorView& codes = source.at(weight);
  codes.check_dtype(DType::I8);
  if (codes.shape.size() != 2) raise<FormatError>(codes.where() + ": expected shape [out, in], found " + shape_string(codes.shape));
  const TensorView& view = source.at(weight + "_scale");
  view.check_shape({codes.shape[0]});
  AlignedBuffer<float> scales(view.elements());
  read_floats(view, scales.span());
  return Int8Tensor<>::from_codes(codes.as_span<std::int8_t>().data(), scales.data(), codes.shape[0], codes.shape[1]);
}

// The weights (out, in) of what is not plain.  Throws
// FormatError as the readers of the formats do, InvalidArgument for what is plain.
inline Tensor read_quantized(const TensorSource& source, const StoredWeight& weight) {
  switch (weight.kind) {
    case StoredWeight::Kind::four_bit: return std::move(read_four_bit(source, weight.name).tensor);
    case StoredWeight::Kind::llm_int8: return read_llm_int8(source, module_name(weight.name));
    case StoredWeight::Kind::int8: return read_int8_rows(source, weight.name);
    case StoredWeight::Kind::plain: break;
  }
  raise<InvalidArgument>(source.at(weight.name).where() + ": expected quantized weights, found a plain tensor");
}

}  // namespace lowbit::io::inline LOWBIT_ABI
