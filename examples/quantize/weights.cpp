// SPDX-License-Identifier: MIT
#include "examples/quantize/weights.hpp"

#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "lowbit/format/format.hpp"
#include "lowbit/gpt2/gguf_writer.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/io/residency.hpp"

namespace quantize {

namespace fs = std::filesystem;
namespace gpt2 = lowbit::gpt2;
namespace io = lowbit::io;

namespace {

Decoded decoded(const lowbit::Tensor& t, std::vector<std::size_t> shape) {
  Decoded d{std::move(shape), lowbit::AlignedBuffer<float>(t.size())};
  t.dequantize(d.values.data());
  return d;
}

}  // namespace

// ---- folders -------------------------------------------------------------------------------------------------------------------

FolderWeights::FolderWeights(const fs::path& path, bool as_gguf) : model_(ModelFolder::open(path)) {
  for (io::StoredWeight& w : io::stored_weights(model_.files)) {
    names_.push_back(w.name);
    weights_.emplace(names_.back(), std::move(w));
  }
  if (!as_gguf) return;
  const gpt2::FolderParameters parameters(path);
  std::map<std::string, io::StoredWeight> renamed;
  std::set<std::string> used;
  std::vector<std::string> stored = std::exchange(names_, {});
  for (const gpt2::ParameterShape& p : gpt2::gguf_parameters(parameters.config())) {
    const auto found = weights_.find(parameters.name_in_file(p.name));
    if (found == weights_.end()) continue;
    names_.push_back(gpt2::gguf_name(p.name));
    used.insert(found->first);
    renamed.emplace(names_.back(), found->second);
  }
  for (std::string& name : stored)
    if (!used.contains(name)) left_out_.push_back(std::move(name));
  weights_ = std::move(renamed);
}

Description FolderWeights::describe(const std::string& name) const {
  using Kind = io::StoredWeight::Kind;
  const io::StoredWeight& weight = stored(name);
  Description d;
  for (const std::string& part : weight.parts) d.bytes += files().at(part).data.size();
  const io::TensorView& view = files().at(weight.name);
  d.shape = view.shape;
  d.elements = view.elements();
  switch (weight.kind) {
    case Kind::four_bit: {
      const lowbit::Tensor t = io::read_four_bit(files(), weight.name).tensor;
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
    case Kind::plain:
      d.format = io::dtype_name(view.dtype);
      d.decodes = is_float(view.dtype);
      break;
  }
  return d;
}

Decoded FolderWeights::decode(const std::string& name) const {
  const io::StoredWeight& weight = stored(name);
  if (weight.kind != io::StoredWeight::Kind::plain) {
    const lowbit::Tensor t = io::read_quantized(files(), weight);
    return decoded(t, {t.rows(), t.cols()});
  }
  const io::TensorView& view = files().at(weight.name);
  Decoded d{view.shape, lowbit::AlignedBuffer<float>(view.elements())};
  io::read_floats(view, d.values.span());
  const std::string module = io::module_name(view.name);
  if (model_.has_conv1d() && module != view.name && view.shape.size() == 2 && !is_kept_by_default(module)) {
    d.values = gpt2::transposed(d.values.span(), view.shape[0], view.shape[1]);
    std::swap(d.shape[0], d.shape[1]);
  }
  return d;
}

void FolderWeights::release(const std::string& name) const {
  for (const std::string& part : stored(name).parts) io::release_pages(files().at(part).data);
}

// ---- GGUF ----------------------------------------------------------------------------------------------------------------------

std::vector<std::string> GgufWeights::names() const {
  std::vector<std::string> names;
  for (const io::GgufTensor& t : file_.tensors()) names.push_back(t.name);
  return names;
}

Description GgufWeights::describe(const std::string& name) const {
  const io::GgufTensor& t = file_.at(name);
  const std::size_t block = t.block_size();
  return {std::string(t.type_name()), block == 1 ? "" : std::to_string(block), t.shape, t.elements(), t.data.size(),
          io::is_supported(t)};
}

Decoded GgufWeights::decode(const std::string& name) const {
  const io::GgufTensor& t = file_.at(name);
  return decoded(io::read_gguf(t), t.shape);
}

void GgufWeights::release(const std::string& name) const { io::release_pages(file_.at(name).data); }

// ---- either --------------------------------------------------------------------------------------------------------------------

bool is_gguf(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  if (path.extension() == ".gguf") return true;
  const io::MappedFile file(path);
  return file.size() >= 4 && std::string_view(reinterpret_cast<const char*>(file.data()), 4) == "GGUF";
}

std::unique_ptr<Weights> open_weights(const fs::path& path, bool as_gguf) {
  if (is_gguf(path)) return std::make_unique<GgufWeights>(path);
  return std::make_unique<FolderWeights>(path, as_gguf);
}

}  // namespace quantize
