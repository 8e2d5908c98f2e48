// SPDX-License-Identifier: MIT
// A checkpoint as the commands that look at values see it: weights by name, described and as floats, whatever they are stored as.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "examples/quantize/model_folder.hpp"
#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/io/gguf.hpp"
#include "lowbit/io/stored_weights.hpp"

namespace quantize {

// A weight, decoded; of linear layers [out, in], also where the file has Conv1D's [in, out].
struct Decoded {
  std::vector<std::size_t> shape;
  lowbit::AlignedBuffer<float> values;
};

// What a weight is stored as: "nf4", "F32", "I64", "Q8_0"; its block ("64", "64, 8-bit scales", "row"; empty where there is none); all
// bytes; whether it can be decoded.
struct Description {
  std::string format, block;
  std::vector<std::size_t> shape;
  std::size_t elements = 0, bytes = 0;
  bool decodes = true;
};

class Weights {
 public:
  virtual ~Weights() = default;
  virtual const std::string& location() const = 0;
  virtual std::vector<std::string> names() const = 0;  // in the file's order
  virtual bool contains(const std::string& name) const = 0;
  virtual Description describe(const std::string& name) const = 0;
  // Throws FormatError that names file, tensor and type.
  virtual Decoded decode(const std::string& name) const = 0;
  // Gives the pages of its bytes back.
  virtual void release(const std::string& name) const = 0;
};

class FolderWeights final : public Weights {
 public:
  // as_gguf: the parameters of a GPT-2, by the names that the command gguf writes them under, and nothing else.
  explicit FolderWeights(const std::filesystem::path& path, bool as_gguf = false);

  const std::string& location() const override { return model_.files.location(); }
  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override { return weights_.contains(name); }
  Description describe(const std::string& name) const override;
  Decoded decode(const std::string& name) const override;
  void release(const std::string& name) const override;

  const lowbit::io::ModelFiles& files() const { return model_.files; }
  const lowbit::io::StoredWeight& stored(const std::string& name) const { return weights_.at(name); }
  // What as_gguf left out, by the files' names.
  const std::vector<std::string>& left_out() const { return left_out_; }

 private:
  ModelFolder model_;
  std::vector<std::string> names_, left_out_;
  std::map<std::string, lowbit::io::StoredWeight> weights_;
};

class GgufWeights final : public Weights {
 public:
  explicit GgufWeights(const std::filesystem::path& path) : file_(lowbit::io::Gguf::open(path)) {}

  const std::string& location() const override { return file_.location(); }
  std::vector<std::string> names() const override;
  bool contains(const std::string& name) const override { return file_.contains(name); }
  Description describe(const std::string& name) const override;
  Decoded decode(const std::string& name) const override;
  void release(const std::string& name) const override;

 private:
  lowbit::io::Gguf file_;
};

// Whether this is a GGUF file, by its name or its first bytes.
bool is_gguf(const std::filesystem::path& path);

// Throw IoError and FormatError that name the file.
std::unique_ptr<Weights> open_weights(const std::filesystem::path& path, bool as_gguf);

}  // namespace quantize
