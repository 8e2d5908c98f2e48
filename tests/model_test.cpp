// SPDX-License-Identifier: MIT
// The GPT-2 model: against logits that another implementation computed in double, against a plain pass in double
// (support/reference_gpt2.hpp), and against itself over batches, threads, levels and file layouts.  The hidden cases run the
// full-size models against the reference logits.
#include "lowbit/gpt2/model.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#if defined(__GLIBC__)
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/lowbit.hpp"
#include "examples/common/model_walk.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/reference_gpt2.hpp"

namespace {

namespace fs = std::filesystem;
using lowbit::AnyAbsmax;
using lowbit::Compute;
using lowbit::DenseTensor;
using lowbit::Format;
using lowbit::FormatError;
using lowbit::Int8Tensor;
using lowbit::InvalidArgument;
using lowbit::IoError;
using lowbit::LlmInt8Tensor;
using lowbit::SerialExecutor;
using lowbit::Tensor;
using lowbit::ThreadPool;
using lowbit::gpt2::Model;
using lowbit::gpt2::ModelOptions;
using lowbit::gpt2::Transformer;
using lowbit::io::DType;
using lowbit_test::bits_of;
using lowbit_test::Folder;
using lowbit_test::GoldenFile;
using lowbit_test::ReferenceGpt2;
using lowbit_test::unsaid;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::ordered_json;

using NF4 = lowbit::NF4Tensor<lowbit::any_block_size, AnyAbsmax>;
using FP4 = lowbit::FP4Tensor<lowbit::any_block_size, AnyAbsmax>;

const fs::path mini_folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
const fs::path mini_twin = lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat";

// ---- checkpoints that a test can bend before it writes them
// ------------------------------------------------------------------------

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

std::vector<float> floats(const Entry& e) {
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

  fs::path write(const fs::path& folder) const {
    fs::create_directories(folder);
    std::vector<lowbit::io::TensorToWrite> list;
    for (const auto& [name, e] : tensors) list.push_back({name, e.dtype, e.shape, e.bytes});
    lowbit::io::write_safetensors(folder / "model.safetensors", list);
    lowbit_test::put_file(folder / "config.json", config.dump(1));
    return folder;
  }
};

Checkpoint read_checkpoint(const fs::path& folder) {
  Checkpoint c;
  c.config = Json::parse(lowbit_test::read_bytes((folder / "config.json").string()));
  const GoldenFile file((folder / "model.safetensors").string());
  for (const auto& [name, header] : file.header().items()) {
    if (name == "__metadata__") continue;
    const auto dtype = header.at("dtype").get<std::string>();
    c.tensors[name] = {lowbit::io::dtype_from_name(dtype).value(), header.at("shape").get<std::vector<std::size_t>>(),
                       file.get<std::byte>(name, dtype)};
  }
  return c;
}

const GoldenFile& tiny_file() {
  static const GoldenFile file(lowbit_test::data_path("gpt2_tiny.safetensors"));
  return file;
}

// The model of tests/data/gpt2_tiny.safetensors: width 32, 2 layers, 4 heads, 16 positions, 50 tokens, 4 classes.
Checkpoint tiny_checkpoint() {
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

std::vector<Ids> tiny_rows() {
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

std::string below_transformer(const std::string& name) {
  const std::string prefix = "transformer.";
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}
// The linear layers' weights, (in, out) in a float checkpoint: "h.0.attn.c_attn.weight" and its like.
bool is_linear_weight(const std::string& name) {
  const std::string n = below_transformer(name);
  return n.starts_with("h.") && n.ends_with(".weight") && n.find(".ln_") == n.npos;
}
std::string module_of(const std::string& weight) { return weight.substr(0, weight.size() - std::string(".weight").size()); }

ReferenceGpt2 reference(const Checkpoint& c) {
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

std::vector<float> transpose(const std::vector<float>& v, std::size_t rows, std::size_t cols) {
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
Checkpoint without_prefix(const Checkpoint& c) {
  Checkpoint out{c.config, {}};
  for (const auto& [name, e] : c.tensors) out.tensors[below_transformer(name)] = e;
  return out;
}

// ---- running models
// ----------------------------------------------------------------------------------------------------------------

SerialExecutor serial;

std::vector<float> classify(const Transformer& m, const Ids& ids) { return m.classify(ids, serial); }
std::vector<float> language_logits(const Transformer& m, const Ids& ids) {
  const std::size_t offsets[2] = {0, ids.size()};
  std::vector<float> logits(ids.size() * m.config.vocab);
  m.language_logits(ids, offsets, logits, serial);
  return logits;
}
// All rows in one call, one behind the other.
std::vector<float> classify(const Transformer& m, const std::vector<Ids>& rows, lowbit::Executor& executor) {
  Ids ids;
  std::vector<std::size_t> offsets{0};
  for (const Ids& r : rows) {
    ids.insert(ids.end(), r.begin(), r.end());
    offsets.push_back(ids.size());
  }
  std::vector<float> logits(rows.size() * m.config.classes);
  m.classify(ids, offsets, logits, executor);
  return logits;
}

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;  // NaN sticks
  }
  return worst;
}

std::size_t argmax(std::span<const float> v) { return static_cast<std::size_t>(std::max_element(v.begin(), v.end()) - v.begin()); }

const auto class_logits = [](const Ids& ids) { return [&ids](ReferenceGpt2& r) { return r.classify(ids); }; };
const auto token_logits = [](const Ids& ids) { return [&ids](ReferenceGpt2& r) { return r.language_logits(ids); }; };

// Another instruction-set level until the end of the scope.
class AtLevel {
 public:
  explicit AtLevel(lowbit::Level level) { lowbit::set_level(level); }
  AtLevel(const AtLevel&) = delete;
  AtLevel& operator=(const AtLevel&) = delete;
  ~AtLevel() { lowbit::set_level(before_); }

 private:
  lowbit::Level before_ = lowbit::active_level();
};

// ---- the models by name
// --------------------------------------------------------------------------------------------------------------

struct Recipe {
  std::string name;
  Format format;
  Compute compute;
  std::function<Transformer(const fs::path& folder, const fs::path& twin)> load;
};

template <class W>
Recipe recipe(std::string name, Compute compute, Format rest = Format::f32, bool from_twin = false) {
  return {std::move(name), W::tensor_format, compute, [=](const fs::path& folder, const fs::path& twin) -> Transformer {
            ModelOptions<W> o;
            o.linear.compute = compute;
            o.rest = rest;
            return from_twin ? Model<W>::load(twin, o, folder) : Model<W>::load(folder, o);
          }};
}

// The first four are the comparison's headline.
std::vector<Recipe> recipes() {
  const bool native = lowbit::detail::kernels().native_bf16;
  const Compute four_bit = native ? Compute::bf16 : Compute::int8;
  return {recipe<DenseTensor<float>>("fp32", Compute::f32),
          recipe<Int8Tensor<>>("int8_scratch", Compute::int8, Format::f32, true),
          recipe<LlmInt8Tensor>("int8_bnb", Compute::int8, Format::f16),
          recipe<NF4>("nf4_bnb", four_bit, Format::f16),
          recipe<NF4>("nf4_f32", Compute::f32),
          recipe<NF4>("nf4_int8", Compute::int8),
          recipe<NF4>("nf4_bf16", Compute::bf16),
          recipe<Int8Tensor<>>("int8", Compute::int8),
          recipe<FP4>("fp4", four_bit, Format::f16),
          recipe<DenseTensor<lowbit::BFloat16>>("bf16", Compute::bf16)};
}

struct NewsTokens {
  std::vector<Ids> rows;
  std::vector<int> labels;
};
const NewsTokens& news_items() {
  static const NewsTokens items = [] {
    const auto tokenizer = lowbit::gpt2::Tokenizer::load(mini_folder);
    NewsTokens n;
    for (const auto& row : lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv")) {
      n.rows.push_back(tokenizer.encode(row.title + " " + row.description));
      n.rows.back().resize(std::min<std::size_t>(n.rows.back().size(), 160));
      n.labels.push_back(row.label);
    }
    return n;
  }();
  return items;
}
// Some rows of different lengths, short ones, so that the pass in double stays quick.
std::vector<Ids> short_items(std::size_t count) {
  std::vector<Ids> rows = news_items().rows;
  std::sort(rows.begin(), rows.end(),
            [](const Ids& a, const Ids& b) { return a.size() != b.size() ? a.size() < b.size() : a < b; });
  std::vector<Ids> out;
  for (std::size_t i = 0; i < rows.size() && out.size() < count; ++i)
    if (out.empty() || rows[i].size() > out.back().size()) out.push_back(rows[i]);
  return out;
}

}  // namespace

// ---- values
// --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: the reference pass gives another implementation's logits", "[model]") {
  ReferenceGpt2 plain = reference(tiny_checkpoint()), int8 = plain;
  int8.fake_quantize_weights();
  int8.int8_activations = true;
  const auto rows = tiny_rows();
  const auto expected = tiny_file().get<double>("float.logits", "F64"),
             expected_int8 = tiny_file().get<double>("qat_int8.logits", "F64");
  REQUIRE(rows.size() == 3);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto row = [&](const std::vector<double>& v) { return std::span(v).subspan(4 * r, 4); };
    CHECK(largest_difference(plain.classify(rows[r]), row(expected)) < 1e-13);
    CHECK(largest_difference(int8.classify(rows[r]), row(expected_int8)) < 1e-13);
  }
}

TEST_CASE("Model: float logits of the tiny model, every level, packed and canonical", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  c.write(folder.path());
  const ReferenceGpt2 r = reference(c);
  const auto expected = tiny_file().get<double>("float.logits", "F64");
  const auto rows = tiny_rows();
  for (const bool pack : {true, false}) {
    ModelOptions<DenseTensor<float>> o;
    o.linear.pack = pack;
    const auto m = Model<DenseTensor<float>>::load(folder.path(), o);
    CHECK(m.config.classes == 4);
    CHECK(m.config.class_names == std::vector<std::string>{"LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"});
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      CAPTURE(pack, lowbit::level_name(level));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double bound = r.float_bound(class_logits(rows[i]));
        CHECK(bound < 2e-5);
        CHECK(largest_difference(classify(m, rows[i]), std::span(expected).subspan(4 * i, 4)) <= bound);
      }
    }
  }
}

// Int8 activations usually part two right implementations: a difference in the last bit flips a code, and the flip spreads.  In
// these rows no value lies so near a tie that float noise would move it (the disturbed passes, whose bound stays at that of float
// arithmetic, say so too), hence every code is the reference's and the logits agree to rounding.
TEST_CASE("Model: int8 compute gives the quantization-aware logits of the tiny model", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  c.write(folder.path());
  ReferenceGpt2 r = reference(c);
  r.fake_quantize_weights();
  r.int8_activations = true;
  const auto expected = tiny_file().get<double>("qat_int8.logits", "F64"), plain = tiny_file().get<double>("float.logits", "F64");
  const auto rows = tiny_rows();
  for (const bool pack : {true, false}) {
    ModelOptions<Int8Tensor<>> o;
    o.linear.compute = Compute::int8;
    o.linear.pack = pack;
    const auto m = Model<Int8Tensor<>>::load(folder.path(), o);
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      CAPTURE(pack, lowbit::level_name(level));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double bound = r.float_bound(class_logits(rows[i]));
        CHECK(bound < 2e-5);
        const std::vector<float> found = classify(m, rows[i]);
        CHECK(largest_difference(found, std::span(expected).subspan(4 * i, 4)) <= bound);
        CHECK(largest_difference(found, std::span(plain).subspan(4 * i, 4)) > 100 * bound);  // it is not the float model
      }
    }
  }
}

TEST_CASE("Model: news items on the mini model, float and NF4 with f32 compute, every level", "[model]") {
  const Checkpoint c = read_checkpoint(mini_folder);
  const auto float_model = Model<DenseTensor<float>>::load(mini_folder);
  CHECK(float_model.config.class_names == std::vector<std::string>{"World", "Sports", "Business", "Sci/Tech"});
  ModelOptions<NF4> in_f32;
  in_f32.linear.compute = Compute::f32;
  const auto nf4_model = Model<NF4>::load(mini_folder, in_f32);
  const auto check = [&](const Transformer& m, const ReferenceGpt2& r) {
    for (const Ids& ids : short_items(2)) {
      ReferenceGpt2 exact = r;
      const auto expected = exact.classify(ids);
      const double bound = r.float_bound(class_logits(ids), 2);
      CHECK(bound < 1e-4);
      for (const lowbit::Level level : lowbit::available_levels()) {
        const AtLevel at(level);
        CAPTURE(lowbit::level_name(level), ids.size());
        CHECK(largest_difference(classify(m, ids), expected) <= bound);
      }
    }
  };
  check(float_model, reference(c));
  check(nf4_model, reference(decoded<NF4>(c)));
}

// The formula of the trained int8 layers, from the file's bytes: y = sum(code x, code w) * scale x * scale w + bias, where the sum
// is an exact integer and scale x = absmax / 127.
TEST_CASE("Model: every linear layer of the int8 twin follows its formula", "[model]") {
  ModelOptions<Int8Tensor<>> o;
  o.linear.compute = Compute::int8;
  const auto m = Model<Int8Tensor<>>::load(mini_twin, o, mini_folder);
  const Checkpoint twin = read_checkpoint(mini_twin);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  REQUIRE(m.blocks.size() == 4);
  for (std::size_t layer = 0; layer < m.blocks.size(); ++layer) {
    const auto& b = m.blocks[layer];
    const std::pair<const char*, const lowbit::Linear*> modules[] = {
        {"attn.c_attn", &b.attention_in}, {"attn.c_proj", &b.attention_out}, {"mlp.c_fc", &b.mlp_in}, {"mlp.c_proj", &b.mlp_out}};
    for (const auto& [name, linear] : modules) {
      const std::string module = "transformer.h." + std::to_string(layer) + "." + name;
      CAPTURE(module);
      const Entry& weight = twin.tensors.at(module + ".weight");
      const std::vector<float> scale = floats(twin.tensors.at(module + ".weight_scale")),
                               bias = floats(twin.tensors.at(module + ".bias"));
      const std::size_t rows = 3, out = weight.shape[0], in = weight.shape[1];
      std::vector<float> x(rows * in), y(rows * out);
      for (float& v : x) v = normal(random);
      x[in + 5] = 40.0f;                                                          // a row with an outlier
      std::fill(x.begin() + static_cast<std::ptrdiff_t>(2 * in), x.end(), 0.0f);  // and one of zeros
      linear->forward({x.data(), rows, in}, {y.data(), rows, out}, {}, {&serial});
      double worst = 0;  // in units of the bound
      for (std::size_t r = 0; r < rows; ++r) {
        float absmax = 0;
        for (std::size_t k = 0; k < in; ++k) absmax = std::max(absmax, std::fabs(x[r * in + k]));
        const float step = absmax / 127.0f;
        std::vector<std::int64_t> codes(in);
        for (std::size_t k = 0; k < in; ++k) codes[k] = step == 0 ? 0 : std::lrint(x[r * in + k] / step);
        for (std::size_t n = 0; n < out; ++n) {
          std::int64_t sum = 0;
          for (std::size_t k = 0; k < in; ++k)
            sum += codes[k] * static_cast<std::int8_t>(std::to_integer<std::uint8_t>(weight.bytes[n * in + k]));
          const double scaled = static_cast<double>(sum) * static_cast<double>(step) * static_cast<double>(scale[n]);
          // The sum becomes a float, takes two scales and the bias: four roundings.
          const double bound = std::ldexp(4 * (std::fabs(scaled) + std::fabs(static_cast<double>(bias[n]))), -24);
          const double error = std::fabs(static_cast<double>(y[r * out + n]) - scaled - static_cast<double>(bias[n]));
          worst = std::max(worst, bound == 0 ? (error == 0 ? 0 : 1e9) : error / bound);
        }
      }
      CHECK(worst <= 1);
    }
  }
}

TEST_CASE("Model: accuracy of every model on the news items", "[model]") {
  const NewsTokens& news = news_items();
  REQUIRE(news.rows.size() == 400);
  ThreadPool pool;
  std::vector<std::size_t> baseline;
  for (const Recipe& recipe : recipes()) {
    const Transformer m = recipe.load(mini_folder, mini_twin);
    const std::vector<float> logits = classify(m, news.rows, pool);
    std::size_t right = 0, same = 0;
    for (std::size_t i = 0; i < 400; ++i) {
      const std::size_t found = argmax(std::span(logits).subspan(4 * i, 4));
      if (recipe.name == "fp32") baseline.push_back(found);
      right += found == static_cast<std::size_t>(news.labels[i]);
      same += found == baseline[i];
    }
    std::printf("gpt2-mini %-12s  %5.2f %% of the news items right, %5.2f %% as fp32\n", recipe.name.c_str(),
                static_cast<double>(right) / 4, static_cast<double>(same) / 4);
    CAPTURE(recipe.name);
    CHECK(right > 280);
    CHECK(same >= 380);
  }
}

// ---- what ran
// ------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: plans say what runs", "[model]") {
  for (const Recipe& recipe : recipes()) {
    const Transformer m = recipe.load(mini_folder, mini_twin);
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      const auto plans = m.plans();
      CHECK(plans.size() == 4 * m.config.layers);
      for (const lowbit::MatmulPlan& p : plans) {
        CAPTURE(recipe.name, to_string(p));
        CHECK(p.format == recipe.format);
        CHECK(p.compute == recipe.compute);
        CHECK(p.level == level);
        CHECK(p.packed);
        CHECK(p.native_bf16 == (level == lowbit::Level::avx512bf16));
      }
    }
  }
  // Without options: what is fast.
  CHECK(Model<NF4>::load(mini_folder).plans()[0].compute == lowbit::automatic_compute(lowbit::Format::nf4));
  CHECK(Model<Int8Tensor<>>::load(mini_folder).plans()[0].compute == Compute::int8);
  CHECK(Model<LlmInt8Tensor>::load(mini_folder).plans()[0].compute == Compute::int8);
  ModelOptions<NF4> canonical;
  canonical.linear.pack = false;
  CHECK_FALSE(Model<NF4>::load(mini_folder, canonical).plans()[0].packed);
  // A dense layer has no int8 product.
  ModelOptions<DenseTensor<float>> wrong;
  wrong.linear.compute = Compute::int8;
  CHECK(unsaid<InvalidArgument>([&] { Model<DenseTensor<float>>::load(mini_folder, wrong); }, {"int8 compute", "f32"}) == "");
}

// ---- batches, threads
// ----------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: batches and threads change no bit", "[model]") {
  // Lengths on both sides of every vector width, one token and the longest included.
  std::vector<Ids> rows = short_items(3);
  rows.push_back({17});
  rows.push_back({4242, 17});
  rows.push_back(rows[0]);
  rows.emplace_back();
  for (std::int32_t i = 0; i < 130; ++i) rows.back().push_back(i * 61 % 8192);
  ThreadPool two(2), five(5);
  for (const Recipe& recipe : recipes()) {
    CAPTURE(recipe.name);
    const Transformer m = recipe.load(mini_folder, mini_twin);
    std::vector<float> alone;
    for (const Ids& r : rows) {
      const auto logits = classify(m, r);
      alone.insert(alone.end(), logits.begin(), logits.end());
    }
    CHECK(bits_of({alone.begin(), alone.begin() + 4}) == bits_of({alone.begin() + 20, alone.begin() + 24}));
    CHECK(largest_difference(std::vector<float>(alone.begin(), alone.begin() + 4),
                             std::vector<float>(alone.begin() + 4, alone.begin() + 8)) > 0.01);
    CHECK(bits_of(classify(m, rows, serial)) == bits_of(alone));
    CHECK(bits_of(classify(m, rows, two)) == bits_of(alone));
    CHECK(bits_of(classify(m, rows, five)) == bits_of(alone));
    // The other way round, and in groups of three.
    std::vector<Ids> reversed(rows.rbegin(), rows.rend());
    const auto found = classify(m, reversed, two);
    for (std::size_t r = 0; r < rows.size(); ++r)
      CHECK(bits_of({found.begin() + static_cast<std::ptrdiff_t>(4 * r), found.begin() + static_cast<std::ptrdiff_t>(4 * r + 4)}) ==
            bits_of({alone.end() - static_cast<std::ptrdiff_t>(4 * r + 4), alone.end() - static_cast<std::ptrdiff_t>(4 * r)}));
    std::vector<float> grouped;
    for (std::size_t r = 0; r < rows.size(); r += 3) {
      const auto part = classify(
          m,
          {rows.begin() + static_cast<std::ptrdiff_t>(r), rows.begin() + static_cast<std::ptrdiff_t>(std::min(r + 3, rows.size()))},
          five);
      grouped.insert(grouped.end(), part.begin(), part.end());
    }
    CHECK(bits_of(grouped) == bits_of(alone));
    // Several callers at once, with one pool.
    std::vector<std::vector<float>> results(3);
    std::vector<std::thread> callers;
    for (auto& result : results) callers.emplace_back([&] { result = classify(m, rows, two); });
    for (std::thread& t : callers) t.join();
    for (const auto& result : results) CHECK(bits_of(result) == bits_of(alone));
  }
}

TEST_CASE("Model: a batch may be a part of a longer list of ids", "[model]") {
  const Folder folder;
  const auto m = Model<DenseTensor<float>>::load(tiny_checkpoint().write(folder.path()));
  const auto rows = tiny_rows();
  Ids ids = {99, -1, 99};  // outside the batch: never looked at
  const std::size_t first = ids.size();
  ids.insert(ids.end(), rows[1].begin(), rows[1].end());
  ids.insert(ids.end(), rows[2].begin(), rows[2].end());
  ids.push_back(-5);
  const std::array<std::size_t, 3> offsets = {first, first + rows[1].size(), first + rows[1].size() + rows[2].size()};
  std::vector<float> found(8), tokens((rows[1].size() + rows[2].size()) * 50);
  m.classify(ids, offsets, found, serial);
  m.language_logits(ids, offsets, tokens, serial);
  std::vector<float> expected = classify(m, rows[1]), second = classify(m, rows[2]);
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(bits_of(found) == bits_of(expected));
  expected = language_logits(m, rows[1]), second = language_logits(m, rows[2]);
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(bits_of(tokens) == bits_of(expected));
}

TEST_CASE("Model: embedding tables of any format are read as what they decode to", "[model]") {
  Ids ids = short_items(1)[0];
  auto quantized = Model<DenseTensor<float>>::load(mini_folder), decoded = Model<DenseTensor<float>>::load(mini_folder);
  const auto replace = [](const lowbit::Tensor& from, auto kind, lowbit::Tensor& as_quantized, lowbit::Tensor& as_floats) {
    using Kind = typename decltype(kind)::type;
    std::vector<float> values(from.size());
    from.dequantize(values.data());
    as_quantized = Kind::quantize(values.data(), from.rows(), from.cols());
    as_quantized.dequantize(values.data());
    as_floats = DenseTensor<float>::quantize(values.data(), from.rows(), from.cols());
  };
  const auto before = classify(decoded, ids);
  const auto original = Model<DenseTensor<float>>::load(mini_folder);
  replace(original.token_embedding, std::type_identity<lowbit::NF4Tensor<>>(), quantized.token_embedding, decoded.token_embedding);
  replace(original.position_embedding, std::type_identity<Int8Tensor<>>(), quantized.position_embedding,
          decoded.position_embedding);
  CHECK(bits_of(classify(quantized, ids)) == bits_of(classify(decoded, ids)));
  CHECK(bits_of(classify(decoded, ids)) != bits_of(before));
  replace(original.token_embedding, std::type_identity<DenseTensor<lowbit::BFloat16>>(), quantized.token_embedding,
          decoded.token_embedding);
  CHECK(bits_of(classify(quantized, ids)) == bits_of(classify(decoded, ids)));
}

TEST_CASE("Model: a token never sees what follows it", "[model]") {
  for (const Recipe& recipe : recipes()) {
    CAPTURE(recipe.name);
    const Transformer m = recipe.load(mini_folder, mini_twin);
    const Ids ids = short_items(1)[0];
    const auto whole = language_logits(m, ids);
    for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{9}, ids.size() - 1}) {
      const auto part = language_logits(m, Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n)));
      CHECK(bits_of(part) == bits_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(part.size())}));
    }
  }
}

// ---- language model
// ------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: next-token logits and greedy text, tied head", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  const auto m = Model<DenseTensor<float>>::load(c.write(folder.path()));
  const ReferenceGpt2 r = reference(c);
  for (Ids ids : tiny_rows()) {
    const double bound = r.float_bound(token_logits(ids));
    CHECK(bound < 2e-5);
    ReferenceGpt2 exact = r;
    CHECK(largest_difference(language_logits(m, ids), exact.language_logits(ids)) <= bound);
    // Both continue the text with the same tokens, by margins that no rounding can turn.
    ids.resize(4);
    while (ids.size() < 16) {
      const auto logits = language_logits(m, ids);
      const auto all = exact.language_logits(ids);
      std::vector<double> last(all.end() - 50, all.end());
      const auto expected = static_cast<std::size_t>(std::max_element(last.begin(), last.end()) - last.begin());
      CHECK(argmax(std::span(logits).last(50)) == expected);
      std::nth_element(last.begin(), last.begin() + 1, last.end(), std::greater<>());
      CHECK(last[0] - last[1] > 2 * bound);
      ids.push_back(static_cast<std::int32_t>(expected));
    }
  }
}

TEST_CASE("Model: a head of its own", "[model]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float> head(50 * 32);
  for (float& v : head) v = normal(random);
  c.tensors["lm_head.weight"] = entry(head, {50, 32});
  const Ids ids = tiny_rows()[0];
  ReferenceGpt2 untied = reference(c), tied = reference(tiny_checkpoint());

  c.config["tie_word_embeddings"] = false;
  const auto m = Model<DenseTensor<float>>::load(c.write(folder / "untied"));
  CHECK_FALSE(m.config.tied);
  CHECK(largest_difference(language_logits(m, ids), untied.language_logits(ids)) <= untied.float_bound(token_logits(ids)));
  CHECK(m.memory().parameters ==
        Model<DenseTensor<float>>::load(tiny_checkpoint().write(folder / "tied")).memory().parameters + 50 * 32);

  // Where the configuration ties it, a copy in the file counts for nothing.
  c.config["tie_word_embeddings"] = true;
  CHECK(largest_difference(language_logits(Model<DenseTensor<float>>::load(c.write(folder / "copy")), ids),
                           tied.language_logits(ids)) <= tied.float_bound(token_logits(ids)));

  // A classifier whose head is neither tied nor there is no language model; as a classifier it works.
  c.config["tie_word_embeddings"] = false;
  c.tensors.erase("lm_head.weight");
  const auto classifier = Model<DenseTensor<float>>::load(c.write(folder / "headless"));
  CHECK(classify(classifier, ids).size() == 4);
  CHECK(unsaid<InvalidArgument>([&] { language_logits(classifier, ids); }, {"language_logits", "no language-model head"}) == "");
}

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

// ---- memory
// --------------------------------------------------------------------------------------------------------------------------

namespace {

// A model of a given shape with weights that W holds; zeros, or random values where they are to be quantized.
class MadeUp final : public lowbit::gpt2::ParameterSource {
 public:
  explicit MadeUp(lowbit::gpt2::Config config, bool random) : config_(std::move(config)), random_(random) {}
  const lowbit::gpt2::Config& config() const override { return config_; }
  bool contains(const std::string&) const override { return false; }
  lowbit::AlignedBuffer<float> floats(const std::string&, std::size_t rows, std::size_t cols) const override {
    lowbit::AlignedBuffer<float> values(rows * cols);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    if (random_)
      for (float& v : values) v = normal(random);
    return values;
  }
  Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override {
    if (random_) return lowbit::gpt2::dense_tensor(floats(module, out, in), out, in);
    lowbit::TensorParts p;  // zeros in NF4, without the work of quantizing them
    p.format = Format::nf4;
    p.rows = out;
    p.cols = in;
    p.block = 64;
    p.codes.reset(out * in / 2);
    p.scale_codes.reset(out * in / 64);
    p.nested.reset((out * in / 64 + 255) / 256);
    return Tensor(std::move(p));
  }

 private:
  lowbit::gpt2::Config config_;
  bool random_;
};

lowbit::gpt2::Config shape(std::size_t layers, std::size_t heads, std::size_t width, std::size_t positions, std::size_t vocab,
                           std::size_t classes) {
  lowbit::gpt2::Config c;
  c.layers = layers;
  c.heads = heads;
  c.width = width;
  c.inner = 4 * width;
  c.positions = positions;
  c.vocab = vocab;
  c.classes = classes;
  return c;
}

constexpr double mib = 1024.0 * 1024.0;

}  // namespace

TEST_CASE("Model: memory of a small shape, counted by hand", "[model]") {
  const MadeUp source(shape(2, 2, 64, 8, 10, 3), true);
  // Embeddings and score: 10 * 64 + 8 * 64 + 3 * 64 = 1,344.  Norms: 5 pairs of 64 = 640.  Biases: 2 * (192 + 64 + 256 + 64) =
  // 1,152.
  const std::size_t tables = 1344, vectors = 640 + 1152, linear = 2 * 12 * 64 * 64, mask = 2 * 8 * 8;
  // Panels of 48 outputs: 192, 64, 256, 64 outputs take 192, 96, 288, 96, over inputs of 64, 64, 64, 256.
  const std::size_t padded = 2 * ((192 + 96 + 288) * 64 + 96 * 256), padded_rows = 2 * (192 + 96 + 288 + 96);
  const std::size_t padded_blocks = 2 * (192 + 96 + 288 + 96 * 4), blocks = linear / 64,
                    nested = 2 * 4;  // at most 256 blocks a layer
  // `packed` and `canonical`: bytes that the linear weights take in either layout; packed ones may take `more`.
  const auto check = [&]<class W>(std::type_identity<W>, std::size_t paper, std::size_t packed, std::size_t canonical,
                                  std::size_t more = 0) {
    for (const Format rest : {Format::f32, Format::f16})
      for (const bool pack : {true, false}) {
        ModelOptions<W> o;
        o.rest = rest;
        o.linear.pack = pack;
        const lowbit::gpt2::MemoryReport m = Model<W>(source, o).memory();
        CAPTURE(lowbit::format_name(W::tensor_format), pack, rest == Format::f16);
        const std::size_t bytes = rest == Format::f16 ? 2 : 4;
        CHECK(m.parameters == tables + vectors + linear);
        CHECK(m.linear_parameters == linear);
        CHECK(m.paper_bytes == paper + bytes * (tables + vectors) + mask);
        const std::size_t expected = (pack ? packed : canonical) + bytes * tables + 4 * vectors;  // vectors stay floats
        CHECK(m.resident_bytes >= expected);
        CHECK(m.resident_bytes <= expected + (pack ? more : 0));
      }
  };
  check(std::type_identity<DenseTensor<float>>(), 4 * linear, 4 * padded, 4 * linear);
  check(std::type_identity<DenseTensor<lowbit::BFloat16>>(), 2 * linear, 2 * padded, 2 * linear);
  const std::size_t row_scales = 2 * (192 + 64 + 256 + 64);
  check(std::type_identity<Int8Tensor<>>(), linear, padded + 4 * padded_rows, linear + 4 * row_scales);
  check(std::type_identity<LlmInt8Tensor>(), linear, padded + 4 * padded_rows, linear + 4 * row_scales);
  check(std::type_identity<lowbit::NF4Tensor<64, lowbit::PlainAbsmax>>(), linear / 2, padded / 2 + 4 * padded_blocks,
        linear / 2 + 4 * blocks);
  // Packed scales are floats; the 8-bit codes are kept too where the floats do not tell them.
  check(std::type_identity<lowbit::NF4Tensor<>>(), linear / 2, padded / 2 + 4 * padded_blocks + 4 * nested,
        linear / 2 + blocks + 4 * nested, blocks);
}

TEST_CASE("Model: memory of GPT-2 small in NF4, by the paper's account", "[model]") {
  ModelOptions<lowbit::NF4Tensor<>> o;
  o.rest = Format::f16;
  o.linear.pack = false;
  const Model<lowbit::NF4Tensor<>> m(MadeUp(shape(12, 12, 768, 1024, 50257, 4), false), o);
  const auto memory = m.memory();
  CHECK(memory.parameters == 124'442'880);
  CHECK(memory.linear_parameters == 84'934'656);
  CHECK(std::round(100 * static_cast<double>(memory.paper_bytes) / mib) == 12786);
  // Held: 4-bit codes, a byte per block of 64, a float per 256 blocks; tables in fp16, norms and biases in fp32; no mask.
  const std::size_t blocks = 84'934'656 / 64, vectors = 25 * 2 * 768 + 12 * 9 * 768;
  CHECK(memory.resident_bytes == 84'934'656 / 2 + blocks + 4 * (blocks / 256) + 2 * (39'508'224 - vectors) + 4 * vectors);
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
    bend("activation_function", "relu");
    CHECK(unsaid<FormatError>(load, {config, "activation_function", "gelu_new", "\"relu\""}) == "");
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

// ---- full size
// -----------------------------------------------------------------------------------------------------------------------

namespace {

bool skipped() {
  if (!lowbit::testing::shared_dir().empty() && !lowbit::testing::models_dir().empty()) return false;
  WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
  return true;
}

// Which rows of the test set: all 7,600, or LOWBIT_FULL_ROWS of them, evenly spread.
std::vector<std::size_t> full_rows(std::size_t most = 7600) {
  const char* given = std::getenv("LOWBIT_FULL_ROWS");
  const std::size_t wanted = given != nullptr && *given != '\0' ? static_cast<std::size_t>(std::strtoul(given, nullptr, 10)) : 7600;
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, most);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < count; ++i) rows.push_back(i * 7600 / count);
  return rows;
}

// The ids of every row of the test set, its first 160 tokens; vocabulary "gpt2" or "mini".
std::vector<Ids> full_tokens(const std::string& vocabulary) {
  const GoldenFile file((lowbit::testing::shared_dir() / "golden/ag_news_test_tokens.safetensors").string());
  const auto ids = file.get<std::int32_t>(vocabulary + ".ids", "I32");
  const auto offsets = file.get<std::int64_t>(vocabulary + ".offsets", "I64");
  std::vector<Ids> rows;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    rows.emplace_back(ids.begin() + offsets[r], ids.begin() + std::min(offsets[r] + 160, offsets[r + 1]));
  return rows;
}

// How a model must stand against the reference logits; 0: not checked, only printed.
struct FullCheck {
  std::string model, against;
  double max, rms, accuracy;
};

void check_full(const std::string& size, const std::string& vocabulary, const std::vector<FullCheck>& checks) {
  const GoldenFile golden((lowbit::testing::shared_dir() / "golden/reference_logits.safetensors").string());
  const auto labels = golden.get<std::int64_t>(size + ".labels", "I64");
  const std::vector<Ids> tokens = full_tokens(vocabulary);
  const std::vector<std::size_t> rows = full_rows();
  const fs::path folder = lowbit::testing::models_dir() / ("gpt2-" + size + "-ag-news");
  REQUIRE(tokens.size() == 7600);
  REQUIRE(labels.size() == 7600);
  ThreadPool pool;
  for (const Recipe& recipe : recipes())
    for (const FullCheck& check : checks) {
      if (check.model != recipe.name) continue;
      const Transformer m = recipe.load(folder, folder.string() + "-int8-qat");
      std::vector<float> found(4 * rows.size());
      pool.run(rows.size(), [&](std::size_t i) {  // one row per call
        const std::size_t offsets[2] = {0, tokens[rows[i]].size()};
        m.classify(tokens[rows[i]], offsets, std::span(found).subspan(4 * i, 4), serial);
      });
      const std::vector<float> all = golden.floats(size + "." + check.against);
      std::vector<float> expected;
      std::size_t right = 0, same = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        expected.insert(expected.end(), all.begin() + static_cast<std::ptrdiff_t>(4 * rows[i]),
                        all.begin() + static_cast<std::ptrdiff_t>(4 * rows[i] + 4));
        const std::size_t best = argmax(std::span(found).subspan(4 * i, 4));
        right += best == static_cast<std::size_t>(labels[rows[i]]);
        same += best == argmax(std::span(expected).subspan(4 * i, 4));
      }
      const auto error = lowbit::error_statistics(expected.data(), found.data(), found.size());
      const double percent = 100 / static_cast<double>(rows.size()), accuracy = static_cast<double>(right) * percent;
      std::printf("gpt2-%s %-12s  %s; %zu rows against %s: max %.2g, rms %.2g, same class %.2f %%, accuracy %.2f %%\n",
                  size.c_str(), recipe.name.c_str(), to_string(m.plans()[0]).c_str(), rows.size(), check.against.c_str(), error.max,
                  error.rms, static_cast<double>(same) * percent, accuracy);
      std::fflush(stdout);
      CAPTURE(size, recipe.name);
      CHECK(std::isfinite(error.max));
      if (check.max != 0) CHECK(error.max <= check.max);
      if (check.rms != 0) CHECK(error.rms <= check.rms);
      if (check.accuracy != 0 && rows.size() == 7600) CHECK(std::fabs(accuracy - check.accuracy) <= 0.1);
    }
}

}  // namespace

// Two right implementations of 8-bit activations differ by about 0.022 RMS: a difference in the last bit flips codes, and the share
// of flipped codes grows from layer to layer.  Float and exactly decoded NF4 have no such chaos.
TEST_CASE("Model: GPT-2 small against the reference logits", "[model][.full]") {
  if (skipped()) return;
  check_full("small", "gpt2",
             {{"fp32", "fp32", 1e-4, 0, 94.00},
              {"int8_scratch", "qat-w8a8", 0, 0.026, 93.95},
              {"int8_bnb", "int8-bnb-thr6-row", 0, 0.026, 94.04},
              {"nf4_bnb", "nf4-dq", 0, 0, 94.03},
              {"nf4_f32", "nf4-dq", 2e-3, 2e-4, 94.03},
              {"nf4_int8", "nf4-dq", 0, 0, 0}});
}

TEST_CASE("Model: GPT-2 mini against the reference logits", "[model][.full]") {
  if (skipped()) return;
  check_full("mini", "mini",
             {{"fp32", "fp32", 1e-4, 0, 92.43},
              {"int8_scratch", "qat-w8a8", 0, 0.026, 92.36},
              {"int8_bnb", "int8-bnb-thr6", 0, 0, 92.45},
              {"nf4_bnb", "nf4-dq", 0, 0, 92.49},
              {"nf4_f32", "nf4-dq", 2e-3, 2e-4, 92.49},
              {"nf4_int8", "nf4-dq", 0, 0, 0}});
}

// What int8 compute on NF4 weights costs, layer by layer, on the activations of exact decoding.  Two roundings make the error: of
// an activation to a step of its row's absmax / 127, and of the codebook to 127 steps.  If they are independent and even, an
// output's error has the variance sum_k w^2 step^2 / 12 + x^2 (absmax of the block * e)^2, e the codebook's mean error.
TEST_CASE("Model: NF4 in int8 compute, the error of every layer of GPT-2 small", "[model][.full]") {
  if (skipped()) return;
  const fs::path folder = lowbit::testing::models_dir() / "gpt2-small-ag-news";
  ModelOptions<lowbit::NF4Tensor<>> exact_options, int8_options;
  exact_options.linear.pack = int8_options.linear.pack = false;  // so that the weights can be looked at
  exact_options.linear.compute = Compute::f32;
  int8_options.linear.compute = Compute::int8;
  const auto exact = Model<lowbit::NF4Tensor<>>::load(folder, exact_options),
             int8 = Model<lowbit::NF4Tensor<>>::load(folder, int8_options);
  double code_error = 0;
  for (const float v : lowbit::Nf4::table) {
    const double byte = std::nearbyint(static_cast<double>(v) * 127) / 127;
    code_error += std::pow(static_cast<double>(v) - byte, 2) / 16;
  }
  struct Layer {
    double signal = 0, error = 0, predicted = 0;
  };
  std::vector<Layer> layers(4 * exact.blocks.size());
  std::vector<std::vector<double>> squares(layers.size()), block_squares(layers.size());  // sums over outputs, by input
  const auto linear_of = [](const lowbit::gpt2::Transformer& m, std::size_t i) -> const lowbit::Linear& {
    const auto& b = m.blocks[i / 4];
    const lowbit::Linear* four[] = {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out};
    return *four[i % 4];
  };
  const lowbit::gpt2::FolderParameters source(folder);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const char* names[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
    const lowbit::Linear& l = linear_of(exact, i);
    const auto w = lowbit::NF4Tensor<>::quantize(
        reinterpret_cast<const float*>(
            source.linear("h." + std::to_string(i / 4) + "." + names[i % 4], l.rows(), l.cols()).parts().codes.data()),
        l.rows(), l.cols());
    std::vector<float> decoded(w.size());
    w.dequantize(decoded.data());
    squares[i].resize(l.cols());
    block_squares[i].resize(l.cols());
    for (std::size_t e = 0; e < w.size(); ++e) {
      squares[i][e % l.cols()] += std::pow(static_cast<double>(decoded[e]), 2);
      block_squares[i][e % l.cols()] += std::pow(static_cast<double>(w.scale(e / w.block_size())), 2);
    }
  }
  const std::vector<Ids> tokens = full_tokens("gpt2");
  for (const std::size_t row : full_rows(20)) {
    examples::ModelWalk walk(exact, tokens[row].size(), serial);
    std::size_t at = 0;
    walk.before_product = [&](const lowbit::Linear& l, lowbit::MatrixView<const float> x) {
      Layer& layer = layers[at];
      std::vector<float> y(x.rows * l.rows()), rough(y.size());
      l.forward(x, {y.data(), x.rows, l.rows()}, {}, {&serial});
      linear_of(int8, at).forward(x, {rough.data(), x.rows, l.rows()}, {}, {&serial});
      for (std::size_t t = 0; t < x.rows; ++t) {
        double absmax = 0;
        for (std::size_t k = 0; k < x.cols; ++k) absmax = std::max(absmax, std::fabs(static_cast<double>(x.row(t)[k])));
        for (std::size_t k = 0; k < x.cols; ++k)
          layer.predicted += squares[at][k] * std::pow(absmax / 127, 2) / 12 +
                             std::pow(static_cast<double>(x.row(t)[k]), 2) * block_squares[at][k] * code_error;
        for (std::size_t n = 0; n < l.rows(); ++n) {
          const auto value = static_cast<double>(y[t * l.rows() + n]);
          layer.signal += std::pow(value - static_cast<double>(l.bias()[n]), 2);
          layer.error += std::pow(value - static_cast<double>(rough[t * l.rows() + n]), 2);
        }
      }
      ++at;
    };
    walk.run(tokens[row], false);
    REQUIRE(at == layers.size());
  }
  std::vector<double> snr;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    snr.push_back(10 * std::log10(layers[i].signal / layers[i].error));
    const char* names[] = {"attention_in", "attention_out", "mlp_in", "mlp_out"};
    const double ratio = layers[i].error / layers[i].predicted;
    std::printf("block %2zu %-13s SNR %5.1f dB, error %.2f of the predicted variance\n", i / 4, names[i % 4], snr.back(), ratio);
    CAPTURE(i, ratio);
    CHECK(ratio > 0.25);
    CHECK(ratio < 4);
  }
  std::sort(snr.begin(), snr.end());
  std::printf("NF4 in int8 compute against exact decode: SNR from %.1f to %.1f dB, median %.1f\n", snr.front(), snr.back(),
              snr[snr.size() / 2]);
  std::fflush(stdout);
}

TEST_CASE("Model: GPT-2 small as a language model", "[model][.full]") {
  if (skipped()) return;
  const auto golden =
      nlohmann::json::parse(lowbit_test::read_bytes((lowbit::testing::shared_dir() / "golden/lm_reference.json").string()));
  const std::vector<double> expected = golden.at("fp32_row_nll");
  const std::vector<Ids> tokens = full_tokens("gpt2");
  const auto m = Model<DenseTensor<float>>::load(lowbit::testing::models_dir() / "gpt2-small-ag-news");
  REQUIRE(m.config.tied);
  REQUIRE(expected.size() == 7600);
  const std::size_t vocab = m.config.vocab;
  ThreadPool pool;

  const std::vector<std::size_t> rows = full_rows(300);
  std::vector<double> nll(rows.size());
  pool.run(rows.size(), [&](std::size_t i) {
    const Ids& ids = tokens[rows[i]];
    const std::vector<float> logits = language_logits(m, ids);
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
      const auto row = std::span(logits).subspan(t * vocab, vocab);
      const auto largest = static_cast<double>(row[argmax(row)]);
      double total = 0;
      for (const float v : row) total += std::exp(static_cast<double>(v) - largest);
      nll[i] += largest + std::log(total) - static_cast<double>(row[static_cast<std::size_t>(ids[t + 1])]);
    }
  });
  double found_sum = 0, expected_sum = 0, predicted = 0, worst = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    found_sum += nll[i];
    expected_sum += expected[rows[i]];
    predicted += static_cast<double>(tokens[rows[i]].size() - 1);
    worst = std::max(worst, std::fabs(nll[i] / expected[rows[i]] - 1));
  }
  std::printf(
      "gpt2-small fp32 as a language model: %zu rows, perplexity %.4f (reference %.4f on these rows), worst row off by %.2g\n",
      rows.size(), std::exp(found_sum / predicted), std::exp(expected_sum / predicted), worst);
  CHECK(worst <= 1e-3);
  CHECK(std::fabs(found_sum / expected_sum - 1) <= 1e-5);

  // Greedy text: a token sees only what came before, so one pass over prompt and continuation gives the choice at every step.
  const auto generations = golden.at("fp32").at("generations");
  std::size_t steps = 0, decided = 0;
  double margin_error = 0;
  for (const auto& g : generations) {
    Ids ids = g.at("prompt").get<Ids>();
    const Ids chosen = g.at("tokens").get<Ids>();
    const std::vector<double> margins = g.at("top2_margin");
    const std::size_t prompt = ids.size();
    ids.insert(ids.end(), chosen.begin(), chosen.end());
    const std::vector<float> logits = language_logits(m, ids);
    for (std::size_t s = 0; s < chosen.size(); ++s) {
      const auto row = std::span(logits).subspan((prompt - 1 + s) * vocab, vocab);
      std::vector<float> sorted(row.begin(), row.end());
      std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
      margin_error =
          std::max(margin_error, std::fabs(static_cast<double>(sorted[0]) - static_cast<double>(sorted[1]) - margins[s]));
      ++steps;
      if (margins[s] <= 1e-3) continue;
      ++decided;
      CHECK(argmax(row) == static_cast<std::size_t>(chosen[s]));
    }
  }
  std::printf("gpt2-small fp32 greedy text: %zu of %zu steps decided by more than 1e-3, margins off by at most %.2g\n", decided,
              steps, margin_error);
  CHECK(margin_error <= 5e-4);
  CHECK(decided > steps * 9 / 10);
}

// An address sanitizer's own memory would count.
#if defined(__SANITIZE_ADDRESS__)
#define LOWBIT_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LOWBIT_TEST_ASAN 1
#endif
#endif

#if defined(__GLIBC__) && !defined(LOWBIT_TEST_ASAN)
namespace {
std::size_t resident_set() {
  std::size_t pages = 0, resident = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%zu %zu", &pages, &resident) != 2) resident = 0;
    std::fclose(f);
  }
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}
}  // namespace

TEST_CASE("Model: GPT-2 small takes the memory that it reports", "[model][.full]") {
  if (skipped()) return;
  const std::map<std::string, int> paper = {{"fp32", 48671}, {"int8_scratch", 24371}, {"int8_bnb", 16836}, {"nf4_bnb", 12786}};
  const fs::path folder = lowbit::testing::models_dir() / "gpt2-small-ag-news";
  for (const Recipe& recipe : recipes()) {
    if (paper.find(recipe.name) == paper.end()) continue;
    // In a process of its own, so that nothing that ran before leaves memory to use again.
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::array<std::size_t, 5> report{};
      try {
        malloc_trim(0);  // memory that the parent has freed would be used again, and not be seen
        const std::size_t before = resident_set();
        const Transformer m = recipe.load(folder, folder.string() + "-int8-qat");
        const auto memory = m.memory();
        const std::size_t kept = resident_set() - before;
        malloc_trim(0);  // what the allocator keeps of freed layers is not the model's
        report = {memory.parameters, memory.paper_bytes, memory.resident_bytes, kept, resident_set() - before};
      } catch (...) {
      }
      _exit(write(ends[1], report.data(), sizeof report) == sizeof report ? 0 : 1);
    }
    close(ends[1]);
    std::array<std::size_t, 5> report{};
    CHECK(read(ends[0], report.data(), sizeof report) == sizeof report);
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    const auto [parameters, paper_bytes, resident, kept, grown] = report;
    std::printf(
        "gpt2-small %-12s  paper's account %.2f MiB, resident %.2f MiB, process grew by %.2f MiB (%.2f before the allocator gave "
        "back)\n",
        recipe.name.c_str(), static_cast<double>(paper_bytes) / mib, static_cast<double>(resident) / mib,
        static_cast<double>(grown) / mib, static_cast<double>(kept) / mib);
    CAPTURE(recipe.name);
    CHECK(status == 0);
    CHECK(parameters == 124'442'880);
    CHECK(std::lround(100 * static_cast<double>(paper_bytes) / mib) == paper.at(recipe.name));
    CHECK(static_cast<double>(grown) >= 0.98 * static_cast<double>(resident));
    CHECK(static_cast<double>(grown) <= 1.03 * static_cast<double>(resident) + 8 * mib);
  }
}
#endif
