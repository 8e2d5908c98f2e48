// SPDX-License-Identifier: MIT
#include "examples/quantize/decoded.hpp"

#include <utility>

#include "lowbit/gpt2/parameters.hpp"

namespace quantize {

namespace io = lowbit::io;
using Kind = io::StoredWeight::Kind;

std::optional<Decoded> decode(const ModelFolder& model, const io::StoredWeight& weight) {
  Decoded d;
  if (weight.kind != Kind::plain) {
    const lowbit::Tensor t = io::read_quantized(model.files, weight);
    d.shape = {t.rows(), t.cols()};
    d.values.reset(t.size());
    t.dequantize(d.values.data());
    return d;
  }
  const io::TensorView& view = model.files.at(weight.name);
  using io::DType;
  if (view.dtype != DType::F64 && view.dtype != DType::F32 && view.dtype != DType::F16 && view.dtype != DType::BF16)
    return std::nullopt;
  d.shape = view.shape;
  d.values.reset(view.elements());
  io::read_floats(view, d.values.span());
  const std::string module = io::module_name(view.name);
  if (model.has_conv1d() && module != view.name && view.shape.size() == 2 && !is_kept_by_default(module)) {
    d.values = lowbit::gpt2::transposed(d.values.span(), view.shape[0], view.shape[1]);
    std::swap(d.shape[0], d.shape[1]);
  }
  return d;
}

Description describe(const ModelFolder& model, const io::StoredWeight& weight) {
  Description d;
  for (const std::string& part : weight.parts) d.bytes += model.files.at(part).data.size();
  const io::TensorView& view = model.files.at(weight.name);
  d.shape = view.shape;
  d.elements = view.elements();
  switch (weight.kind) {
    case Kind::four_bit: {
      const lowbit::Tensor t = io::read_four_bit(model.files, weight.name).tensor;
      d.format = lowbit::format_name(t.format());
      d.block = std::to_string(t.block_size()) + (t.double_quantized() ? ", 8-bit scales" : "");
      d.shape = {t.rows(), t.cols()};
      d.elements = t.size();
      break;
    }
    case Kind::llm_int8:
      d.format = "llm_int8";
      d.block = "row";
      break;
    case Kind::int8:
      d.format = "int8";
      d.block = "row";
      break;
    case Kind::plain: d.format = io::dtype_name(view.dtype); break;
  }
  return d;
}

}  // namespace quantize
