// SPDX-License-Identifier: MIT
// The weights of a model folder as Hugging Face's libraries lay them out: one safetensors file, or an index and several of them.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// One or several safetensors files seen as one source.  Each is opened once.  Where there is an index, it decides: the names are
// those of its weight_map, in its order, and a tensor that a shard holds but the index does not list stays unseen.
// Move-only.  Reading from several threads is safe.
class ModelFiles : public TensorSource {
 public:
  // `path` is a folder with model.safetensors or, failing that, model.safetensors.index.json; or a .safetensors file; or an index
  // (its name ends in .json), whose shards lie beside it.  Throws IoError if a file is missing or cannot be read, FormatError if
  // one is not valid or a tensor of the index is not in its shard.
  static ModelFiles open(const std::filesystem::path& path) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) return path.extension() == ".json" ? open_index(path) : open_single(path);
    const std::filesystem::path single = path / "model.safetensors", index = path / "model.safetensors.index.json";
    if (std::filesystem::exists(single, ignored)) return open_single(single);
    if (std::filesystem::exists(index, ignored)) return open_index(index);
    std::string found = "neither";
    for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"})
      if (std::filesystem::exists(path / other, ignored))
        found = std::string("only ") + other + "; save the model as safetensors (transformers' save_pretrained does)";
    for (std::filesystem::directory_iterator entry(path, ignored); !ignored && entry != std::filesystem::directory_iterator();
         entry.increment(ignored))
      if (found == "neither" && entry->path().extension() == ".gguf")
        found = "only " + entry->path().filename().string() + "; give that file instead of the folder";
    raise<IoError>(path.string() + ": expected model.safetensors or model.safetensors.index.json, found " + found);
  }

  const std::string& location() const override { return location_; }
  std::vector<std::string> names() const override { return names_; }
  bool contains(std::string_view name) const override { return shard_of_.find(name) != shard_of_.end(); }
  const TensorView& at(std::string_view name) const override {
    const auto found = shard_of_.find(name);
    if (found == shard_of_.end()) detail::raise_missing(*this, name);
    return shards_[found->second].at(name);
  }
  // The files behind it, for their metadata.
  const std::vector<SafeTensors>& shards() const { return shards_; }

 private:
  ModelFiles() = default;

  static ModelFiles open_single(const std::filesystem::path& path) {
    ModelFiles result;
    result.location_ = path.string();
    result.shards_.push_back(SafeTensors::open(path));
    result.names_ = result.shards_[0].names();
    for (const std::string& name : result.names_) result.shard_of_.emplace(name, 0);
    return result;
  }

  static ModelFiles open_index(const std::filesystem::path& path) {
    ModelFiles result;
    result.location_ = path.string();
    const auto fail = [&](const std::string& what) { raise<FormatError>(result.location_ + ": " + what); };
    const JsonDocument document(parse_json(read_text(path), result.location_));
    const Json& index = *document;
    if (!index.is_object()) fail(std::string("expected an object, found ") + index.type_name());
    const auto weight_map = index.find("weight_map");
    if (weight_map == index.end() || !weight_map->is_object()) fail("expected an object weight_map");

    std::map<std::string, std::size_t> shard_of_file;
    for (const auto& [name, value] : weight_map->items()) {
      if (!value.is_string()) fail("weight_map: " + in_quotes(name) + ": expected a file name, found " + value.type_name());
      const std::string& file = value.get_ref<const std::string&>();
      // An index from elsewhere must not make us open files outside its folder.
      if (file.empty() || file == "." || file == ".." || file.find_first_of("/\\:") != file.npos || file.find('\0') != file.npos)
        fail("weight_map: " + in_quotes(name) + ": expected the name of a file in the same folder, found " + in_quotes(file));
      const auto [shard, is_new] = shard_of_file.emplace(file, result.shards_.size());
      if (is_new) {
        std::error_code ignored;
        const std::filesystem::path shard_path = path.parent_path() / file;
        if (!std::filesystem::exists(shard_path, ignored))
          fail("weight_map: " + in_quotes(name) + " is in " + in_quotes(file) + ", which is missing");
        result.shards_.push_back(SafeTensors::open(shard_path));
      }
      if (!result.shards_[shard->second].contains(name))
        fail("weight_map: " + in_quotes(name) + ": " + in_quotes(file) + " has no such tensor");
      result.names_.push_back(name);
      result.shard_of_.emplace(name, shard->second);
    }
    return result;
  }

  std::string location_;
  std::vector<SafeTensors> shards_;
  std::vector<std::string> names_;
  std::map<std::string, std::size_t, std::less<>> shard_of_;
};

// ModelFiles::open, as a verb.
inline ModelFiles open_folder_or_file(const std::filesystem::path& path) { return ModelFiles::open(path); }

}  // namespace lowbit::io::inline LOWBIT_ABI
