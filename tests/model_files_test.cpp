// SPDX-License-Identifier: MIT
// What a GPT-2 folder may look like: names, folders that bitsandbytes quantized, int8 twins; and what is said of a wrong one.
#include "lowbit/gpt2/model.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/gpt2_models.hpp"
#include "support/io_files.hpp"
#include "support/reference_gpt2.hpp"

namespace model_files_test {

namespace fs = std::filesystem;
using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::FormatError;
using lowbit::InvalidArgument;
using lowbit::IoError;
using lowbit::Tensor;

// ---- files
// ---------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: names with and without \"transformer.\"", "[model]") {
  const Folder folder;
  const auto rows = tiny_rows();
  const Checkpoint c = tiny_checkpoint();
  const auto expected = classify(Model<DenseTensor<float>>::load(c.write(folder / "with")), rows, serial);
  CHECK(bits_of(classify(Model<DenseTensor<float>>::load(without_prefix(c).write(folder / "without")), rows, serial)) ==
        bits_of(expected));

  // The twin and its base may differ in it.
  const Checkpoint twin = read_checkpoint(mini_twin), base = read_checkpoint(mini_folder);
  without_prefix(twin).write(folder / "twin");
  without_prefix(base).write(folder / "base");
  const std::vector<Ids> items = short_items(2);
  const auto load = [](const fs::path& t, const fs::path& b) {
    ModelOptions<Int8Tensor<>> o;
    o.linear.compute = Compute::int8;
    return Model<Int8Tensor<>>::load(t, o, b);
  };
  const auto twin_expected = bits_of(classify(load(mini_twin, mini_folder), items, serial));
  CHECK(bits_of(classify(load(folder / "twin", mini_folder), items, serial)) == twin_expected);
  CHECK(bits_of(classify(load(mini_twin, folder / "base"), items, serial)) == twin_expected);
  CHECK(bits_of(classify(load(folder / "twin", folder / "base"), items, serial)) == twin_expected);
}

TEST_CASE("Model: names that another object put something before", "[model]") {
  const Folder folder;
  const auto rows = tiny_rows();
  const Checkpoint c = tiny_checkpoint();
  const auto expected = bits_of(classify(Model<DenseTensor<float>>::load(c.write(folder / "plain")), rows, serial));
  for (const std::string before : {"module.", "_orig_mod.", "model.", "_orig_mod.module."}) {
    INFO(before);
    Checkpoint d = c;
    d.tensors.clear();
    for (const auto& [name, e] : c.tensors) d.tensors[before + name] = e;
    CHECK(bits_of(classify(Model<DenseTensor<float>>::load(d.write(folder / "named")), rows, serial)) == expected);
    // Around a bare GPT2Model, whose head is beside it.
    d.tensors.clear();
    for (const auto& [name, e] : c.tensors) d.tensors[before + below_transformer(name)] = e;
    CHECK(bits_of(classify(Model<DenseTensor<float>>::load(d.write(folder / "bare")), rows, serial)) == expected);
  }
}

TEST_CASE("Model: a tied embedding under the name of the head", "[model]") {
  const Folder folder;
  const auto rows = tiny_rows();
  Checkpoint c = tiny_checkpoint();
  const auto expected = bits_of(classify(Model<DenseTensor<float>>::load(c.write(folder / "plain")), rows, serial));
  c.tensors["lm_head.weight"] = c.tensors.at("transformer.wte.weight");
  c.tensors.erase("transformer.wte.weight");
  CHECK(bits_of(classify(Model<DenseTensor<float>>::load(c.write(folder / "head")), rows, serial)) == expected);
  c.config["tie_word_embeddings"] = false;
  CHECK(unsaid<FormatError>([&] { Model<DenseTensor<float>>::load(c.write(folder / "untied")); }, {"wte.weight"}) == "");
}

TEST_CASE("Model: activations by the names that transformers knows", "[model]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  const auto rows = tiny_rows();
  const auto logits = [&](const char* name) {
    c.config["activation_function"] = name;
    return bits_of(classify(Model<DenseTensor<float>>::load(c.write(folder / "m")), rows, serial));
  };
  const auto expected = logits("gelu_new");
  for (const char* same : {"gelu_pytorch_tanh", "gelu_fast"}) CHECK(logits(same) == expected);
  std::set<std::vector<std::uint32_t>> different{expected};
  for (const char* other : {"gelu", "relu", "silu"}) CHECK(different.insert(logits(other)).second);
}

// A folder as transformers saves a GPT-2 that bitsandbytes quantized: linear weights [out, in], everything else in fp16.
namespace {
Checkpoint in_fp16(Checkpoint c) {
  for (auto& [name, e] : c.tensors) {
    if (is_linear_weight(name)) continue;
    std::vector<lowbit::Float16> halves;
    for (const float v : floats(e)) halves.push_back(lowbit::to_float16(v));
    e = entry(halves, e.shape);
  }
  return c;
}
void write_quantized(const fs::path& folder, const Checkpoint& c, const std::map<std::string, Tensor>& tensors,
                     const Json& quantization) {
  Checkpoint rest{c.config, {}};
  rest.config["quantization_config"] = quantization;
  lowbit::io::StateDict state;
  for (const auto& [name, e] : c.tensors)
    if (!is_linear_weight(name)) state.add(name, e.dtype, e.shape, e.bytes.data(), e.bytes.size());
  std::vector<std::unique_ptr<LlmInt8Tensor>> kept;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.format() == Format::llm_int8) {
      kept.push_back(std::make_unique<LlmInt8Tensor>(
          LlmInt8Tensor::from_codes(reinterpret_cast<const std::int8_t*>(tensor.parts().codes.data()), tensor.parts().scales.data(),
                                    tensor.rows(), tensor.cols())));
      lowbit::io::add_llm_int8(state, module_of(name), *kept.back());
    } else {
      lowbit::io::add_four_bit(state, name, tensor, "float16");
    }
  }
  fs::create_directories(folder);
  lowbit::io::write_safetensors(folder / "model.safetensors", state.tensors);
  lowbit_test::put_file(folder / "config.json", rest.config.dump());
}
template <class W>
std::map<std::string, Tensor> quantized_weights(const Checkpoint& c, const typename W::Options& options = {}) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, e] : c.tensors)
    if (is_linear_weight(name)) tensors.emplace(name, quantized<W>(e, options));
  return tensors;
}
// Loads the quantized folder as W and as floats, and compares with W made from the float folder and with the pass in double.
template <class W>
void check_quantized_folder(const Checkpoint& c, const typename W::Options& quantize, const Json& quantization) {
  const Folder folder;
  const auto rows = tiny_rows();
  const auto tensors = quantized_weights<W>(c, quantize);
  const Checkpoint halves = in_fp16(c);
  write_quantized(folder / "quantized", halves, tensors, quantization);
  c.write(folder / "float");
  ModelOptions<W> o;
  o.rest = Format::f16;
  const auto found = Model<W>::load(folder / "quantized", o);
  CHECK(found.plans()[0].format == W::tensor_format);
  o.quantize = quantize;
  const auto expected = classify(Model<W>::load(folder / "float", o), rows, serial);
  CHECK(bits_of(classify(found, rows, serial)) == bits_of(expected));

  // Without its prefix; the names inside the quantization state follow.
  std::map<std::string, Tensor> bare;
  for (auto& [name, tensor] : quantized_weights<W>(c, quantize)) bare.emplace(below_transformer(name), std::move(tensor));
  write_quantized(folder / "bare", without_prefix(halves), bare, quantization);
  o.quantize = {};
  CHECK(bits_of(classify(Model<W>::load(folder / "bare", o), rows, serial)) == bits_of(expected));

  // Decoded to floats.
  ReferenceGpt2 r = reference(c);
  for (auto& [name, tensor] : tensors) {
    std::vector<float> values(tensor.size());
    tensor.dequantize(values.data());
    values = transpose(values, tensor.rows(), tensor.cols());
    r.parameters.at(below_transformer(name)) = {values.begin(), values.end()};
  }
  for (auto& [name, values] : r.parameters)
    if (!is_linear_weight(name))
      for (double& v : values) v = static_cast<double>(lowbit::to_float(lowbit::to_float16(static_cast<float>(v))));
  const auto as_floats = Model<DenseTensor<float>>::load(folder / "quantized");
  CHECK(as_floats.plans()[0].format == Format::f32);
  for (const Ids& ids : rows) {
    ReferenceGpt2 exact = r;
    CHECK(largest_difference(classify(as_floats, ids), exact.classify(ids)) <= r.float_bound(class_logits(ids)));
  }
}
}  // namespace

TEST_CASE("Model: folders that bitsandbytes quantized", "[model]") {
  const Checkpoint c = tiny_checkpoint();
  const Json four_bit = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
  SECTION("NF4, double-quantized") { check_quantized_folder<NF4>(c, {}, four_bit); }
  SECTION("NF4, plain absmax, blocks of 128") {
    lowbit::FourBitOptions o;
    o.block_size = 128;
    o.double_quantized = false;
    check_quantized_folder<NF4>(c, o, four_bit);
  }
  SECTION("NF4, blocks of 32") {
    lowbit::FourBitOptions o;
    o.block_size = 32;
    check_quantized_folder<NF4>(c, o, four_bit);
  }
  SECTION("FP4") { check_quantized_folder<FP4>(c, {}, four_bit); }
  SECTION("LLM.int8()") {
    check_quantized_folder<LlmInt8Tensor>(c, {}, {{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}});
  }
}

TEST_CASE("Model: a quantized score and quantized embeddings are decoded", "[model]") {
  const Folder folder;
  const auto rows = tiny_rows();
  Checkpoint c = tiny_checkpoint(), decoded = c;
  std::map<std::string, Tensor> tensors;
  const std::string score = "score.weight", tokens = "transformer.wte.weight";
  const auto replace = [&](const std::string& name, Tensor t) {
    std::vector<float> values(t.size());
    t.dequantize(values.data());
    decoded.tensors.at(name) = entry(values, {t.rows(), t.cols()});
    c.tensors.erase(name);
    tensors.emplace(name, std::move(t));
  };
  const auto rounded_as = [&]<class W>(const std::string& name, W*) {
    const Entry& e = c.tensors.at(name);
    replace(name, W::quantize(floats(e).data(), e.shape[0], e.shape[1]));
  };
  SECTION("NF4") {
    rounded_as(score, static_cast<NF4*>(nullptr));
    rounded_as(tokens, static_cast<NF4*>(nullptr));
  }
  SECTION("LLM.int8()") { rounded_as(score, static_cast<LlmInt8Tensor*>(nullptr)); }
  c.config["id2label"] = {{"0", "a"}, {"1", "b"}, {"2", "c"}, {"3", "d"}};
  lowbit::io::StateDict state;
  for (const auto& [name, e] : c.tensors) state.add(name, e.dtype, e.shape, e.bytes.data(), e.bytes.size());
  std::vector<std::unique_ptr<LlmInt8Tensor>> kept;
  for (auto& [name, t] : tensors) {
    if (t.format() == Format::llm_int8) {
      kept.push_back(std::make_unique<LlmInt8Tensor>(t.take_parts()));
      lowbit::io::add_llm_int8(state, module_of(name), *kept.back());
    } else {
      lowbit::io::add_four_bit(state, name, t, "float32");
    }
  }
  fs::create_directories(folder / "quantized");
  lowbit::io::write_safetensors(folder / "quantized" / "model.safetensors", state.tensors);
  lowbit_test::put_file(folder / "quantized" / "config.json", c.config.dump());
  decoded.write(folder / "decoded");
  using Floats = Model<DenseTensor<float>>;
  const auto found = Floats::load(folder / "quantized");
  CHECK(found.config.classes == 4);
  CHECK(found.config.class_names == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(bits_of(classify(found, rows, serial)) == bits_of(classify(Floats::load(folder / "decoded"), rows, serial)));
}

TEST_CASE("Model: an int8 twin's codes are taken as they are, by any format", "[model]") {
  // Another format than the file's is made from what the file's weights decode to.
  const auto rows = short_items(2);
  Checkpoint c = read_checkpoint(mini_twin);
  const Checkpoint base = read_checkpoint(mini_folder);
  for (auto& [name, e] : c.tensors)
    if (is_linear_weight(name)) {
      const std::vector<float> scale = floats(c.tensors.at(name + "_scale"));
      std::vector<float> values;
      for (std::size_t i = 0; i < e.bytes.size(); ++i)
        values.push_back(static_cast<float>(static_cast<std::int8_t>(std::to_integer<std::uint8_t>(e.bytes[i]))) *
                         scale[i / e.shape[1]]);
      e = entry(transpose(values, e.shape[0], e.shape[1]), {e.shape[1], e.shape[0]});
    }
  for (const auto& [name, e] : base.tensors)
    if (name.ends_with("wte.weight") || name.ends_with("wpe.weight")) c.tensors[name] = e;
  const Folder folder;
  c.write(folder.path());
  const auto check = [&]<class W>(std::type_identity<W>) {
    CHECK(bits_of(classify(Model<W>::load(mini_twin, {}, mini_folder), rows, serial)) ==
          bits_of(classify(Model<W>::load(folder.path()), rows, serial)));
  };
  check(std::type_identity<DenseTensor<float>>());
  check(std::type_identity<NF4>());
  check(std::type_identity<LlmInt8Tensor>());
}

// ---- errors
// --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: what is wrong with a folder is said", "[model]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  const auto load = [&] { Model<DenseTensor<float>>::load(c.write(folder / "m")); };
  const std::string file = (folder / "m" / "model.safetensors").string(), config = (folder / "m" / "config.json").string();
  load();  // as it is, it loads
  SECTION("every tensor is needed") {
    const auto tensors = c.tensors;
    for (const auto& [name, e] : tensors) {
      if (name == "score.weight") continue;  // without it there is no classifier
      c.tensors = tensors;
      c.tensors.erase(name);
      CHECK(unsaid<FormatError>(load, {file, "no tensor", below_transformer(name)}) == "");
    }
  }
  SECTION("every tensor has one shape") {
    const auto tensors = c.tensors;
    for (const auto& [name, e] : tensors) {
      c.tensors = tensors;
      auto& bent = c.tensors.at(name);
      bent.shape[0] += 1;
      bent.bytes.resize(bent.bytes.size() / (bent.shape[0] - 1) * bent.shape[0]);
      if (name == "score.weight") {
        load();  // five classes are as good as four
        bent.shape = {2, 80};
      }
      CHECK(unsaid<FormatError>(
                load, {file, "\"" + name + "\"", "expected shape", "found " + lowbit::io::shape_string(bent.shape)}) == "");
    }
  }
  SECTION("the other orientation, another type") {
    auto& e = c.tensors.at("transformer.h.0.attn.c_attn.weight");
    e.shape = {96, 32};
    CHECK(unsaid<FormatError>(load, {file, "h.0.attn.c_attn.weight", "expected shape [32, 96]", "found [96, 32]"}) == "");
    e = entry(std::vector<std::int32_t>(32 * 96), {32, 96});
    CHECK(unsaid<FormatError>(load, {file, "h.0.attn.c_attn.weight", "I32"}) == "");
    e = entry(std::vector<float>(32 * 96), {32 * 96});
    CHECK(unsaid<FormatError>(load, {file, "h.0.attn.c_attn.weight", "found [3072]"}) == "");
    c.tensors.at("score.weight").shape = {128};
    CHECK(unsaid<FormatError>(load, {file, "score.weight", "found [128]"}) == "");
  }
  SECTION("files that are missing") {
    fs::remove(file);
    CHECK(unsaid<IoError>([&] { Model<NF4>::load(folder / "m"); }, {(folder / "m").string(), "model.safetensors"}) == "");
    c.write(folder / "m");
    fs::remove(config);
    CHECK(unsaid<IoError>([&] { Model<NF4>::load(folder / "m"); }, {config}) == "");
    CHECK(unsaid<IoError>([&] { Model<NF4>::load(folder / "nothing"); }, {(folder / "nothing").string()}) == "");
    c.write(folder / "m");
    CHECK(unsaid<IoError>([&] { Model<NF4>::load(folder / "m", {}, folder / "nothing"); }, {(folder / "nothing").string()}) == "");
  }
  SECTION("files that are cut off") {
    fs::resize_file(file, fs::file_size(file) - 1);
    CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {file}) == "");
    c.write(folder / "m");
    fs::resize_file(config, fs::file_size(config) / 2);
    CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {config}) == "");
  }
  SECTION("the configuration") {
    const Json good = c.config;
    const auto bend = [&](const char* key, const Json& value) {
      c.config = good;
      c.config[key] = value;
    };
    bend("n_head", 5);
    CHECK(unsaid<FormatError>(load, {config, "n_head", "divisor of n_embd = 32", "found 5"}) == "");
    bend("n_head", 0);
    CHECK(unsaid<FormatError>(load, {config, "n_head", "found 0"}) == "");
    bend("activation_function", "tanh");
    CHECK(unsaid<FormatError>(load, {config, "activation_function", "gelu_new", "\"tanh\""}) == "");
    bend("model_type", "llama");
    CHECK(unsaid<FormatError>(load, {config, "model_type", "\"llama\""}) == "");
    bend("id2label", {{"0", "a"}, {"1", "b"}});
    CHECK(unsaid<FormatError>(load, {config, "id2label", "expected 4", "found 2"}) == "");
    // What the configuration promises and the file does not have.
    bend("n_layer", 3);
    CHECK(unsaid<FormatError>(load, {file, "h.2.ln_1.weight"}) == "");
    bend("vocab_size", 51);
    CHECK(unsaid<FormatError>(load, {file, "wte.weight", "expected shape [51, 32], found [50, 32]"}) == "");
    bend("n_positions", 17);
    CHECK(unsaid<FormatError>(load, {file, "wpe.weight", "expected shape [17, 32], found [16, 32]"}) == "");
    bend("n_inner", 64);
    CHECK(unsaid<FormatError>(load, {file, "h.0.mlp.c_fc.", "64]", "128]"}) == "");
    bend("n_layer", "two");
    CHECK(unsaid<FormatError>(load, {config, "n_layer", "\"two\""}) == "");
  }
  SECTION("weights that cannot be quantized") {
    auto& e = c.tensors.at("transformer.h.1.mlp.c_proj.weight");
    std::vector<float> values = floats(e);
    values[7] = std::nanf("");
    e = entry(values, e.shape);
    c.write(folder / "m");
    CHECK(unsaid<InvalidArgument>([&] { Model<NF4>::load(folder / "m"); }, {"h.1.mlp.c_proj.weight: ", "NaN"}) == "");
    CHECK(unsaid<InvalidArgument>([&] { Model<Int8Tensor<>>::load(folder / "m"); }, {"h.1.mlp.c_proj.weight: ", "NaN"}) == "");
    CHECK(unsaid<InvalidArgument>([&] { Model<LlmInt8Tensor>::load(folder / "m"); }, {"h.1.mlp.c_proj.weight: ", "NaN"}) == "");
  }
  SECTION("options") {
    ModelOptions<NF4> o;
    o.rest = Format::bf16;
    CHECK(unsaid<InvalidArgument>([&] { Model<NF4>::load(folder / "m", o); }, {"f32 or f16", "bf16"}) == "");
  }
}

TEST_CASE("Model: a file in place of a folder is named", "[model]") {
  const fs::path& good = mini_folder;
  for (const char* name : {"model.safetensors", "config.json"}) {
    const std::initializer_list<std::string_view> words{name, ": is a file; expected the folder that holds config.json"};
    CHECK(unsaid<IoError>([&] { Model<DenseTensor<float>>::load(good / name); }, words) == "");
    CHECK(unsaid<IoError>([&] { lowbit::gpt2::FolderParameters(good, good / name); }, words) == "");
  }
  CHECK(unsaid<IoError>([&] { Model<DenseTensor<float>>::load("none"); }, {"none: cannot open"}) == "");
}

TEST_CASE("Model: what is wrong with an int8 twin is said", "[model]") {
  const Folder folder;
  Checkpoint twin = read_checkpoint(mini_twin);
  const auto load = [&] { Model<Int8Tensor<>>::load(twin.write(folder / "twin"), {}, mini_folder); };
  const std::string file = (folder / "twin" / "model.safetensors").string();
  load();
  CHECK(unsaid<FormatError>([&] { Model<Int8Tensor<>>::load(folder / "twin"); }, {file, "no tensor", "wte.weight"}) == "");
  // Neither a missing layer, bias nor scale may come from the float model.
  for (const std::string name : {"attn.c_attn.weight_scale", "attn.c_attn.weight", "mlp.c_fc.bias", "ln_2.weight"}) {
    const auto node = twin.tensors.extract("transformer.h.3." + name);
    REQUIRE_FALSE(node.empty());
    CHECK(unsaid<FormatError>(load, {file, "no tensor", "\"transformer.h.3." + name}) == "");
    twin.tensors[node.key()] = node.mapped();
  }
  Entry& scale = twin.tensors.at("transformer.h.2.mlp.c_fc.weight_scale");
  scale.shape = {1023};
  scale.bytes.resize(4 * 1023);
  CHECK(unsaid<FormatError>(load, {file, "h.2.mlp.c_fc.weight_scale", "expected shape [1024], found [1023]"}) == "");
  twin = read_checkpoint(mini_twin);
  twin.tensors.at("transformer.h.2.mlp.c_fc.weight").shape = {256, 1024};
  CHECK(unsaid<FormatError>(load, {file, "h.2.mlp.c_fc.weight", "expected shape [1024, 256], found [256, 1024]"}) == "");
  // A base of another shape.
  twin = read_checkpoint(mini_twin);
  tiny_checkpoint().write(folder / "tiny");
  CHECK(unsaid<FormatError>([&] { Model<Int8Tensor<>>::load(mini_twin, {}, folder / "tiny"); },
                            {(folder / "tiny").string(), "wte.weight", "expected shape [8192, 256], found [50, 32]"}) == "");
}

TEST_CASE("Model: what is wrong with a bitsandbytes folder is said", "[model]") {
  const Folder folder;
  const std::string name = "transformer.h.0.mlp.c_fc.weight", file = (folder / "m" / "model.safetensors").string();
  const Checkpoint c = tiny_checkpoint();
  auto tensors = quantized_weights<NF4>(c);
  // [in, out] where [out, in] is due.
  const std::vector<float> values = floats(c.tensors.at(name));
  tensors.at(name) = NF4::quantize(values.data(), 32, 128);
  write_quantized(folder / "m", c, tensors, {{"quant_method", "bitsandbytes"}});
  CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {file, name, "expected shape (128, 32), found (32, 128)"}) ==
        "");
  // An embedding of another width.
  Checkpoint other = c;
  const std::string tokens = "transformer.wte.weight";
  const std::vector<float> table = floats(other.tensors.at(tokens));
  other.tensors.erase(tokens);
  auto embedded = quantized_weights<NF4>(c);
  embedded.insert_or_assign(tokens, NF4::quantize(table.data(), 100, 16));
  write_quantized(folder / "m", other, embedded, {{"quant_method", "bitsandbytes"}});
  CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {file, tokens, "expected shape (50, 32), found (100, 16)"}) ==
        "");
  tensors.erase(name);
  write_quantized(folder / "m", c, tensors, {{"quant_method", "bitsandbytes"}});
  CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {file, "no tensor", "h.0.mlp.c_fc.weight"}) == "");
  write_quantized(folder / "m", c, tensors, {{"quant_method", "gptq"}});
  CHECK(unsaid<FormatError>([&] { Model<NF4>::load(folder / "m"); }, {"config.json", "quant_method", "\"gptq\""}) == "");
}

TEST_CASE("Model: what is wrong with a batch is said", "[model]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  const auto m = Model<DenseTensor<float>>::load(c.write(folder.path()));
  const auto refused = [&](const Ids& ids, std::initializer_list<std::string_view> words) {
    const std::string a = unsaid<InvalidArgument>([&] { classify(m, ids); }, words);
    return a.empty() ? unsaid<InvalidArgument>([&] { language_logits(m, ids); }, words) : a;
  };
  CHECK(classify(m, Ids(16, 49)).size() == 4);
  CHECK(refused({1, 50}, {"token id 50", "vocabulary of 50"}) == "");
  CHECK(refused({-1}, {"token id -1", "vocabulary of 50"}) == "");
  CHECK(refused({}, {"row 0", "empty"}) == "");
  CHECK(refused(Ids(17, 1), {"row 0", "17 tokens", "16 positions"}) == "");
  const auto batch = [&](const std::vector<std::size_t>& offsets, std::size_t room, std::initializer_list<std::string_view> words) {
    std::vector<float> logits(room);
    return unsaid<InvalidArgument>([&] { m.classify(Ids(8, 1), offsets, logits, serial); }, words);
  };
  CHECK(batch({}, 0, {"at least one row"}) == "");
  CHECK(batch({0}, 0, {"at least one row"}) == "");
  CHECK(batch({0, 4, 4, 8}, 12, {"row 1", "empty"}) == "");
  CHECK(batch({0, 4, 3}, 8, {"row 1"}) == "");
  CHECK(batch({0, 4, 9}, 8, {"row 1", "of 8 ids"}) == "");
  CHECK(batch({0, 4, 8}, 7, {"room for 7 logits", "2 rows of 4 classes"}) == "");
  std::vector<float> logits(99);
  CHECK(unsaid<InvalidArgument>(
            [&] {
              m.language_logits(Ids(2, 1), std::vector<std::size_t>{0, 2}, logits, serial);
            },
            {"room for 99 logits", "2 tokens of vocabulary 50"}) == "");
  c.tensors.erase("score.weight");
  const auto headless = Model<DenseTensor<float>>::load(c.write(folder.path()));
  CHECK(headless.config.classes == 0);
  CHECK(unsaid<InvalidArgument>([&] { classify(headless, {1}); }, {"no classification head"}) == "");
  CHECK(bits_of(language_logits(headless, {1, 2})) == bits_of(language_logits(m, {1, 2})));
}

}  // namespace model_files_test
