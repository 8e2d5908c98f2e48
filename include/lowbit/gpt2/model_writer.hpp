// SPDX-License-Identifier: MIT
// Writing what FolderParameters reads: a GPT-2 as a Hugging Face folder of floats, and its int8 twin.  Parameters are given in
// lowbit's orientation, weights of linear layers (out, in); GPT-2's Conv1D orientation is made here where a file has it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/gpt2/parameter_shapes.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_files.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/hugging_face.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/tensor/int8_tensor.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// What a folder holds beside the parameters.
struct ModelFolderOptions {
  const TokenizerFiles* tokenizer = nullptr;  // written as vocab.json and merges.txt
  // bos_token_id, eos_token_id and pad_token_id of config.json; where it is missing, "<|endoftext|>" of the tokenizer, if any.
  std::optional<std::int32_t> end_of_text = std::nullopt;
  bool twin_embeddings = false;  // an int8 twin holds the embeddings too, as floats, and can be loaded without its float model
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// The files of a folder, complete and checked before the first one is written.
class ModelFolder {
 public:
  // Takes all but the parameters.
  ModelFolder(const std::filesystem::path& folder, const Config& config, const ModelFolderOptions& options, bool int8)
      : folder_(folder), tokenizer_(options.tokenizer) {
    std::optional<std::int32_t> end_of_text = options.end_of_text;
    if (tokenizer_ != nullptr) {
      tokenizer_->tokenizer(folder.string()).require_fits(config.vocab, (folder / "vocab.json").string());
      if (!end_of_text) end_of_text = tokenizer_->end_of_text();
    }
    config_ = config_json(config, end_of_text, int8);
  }
  ModelFolder(const std::filesystem::path& folder, const Config& config, std::span<const NamedParameter> parameters,
              const ModelFolderOptions& options, bool int8)
      : ModelFolder(folder, config, options, int8) {
    take(config, parameters, int8, options.twin_embeddings);
  }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  void write() const {
    io::write_folder_atomically(folder_, [&](const std::filesystem::path& fresh) {
      io::write_safetensors(fresh / "model.safetensors", tensors_, metadata_);
      if (tokenizer_ != nullptr) tokenizer_->write_into(fresh);
      io::write_atomically(fresh / "config.json", std::string_view(config_));
    });
  }

 private:
  std::string where(const std::string& parameter) const {
    return (folder_ / "model.safetensors").string() + ": " + io::in_quotes(parameter);
  }

  std::string config_json(const Config& config, std::optional<std::int32_t> end_of_text, bool int8) const {
    const std::string name = (folder_ / "config.json").string();
    require(config.epsilon > 0 && config.epsilon < 1,
            [&] { return name + ": layer_norm_epsilon: expected a number above 0 and below 1, found " + decimal(config.epsilon); });
    // The shortest decimal that reads as this float: 1e-05, not 9.999999747378752e-06.
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), config.epsilon).ptr;
    io::Json json;
    json["architectures"] = io::Json::array({config.classes != 0 ? "GPT2ForSequenceClassification" : "GPT2LMHeadModel"});
    json["model_type"] = "gpt2";
    const Activation a = config.activation;
    require(a != Activation::none, [&] { return name + ": activation: expected one, found none"; });
    json["activation_function"] = a == Activation::relu   ? "relu"
                                  : a == Activation::gelu ? "gelu"
                                  : a == Activation::silu ? "silu"
                                                          : "gelu_new";
    json["n_layer"] = config.layers;
    json["n_head"] = config.heads;
    json["n_embd"] = config.width;
    json["n_inner"] = config.inner;
    json["n_positions"] = config.positions;
    json["n_ctx"] = config.positions;
    json["vocab_size"] = config.vocab;
    json["layer_norm_epsilon"] = io::parse_json({digits.data(), end}, name);
    json["tie_word_embeddings"] = config.tied;
    require(!end_of_text || (*end_of_text >= 0 && static_cast<std::size_t>(*end_of_text) < config.vocab), [&] {
      return name + ": end of text: expected an id from 0 to " + decimal(config.vocab - 1) + ", found " + decimal(*end_of_text);
    });
    if (end_of_text)
      for (const char* key : {"pad_token_id", "eos_token_id", "bos_token_id"}) json[key] = *end_of_text;
    if (config.classes != 0) add_classes(json, config, name);
    json["torch_dtype"] = "float32";
    if (int8)
      json["lowbit_quantization"] = {
          {"method", "qat-int8"}, {"weight", "per-row absmax/127"}, {"activation", "per-token absmax/127"}};
    std::string text = json.dump(2) + "\n";
    io::parse_config(text, name);  // what nobody could read is not written
    return text;
  }

  static void add_classes(io::Json& json, const Config& config, const std::string& name) {
    std::vector<std::string> classes = config.class_names;
    require(classes.empty() || classes.size() == config.classes, [&] {
      return name + ": class_names: expected " + decimal(config.classes) + ", or none, found " + decimal(classes.size());
    });
    for (std::size_t i = classes.size(); i < config.classes; ++i) classes.push_back("LABEL_" + decimal(i));
    json["num_labels"] = config.classes;
    io::Json id2label = io::Json::object(), label2id = io::Json::object();
    std::set<std::string_view> seen;
    for (std::size_t i = 0; i < classes.size(); ++i) {
      static_cast<void>(io::json_string(classes[i], "class name"));
      require(seen.insert(classes[i]).second, [&] { return name + ": two classes are called " + io::in_quotes(classes[i]); });
      id2label[decimal(i)] = classes[i];
      label2id[classes[i]] = i;
    }
    json["id2label"] = std::move(id2label);
    json["label2id"] = std::move(label2id);
  }

  // Lists the tensors of the file.
  void take(const Config& config, std::span<const NamedParameter> parameters, bool int8, bool embeddings) {
    std::map<std::string, const NamedParameter*> given;
    for (const NamedParameter& p : parameters) {
      const std::string name = is_below_transformer(p.name) ? "transformer." + p.name : p.name;
      require(given.emplace(name, &p).second, [&] { return where(name) + ": expected once, found twice"; });
    }
    for (const ParameterShape& expected : parameter_shapes(config)) {
      using Kind = ParameterShape::Kind;
      const auto found = given.find(expected.name);
      const bool is_given = found != given.end(), is_left_out = int8 && !embeddings && expected.kind == Kind::embedding;
      require(is_given || is_left_out || expected.name == "lm_head.weight", [&] {
        return where(expected.name) + ": expected shape " + io::shape_string(expected.shape) + ", found no such parameter";
      });
      if (!is_given) continue;
      const NamedParameter& p = *found->second;
      given.erase(found);
      require(p.shape == expected.shape, [&] {
        return where(expected.name) + ": expected shape " + io::shape_string(expected.shape) + ", found " +
               io::shape_string(p.shape);
      });
      require(io::byte_size(io::DType::F32, p.shape) == p.values.size_bytes(), [&] {
        return where(expected.name) + ": expected values for shape " + io::shape_string(p.shape) + ", found " +
               decimal(p.values.size());
      });
      if (is_left_out) continue;
      if (expected.kind != Kind::linear_weight)
        add(expected.name, p.shape, p.values);
      else if (int8)
        add_int8(expected.name, p);
      else
        add_conv1d(expected.name, p);
    }
    require(given.empty(), [&] { return where(given.begin()->first) + ": a model of this config has no such parameter"; });
    metadata_ = {{"format", "pt"}};
    if (int8)
      metadata_.emplace_back("weights", std::string("int8 [out,in], scale per output row") +
                                            (embeddings ? "" : "; embeddings are the baseline files"));
  }

  template <class T>
  void add(const std::string& name, std::vector<std::size_t> shape, std::span<const T> values) {
    tensors_.push_back({name, io::dtype_of<T>, std::move(shape), std::as_bytes(values)});
  }
  void add_conv1d(const std::string& name, const NamedParameter& weight) {
    const std::size_t out = weight.shape[0], in = weight.shape[1];
    const AlignedBuffer<float>& values = floats_.emplace_back(transposed(weight.values, out, in));
    add(name, {in, out}, values.span());
  }
  void add_int8(const std::string& name, const NamedParameter& weight) {
    const std::size_t out = weight.shape[0], in = weight.shape[1];
    const std::size_t i = first_non_finite(weight.values.data(), weight.values.size());
    require(i == weight.values.size(), [&] {
      return where(name) + ": element (" + decimal(i / in) + ", " + decimal(i % in) +
             ") is NaN or infinite, which int8 cannot hold";
    });
    const Int8Tensor<>& tensor = int8_.emplace_back(Int8Tensor<>::quantize(weight.values.data(), out, in));
    add(name, {out, in}, std::span(tensor.codes(), out * in));
    add(name + "_scale", {out}, tensor.parts().scales.span());
  }

  std::filesystem::path folder_;
  const TokenizerFiles* tokenizer_;
  std::string config_;
  io::Metadata metadata_;
  std::vector<io::TensorToWrite> tensors_;
  // What tensors_ points to and nobody else has; buffers do not move with their owners.
  std::vector<AlignedBuffer<float>> floats_;
  std::vector<Int8Tensor<>> int8_;
};

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Writes a model as transformers lays it out and FolderParameters reads it back bit for bit: config.json of a
// GPT2ForSequenceClassification (of a GPT2LMHeadModel if there are no classes), model.safetensors in F32 with the weights of linear
// layers as Conv1D holds them, [in, out], and the tokenizer's files if there are any.  The folder is made if it is missing.
//
// `parameters`: those of parameter_shapes(config), in any order.  Everything is checked before anything is written: throws
// InvalidArgument that names the file and the parameter if one is missing, unknown, given twice or of another shape, and for class
// names that are not one per class, different and UTF-8; FormatError, as io::parse_config(), Tokenizer::from_text() and
// Tokenizer::require_fits() do, for a config or a tokenizer that could not be read again.  Throws IoError that names the path if
// the system refuses.  An old model is replaced as a whole (io::write_folder_atomically): whatever happens, the folder holds the
// old one or the new one.  Other files of the folder stay, and so do an old tokenizer's if none is given. Memory: a copy of the
// linear weights.  Threads may write different folders at once.
inline void write_model_folder(const std::filesystem::path& folder, const Config& config,
                               std::span<const NamedParameter> parameters, const ModelFolderOptions& options = {}) {
  detail::ModelFolder(folder, config, parameters, options, false).write();
}

// Throws what write_model_folder() would throw for this config and these options, whatever the parameters: for a program to call
// before it spends hours on them.  Writes nothing.
inline void check_model_folder(const std::filesystem::path& folder, const Config& config, const ModelFolderOptions& options = {}) {
  const detail::ModelFolder checked(folder, config, options, false);
}

// Writes the int8 twin of a model that was trained with quantization in the loop: for each linear layer X of the blocks X.weight I8
// [out, in] and X.weight_scale F32 [out], as Int8Tensor<>::quantize makes them of the float weights, and X.bias F32; norms and
// score.weight F32.  The embeddings (and lm_head.weight) are the float model's: FolderParameters takes its folder as `base`, and
// `parameters` need not hold them.  With twin_embeddings they are in the file.  config.json has an entry "lowbit_quantization"
// more. Otherwise as write_model_folder(); throws InvalidArgument also for linear weights that are not finite.
inline void write_int8_twin(const std::filesystem::path& folder, const Config& config, std::span<const NamedParameter> parameters,
                            const ModelFolderOptions& options = {}) {
  detail::ModelFolder(folder, config, parameters, options, true).write();
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
