// SPDX-License-Identifier: MIT
// Writing model folders: what was written is read back bit for bit, by the library and by a reader that owes it nothing, and
// computes the same logits; an int8 twin has the layout of the one that came with the small model; what cannot be written leaves
// nothing behind.
#include "lowbit/gpt2/model_writer.hpp"
#include "lowbit/gpt2/parameter_shapes.hpp"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#if LOWBIT_POSIX
#include <sys/resource.h>
#endif

#include "lowbit/gpt2/model.hpp"
#include "lowbit/io/system_file.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"

namespace model_writer_test {

namespace {

namespace fs = std::filesystem;
namespace io = lowbit::io;
using lowbit::AlignedBuffer;
using lowbit::DenseTensor;
using lowbit::FormatError;
using lowbit::Int8Tensor;
using lowbit::InvalidArgument;
using lowbit::IoError;
using lowbit::Tensor;
using lowbit::gpt2::Config;
using lowbit::gpt2::FolderParameters;
using lowbit::gpt2::Model;
using lowbit::gpt2::ModelFolderOptions;
using lowbit::gpt2::NamedParameter;
using lowbit::gpt2::parameter_shapes;
using lowbit::gpt2::ParameterShape;
using lowbit::gpt2::TokenizerFiles;
using lowbit::gpt2::write_int8_twin;
using lowbit::gpt2::write_model_folder;
using lowbit_test::bits_of;
using lowbit_test::file_names;
using lowbit_test::Folder;
using lowbit_test::GoldenFile;
using lowbit_test::unsaid;
using Ids = std::vector<std::int32_t>;
using Kind = ParameterShape::Kind;
using Names = std::vector<std::string>;

const fs::path mini_folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
const fs::path mini_twin = lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat";

std::string below_transformer(const std::string& name) {
  const std::string prefix = "transformer.";
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

// A model in memory, which a test can bend before it writes it.
struct Source final : lowbit::gpt2::ParameterSource {
  Config shape;
  std::deque<std::vector<float>> values;
  std::vector<NamedParameter> parameters;

  void add(const std::string& name, std::vector<std::size_t> dimensions, std::vector<float> v) {
    values.push_back(std::move(v));
    parameters.push_back({name, std::move(dimensions), values.back()});
  }
  NamedParameter& named(const std::string& name) {
    for (NamedParameter& p : parameters)
      if (p.name == name) return p;
    throw std::runtime_error("no parameter " + name);
  }
  const NamedParameter& named(const std::string& name) const { return const_cast<Source*>(this)->named(name); }
  void remove(const std::string& name) {
    std::erase_if(parameters, [&](const NamedParameter& p) { return p.name == name; });
  }

  const Config& config() const override { return shape; }
  bool contains(const std::string&) const override { return false; }
  AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override {
    const std::span<const float> v = named(name.starts_with("score") ? name : "transformer." + name).values;
    REQUIRE(v.size() == rows * cols);
    AlignedBuffer<float> buffer(v.size());
    std::copy(v.begin(), v.end(), buffer.begin());
    return buffer;
  }
  Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override {
    return lowbit::gpt2::dense_tensor(floats(module + ".weight", out, in), out, in);
  }
};

const GoldenFile& tiny_file() {
  static const GoldenFile file(lowbit_test::data_path("gpt2_tiny.safetensors"));
  return file;
}

// The model of tests/data/gpt2_tiny.safetensors: width 32, 2 layers, 4 heads, 16 positions, 50 tokens, 4 classes.
Source tiny() {
  Source s;
  s.shape.layers = 2;
  s.shape.heads = 4;
  s.shape.width = 32;
  s.shape.inner = 128;
  s.shape.positions = 16;
  s.shape.vocab = 50;
  s.shape.classes = 4;
  s.shape.class_names = {"World", "Sp\u00F6rts \"\\", "", "Sci/Tech"};
  for (const ParameterShape& p : parameter_shapes(s.shape)) {
    std::vector<float> v = tiny_file().floats("param." + p.name);
    if (p.kind == Kind::linear_weight) {  // the file has (in, out)
      const std::size_t out = p.shape[0], in = p.shape[1];
      std::vector<float> turned(v.size());
      for (std::size_t o = 0; o < out; ++o)
        for (std::size_t i = 0; i < in; ++i) turned[o * in + i] = v[i * out + o];
      v = std::move(turned);
    }
    s.add(p.name, p.shape, std::move(v));
  }
  return s;
}

// A model that a folder holds.
Source from_folder(const fs::path& folder) {
  const FolderParameters files(folder);
  Source s;
  s.shape = files.config();
  for (const ParameterShape& p : parameter_shapes(s.shape)) {
    std::vector<float> v;
    if (p.kind == Kind::linear_weight) {
      const Tensor t = files.linear(below_transformer(p.name.substr(0, p.name.size() - 7)), p.shape[0], p.shape[1]);
      v.resize(t.size());
      t.dequantize(v.data());
    } else {
      const bool matrix = p.shape.size() == 2;
      const auto buffer = files.floats(below_transformer(p.name), matrix ? p.shape[0] : 1, p.shape.back());
      v.assign(buffer.begin(), buffer.end());
    }
    s.add(p.name, p.shape, std::move(v));
  }
  return s;
}

template <class W>
std::vector<std::vector<float>> logits(const Model<W>& model) {
  lowbit::SerialExecutor serial;
  std::vector<std::vector<float>> result;
  for (const Ids& ids : {Ids{1, 2, 3, 40, 49, 7}, Ids{5}, Ids{9, 9, 9, 30, 31, 0, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}})
    result.push_back(model.classify(ids, serial));
  return result;
}

std::vector<float> to_vector(const AlignedBuffer<float>& buffer) { return {buffer.begin(), buffer.end()}; }
std::vector<float> to_vector(std::span<const float> values) { return {values.begin(), values.end()}; }

void check_config(const Config& found, const Config& expected) {
  CHECK(found.layers == expected.layers);
  CHECK(found.heads == expected.heads);
  CHECK(found.width == expected.width);
  CHECK(found.inner == expected.inner);
  CHECK(found.positions == expected.positions);
  CHECK(found.vocab == expected.vocab);
  CHECK(found.classes == expected.classes);
  CHECK(found.tied == expected.tied);
  CHECK(found.epsilon == expected.epsilon);
  CHECK(found.class_names == expected.class_names);
}

// Runs `write`, which must throw an E with these words and make no folder.
template <class E, class Write>
std::string refused(const Write& write, std::initializer_list<std::string_view> words) {
  const Folder outer;
  const fs::path folder = outer / "model";
  const std::string wrong = unsaid<E>([&] { write(folder); }, words);
  return wrong + (fs::exists(folder) ? ", and a folder was made" : "");
}

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("write_model_folder: what was written is read back, bit for bit", "[model_writer]") {
  Source source = tiny();
  // Bits that arithmetic would not keep.
  source.values[2] = std::vector<float>(32, -0.0f);
  source.values[2][1] = 1e-45f;
  source.named("transformer.h.0.ln_1.weight").values = source.values[2];
  const Folder outer;
  const fs::path folder = outer / "not/there/yet";
  write_model_folder(folder, source.shape, source.parameters, {.end_of_text = 49});

  SECTION("by FolderParameters") {
    const FolderParameters files(folder);
    check_config(files.config(), source.shape);
    for (const ParameterShape& p : parameter_shapes(source.shape)) {
      CAPTURE(p.name);
      const std::vector<float> expected = to_vector(source.named(p.name).values);
      if (p.kind == Kind::linear_weight) {
        const Tensor t = files.linear(below_transformer(p.name.substr(0, p.name.size() - 7)), p.shape[0], p.shape[1]);
        REQUIRE(t.format() == lowbit::Format::f32);
        std::vector<float> found(t.size());
        t.dequantize(found.data());
        CHECK(bits_of(found) == bits_of(expected));
      } else {
        const bool matrix = p.shape.size() == 2;
        CHECK(bits_of(to_vector(files.floats(below_transformer(p.name), matrix ? p.shape[0] : 1, p.shape.back()))) ==
              bits_of(expected));
      }
    }
  }
  SECTION("as the tensors of the reference") {
    const GoldenFile file((folder / "model.safetensors").string());
    CHECK(file.header().at("__metadata__") == nlohmann::json{{"format", "pt"}});
    std::size_t tensors = 0;
    for (const auto& [name, header] : tiny_file().header().items()) {
      if (!name.starts_with("param.")) continue;
      CAPTURE(name);
      const std::string written = name.substr(6);
      ++tensors;
      CHECK(file.header().at(written).at("dtype") == "F32");
      CHECK(file.header().at(written).at("shape") == header.at("shape"));
      if (written != "transformer.h.0.ln_1.weight") CHECK(bits_of(file.floats(written)) == bits_of(tiny_file().floats(name)));
    }
    CHECK(file.header().size() == tensors + 1);
  }
  SECTION("with the same logits") {
    using Dense = DenseTensor<float>;
    const auto expected = logits(Model<Dense>(source)), found = logits(Model<Dense>::load(folder));
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(bits_of(found[i]) == bits_of(expected[i]));
    CHECK(bits_of(expected[0]) != bits_of(expected[1]));
  }
  SECTION("and config.json says what transformers asks for") {
    CHECK(file_names(outer) == Names{"not"});
    const auto json = nlohmann::json::parse(lowbit_test::read_bytes((folder / "config.json").string()));
    const nlohmann::json expected{{"architectures", {"GPT2ForSequenceClassification"}},
                                  {"model_type", "gpt2"},
                                  {"activation_function", "gelu_new"},
                                  {"n_layer", 2},
                                  {"n_head", 4},
                                  {"n_embd", 32},
                                  {"n_inner", 128},
                                  {"n_positions", 16},
                                  {"n_ctx", 16},
                                  {"vocab_size", 50},
                                  {"layer_norm_epsilon", 1e-5},
                                  {"tie_word_embeddings", true},
                                  {"pad_token_id", 49},
                                  {"eos_token_id", 49},
                                  {"bos_token_id", 49},
                                  {"num_labels", 4},
                                  {"id2label", {{"0", "World"}, {"1", "Sp\u00F6rts \"\\"}, {"2", ""}, {"3", "Sci/Tech"}}},
                                  {"label2id", {{"World", 0}, {"Sp\u00F6rts \"\\", 1}, {"", 2}, {"Sci/Tech", 3}}},
                                  {"torch_dtype", "float32"}};
    CHECK(json == expected);
    const io::HuggingFaceConfig read = io::read_config(folder);
    CHECK(read.pad_id == 49u);
    CHECK(read.eos_ids == std::vector<std::size_t>{49});
    CHECK_FALSE(read.lowbit_quantization.has_value());
  }
}

TEST_CASE("write_model_folder: names with and without transformer., in any order", "[model_writer]") {
  Source source = tiny();
  const Folder folder;
  write_model_folder(folder / "a", source.shape, source.parameters);
  std::reverse(source.parameters.begin(), source.parameters.end());
  for (NamedParameter& p : source.parameters) p.name = below_transformer(p.name);
  write_model_folder(folder / "b", source.shape, source.parameters);
  for (const char* file : {"model.safetensors", "config.json"})
    CHECK((io::read_text(folder / "a" / file) == io::read_text(folder / "b" / file)));
}

TEST_CASE("write_model_folder: other configs", "[model_writer]") {
  Source source = tiny();
  const Folder folder;
  const auto written = [&] {
    write_model_folder(folder.path(), source.shape, source.parameters);
    check_config(FolderParameters(folder.path()).config(), source.shape);
    return io::read_config(folder.path());
  };
  SECTION("epsilon is the same float") {
    for (const float epsilon : {1e-5f, 1e-6f, 0.1f, 1e-12f, 0.33333334f, 1.0000001e-5f, 0x1.fffffep-1f, 1e-40f}) {
      source.shape.epsilon = epsilon;
      written();
    }
    CHECK(lowbit_test::read_bytes((folder / "config.json").string()).find("1e-40,") != std::string::npos);
  }
  SECTION("without names of the classes") {
    source.shape.class_names.clear();
    write_model_folder(folder.path(), source.shape, source.parameters);
    CHECK(io::read_config(folder.path()).id2label == Names{"LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"});
    CHECK_FALSE(io::read_config(folder.path()).pad_id.has_value());
  }
  SECTION("a language model") {
    source.shape.classes = 0;
    source.shape.class_names.clear();
    source.remove("score.weight");
    CHECK(written().architectures == Names{"GPT2LMHeadModel"});
    source.shape.tied = false;
    written();  // lm_head.weight may be left out
    source.add("lm_head.weight", {50, 32}, std::vector<float>(50 * 32, 0.5f));
    written();
    CHECK(to_vector(FolderParameters(folder.path()).floats("lm_head.weight", 50, 32)) == std::vector<float>(50 * 32, 0.5f));
  }
  SECTION("an inner width that is not four times the width") {
    source.shape.inner = 48;
    for (const char* layer : {"0", "1"}) {
      const std::string mlp = std::string("transformer.h.") + layer + ".mlp.";
      for (const char* name : {"c_fc.weight", "c_fc.bias", "c_proj.weight"}) {
        NamedParameter& p = source.named(mlp + name);
        p.shape[std::string(name) == "c_proj.weight" ? 1 : 0] = 48;
        p.values = p.values.first(p.shape.size() == 2 ? 48 * 32 : 48);
      }
    }
    CHECK(written().inner == 48);
    CHECK(FolderParameters(folder.path()).linear("h.1.mlp.c_proj", 32, 48).cols() == 48);
  }
}

TEST_CASE("write_model_folder: the small model, with its tokenizer", "[model_writer]") {
  const Source source = from_folder(mini_folder);
  const TokenizerFiles tokenizer = TokenizerFiles::read(mini_folder);
  const Folder folder;
  write_model_folder(folder.path(), source.shape, source.parameters, {.tokenizer = &tokenizer});
  CHECK(file_names(folder) == Names{"config.json", "merges.txt", "model.safetensors", "vocab.json"});
  for (const char* file : {"vocab.json", "merges.txt"})
    CHECK((lowbit_test::read_bytes((folder / file).string()) == lowbit_test::read_bytes((mini_folder / file).string())));

  // config.json says all that the small model's own says, and the same.
  const auto own = nlohmann::json::parse(lowbit_test::read_bytes((mini_folder / "config.json").string()));
  const auto json = nlohmann::json::parse(lowbit_test::read_bytes((folder / "config.json").string()));
  for (const auto& [key, value] : own.items()) {
    CAPTURE(key);
    CHECK(json.at(key) == value);
  }
  using Dense = DenseTensor<float>;
  const auto expected = logits(Model<Dense>::load(mini_folder)), found = logits(Model<Dense>::load(folder.path()));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(bits_of(found[i]) == bits_of(expected[i]));

  SECTION("its twin has the layout of the one that came with it") {
    const fs::path twin = folder / "twin";
    write_int8_twin(twin, source.shape, source.parameters, {.end_of_text = 0});
    const GoldenFile written((twin / "model.safetensors").string()), other((mini_twin / "model.safetensors").string());
    CHECK(written.header().size() == other.header().size());
    for (const auto& [name, header] : other.header().items()) {
      CAPTURE(name);
      if (name == "__metadata__") {
        CHECK(written.header().at(name) == header);
      } else {
        CHECK(written.header().at(name).at("dtype") == header.at("dtype"));
        CHECK(written.header().at(name).at("shape") == header.at("shape"));
      }
    }
    const auto twin_json = nlohmann::json::parse(lowbit_test::read_bytes((twin / "config.json").string()));
    auto expected_json = json;
    expected_json["lowbit_quantization"] = {
        {"method", "qat-int8"}, {"weight", "per-row absmax/127"}, {"activation", "per-token absmax/127"}};
    CHECK(twin_json == expected_json);
  }
}

TEST_CASE("write_int8_twin: codes, scales and logits", "[model_writer]") {
  Source source = tiny();
  source.shape.class_names = {"a", "b", "c", "d"};
  const Folder folder;
  const fs::path base = folder / "float", twin = folder / "twin", whole = folder / "whole";
  write_model_folder(base, source.shape, source.parameters);
  write_int8_twin(whole, source.shape, source.parameters, {.twin_embeddings = true});
  Source rest = tiny();
  for (const char* name : {"transformer.wte.weight", "transformer.wpe.weight"}) rest.remove(name);
  write_int8_twin(twin, source.shape, rest.parameters);
  CHECK(file_names(folder) == Names{"float", "twin", "whole"});

  const auto quantization = io::read_config(twin).lowbit_quantization;
  REQUIRE(quantization.has_value());
  CHECK(quantization->method == "qat-int8");
  CHECK(quantization->weight == "per-row absmax/127");
  CHECK(quantization->activation == "per-token absmax/127");

  const FolderParameters files(twin, base);
  const GoldenFile raw((twin / "model.safetensors").string());
  check_config(files.config(), source.shape);
  for (const ParameterShape& p : parameter_shapes(source.shape)) {
    CAPTURE(p.name);
    const std::span<const float> values = source.named(p.name).values;
    if (p.kind == Kind::linear_weight) {
      const std::size_t out = p.shape[0], in = p.shape[1];
      const auto codes = raw.get<std::int8_t>(p.name, "I8");
      const auto scales = raw.floats(p.name + "_scale");
      REQUIRE(codes.size() == out * in);
      REQUIRE(scales.size() == out);
      // By the rule in config.json, in double: no weight is further from its code than half a step.
      for (std::size_t o = 0; o < out; ++o) {
        float absmax = 0;
        for (std::size_t i = 0; i < in; ++i) absmax = std::max(absmax, std::fabs(values[o * in + i]));
        REQUIRE(scales[o] == absmax / 127);
        for (std::size_t i = 0; i < in; ++i)
          REQUIRE(std::fabs(static_cast<double>(values[o * in + i]) - double{scales[o]} * codes[o * in + i]) <=
                  0.500001 * double{scales[o]});
      }
      const Tensor t = files.linear(below_transformer(p.name.substr(0, p.name.size() - 7)), out, in);
      const auto expected = Int8Tensor<>::quantize(values.data(), out, in);
      REQUIRE(t.format() == lowbit::Format::int8);
      CHECK(std::equal(codes.begin(), codes.end(), expected.codes()));
      CHECK(std::equal(codes.begin(), codes.end(), reinterpret_cast<const std::int8_t*>(t.parts().codes.data())));
      CHECK(bits_of(to_vector(t.parts().scales)) == bits_of(to_vector(expected.parts().scales)));
      CHECK(bits_of(scales) == bits_of(to_vector(expected.parts().scales)));
    } else if (p.kind == Kind::embedding) {
      CHECK_FALSE(raw.header().contains(p.name));
    } else {
      CHECK(bits_of(raw.floats(p.name)) == bits_of(to_vector(values)));
    }
  }

  using W = Int8Tensor<>;
  Model<W>::Options options;
  options.linear.compute = lowbit::Compute::int8;
  const auto expected = logits(Model<W>(source, options));
  const auto with_base = logits(Model<W>::load(twin, options, base)), alone = logits(Model<W>::load(whole, options));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(bits_of(with_base[i]) == bits_of(expected[i]));
    CHECK(bits_of(alone[i]) == bits_of(expected[i]));
  }
  CHECK_THROWS_AS(Model<W>::load(twin, options), FormatError);
}

TEST_CASE("write_model_folder: what cannot be written is said, and nothing is made", "[model_writer]") {
  const auto float_folder = [](const Source& s, const ModelFolderOptions& options = {}) {
    return [&s, options](const fs::path& folder) { write_model_folder(folder, s.shape, s.parameters, options); };
  };
  const auto twin = [](const Source& s) {
    return [&s](const fs::path& folder) { write_int8_twin(folder, s.shape, s.parameters); };
  };
  Source s = tiny();
  const std::string linear = "transformer.h.1.mlp.c_fc.weight";
  SECTION("parameters") {
    SECTION("missing") {
      s.remove("transformer.ln_f.bias");
      for (const auto& wrong :
           {refused<InvalidArgument>(float_folder(s),
                                     {"model.safetensors", "\"transformer.ln_f.bias\": expected shape [32], found no"}),
            refused<InvalidArgument>(twin(s), {"\"transformer.ln_f.bias\""})})
        CHECK(wrong == "");
    }
    SECTION("missing embeddings, which a twin does without") {
      s.remove("transformer.wte.weight");
      CHECK(refused<InvalidArgument>(float_folder(s), {"\"transformer.wte.weight\": expected shape [50, 32]"}) == "");
      const auto whole = [&](const fs::path& folder) { write_int8_twin(folder, s.shape, s.parameters, {.twin_embeddings = true}); };
      CHECK(refused<InvalidArgument>(whole, {"\"transformer.wte.weight\": expected shape [50, 32]"}) == "");
    }
    SECTION("twice") {
      s.add("ln_f.bias", {32}, std::vector<float>(32));
      CHECK(refused<InvalidArgument>(float_folder(s), {"\"transformer.ln_f.bias\": expected once, found twice"}) == "");
    }
    SECTION("unknown") {
      s.add("h.2.ln_1.bias", {32}, std::vector<float>(32));
      CHECK(refused<InvalidArgument>(float_folder(s), {"\"transformer.h.2.ln_1.bias\"", "no such parameter"}) == "");
    }
    SECTION("a head that the config does not have") {
      s.shape.classes = 0;
      s.shape.class_names.clear();
      CHECK(refused<InvalidArgument>(float_folder(s), {"\"score.weight\"", "no such parameter"}) == "");
      s.shape = tiny().shape;
      s.add("lm_head.weight", {50, 32}, std::vector<float>(50 * 32));
      CHECK(refused<InvalidArgument>(float_folder(s), {"\"lm_head.weight\"", "no such parameter"}) == "");
    }
    SECTION("Conv1D's shape") {
      std::swap(s.named(linear).shape[0], s.named(linear).shape[1]);
      CHECK(refused<InvalidArgument>(float_folder(s), {linear, "expected shape [128, 32], found [32, 128]"}) == "");
    }
    SECTION("too few values") {
      s.named(linear).values = s.named(linear).values.first(100);
      CHECK(refused<InvalidArgument>(float_folder(s), {linear, "expected values for shape [128, 32], found 100"}) == "");
      CHECK(refused<InvalidArgument>(twin(s), {linear, "expected values for shape [128, 32], found 100"}) == "");
    }
    SECTION("NaN in what is quantized") {
      std::vector<float> v = to_vector(s.named(linear).values);
      v[33] = not_a_number;
      s.named(linear).values = v;
      CHECK(refused<InvalidArgument>(twin(s), {linear, "element (1, 1) is NaN or infinite"}) == "");
    }
  }
  SECTION("the config") {
    const auto refused_config = [&]<class E>(std::type_identity<E>, std::initializer_list<std::string_view> words) {
      return refused<E>(float_folder(s), words) + refused<E>(twin(s), words);
    };
    const std::type_identity<InvalidArgument> argument;
    const std::type_identity<FormatError> format;
    SECTION("heads") {
      s.shape.heads = 5;
      CHECK(refused_config(format, {"config.json: n_head: expected a divisor of n_embd = 32, found 5"}) == "");
    }
    SECTION("layers") {
      s.shape.layers = std::numeric_limits<std::size_t>::max();
      CHECK(refused_config(format, {"config.json: n_layer: expected an integer from 1"}) == "");
    }
    SECTION("epsilon") {
      for (const float epsilon : {0.0f, 1.0f, -1e-5f, not_a_number}) {
        s.shape.epsilon = epsilon;
        CHECK(refused_config(argument, {"config.json: layer_norm_epsilon: expected a number above 0 and below 1"}) == "");
      }
    }
    SECTION("class names") {
      s.shape.class_names.pop_back();
      CHECK(refused_config(argument, {"config.json: class_names: expected 4, or none, found 3"}) == "");
      s.shape.class_names.push_back("World");
      CHECK(refused_config(argument, {"config.json: two classes are called \"World\""}) == "");
      s.shape.class_names.back() = "\xFF";
      CHECK(refused_config(argument, {"class name: ", "is not UTF-8"}) == "");
    }
    SECTION("the end of text") {
      CHECK(refused<lowbit::InvalidArgument>(float_folder(s, {.end_of_text = 50}),
                                             {"config.json: end of text: expected an id from 0 to 49, found 50"}) == "");
      CHECK(refused<lowbit::InvalidArgument>(float_folder(s, {.end_of_text = -1}), {"config.json: end of text", "found -1"}) == "");
    }
  }
  SECTION("the tokenizer") {
    const TokenizerFiles mini = TokenizerFiles::read(mini_folder), broken{"{}", ""};
    CHECK(refused<FormatError>(float_folder(s, {.tokenizer = &mini}), {"vocab.json", "token ids below 50", "found 8191"}) == "");
    CHECK(unsaid<FormatError>([&] { lowbit::gpt2::check_model_folder("model", s.shape, {.tokenizer = &mini}); },
                              {"vocab.json", "does not fit"}) == "");
    CHECK(refused<FormatError>(float_folder(s, {.tokenizer = &broken}), {"vocab.json: no token for the single byte 0"}) == "");
  }
}

TEST_CASE("write_model_folder: when the system refuses", "[model_writer]") {
  const Source source = tiny();
  const Folder folder;
  const auto write = [&](const fs::path& path) { write_model_folder(path, source.shape, source.parameters); };
  const auto write_twin = [&](const fs::path& path) { write_int8_twin(path, source.shape, source.parameters); };

  SECTION("a file is where the folder should be, or above it") {
    lowbit_test::put_file(folder / "file", "old");
    for (const fs::path& path : {folder / "file", folder / "file" / "below"}) {
      CHECK(unsaid<IoError>([&] { write(path); }, {path.string(), "cannot make the folder", "Not a directory"}) == "");
      CHECK(unsaid<IoError>([&] { write_twin(path); }, {path.string(), "cannot make the folder"}) == "");
    }
    CHECK(io::read_text(folder / "file") == "old");
    CHECK(file_names(folder) == Names{"file"});
  }
  SECTION("a folder is where a file should be") {
    fs::create_directories(folder / "config.json" / "inside");
    CHECK(unsaid<IoError>([&] { write(folder.path()); }, {"config.json", "cannot replace"}) == "");
    CHECK(file_names(folder) == Names{"config.json"});
    CHECK(fs::exists(folder / "config.json" / "inside"));
  }
#if LOWBIT_POSIX
  SECTION("the disk is full") {
    write(folder.path());
    const std::string before = lowbit_test::read_bytes((folder / "model.safetensors").string());
    // A limit on the size of files stands for it: the system refuses the write in the same way.
    ::rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const ::rlimit small{20'000, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string wrong = unsaid<IoError>([&] { write_twin(folder.path()); }, {"model.safetensors", "File too large"}) +
                              unsaid<IoError>([&] { write(folder / "new"); }, {"model.safetensors", "File too large"});
    const bool restored = ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
    std::signal(SIGXFSZ, handler);
    REQUIRE(restored);
    CHECK(wrong == "");
    CHECK((lowbit_test::read_bytes((folder / "model.safetensors").string()) == before));
    CHECK_FALSE(io::read_config(folder.path()).lowbit_quantization.has_value());
    CHECK(file_names(folder) == Names{"config.json", "model.safetensors"});
  }
#endif
  SECTION("other files of the folder stay") {
    lowbit_test::put_file(folder / "notes.md", "mine");
    write(folder.path());
    write_twin(folder.path());
    CHECK(file_names(folder) == Names{"config.json", "model.safetensors", "notes.md"});
    CHECK(io::read_text(folder / "notes.md") == "mine");
  }
  SECTION("a model is replaced by its own, read from the files that are replaced") {
    write(folder.path());
    const std::string before = lowbit_test::read_bytes((folder / "model.safetensors").string());
    const io::SafeTensors mapped = io::SafeTensors::open(folder / "model.safetensors");
    Source again = tiny();
    for (NamedParameter& p : again.parameters)
      if (p.name.ends_with("bias")) p.values = {reinterpret_cast<const float*>(mapped.at(p.name).data.data()), p.values.size()};
    write_model_folder(folder.path(), again.shape, again.parameters);
    CHECK((lowbit_test::read_bytes((folder / "model.safetensors").string()) == before));
  }
}

}  // namespace model_writer_test
