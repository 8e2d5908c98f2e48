// SPDX-License-Identifier: MIT
// A model folder of any architecture: its config.json as it is, its weights, and what their names say.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/io/json.hpp"
#include "lowbit/io/model_files.hpp"

namespace quantize {

struct ModelFolder {
  lowbit::io::ModelFiles files;
  std::optional<lowbit::io::Json> config;  // of config.json, an object
  std::filesystem::path folder;            // where both lie

  // A folder, or the weight file or index of one.  Throws IoError and FormatError that name the file.
  static ModelFolder open(const std::filesystem::path& path);

  // Whether its linear layers hold [in, out], as Conv1D does.
  bool has_conv1d() const;
  // Files beside the weights, config.json and the index: tokenizer, licence.
  std::vector<std::filesystem::path> other_files() const;
};

// Whether its elements are floats, which io::read_floats() reads.
inline bool is_float(lowbit::io::DType t) {
  using lowbit::io::DType;
  return t == DType::F64 || t == DType::F32 || t == DType::F16 || t == DType::BF16;
}

// Whether `text` is what `pattern` says, where * stands for any characters and ? for one.
bool matches(std::string_view pattern, std::string_view text);

// Whether a module holds no linear layer that is quantized by default: embeddings, norms, heads.
bool is_kept_by_default(std::string_view module);
// Of those, the ones that are no linear layers in any model.
bool is_embedding(std::string_view module);

}  // namespace quantize
