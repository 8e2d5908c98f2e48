// SPDX-License-Identifier: MIT
// GPT-2 checkpoints that a test can bend before it writes them, and the plain pass in double over them.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "lowbit/io/safetensors_writer.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/reference_gpt2.hpp"

namespace lowbit_test {

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::ordered_json;
using lowbit::io::DType;

struct Entry {
  DType dtype = DType::F32;
  std::vector<std::size_t> shape;
  std::vector<std::byte> bytes;
};

template <class T>
Entry entry(const std::vector<T>& values, std::vector<std::size_t> shape, DType dtype = lowbit::io::dtype_of<T>) {
  const auto bytes = std::as_bytes(std::span(values));
  return {dtype, std::move(shape), {bytes.begin(), bytes.end()}};
}

inline std::vector<float> floats(const Entry& e) {
  std::vector<float> out;
  if (e.dtype == DType::F32) {
    out.resize(e.bytes.size() / 4);
    std::memcpy(out.data(), e.bytes.data(), e.bytes.size());
  } else if (e.dtype == DType::BF16) {
    for (std::size_t i = 0; i < e.bytes.size(); i += 2) {
      const std::uint32_t bits = std::to_integer<std::uint32_t>(e.bytes[i]) << 16 | std::to_integer<std::uint32_t>(e.bytes[i + 1])
                                                                                        << 24;
      out.push_back(std::bit_cast<float>(bits));
    }
  } else {
    throw std::runtime_error("a float entry was expected");
  }
  return out;
}

struct Checkpoint {
  Json config;
  std::map<std::string, Entry> tensors;

  std::filesystem::path write(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    std::vector<lowbit::io::TensorToWrite> list;
    for (const auto& [name, e] : tensors) list.push_back({name, e.dtype, e.shape, e.bytes});
    lowbit::io::write_safetensors(folder / "model.safetensors", list);
    put_file(folder / "config.json", config.dump(1));
    return folder;
  }
};

inline Checkpoint read_checkpoint(const std::filesystem::path& folder) {
  Checkpoint c;
  c.config = Json::parse(read_bytes((folder / "config.json").string()));
  const GoldenFile file((folder / "model.safetensors").string());
  for (const auto& [name, header] : file.header().items()) {
    if (name == "__metadata__") continue;
    const auto dtype = header.at("dtype").get<std::string>();
    c.tensors[name] = {lowbit::io::dtype_from_name(dtype).value(), header.at("shape").get<std::vector<std::size_t>>(),
                       file.get<std::byte>(name, dtype)};
  }
  return c;
}

inline const GoldenFile& tiny_file() {
  static const GoldenFile file(data_path("gpt2_tiny.safetensors"));
  return file;
}

// The model of tests/data/gpt2_tiny.safetensors: width 32, 2 layers, 4 heads, 16 positions, 50 tokens, 4 classes.
inline Checkpoint tiny_checkpoint() {
  Checkpoint c;
  c.config = {{"model_type", "gpt2"}, {"activation_function", "gelu_new"},
              {"n_layer", 2},         {"n_head", 4},
              {"n_embd", 32},         {"n_positions", 16},
              {"vocab_size", 50},     {"layer_norm_epsilon", 1e-5}};
  const std::string prefix = "param.";
  for (const auto& [name, header] : tiny_file().header().items())
    if (name.starts_with(prefix))
      c.tensors[name.substr(prefix.size())] = entry(tiny_file().floats(name), header.at("shape").get<std::vector<std::size_t>>());
  return c;
}

inline std::vector<Ids> tiny_rows() {
  const auto ids = tiny_file().get<std::int64_t>("ids", "I64"), lengths = tiny_file().get<std::int64_t>("lengths", "I64");
  const std::size_t columns = ids.size() / lengths.size();
  std::vector<Ids> rows;
  for (std::size_t r = 0; r < lengths.size(); ++r)
    for (std::size_t t = 0; t < static_cast<std::size_t>(lengths[r]); ++t) {
      if (t == 0) rows.emplace_back();
      rows.back().push_back(static_cast<std::int32_t>(ids[r * columns + t]));
    }
  return rows;
}

inline std::string below_transformer(const std::string& name) {
  const std::string prefix = "transformer.";
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}
// The linear layers' weights, (in, out) in a float checkpoint: "h.0.attn.c_attn.weight" and its like.
inline bool is_linear_weight(const std::string& name) {
  const std::string n = below_transformer(name);
  return n.starts_with("h.") && n.ends_with(".weight") && n.find(".ln_") == n.npos;
}
inline std::string module_of(const std::string& weight) { return weight.substr(0, weight.size() - std::string(".weight").size()); }

inline ReferenceGpt2 reference(const Checkpoint& c) {
  ReferenceGpt2 r;
  r.layers = c.config.at("n_layer");
  r.heads = c.config.at("n_head");
  r.width = c.config.at("n_embd");
  r.epsilon = c.config.at("layer_norm_epsilon");
  for (const auto& [name, e] : c.tensors) {
    const std::vector<float> values = floats(e);
    r.parameters[below_transformer(name)] = {values.begin(), values.end()};
  }
  return r;
}

inline std::vector<float> transpose(const std::vector<float>& v, std::size_t rows, std::size_t cols) {
  std::vector<float> out(v.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) out[c * rows + r] = v[r * cols + c];
  return out;
}

// Weight `name` of a float checkpoint, quantized the way W does it: (out, in).
template <class W>
W quantized(const Entry& weight, const typename W::Options& options = {}) {
  const std::vector<float> values = transpose(floats(weight), weight.shape[0], weight.shape[1]);
  return W::quantize(values.data(), weight.shape[1], weight.shape[0], options);
}
// The checkpoint with its linear weights replaced by what W makes of them, decoded.
template <class W>
Checkpoint decoded(Checkpoint c) {
  for (auto& [name, e] : c.tensors) {
    if (!is_linear_weight(name)) continue;
    const W tensor = quantized<W>(e);
    std::vector<float> values(tensor.size());
    tensor.dequantize(values.data());
    e = entry(transpose(values, tensor.rows(), tensor.cols()), e.shape);
  }
  return c;
}
inline Checkpoint without_prefix(const Checkpoint& c) {
  Checkpoint out{c.config, {}};
  for (const auto& [name, e] : c.tensors) out.tensors[below_transformer(name)] = e;
  return out;
}

}  // namespace lowbit_test
