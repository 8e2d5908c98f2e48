// SPDX-License-Identifier: MIT
// Where a model's parameters come from: an interface, and the loader for every folder that lowbit reads (float, bitsandbytes NF4,
// FP4 and LLM.int8(), and lowbit's own int8 trained with quantization in the loop).  GPT-2's Conv1D orientation is handled here,
// and nowhere else.
#pragma once
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/compute.hpp"
#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/hugging_face.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/tensor/dense_tensor.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// The shape of a GPT-2.
struct Config {
  std::size_t layers = 0, heads = 0, width = 0, inner = 0, positions = 0, vocab = 0;  // sizes; inner: of the MLP
  std::size_t classes = 0;                                                            // 0: no classification head
  bool tied = true;                               // the language-model head is the token embedding
  float epsilon = 1e-5f;                          // of layer normalization
  std::vector<std::string> class_names;           // [classes]
  Activation activation = Activation::gelu_tanh;  // of the MLP
};

// The activation that transformers knows by this name; none if lowbit does not have it.
inline std::optional<Activation> activation_of(std::string_view name) {
  // One formula under four names.
  for (const char* tanh : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"})
    if (name == tanh) return Activation::gelu_tanh;
  if (name == "gelu" || name == "gelu_python") return Activation::gelu;
  if (name == "relu") return Activation::relu;
  if (name == "silu" || name == "swish") return Activation::silu;
  return std::nullopt;
}

// Where a model reads its parameters: a folder, a GGUF file.  Throws FormatError that names file and tensor.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  virtual const Config& config() const = 0;  // the model's shape
  // A matrix or vector of floats, by its name below "transformer." ("wte.weight", "h.0.ln_1.bias", ...) or its full name
  // ("score.weight").
  virtual AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const = 0;
  virtual bool contains(const std::string& name) const = 0;  // by its name as floats() takes it
  // The weights (out, in) of linear layer `module` ("h.0.attn.c_attn", ...), in whatever format they are held.
  virtual Tensor linear(const std::string& module, std::size_t out, std::size_t in) const = 0;

 protected:
  ParameterSource() = default;
  ParameterSource(const ParameterSource&) = default;
  ParameterSource& operator=(const ParameterSource&) = default;
};

// Whether the full name of this parameter has "transformer." before it.
inline bool is_below_transformer(std::string_view name) {
  return name.starts_with("h.") || name.starts_with("w") || name.starts_with("ln_f");
}

// (in, out) to (out, in): Conv1D computes x W, everything here computes x W^T.  And back, with `in` and `out` exchanged.
inline AlignedBuffer<float> transposed(std::span<const float> in_out, std::size_t in, std::size_t out) {
  AlignedBuffer<float> result(checked_mul(in, out, "transposed weights"));
  constexpr std::size_t tile = 32;  // 32 x 32 floats of both sides stay in L1
  for (std::size_t i0 = 0; i0 < in; i0 += tile)
    for (std::size_t o0 = 0; o0 < out; o0 += tile)
      for (std::size_t i = i0; i < (std::min)(in, i0 + tile); ++i)
        for (std::size_t o = o0; o < (std::min)(out, o0 + tile); ++o) result[o * in + i] = in_out[i * out + o];
  return result;
}

// A dense tensor (rows, cols) around a buffer, without a copy of its own kind.
inline Tensor dense_tensor(const AlignedBuffer<float>& values, std::size_t rows, std::size_t cols) {
  return DenseTensor<float>::quantize(values.data(), rows, cols);
}

// A Hugging Face folder.  `base`: another folder for what this one leaves out outside the blocks (an int8 twin has no embeddings).
// Throws IoError or FormatError that name the file and tensor.  Reading from several threads is safe.
class FolderParameters final : public ParameterSource {
 public:
  // Opens the files and reads config.json.
  explicit FolderParameters(const std::filesystem::path& folder, const std::optional<std::filesystem::path>& base = std::nullopt)
      : files_(open(folder)) {
    if (base) base_.emplace(open(*base));
    const io::HuggingFaceConfig c = io::read_config(folder);
    const std::optional<Activation> activation = activation_of(c.activation);
    if (!activation)
      raise<FormatError>(
          (folder / "config.json").string() +
          ": activation_function: expected \"gelu_new\" (or \"gelu_pytorch_tanh\", \"gelu_fast\"), \"gelu\", \"relu\" or "
          "\"silu\", found " +
          io::in_quotes(c.activation));
    config_.activation = *activation;
    config_.layers = c.layers;
    config_.heads = c.heads;
    config_.width = c.width;
    config_.inner = c.inner;
    config_.positions = c.positions;
    config_.vocab = c.vocab;
    config_.tied = c.tied_embeddings;
    config_.epsilon = static_cast<float>(c.layer_norm_epsilon);
    if (contains("score.weight")) {
      config_.classes = score_rows();
      config_.class_names = c.id2label;
      if (!c.id2label.empty() && c.id2label.size() != config_.classes)
        raise<FormatError>((folder / "config.json").string() + ": id2label: expected " + decimal(config_.classes) +
                           " classes as score.weight has, found " + decimal(c.id2label.size()));
      for (std::size_t i = config_.class_names.size(); i < config_.classes; ++i)
        config_.class_names.push_back("LABEL_" + decimal(i));
    }
  }

  const Config& config() const override { return config_; }
  bool contains(const std::string& name) const override {
    return files_.contains(full_name(files_, name)) || (base_ && base_->contains(full_name(*base_, name)));
  }

  // What the files call the parameter, behind a prefix or by the other name of a tied embedding; they may not have it.
  std::string name_in_file(const std::string& name) const { return full_name(files_of(name), name); }

  // Quantized matrices are decoded.
  AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override {
    const io::TensorView& v = view(name);
    if (const std::optional<Tensor> t = rows == 1 ? std::nullopt : quantized(files_of(name), full_name(files_of(name), name))) {
      if (t->rows() != rows || t->cols() != cols)
        raise<FormatError>(v.where() + ": expected shape " + shape_string(rows, cols) + ", found " +
                           shape_string(t->rows(), t->cols()));
      AlignedBuffer<float> out(t->size());
      t->dequantize(out.data());
      return out;
    }
    if (rows == 1 ? !(v.shape == std::vector<std::size_t>{cols} || v.shape == std::vector<std::size_t>{1, cols})
                  : v.shape != std::vector<std::size_t>{rows, cols})
      raise<FormatError>(v.where() + ": expected shape " +
                         (rows == 1 ? "[" + decimal(cols) + "]" : io::shape_string(std::vector<std::size_t>{rows, cols})) +
                         ", found " + io::shape_string(v.shape));
    AlignedBuffer<float> out(v.elements());
    io::read_floats(v, out.span());
    return out;
  }

  Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override {
    const std::string name = full_name(files_, module + ".weight");
    // Codes before their scales: those of a wrong shape would not fit either.
    if (files_.contains(name) && files_.at(name).dtype == io::DType::I8) files_.at(name).check_shape({out, in});
    std::optional<Tensor> t = quantized(files_, name);
    if (!t) return dense_tensor(transposed(floats(module + ".weight", in, out), in, out), out, in);
    if (t->rows() != out || t->cols() != in)
      raise<FormatError>(files_.at(name).where() + ": expected shape " + shape_string(out, in) + ", found " +
                         shape_string(t->rows(), t->cols()));
    return std::move(*t);
  }

 private:
  static io::ModelFiles open(const std::filesystem::path& folder) {
    io::require_model_folder(folder);
    return io::ModelFiles::open(folder);
  }
  // The files of a folder, and what stands before the names of a plain GPT2Model in them: "", "transformer.", and where the model was
  // saved from inside another object ("module.", "_orig_mod.", "model."), that too.
  struct Folder : io::ModelFiles {
    Folder(io::ModelFiles files) : io::ModelFiles(std::move(files)) {  // NOLINT: the same with two words more
      constexpr std::string_view block = "h.0.", body = "transformer.";
      for (const std::string& name : names()) {
        const std::size_t at = name.find(block);
        if (at == name.npos || (at != 0 && name[at - 1] != '.')) continue;
        inner = name.substr(0, at);
        outer = inner.ends_with(body) ? inner.substr(0, inner.size() - body.size()) : inner;
        return;
      }
      inner = body;  // embeddings alone
      if (contains("wte.weight")) inner.clear();
    }
    std::string outer, inner;
  };
  // The name in the file.
  std::string full_name(const Folder& files, const std::string& name) const {
    if (files.contains(name)) return name;
    const std::string prefixed = (is_below_transformer(name) ? files.inner : files.outer) + name;
    if (files.contains(prefixed)) return prefixed;
    // A tied model may have been saved by the other name of its embedding.
    if (config_.tied && name == "wte.weight" && files.contains(files.outer + "lm_head.weight"))
      return files.outer + "lm_head.weight";
    return prefixed;
  }
  // What is quantized, by bitsandbytes (4-bit or LLM.int8()) or in rows of int8; nothing where the weight is of another kind or is not
  // there.
  static std::optional<Tensor> quantized(const Folder& files, const std::string& weight) {
    if (io::is_four_bit(files, weight)) return std::move(io::read_four_bit(files, weight).tensor);
    const std::string_view end = ".weight";
    const std::string module = weight.ends_with(end) ? weight.substr(0, weight.size() - end.size()) : weight;
    if (io::is_llm_int8(files, module)) return io::read_llm_int8(files, module);
    if (files.contains(weight) && files.at(weight).dtype == io::DType::I8) return io::read_int8_rows(files, weight);
    return std::nullopt;
  }
  // Blocks come from one folder: a float layer must not slip in where a trained int8 one is missing.
  const Folder& files_of(const std::string& name) const {
    return base_ && !name.starts_with("h.") && !files_.contains(full_name(files_, name)) ? *base_ : files_;
  }
  const io::TensorView& view(const std::string& name) const {
    const Folder& files = files_of(name);
    return files.at(full_name(files, name));
  }
  // Classes: the rows of score.weight, whatever its format.
  std::size_t score_rows() const {
    if (const std::optional<Tensor> score =
            quantized(files_of("score.weight"), full_name(files_of("score.weight"), "score.weight")))
      return score->rows();
    const io::TensorView& score = view("score.weight");
    if (score.shape.size() != 2)
      raise<FormatError>(score.where() + ": expected shape [classes, width], found " + io::shape_string(score.shape));
    return score.shape[0];
  }
  Folder files_;
  std::optional<Folder> base_;
  Config config_;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
