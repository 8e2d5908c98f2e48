// SPDX-License-Identifier: MIT
// The program lowbit-quantize as a user meets it: folders in, folders out, looked at, decoded, compared, refused; and, hidden, what it
// writes against folders that transformers and bitsandbytes wrote on a GPU, and its memory on a model of 4 GB.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <list>
#include <map>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include "examples/quantize/calibration.hpp"
#include "examples/quantize/quantizers.hpp"
#include "lowbit/gpt2/gguf.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/gguf_image.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/npy.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/resident.hpp"
#include "support/sizes.hpp"

namespace quantize_test {

namespace {

using namespace lowbit;
using io::DType;
using lowbit_test::Folder;
using lowbit_test::Outcome;
using lowbit_test::Process;
using lowbit_test::put_file;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;
using Floats = std::vector<float>;

Outcome run(const Folder& folder, const Arguments& arguments) { return Process(LOWBIT_QUANTIZE, folder, arguments).wait(); }
void works(const Folder& folder, const Arguments& arguments) {
  const Outcome o = run(folder, arguments);
  INFO(o.out << o.err);
  REQUIRE(o.code == 0);
}
bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
std::string bytes_of(const fs::path& path) { return lowbit_test::read_bytes(path.string()); }
std::string mini() { return (testing::assets_dir() / "gpt2-mini-ag-news").string(); }
io::Json json_of(const fs::path& file) { return io::parse_json(io::read_text(file), file.string()); }

// Every file of a folder.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::directory_iterator(folder)) all[entry.path().filename().string()] = bytes_of(entry.path());
  return all;
}

struct Weight {
  std::string name;
  std::vector<std::size_t> shape;
  Floats values;
};
// A model of float32 weights; no config.json if `config` is null.
void write_model(const fs::path& folder, const std::vector<Weight>& weights, const io::Json& config = nullptr) {
  fs::create_directories(folder);
  std::vector<io::TensorToWrite> list;
  for (const Weight& w : weights) list.push_back({w.name, DType::F32, w.shape, std::as_bytes(std::span(w.values))});
  io::write_safetensors(folder / "model.safetensors", list, {{"format", "pt"}});
  if (!config.is_null()) put_file(folder / "config.json", config.dump());
}
std::vector<Weight> llama() {
  lowbit_test::Random random(3);
  std::vector<Weight> w;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t s : shape) n *= s;
    w.push_back({name, std::move(shape), random.normals(n)});
  };
  add("lm_head.weight", {50, 64});
  add("model.embed_tokens.weight", {50, 64});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {64});
    add(layer + "mlp.down_proj.weight", {64, 96});
    add(layer + "mlp.up_proj.weight", {96, 64});
    add(layer + "self_attn.q_proj.weight", {64, 64});
    add(layer + "self_attn.q_proj.bias", {64});
  }
  return w;
}
const io::Json llama_config = {{"model_type", "llama"}, {"torch_dtype", "float32"}};

template <class W>
void check_same(const Tensor& found, const W& expected) {
  const TensorParts &a = found.parts(), &b = expected.parts();
  CHECK(a.format == b.format);
  CHECK(a.rows == b.rows);
  CHECK(a.cols == b.cols);
  CHECK(std::equal(a.codes.begin(), a.codes.end(), b.codes.begin(), b.codes.end()));
  CHECK(std::equal(a.scales.begin(), a.scales.end(), b.scales.begin(), b.scales.end()));
  CHECK(std::equal(a.scale_codes.begin(), a.scale_codes.end(), b.scale_codes.begin(), b.scale_codes.end()));
  CHECK(std::equal(a.nested.begin(), a.nested.end(), b.nested.begin(), b.nested.end()));
  CHECK(a.offset == b.offset);
}

}  // namespace

TEST_CASE("lowbit-quantize: GPT-2 in every format is what the library makes of it, and loads") {
  const Folder folder;
  const gpt2::FolderParameters floats(mini());
  const std::string module = "h.1.mlp.c_fc";
  const std::size_t out = floats.config().inner, in = floats.config().width;
  const Tensor exact = floats.linear(module, out, in);
  const auto* w = reinterpret_cast<const float*>(exact.parts().codes.data());
  const auto quantized = [&](const std::string& name, Arguments more) {
    Arguments a{"quantize", mini(), (folder / name).string(), "--threads", "2"};
    a.insert(a.end(), more.begin(), more.end());
    works(folder, a);
    return gpt2::FolderParameters(folder / name).linear(module, out, in);
  };
  check_same(quantized("nf4", {}), NF4Tensor<>::quantize(w, out, in));
  check_same(quantized("plain", {"--plain-absmax", "--block", "128"}), NF4Tensor<128, PlainAbsmax>::quantize(w, out, in));
  check_same(quantized("fp4", {"--format", "fp4", "--block", "4096"}), FP4Tensor<4096>::quantize(w, out, in));
  check_same(quantized("llm_int8", {"--format", "llm_int8"}), LlmInt8Tensor::quantize(w, out, in));
  check_same(quantized("int8", {"--format", "int8"}), Int8Tensor<>::quantize(w, out, in));

  // What is not quantized is as it was, and so are the other files.
  const io::SafeTensors before = io::SafeTensors::open(fs::path(mini()) / "model.safetensors"),
                        after = io::SafeTensors::open(folder / "nf4" / "model.safetensors");
  for (const char* name : {"score.weight", "transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.ln_1.weight"}) {
    INFO(name);
    CHECK(after.at(name).dtype == before.at(name).dtype);
    CHECK(std::equal(after.at(name).data.begin(), after.at(name).data.end(), before.at(name).data.begin()));
  }
  CHECK(bytes_of(folder / "nf4" / "vocab.json") == bytes_of(fs::path(mini()) / "vocab.json"));
  const io::Json config = json_of(folder / "nf4" / "config.json");
  CHECK(config["quantization_config"]["bnb_4bit_quant_type"] == "nf4");
  CHECK(config["quantization_config"]["llm_int8_skip_modules"].is_null());
  CHECK(config["n_layer"] == 4);

  // bf16 to f16 rounds once, and keeps the orientation.
  works(folder, {"quantize", mini(), (folder / "f16").string(), "--format", "f16"});
  const io::SafeTensors halves = io::SafeTensors::open(folder / "f16" / "model.safetensors");
  CHECK(halves.at("transformer.h.0.mlp.c_fc.weight").shape == std::vector<std::size_t>{in, out});
  const auto x = before.at("transformer.h.0.mlp.c_fc.weight").copy<BFloat16>();
  const auto y = halves.at("transformer.h.0.mlp.c_fc.weight").copy<Float16>();
  CHECK(std::equal(x.begin(), x.end(), y.begin(), [](BFloat16 a, Float16 b) { return to_float16(to_float(a)) == b; }));
  CHECK(json_of(folder / "f16" / "config.json")["torch_dtype"] == "float16");
}

TEST_CASE("lowbit-quantize: its quantizers give the library's bytes, at thresholds too") {
  lowbit_test::Random random(12);
  const auto check = [&]<class Codebook>(Codebook, Format format) {
    for (const std::size_t block : lowbit_test::Sizes{32, 64, 128, 4096}) {
      INFO(block);
      Floats x = random.normals(3 * 4096 + 77, 0.03f);
      // Products on a threshold and on both sides of it, whatever the sign; zeros; what is not finite, or not normal.
      const auto& limits = Codebook::rule(Producer::cuda).limits;
      for (std::size_t b = 0; b < 4096; b += block) {
        const float absmax = std::exp2f(static_cast<float>(random.below(40)) - 20) * (random.below(2) == 0 ? 1.0f : 1.37f);
        for (std::size_t i = b; i < b + block; ++i) {
          x[i] = limits[i % 15] * absmax;
          if (random.below(3) == 0) x[i] = std::nextafterf(x[i], random.below(2) == 0 ? 2 * absmax : -2 * absmax);
        }
        x[b + random.below(block)] = random.below(2) == 0 ? absmax : -absmax;
      }
      std::fill_n(x.begin() + 4096, block, 0.0f);
      x[8192] = std::numeric_limits<float>::infinity();
      x[8192 + block / 2] = std::numeric_limits<float>::quiet_NaN();
      if (block <= 128) std::fill_n(x.begin() + 4096 + static_cast<std::ptrdiff_t>(2 * block), block, -1e-40f);
      for (const std::size_t n : {x.size(), std::size_t{4096}, std::size_t{31}, std::size_t{0}}) {
        std::vector<std::uint8_t> ours(packed_size(n)), theirs(packed_size(n));
        Floats a(block_count(n, block)), b(block_count(n, block));
        quantize::quantize_four_bit(format, x.data(), n, block, ours.data(), a.data());
        lowbit::quantize_four_bit<Codebook>(x.data(), n, block, Producer::cuda, theirs.data(), b.data());
        CHECK(ours == theirs);
        CHECK(lowbit_test::bits_of(a) == lowbit_test::bits_of(b));
      }
    }
  };
  check(Nf4{}, Format::nf4);
  check(Fp4{}, Format::fp4);
  std::uint8_t packed = 0;
  float absmax = 0;
  CHECK_THROWS_AS(quantize::quantize_four_bit(Format::nf4, &absmax, 1, 48, &packed, &absmax), InvalidArgument);
}

TEST_CASE("lowbit-quantize: searched scales are the library's, and lose less") {
  const Folder folder;
  const gpt2::FolderParameters floats(mini());
  const Tensor exact = floats.linear("h.2.attn.c_attn", 768, 256);
  const auto* w = reinterpret_cast<const float*>(exact.parts().codes.data());
  const auto snr = [&](const Tensor& t) { return error_statistics(w, 768, 256, t).snr_db; };
  works(folder, {"quantize", mini(), (folder / "plain").string()});
  works(folder, {"quantize", mini(), (folder / "searched").string(), "--scales", "search", "--threads", "3"});
  const Tensor plain = gpt2::FolderParameters(folder / "plain").linear("h.2.attn.c_attn", 768, 256),
               searched = gpt2::FolderParameters(folder / "searched").linear("h.2.attn.c_attn", 768, 256);
  FourBitOptions o;
  o.scales = FourBitScales::search;
  check_same(searched, NF4Tensor<>::quantize(w, 768, 256, o));
  CHECK(snr(searched) > snr(plain) + 0.6);
  CHECK_FALSE(io::read_config(folder / "plain").lowbit_quantization);
  // What another quantization left in the floats' config.json is not passed on.
  fs::copy(fs::path(mini()), folder / "again");
  io::Json config = json_of(folder / "again" / "config.json");
  config["lowbit_quantization"] = {{"method", "nf4"}, {"weight", "scales searched"}, {"activation", "as it is"}};
  put_file(folder / "again" / "config.json", config.dump());
  works(folder, {"quantize", (folder / "again").string(), (folder / "again-plain").string()});
  CHECK_FALSE(io::read_config(folder / "again-plain").lowbit_quantization);
  const auto recorded = io::read_config(folder / "searched").lowbit_quantization;
  REQUIRE(recorded);
  CHECK(recorded->method == "nf4");
  CHECK(recorded->weight == "scales searched");
  CHECK(fs::file_size(folder / "searched" / "model.safetensors") < fs::file_size(folder / "plain" / "model.safetensors") + 64);
}

TEST_CASE("lowbit-quantize: a calibration text takes errors to where they cost less") {
  const Folder folder;
  put_file(folder / "text",
           "\nStocks rise as oil falls to a new low\r\n\nThe home side wins the cup after extra time\n"
           "A probe lands on the far side of the moon\nTalks on the border go on\nnot reached\n");
  const auto text = (folder / "text").string();
  SerialExecutor serial;
  const quantize::Calibration calibration = quantize::calibrate(mini(), folder / "text", 4, serial);
  CHECK(calibration.rows == 4);
  CHECK(calibration.moments.size() == 16);
  CHECK(calibration.of("h.1.mlp.c_fc.weight") == calibration.moments.at("h.1.mlp.c_fc"));
  CHECK(calibration.of("model.transformer.h.1.mlp.c_fc.weight") == calibration.moments.at("h.1.mlp.c_fc"));
  for (const char* other : {"score.weight", "h.1.mlp.c_fc.bias", "batch.1.mlp.c_fc.weight", "h.4.mlp.c_fc.weight"})
    CHECK(calibration.of(other).empty());
  // The input of the first layer is the norm of embeddings.
  const gpt2::FolderParameters floats(mini());
  const auto wte = floats.floats("wte.weight", 8192, 256), wpe = floats.floats("wpe.weight", 256, 256),
             gain = floats.floats("h.0.ln_1.weight", 1, 256), shift = floats.floats("h.0.ln_1.bias", 1, 256);
  std::vector<double> sums(256);
  std::size_t tokens = 0;
  for (const char* line : {"Stocks rise as oil falls to a new low", "The home side wins the cup after extra time",
                           "A probe lands on the far side of the moon", "Talks on the border go on"}) {
    std::size_t position = 0;
    for (const std::int32_t id : gpt2::Tokenizer::load(mini()).encode(line)) {
      std::vector<double> x(256);
      double mean = 0, square = 0;
      for (std::size_t c = 0; c < 256; ++c) {
        x[c] = static_cast<double>(wte[static_cast<std::size_t>(id) * 256 + c]) + static_cast<double>(wpe[position * 256 + c]);
        mean += x[c] / 256;
      }
      for (const double v : x) square += (v - mean) * (v - mean) / 256;
      for (std::size_t c = 0; c < 256; ++c) {
        const double normed =
            (x[c] - mean) / std::sqrt(square + static_cast<double>(floats.config().epsilon)) * static_cast<double>(gain[c]) +
            static_cast<double>(shift[c]);
        sums[c] += normed * normed;
      }
      ++position;
      ++tokens;
    }
  }
  CHECK(calibration.tokens == tokens);
  for (std::size_t c = 0; c < 256; ++c)
    CHECK(static_cast<double>(calibration.moments.at("h.0.attn.c_attn")[c]) == Approx(sums[c] / static_cast<double>(tokens)));

  works(folder, {"quantize", mini(), (folder / "even").string(), "--scales", "search"});
  works(folder, {"quantize", mini(), (folder / "weighted").string(), "--scales", "search", "--calibration", text,
                 "--calibration-rows", "4"});
  const gpt2::FolderParameters even(folder / "even"), weighted(folder / "weighted");
  double all_even = 0, all_weighted = 0;
  for (const auto& [module, moments] : calibration.moments) {
    INFO(module);
    const std::size_t in = moments.size(), out = holds(module, "c_attn") ? 768 : holds(module, "c_fc") ? 1024 : 256;
    const Tensor exact = floats.linear(module, out, in);
    const auto* w = reinterpret_cast<const float*>(exact.parts().codes.data());
    const auto error = [&, &m = moments](const Tensor& t) {
      Floats back(t.size());
      t.dequantize(back.data());
      double sum = 0;
      for (std::size_t i = 0; i < back.size(); ++i)
        sum += static_cast<double>(m[i % in]) * std::pow(static_cast<double>(w[i]) - static_cast<double>(back[i]), 2);
      return sum;
    };
    const double a = error(even.linear(module, out, in)), b = error(weighted.linear(module, out, in));
    CHECK(b < a);
    all_even += std::log(a);
    all_weighted += std::log(b);
  }
  INFO("of the error that even weights leave: " << std::exp((all_weighted - all_even) / 16));
  CHECK(all_weighted < all_even + 16 * std::log(0.97));

  const auto refused = [&](int code, Arguments more, std::initializer_list<const char*> words) {
    Arguments a{"quantize", mini(), (folder / "out").string()};
    a.insert(a.end(), more.begin(), more.end());
    const Outcome o = run(folder, a);
    INFO(o.err);
    CHECK(o.code == code);
    for (const char* word : words) CHECK(holds(o.err, word));
    CHECK_FALSE(fs::exists(folder / "out"));
  };
  refused(2, {"--calibration", text}, {"--scales search"});
  refused(2, {"--scales", "search", "--calibration-rows", "3"}, {"--calibration FILE"});
  refused(1, {"--scales", "search", "--calibration", (folder / "none").string()}, {"none"});
  put_file(folder / "text", "\n\r\n");
  refused(1, {"--scales", "search", "--calibration", text}, {text.c_str(), "lines of text"});

  // Rows that were cut are counted.
  std::string numbers;
  for (int i = 0; i < 400; ++i) numbers += " " + std::to_string(i);
  put_file(folder / "text", numbers + "\nTalks on the border go on\n");
  const std::size_t all = 256 + gpt2::Tokenizer::load(mini()).encode("Talks on the border go on").size();
  const Arguments calibrated{"quantize", mini(), (folder / "cut").string(), "--scales", "search", "--calibration", text};
  const Outcome made = run(folder, calibrated);
  CHECK(io::read_config(folder / "cut").lowbit_quantization->weight == "scales searched for the inputs on a text");
  CHECK(holds(made.out, "calibrated on 2 rows of " + std::to_string(all) + " tokens, 1 of them cut after 256"));

  // The last layer's infinity reaches no other.
  fs::copy(mini(), folder / "infinite");
  std::string bytes = io::read_text(folder / "infinite/model.safetensors");
  const auto image = io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
  const auto& bias = image.at("transformer.h.3.mlp.c_fc.bias");
  REQUIRE(bias.dtype == io::DType::BF16);
  bytes.replace(static_cast<std::size_t>(bias.data.data() - reinterpret_cast<const std::byte*>(bytes.data())), 2, "\x80\x7F");
  put_file(folder / "infinite/model.safetensors", bytes);
  const Outcome o = run(
      folder, {"quantize", (folder / "infinite").string(), (folder / "out").string(), "--scales", "search", "--calibration", text});
  CHECK(o.code == 1);
  CHECK(holds(o.err, "infinite: h.3.mlp.c_proj: expected finite inputs"));
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("lowbit-quantize: threads and shards change no bit") {
  const Folder folder;
  works(folder, {"quantize", mini(), (folder / "one").string(), "--threads", "1"});
  works(folder, {"quantize", mini(), (folder / "five").string(), "--threads", "5"});
  CHECK(contents(folder / "one") == contents(folder / "five"));
  works(folder, {"quantize", mini(), (folder / "shards").string(), "--shard-size", "1MB"});
  CHECK(fs::exists(folder / "shards" / "model.safetensors.index.json"));
  CHECK_FALSE(fs::exists(folder / "shards" / "model.safetensors"));
  CHECK_FALSE(fs::exists(folder / "shards" / "tensors.part"));
  for (const auto& [name, content] : contents(folder / "shards")) {
    INFO(name);
    CHECK((content.size() < 1'100'000 || holds(name, "-of-")));  // the embedding has a file of its own
  }
  const Outcome same = run(folder, {"verify", (folder / "one").string(), (folder / "shards").string()});
  CHECK(same.code == 0);
  CHECK(holds(same.out, "133 tensors are the same, 0 differ"));
}

TEST_CASE("lowbit-quantize: decoding gives a folder of floats that computes the same") {
  const Folder folder;
  for (const std::string format : {"nf4", "llm_int8", "int8"}) {
    INFO(format);
    const fs::path q = folder / format, f = folder / (format + "-f32");
    works(folder, {"quantize", mini(), q.string(), "--format", format});
    works(folder, {"dequantize", q.string(), f.string()});
    CHECK_FALSE(json_of(f / "config.json").contains("quantization_config"));
    CHECK_FALSE(json_of(f / "config.json").contains("lowbit_quantization"));
    const gpt2::FolderParameters quantized(q), decoded(f);
    for (const auto& [module, out, in] :
         {std::tuple<std::string, std::size_t, std::size_t>{"h.0.attn.c_attn", 768, 256}, {"h.3.mlp.c_proj", 256, 1024}}) {
      const Tensor a = quantized.linear(module, out, in), b = decoded.linear(module, out, in);
      Floats x(a.size());
      a.dequantize(x.data());
      const auto* y = reinterpret_cast<const float*>(b.parts().codes.data());
      CHECK(lowbit_test::bits_of(x) == lowbit_test::bits_of(Floats(y, y + b.size())));
    }
    const Outcome compared = run(folder, {"verify", q.string(), f.string()});
    CHECK(compared.code == 3);
    CHECK(holds(compared.out, "F32; decoded: largest difference 0, rms 0, inf dB"));
  }
}

TEST_CASE("lowbit-quantize: other models, by the names of their modules") {
  const Folder folder;
  const std::vector<Weight> weights = llama();
  write_model(folder / "llama", weights, llama_config);
  const auto kinds = [&](const std::string& name) {
    std::map<std::string, io::StoredWeight::Kind> result;
    const auto files = io::ModelFiles::open(folder / name);
    for (const io::StoredWeight& w : io::stored_weights(files)) result[w.name] = w.kind;
    return result;
  };
  using Kind = io::StoredWeight::Kind;
  works(folder, {"quantize", (folder / "llama").string(), (folder / "all").string(), "--rest", "bf16"});
  auto k = kinds("all");
  CHECK(k.size() == weights.size());
  for (const Weight& w : weights) CHECK((k.at(w.name) == Kind::four_bit) == holds(w.name, "_proj.weight"));
  // As the file holds them, [out, in], rounded to bfloat16 first.
  const auto files = io::ModelFiles::open(folder / "all");
  for (const Weight& w : weights)
    if (holds(w.name, "_proj.weight")) {
      Floats rounded;
      for (const float v : w.values) rounded.push_back(to_float(to_bfloat16(v)));
      const io::FourBitState state = io::read_four_bit(files, w.name);
      check_same(state.tensor, NF4Tensor<>::quantize(rounded.data(), w.shape[0], w.shape[1]));
      CHECK(state.dtype == "bfloat16");
    }
  CHECK(files.at("model.embed_tokens.weight").dtype == DType::BF16);

  works(folder,
        {"quantize", (folder / "llama").string(), (folder / "skip").string(), "--skip", "model.layers.0.*", "--skip", "*.q_proj"});
  k = kinds("skip");
  CHECK(k.at("model.layers.0.mlp.up_proj.weight") == Kind::plain);
  CHECK(k.at("model.layers.1.self_attn.q_proj.weight") == Kind::plain);
  CHECK(k.at("model.layers.1.mlp.up_proj.weight") == Kind::four_bit);
  CHECK(json_of(folder / "skip" / "config.json")["quantization_config"]["llm_int8_skip_modules"] ==
        io::Json::array({"lm_head", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj",
                         "model.layers.1.self_attn.q_proj"}));

  works(folder, {"quantize", (folder / "llama").string(), (folder / "only").string(), "--only", "lm_head", "--format", "llm_int8"});
  k = kinds("only");
  CHECK(std::count_if(k.begin(), k.end(), [](const auto& e) { return e.second != Kind::plain; }) == 1);
  CHECK(k.at("lm_head.weight") == Kind::llm_int8);

  // A file alone, without a config.
  write_model(folder / "bare", weights);
  works(folder, {"quantize", (folder / "bare" / "model.safetensors").string(), (folder / "bare-nf4").string()});
  CHECK_FALSE(fs::exists(folder / "bare-nf4" / "config.json"));
}

TEST_CASE("lowbit-quantize: inspect and verify say what is there") {
  const Folder folder;
  write_model(folder / "m", llama(), llama_config);
  works(folder, {"quantize", (folder / "m").string(), (folder / "q").string()});
  const Outcome table = run(folder, {"inspect", (folder / "q").string(), "--against", (folder / "m").string()});
  INFO(table.out << table.err);
  CHECK(table.code == 0);
  for (const char* word : {"[96, 64]", "nf4", "64, 8-bit scales", "SNR", "F32", "12 weights"}) CHECK(holds(table.out, word));
  const Outcome text = run(folder, {"inspect", (folder / "q").string(), "--against", (folder / "m").string(), "--json"});
  const io::Json json = io::parse_json(text.out, "inspect");
  for (const io::Json& w : json["weights"])
    if (w["format"] == "nf4") CHECK((w["snr_db"] > 18.0 && w["snr_db"] < 23.0));

  // One changed byte is found, and said where.
  fs::copy(folder / "q", folder / "changed");
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  std::string image = bytes_of(folder / "changed" / "model.safetensors");
  {
    const auto file = io::SafeTensors::open(folder / "changed" / "model.safetensors");
    const auto whole = file.tensors().front().data.data();
    const std::size_t data =
        image.size() - static_cast<std::size_t>(file.tensors().back().data.data() + file.tensors().back().data.size() - whole);
    image[data + static_cast<std::size_t>(file.at(name).data.data() - whole) + 5] ^= '\1';
  }
  put_file(folder / "changed" / "model.safetensors", image);
  const Outcome differs = run(folder, {"verify", (folder / "q").string(), (folder / "changed").string()});
  CHECK(differs.code == 3);
  CHECK(holds(differs.out, name + ": 1 of 3072 elements, the first at 5: 0x"));
  CHECK(holds(differs.out, "1 differ"));
  CHECK(run(folder, {"verify", (folder / "q").string(), (folder / "q").string(), "--json"}).code == 0);
}

TEST_CASE("lowbit-quantize: inspect and verify read GGUF files, beside folders too") {
  const Folder folder;
  const std::string q8 = (folder / "q8.gguf").string(), f32 = (folder / "f32.gguf").string();
  works(folder, {"gguf", mini(), q8});
  works(folder, {"gguf", mini(), f32, "--format", "f32"});
  const auto prints = [&](const Arguments& arguments, int code, std::initializer_list<const char*> words) {
    const Outcome o = run(folder, arguments);
    INFO(o.out << o.err);
    CHECK(o.code == code);
    for (const char* word : words) CHECK(holds(o.out + o.err, word));
  };
  prints({"inspect", q8}, 0, {"blk.0.attn_qkv.weight", "[768, 256]", "Q8_0", "208896", "8.500", "52 weights", "5322240 elements"});
  for (const Arguments& pair : {Arguments{q8, mini()}, {q8, f32}}) {
    const Outcome o = run(folder, {"inspect", pair[0], "--against", pair[1], "--json"});
    const io::Json json = io::parse_json(o.out, "inspect");
    std::size_t with_error = 0;
    for (const io::Json& w : json["weights"])
      if (w.contains("snr_db")) {
        CHECK((w["snr_db"] > 40.0 && w["snr_db"] < 50.0));
        ++with_error;
      }
    CHECK(with_error == 17);
  }

  // The same values in other types are the same.
  prints({"verify", f32, mini()}, 0, {"score.weight: not compared", "52 tensors are the same, 0 differ"});
  prints({"verify", mini(), f32, "--json"}, 0, {"\"not_compared\"", "score.weight"});
  prints({"verify", q8, mini()}, 3,
         {"blk.3.ffn_up.weight: Q8_0 against BF16: ", "of 262144 elements, the first at 0: ", " dB",
          "35 tensors are the same, 17 differ"});
  works(folder, {"quantize", mini(), (folder / "nf4").string()});
  works(folder, {"gguf", (folder / "nf4").string(), (folder / "nf4.gguf").string(), "--format", "f32"});
  prints({"verify", (folder / "nf4").string(), (folder / "nf4.gguf").string()}, 0, {"52 tensors are the same"});

  // A tied model that was saved inside another, by the other name of its embedding.
  const auto whole = io::ModelFiles::open(mini());
  std::vector<io::TensorToWrite> list;
  for (const std::string& name : whole.names())
    if (name != "score.weight") {
      const io::TensorView& t = whole.at(name);
      list.push_back({"module." + (holds(name, "wte") ? "lm_head.weight" : name), t.dtype, t.shape, t.data});
    }
  fs::create_directories(folder / "inside");
  io::write_safetensors(folder / "inside/model.safetensors", list);
  fs::copy(fs::path(mini()) / "config.json", folder / "inside");
  prints({"verify", (folder / "inside").string(), f32}, 0, {"52 tensors are the same"});

  // One code changed, one tensor renamed, one of another shape.
  std::string image = bytes_of(q8);
  std::size_t at = 0;
  {
    const io::Gguf file = io::Gguf::parse(lowbit_test::as_bytes(image), "q8");
    at = static_cast<std::size_t>(file.at("blk.1.ffn_down.weight").data.data() - reinterpret_cast<const std::byte*>(image.data()));
  }
  image[at + 34 * 2 + 2 + 7] ^= '\1';
  image.replace(image.find("output_norm.bias"), 16, "output_norm.bite");
  put_file(folder / "changed", image);
  prints({"verify", q8, (folder / "changed").string()}, 3,
         {"blk.1.ffn_down.weight: Q8_0 against Q8_0: 1 of 262144 elements, the first at 71: ", "output_norm.bias: only in A",
          "output_norm.bite: only in B", "50 tensors are the same, 3 differ"});

  // Types that lowbit does not decode.
  using lowbit_test::gguf::Image;
  Image k = lowbit_test::gguf::small();
  k.tensors.push_back({"k.weight", {256, 2}, 14, std::string(420, '\1'), 0});
  k.tensors.push_back({"experts", {32, 2, 2}, 8, std::string(136, '\1'), 0});
  put_file(folder / "k.gguf", k.bytes());
  const std::string mixed = (folder / "k.gguf").string();
  prints({"inspect", mixed}, 0, {"k.weight", "[2, 256]", "Q6_K", "256", "420", "6.562", "experts", "[2, 2, 32]", "4 weights"});
  prints({"verify", mixed, mixed}, 1, {"k.gguf: tensor \"experts\": expected a matrix or a vector"});
  k.tensors.pop_back();
  put_file(mixed, k.bytes());
  prints({"verify", mixed, mixed}, 1, {"k.gguf: tensor \"k.weight\"", "found Q6_K"});

  // What is no GGUF file, no GPT-2, or no folder.
  put_file(folder / "page.gguf", "<html>");
  prints({"inspect", (folder / "page.gguf").string()}, 1, {"page.gguf", "HTML page"});
  write_model(folder / "llama", llama(), llama_config);
  prints({"verify", (folder / "llama").string(), q8}, 1, {"llama/config.json", "model_type"});
  prints({"verify", mini() + "/model.safetensors", q8}, 1, {"is a file; expected the folder"});
}

TEST_CASE("lowbit-quantize: a GPT-2 becomes a GGUF file") {
  const Folder folder;
  const std::string out = (folder / "mini.gguf").string();
  works(folder, {"gguf", mini(), out});
  const std::string q8 = bytes_of(out);
  CHECK(gpt2::GgufParameters(out).file().at("blk.0.ffn_up.weight").type == 8);
  CHECK(gpt2::GgufParameters(out).file().keys().at("general.name") == "gpt2-mini-ag-news");
  const Outcome again = run(folder, {"gguf", mini(), out, "--format", "f16"});
  CHECK(again.code == 1);
  CHECK(holds(again.err, "--overwrite"));
  CHECK(bytes_of(out) == q8);
  put_file(folder / "notes", "mine");
  const Outcome other = run(folder, {"gguf", mini(), (folder / "notes").string(), "--overwrite"});
  CHECK(other.code == 1);
  CHECK(holds(other.err, "notes: expected a GGUF file to replace"));
  CHECK(bytes_of(folder / "notes") == "mine");
  works(folder, {"gguf", mini(), out, "--format", "f16", "--overwrite"});
  CHECK(gpt2::GgufParameters(out).file().at("blk.0.ffn_up.weight").type == 1);

  // A quantized folder is decoded first.
  works(folder, {"quantize", mini(), (folder / "nf4").string()});
  works(folder, {"gguf", (folder / "nf4").string(), (folder / "nf4.gguf").string(), "--format", "f32"});
  const Tensor a = gpt2::FolderParameters(folder / "nf4").linear("h.1.mlp.c_fc", 1024, 256),
               b = gpt2::GgufParameters(folder / "nf4.gguf").linear("h.1.mlp.c_fc", 1024, 256);
  Floats x(a.size()), y(b.size());
  a.dequantize(x.data());
  b.dequantize(y.data());
  CHECK(lowbit_test::bits_of(x) == lowbit_test::bits_of(y));

  write_model(folder / "llama", llama(), llama_config);
  const Outcome refused = run(folder, {"gguf", (folder / "llama").string(), (folder / "llama.gguf").string()});
  CHECK(refused.code == 1);
  CHECK(holds(refused.err, "config.json"));
  CHECK_FALSE(fs::exists(folder / "llama.gguf"));
  CHECK(run(folder, {"gguf", mini(), out, "--format", "q4_0"}).code == 2);

  // Added tokens go with it.
  fs::copy(mini(), folder / "more");
  fs::remove(folder / "more/vocab.json");
  io::Json vocabulary = json_of(fs::path(mini()) / "vocab.json");
  std::string last;
  for (const auto& [token, id] : vocabulary.items())
    if (id == 8191) last = token;
  vocabulary.erase(last);
  put_file(folder / "more/vocab.json", vocabulary.dump());
  // The merge that made it was the last one.
  std::string lines = bytes_of(fs::path(mini()) / "merges.txt");
  lines.resize(lines.find_last_of('\n', lines.size() - 2) + 1);
  put_file(folder / "more/merges.txt", lines);
  put_file(folder / "more/added_tokens.json", "{\"<x>\": 8191}");
  works(folder, {"gguf", (folder / "more").string(), (folder / "more.gguf").string()});
  const gpt2::Tokenizer added = gpt2::GgufParameters(folder / "more.gguf").tokenizer();
  CHECK(added.encode_with_added("a<x>") == gpt2::Tokenizer::load(folder / "more").encode_with_added("a<x>"));
  CHECK(added.encode_with_added("<x>") == std::vector<std::int32_t>{8191});
  put_file(folder / "more/added_tokens.json", "{\"<x>\": 8192}");
  const Outcome more = run(folder, {"gguf", (folder / "more").string(), (folder / "most.gguf").string()});
  CHECK(more.code == 1);
  CHECK(holds(more.err, "8192"));
  CHECK_FALSE(fs::exists(folder / "most.gguf"));
}

#if defined(__linux__)  // elsewhere names are text
TEST_CASE("lowbit-quantize: names that are no UTF-8 are shown as well as JSON can") {
  const Folder folder;
  for (const char* command : {"quantize", "gguf"}) {
    const fs::path out = folder / (std::string(command) + "\xE9");
    CHECK(holds(run(folder, {command, mini(), out.string(), "--json"}).out, "\"seconds\""));
    CHECK(fs::exists(out));
  }
  put_file(folder / "text\xE9", "Talks on the border go on\n");
  const Outcome o = run(folder, {"quantize", mini(), (folder / "out").string(), "--scales", "search", "--calibration",
                                 (folder / "text\xE9").string(), "--json"});
  CHECK(holds(o.out, "text\xEF\xBF\xBD\""));
}
#endif

TEST_CASE("lowbit-quantize: what cannot be done is said, and leaves nothing behind") {
  const Folder folder;
  std::vector<Weight> weights = llama();
  write_model(folder / "m", weights, llama_config);
  const std::string in = (folder / "m").string(), out = (folder / "out").string();
  const auto refused = [&](const Arguments& arguments, int code, std::initializer_list<const char*> words) {
    const Outcome o = run(folder, arguments);
    INFO(o.out << o.err);
    CHECK(o.code == code);
    for (const char* word : words) CHECK(holds(o.err, word));
    CHECK(o.err.starts_with("lowbit-quantize: "));
    CHECK_FALSE(fs::exists(folder / "out"));
    CHECK_FALSE(fs::exists(folder / "out.part0"));
  };
  refused({}, 2, {"subcommand"});
  refused({"quantize", in}, 2, {"OUT"});
  refused({"quantize", in, out, "--format", "q4"}, 2, {"--format", "q4"});
  refused({"quantize", in, out, "--block", "48"}, 2, {"--block", "48"});
  refused({"quantize", in, out, "--format", "int8", "--block", "64"}, 2, {"--block", "nf4"});
  refused({"quantize", in, out, "--shard-size", "many"}, 2, {"--shard-size", "many"});
  refused({"quantize", in, out, "--shard-size=-5"}, 2, {"--shard-size", "-5"});
  refused({"quantize", in, out, "--skip", "a", "--only", "b"}, 2, {"--only", "--skip"});
  refused({"quantize", (folder / "none").string(), out}, 1, {"none"});
  refused({"quantize", in, in}, 1, {"--overwrite"});
  refused({"quantize", in, in, "--overwrite"}, 1, {"another folder"});
  refused({"quantize", in, out, "--only", "nothing"}, 1, {"--only"});
  weights[4].values[70] = std::numeric_limits<float>::infinity();
  write_model(folder / "infinite", weights, llama_config);
  refused({"quantize", (folder / "infinite").string(), out}, 1, {weights[4].name.c_str(), "element [1, 6]"});
  weights[4].values[70] = 1e6f;
  write_model(folder / "large", weights, llama_config);
  refused({"quantize", (folder / "large").string(), out, "--format", "llm_int8"}, 1, {weights[4].name.c_str(), "row 1"});
  refused({"quantize", (folder / "large").string(), out, "--rest", "f16"}, 1, {weights[4].name.c_str(), "float16"});
  refused({"quantize", (folder / "large").string(), out, "--format", "f16"}, 1, {weights[4].name.c_str(), "float16; bf16 or f32"});
  for (const char* format : {"nf4", "int8"}) {
    works(folder, {"quantize", (folder / "large").string(), (folder / format).string(), "--format", format});
    refused({"dequantize", (folder / format).string(), out, "--format", "f16"}, 1, {weights[4].name.c_str(), "overflows float16"});
  }
  works(folder, {"quantize", in, (folder / "q").string()});
  refused({"quantize", (folder / "q").string(), out}, 1, {"quantized already"});
  const auto before = contents(folder / "q");
  refused({"quantize", in, (folder / "q").string()}, 1, {"--overwrite"});
  CHECK(contents(folder / "q") == before);
  put_file(folder / "q" / "notes.txt", "mine");
  works(folder, {"quantize", in, (folder / "q").string(), "--overwrite", "--shard-size", "10kB"});
  CHECK(bytes_of(folder / "q" / "notes.txt") == "mine");
  CHECK_FALSE(fs::exists(folder / "q" / "model.safetensors"));
  CHECK(run(folder, {"verify", in, (folder / "q").string()}).code == 3);

  for (const Arguments& a : {Arguments{"--help"}, {"quantize", "--help"}, {"verify", "--help"}, {"--version"}}) {
    const Outcome o = run(folder, a);
    CHECK(o.code == 0);
    CHECK(holds(o.out, "lowbit-quantize"));
  }
}

TEST_CASE("lowbit-quantize: what is not finite is refused where it is quantized or decoded, and said where it is copied") {
  const Folder folder;
  std::vector<Weight> weights = llama();
  weights[2].values[5] = std::numeric_limits<float>::quiet_NaN();  // a norm's
  write_model(folder / "m", weights, llama_config);
  const std::string in = (folder / "m").string();
  for (const Arguments& more : {Arguments{}, {"--rest", "bf16"}, {"--format", "f16"}}) {
    Arguments a = {"quantize", in, (folder / "q").string(), "--overwrite"};
    a.insert(a.end(), more.begin(), more.end());
    const Outcome o = run(folder, a);
    INFO(o.err);
    CHECK(o.code == 0);
    CHECK(holds(o.err, "warning: " + in));
    CHECK(holds(o.err, weights[2].name));
    CHECK(holds(o.err, "nan at element 5"));
  }
  weights[2].values[5] = 1;
  write_model(folder / "m", weights, llama_config);
  works(folder, {"quantize", in, (folder / "int8").string(), "--format", "int8"});
  const fs::path file = folder / "int8/model.safetensors";
  std::string bytes = bytes_of(file);
  {
    const auto tensors = io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
    const auto at = tensors.at("model.layers.1.self_attn.q_proj.weight_scale").data.data() + 7 * sizeof(float);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(bytes.data() + (at - reinterpret_cast<const std::byte*>(bytes.data())), &nan, sizeof nan);
  }
  put_file(file, bytes);
  const Outcome o = run(folder, {"dequantize", (folder / "int8").string(), (folder / "out").string()});
  INFO(o.err);
  CHECK(o.code == 1);
  CHECK(holds(o.err, "model.layers.1.self_attn.q_proj"));
  CHECK(holds(o.err, "found nan at element [7, 0]"));
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("lowbit-quantize: a head and an embedding that are quantized after all stay [out, in] in a GPT-2") {
  const Folder folder;
  const std::string out = (folder / "q").string();
  for (const char* format : {"nf4", "llm_int8", "int8"}) {
    CAPTURE(format);
    works(folder, {"quantize", mini(), out, "--only", "score", "--only", "*.wte", "--format", format, "--overwrite"});
    const gpt2::FolderParameters exact(mini()), quantized(out);
    CHECK(quantized.config().classes == 4);
    for (const auto& [name, rows] : {std::pair<const char*, std::size_t>{"score.weight", 4}, {"wte.weight", 8192}}) {
      const auto a = exact.floats(name, rows, 256), b = quantized.floats(name, rows, 256);
      const double snr = error_statistics(a.data(), b.data(), a.size()).snr_db;
      CHECK(snr > 15);
      CHECK(std::isfinite(snr));
    }
  }
}

TEST_CASE("lowbit-quantize: inputs of other kinds are named, pipes are read, more threads than processors are warned of") {
  const Folder folder;
  const std::string out = (folder / "q").string(), text = (folder / "text").string();
  const auto calibrated = [&](const std::string& file) {
    return Arguments{"quantize", mini(), out, "--scales", "search", "--calibration", file};
  };
  const auto refused = [&](const Arguments& arguments, const std::string& words) {
    const Outcome o = run(folder, arguments);
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, words));
    CHECK_FALSE(fs::exists(out));
  };
  put_file(text, std::string("\xFF\xFEO\0i\0l\0", 8));
  refused(calibrated(text), "text: expected UTF-8, found little-endian UTF-16");
  put_file(text, std::string("Oil\0prices", 10));
  refused(calibrated(text), "text: expected a text, found a zero at byte 3");
  refused({"gguf", mini() + "/model.safetensors", out}, "is a file; expected the folder");
  std::vector<std::string> a = {"-c", "echo Oil prices rose | \"$0\" \"$@\"", LOWBIT_QUANTIZE};
  for (const std::string& word : calibrated("/dev/stdin")) a.push_back(word);
  const std::string many = std::to_string(available_processors() + 1);
  a.insert(a.end(), {"--threads", many});
  const Outcome o = Process("/bin/sh", folder, a).wait();
  INFO(o.err);
  CHECK(o.code == 0);
  CHECK(holds(o.err, "warning: --threads " + many));
}

TEST_CASE("lowbit-quantize: a program that is killed at any time leaves the old model or the new one") {
  const Folder folder;
  const std::string out = (folder / "out").string();
  const auto arguments = [&](bool nf4) {
    return Arguments{"quantize", mini(), out, "--format", nf4 ? "nf4" : "int8", "--overwrite", "--shard-size", "2MB"};
  };
  works(folder, arguments(true));
  const auto nf4 = contents(out);
  const auto start = std::chrono::steady_clock::now();
  works(folder, arguments(false));
  const auto length = std::chrono::steady_clock::now() - start;
  const auto int8 = contents(out);
  const int rounds = lowbit_test::kills(8);
  lowbit_test::Random random(5);
  int of_nf4 = 0;
  for (int round = 0; round < rounds; ++round) {
    {
      Process process(LOWBIT_QUANTIZE, folder, arguments(round % 2 == 0));
      std::this_thread::sleep_for(length * random.uniform(0.0, 1.1));
      process.signal(SIGKILL);
      process.wait();
    }
    const auto left = contents(out);
    of_nf4 += left == nf4;
    CHECK((left == nf4 || left == int8));
  }
  std::cout << rounds << " kills, " << of_nf4 << " left the NF4 model\n";
  // The next run names what they left beside it, and removes nothing: it may be somebody's.
  put_file(folder / "out.part90" / "tensors.part", "half");
  put_file(folder / "out.part", "mine");
  std::vector<std::string> left;
  for (const std::string& name : lowbit_test::file_names(folder))
    if (name.starts_with("out.part") && name != "out.part") left.push_back(name);
  const Outcome next = run(folder, arguments(true));
  CHECK(next.code == 0);
  for (const std::string& name : left) {
    CAPTURE(name);
    CHECK(holds(next.err, name + ": left by a run that was killed"));
    CHECK(fs::exists(folder / name));
  }
  CHECK_FALSE(holds(next.err, "out.part:"));
  put_file(folder / "m.gguf.part0", "GGUF");
  const Outcome gguf = run(folder, {"gguf", mini(), (folder / "m.gguf").string()});
  CHECK(gguf.code == 0);
  CHECK(holds(gguf.err, "m.gguf.part0: left by a run that was killed"));
  CHECK(bytes_of(folder / "m.gguf.part0") == "GGUF");
}

TEST_CASE("lowbit-quantize: SIGTERM leaves the old model, or none, and nothing beside it") {
  const Folder folder;
  fs::create_directory(folder / "here");
  const std::string out = (folder / "here" / "out").string();
  const Arguments arguments{"quantize", mini(), out, "--overwrite"};
  const auto start = std::chrono::steady_clock::now();
  works(folder, arguments);
  const auto length = std::chrono::steady_clock::now() - start;
  const auto whole = contents(out);
  const int rounds = lowbit_test::kills(8);
  lowbit_test::Random random(6);
  int stopped = 0;
  for (int round = 0; round < rounds; ++round) {
    if (round % 3 == 0)
      fs::remove_all(out);
    else if (!fs::exists(out))
      works(folder, arguments);
    const bool existed = fs::exists(out);
    Outcome o;
    {
      Process process(LOWBIT_QUANTIZE, folder, arguments);
      std::this_thread::sleep_for(length * random.uniform(0.0, 1.1));
      process.signal(SIGTERM);
      o = process.wait();
    }
    INFO(o.code << ' ' << o.err);
    CHECK((o.code == 0 || o.code == 128 + SIGTERM || o.code == 1000 + SIGTERM));  // the last: it had not begun
    stopped += o.code != 0;
    if (fs::exists(out)) CHECK(contents(out) == whole);
    CHECK(fs::exists(out) == (existed || o.code == 0));
    for (const auto& entry : fs::directory_iterator(folder / "here")) CHECK(entry.path() == out);
  }
  CHECK(stopped != 0);
  std::cout << stopped << " of " << rounds << " runs stopped\n";
}

// ---- hidden --------------------------------------------------------------------------------------------------------------------

namespace {
// Unpacks golden/checkpoints/NAME.tar.xz into `folder`; false, with a word, where there is none.
bool unpack(const Folder& folder, const std::string& name) {
  const fs::path archive = testing::shared_dir() / "golden" / "checkpoints" / (name + ".tar.xz");
  if (testing::shared_dir().empty() || !fs::exists(archive)) {
    std::cout << "skipped: needs LOWBIT_SHARED_DIR (golden/checkpoints)\n";
    return false;
  }
  return std::system(("tar xJf '" + archive.string() + "' -C '" + folder.path().string() + "'").c_str()) == 0;
}
}  // namespace

TEST_CASE("lowbit-quantize: the mini model becomes what bitsandbytes made of it, byte for byte", "[.full]") {
  const Folder folder;
  const std::vector<std::pair<std::string, Arguments>> made{
      {"nf4-dq-f16", {"--rest", "f16"}},
      {"nf4-bf16-sharded", {"--rest", "bf16", "--plain-absmax", "--shard-size", "2MB"}},
      {"nf4-storage-bf16", {"--rest", "bf16", "--quant-storage", "bfloat16", "--compute-dtype", "bfloat16"}}};
  std::size_t offsets_off = 0, offsets = 0;
  for (const auto& [name, options] : made) {
    if (!unpack(folder, name)) return;
    INFO(name);
    Arguments a{"quantize", mini(), (folder / (name + "-ours")).string(), "--offsets-of", (folder / name).string()};
    a.insert(a.end(), options.begin(), options.end());
    works(folder, a);
    auto theirs = contents(folder / name), ours = contents(folder / (name + "-ours"));
    for (const auto& [file, content] : theirs)
      if (holds(file, "model")) CHECK((ours[file] == content));
    CHECK(json_of(folder / name / "config.json")["quantization_config"] ==
          json_of(folder / (name + "-ours") / "config.json")["quantization_config"]);

    // With an offset of its own: within 1 ulp.
    a[2] += "-alone";
    a.erase(a.begin() + 3, a.begin() + 5);
    works(folder, a);
    const auto x = io::ModelFiles::open(folder / name), y = io::ModelFiles::open(folder / (name + "-ours-alone"));
    for (const io::StoredWeight& w : io::stored_weights(x)) {
      if (w.kind != io::StoredWeight::Kind::four_bit) continue;
      const auto bits = [&](const io::TensorSource& s) {
        return static_cast<std::int64_t>(std::bit_cast<std::int32_t>(io::read_four_bit(s, w.name).tensor.parts().offset));
      };
      offsets_off += bits(x) != bits(y);
      offsets += io::read_four_bit(x, w.name).tensor.double_quantized() ? 1 : 0;
      CHECK(std::abs(bits(x) - bits(y)) <= 1);
    }
  }
  std::cout << "offsets of double quantization that differ from a GPU's by 1 ulp: " << offsets_off << " of " << offsets << '\n';
  CHECK(offsets_off * 4 < offsets);

  // LLM.int8(): equal scales; codes off by one where the GPU's quick division says so.
  REQUIRE(unpack(folder, "int8-f16"));
  works(folder, {"quantize", mini(), (folder / "int8").string(), "--format", "llm_int8", "--rest", "f16"});
  const auto x = io::ModelFiles::open(folder / "int8-f16"), y = io::ModelFiles::open(folder / "int8");
  CHECK(x.names() == y.names());
  std::size_t off = 0, codes = 0;
  int furthest = 0;
  for (const std::string& name : x.names()) {
    const auto a = x.at(name).data, b = y.at(name).data;
    INFO(name);
    REQUIRE(a.size() == b.size());
    if (x.at(name).dtype != DType::I8) CHECK(std::equal(a.begin(), a.end(), b.begin()));
    if (x.at(name).dtype == DType::I8)
      for (std::size_t i = 0; i < a.size(); ++i) {
        const int d = std::abs(static_cast<std::int8_t>(a[i]) - static_cast<std::int8_t>(b[i]));
        furthest = std::max(furthest, d);
        off += d != 0;
        ++codes;
      }
  }
  std::cout << "LLM.int8() codes that differ from a GPU's: " << off << " of " << codes << '\n';
  CHECK(furthest <= 1);
  CHECK(off * 5000 <= codes);
}

TEST_CASE("lowbit-quantize: llama.cpp's GGUF files are inspected and verified", "[.full]") {
  const Folder folder;
  const auto golden = [](const std::string& format) {
    return (testing::shared_dir() / "golden" / "gguf" / ("mini-" + format + ".gguf")).string();
  };
  if (testing::shared_dir().empty() || !fs::exists(golden("Q8_0"))) {
    std::cout << "skipped: needs LOWBIT_SHARED_DIR (golden/gguf)\n";
    return;
  }
  for (const std::string format : {"Q8_0", "Q4_0", "IQ4_NL"}) {
    INFO(format);
    const Outcome o = run(folder, {"inspect", golden(format), "--against", mini(), "--json"});
    REQUIRE(o.code == 0);
    const io::Json json = io::parse_json(o.out, "inspect");
    std::size_t of_format = 0;
    for (const io::Json& w : json["weights"]) {
      of_format += w["format"] == format;
      if (w["format"] != format) continue;
      CHECK(w["bits_per_weight"] == (format == "Q8_0" ? 8.5 : 4.5));
      CHECK(w["snr_db"] > (format == "Q8_0" ? 44.0 : format == "Q4_0" ? 20.0 : 21.0));
    }
    CHECK(of_format == 17);
    const Outcome differs = run(folder, {"verify", golden(format), mini()});
    CHECK(differs.code == 3);
    CHECK(holds(differs.out, "blk.0.attn_qkv.weight: " + format + " against BF16: "));
    CHECK(holds(differs.out, "35 tensors are the same, 17 differ"));
  }
  works(folder, {"gguf", mini(), (folder / "ours.gguf").string()});
  const Outcome same = run(folder, {"verify", golden("Q8_0"), (folder / "ours.gguf").string()});
  CHECK(same.code == 0);
  CHECK(holds(same.out, "52 tensors are the same, 0 differ"));
  CHECK(run(folder, {"verify", golden("Q4_0"), golden("IQ4_NL")}).code == 3);
}

TEST_CASE("folders that bitsandbytes wrote are read and saved again byte for byte", "[.full]") {
  const Folder folder;
  for (const std::string name : {"nf4-dq-f16", "nf4-bf16-sharded", "nf4-storage-bf16", "int8-f16"}) {
    if (!unpack(folder, name)) return;
    INFO(name);
    const auto files = io::ModelFiles::open(folder / name);
    std::list<Tensor> kept;  // whose tables must not move
    io::StateDict state;
    for (const io::StoredWeight& w : io::stored_weights(files)) {
      const io::TensorView& view = files.at(w.name);
      if (w.kind == io::StoredWeight::Kind::plain) {
        state.add(view.name, view.dtype, view.shape, view.data.data(), view.data.size());
      } else if (w.kind == io::StoredWeight::Kind::four_bit) {
        io::FourBitState s = io::read_four_bit(files, w.name);
        kept.push_back(std::move(s.tensor));
        io::add_four_bit(state, w.name, kept.back(), s.dtype, view.dtype);
      } else {
        kept.push_back(io::read_quantized(files, w));
        io::add_llm_int8(state, io::module_name(w.name), kept.back());
      }
    }
    std::map<std::string, io::TensorToWrite> written;
    for (const io::TensorToWrite& t : state.tensors) written.emplace(t.name, t);
    CHECK(written.size() == files.names().size());
    for (const io::SafeTensors& shard : files.shards()) {
      std::vector<io::TensorToWrite> list;
      for (const std::string& tensor : shard.names()) list.push_back(written.at(tensor));
      const std::vector<std::byte> image = io::serialize_safetensors(list, shard.metadata());
      const bool same = std::string(reinterpret_cast<const char*>(image.data()), image.size()) == bytes_of(shard.location());
      CHECK(same);
    }
  }
}

TEST_CASE("folders that bitsandbytes wrote give the classes and logits that transformers gave on a GPU", "[.full]") {
  const Folder folder;
  // Where the rest is 16 bits, transformers rounds every activation to it: these distances are its own.
  const std::vector<std::pair<std::string, double>> bounds{
      {"nf4-dq-f16", 0.0025}, {"nf4-bf16-sharded", 0.02}, {"nf4-storage-bf16", 0.02}, {"int8-f16", 0.04}};
  SerialExecutor serial;
  for (const auto& [name, bound] : bounds) {
    if (!unpack(folder, name)) return;
    INFO(name);
    const fs::path rows = testing::shared_dir() / "golden" / "checkpoints" / "rows.npz";
    REQUIRE(std::system(("python3 -m zipfile -e '" + rows.string() + "' '" + (folder / "rows").string() + "'").c_str()) == 0);
    const auto expected = lowbit_test::load_npy_as<float>((folder / name / "logits.npy").string());
    const auto numbers = lowbit_test::load_npy((folder / "rows" / "rows.npy").string());
    REQUIRE(numbers.size() == 190);
    gpt2::Transformer model;
    if (name == "int8-f16") {
      model = gpt2::Model<LlmInt8Tensor>::load(folder / name);
    } else {
      using Any = NF4Tensor<any_block_size, AnyAbsmax>;
      gpt2::ModelOptions<Any> o;
      o.linear.compute = Compute::f32;
      model = gpt2::Model<Any>::load(folder / name, o);
    }
    double furthest = 0;
    std::size_t other_class = 0;
    for (std::size_t i = 0; i < 190; ++i) {
      std::int64_t number = 0;
      const std::size_t width = numbers.bytes.size() / 190;
      std::memcpy(&number, numbers.bytes.data() + i * width, width);
      const auto row = lowbit_test::load_npy((folder / "rows" / ("r" + std::to_string(number) + ".npy")).string());
      std::vector<std::int32_t> ids(row.size());
      for (std::size_t t = 0; t < ids.size(); ++t)
        std::memcpy(&ids[t], row.bytes.data() + t * (row.bytes.size() / ids.size()),
                    std::min<std::size_t>(4, row.bytes.size() / ids.size()));
      const Floats logits = model.classify(ids, serial);
      for (std::size_t c = 0; c < 4; ++c)
        furthest = std::max(furthest, static_cast<double>(std::fabs(logits[c] - expected[i * 4 + c])));
      const auto best = [](const float* v) { return std::max_element(v, v + 4) - v; };
      other_class += best(logits.data()) != best(expected.data() + i * 4);
    }
    std::cout << name << ": " << furthest << " from transformers' logits at most, " << other_class << " of 190 classes differ\n";
    CHECK(furthest <= bound);
    CHECK(other_class <= 1);
  }
}

TEST_CASE("a mapped NF4 checkpoint opens in no time and takes the memory of what is touched", "[.full]") {
  // The linear layers of GPT-2 small, of zeros: 85 million weights.
  const Folder folder;
  std::string header = "{";
  std::vector<std::string> names;
  std::size_t end = 0;
  for (int layer = 0; layer < 12; ++layer)
    for (const auto& [name, out, in] : {std::tuple<const char*, std::size_t, std::size_t>{"c_attn", 2304, 768},
                                        {"c_proj", 768, 768},
                                        {"c_fc", 3072, 768},
                                        {"down", 768, 3072}}) {
      names.push_back("h." + std::to_string(layer) + "." + name + ".weight");
      header += (end == 0 ? "\"" : ",\"") + names.back() + "\":{\"dtype\":\"BF16\",\"shape\":[" + std::to_string(out) + "," +
                std::to_string(in) + "],\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + 2 * out * in) + "]}";
      end += 2 * out * in;
    }
  const std::string image = lowbit_test::image(header + "}", "");
  put_file(folder / "m" / "model.safetensors", image);
  fs::resize_file(folder / "m" / "model.safetensors", image.size() + end);
  works(folder, {"quantize", (folder / "m").string(), (folder / "q").string()});

  Floats x(3072, 1.0f), y(3072);
  const std::int64_t before = lowbit_test::resident_bytes();
  const auto began = std::chrono::steady_clock::now();
  const auto files = io::ModelFiles::open(folder / "q");
  std::vector<WeightsView> views;
  for (const std::string& name : names) views.push_back(io::view_four_bit(files, name));
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  const std::int64_t opened = lowbit_test::resident_bytes() - before;
  SerialExecutor serial;
  const auto multiply = [&](std::size_t i) {
    matmul(x.data(), 1, views[i], y.data(), {{.compute = Compute::f32}, {}, {.executor = &serial}});
  };
  multiply(1);  // what the library keeps for itself
  const std::int64_t first = lowbit_test::resident_bytes();
  multiply(4 * 6 + 2);  // 3072 x 768: 1.2 MB
  const std::int64_t touched = lowbit_test::resident_bytes() - first;
  std::cout << "NF4 checkpoint of " << end / 2 << " weights: open in " << ms << " ms, " << opened / 1024
            << " KiB resident; one layer: " << touched / 1024 << " KiB\n";
  CHECK(opened < 4'000'000);  // of 44 million
  CHECK(touched > 1'000'000);
  CHECK(touched < 2'500'000);
}

TEST_CASE("lowbit-quantize: a model of 4 GB passes through the memory of its largest tensor", "[.full]") {
  const Folder folder;
  // Sixteen matrices of 256 MB, of which the file holds nothing: zeros.
  constexpr std::size_t rows = 8192, cols = 16384, layers = 16, bytes = rows * cols * 2;
  std::string header = "{";
  for (std::size_t i = 0; i < layers; ++i)
    header += (i == 0 ? "" : ",") + std::string("\"layers.") + std::to_string(i) +
              ".up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[" + std::to_string(rows) + "," + std::to_string(cols) +
              "],\"data_offsets\":[" + std::to_string(i * bytes) + "," + std::to_string((i + 1) * bytes) + "]}";
  header += "}";
  fs::create_directories(folder / "large");
  {
    std::ofstream file(folder / "large" / "model.safetensors", std::ios::binary);
    const std::string image = lowbit_test::image(header, "");
    file << image;
    file.close();
    fs::resize_file(folder / "large" / "model.safetensors", image.size() + layers * bytes);
  }
  // What the program may allocate: the codes of a tensor (64 MB), its scales, and parts of rows.  Mapped files are not counted here.
  const Outcome o = Process("/bin/sh", folder,
                            {"-c", "ulimit -d 200000 && exec \"$0\" \"$@\"", LOWBIT_QUANTIZE, "quantize",
                             (folder / "large").string(), (folder / "out").string(), "--threads", "2"})
                        .wait();
  INFO(o.out << o.err);
  REQUIRE(o.code == 0);
  struct ::rusage usage {};
  REQUIRE(::getrusage(RUSAGE_CHILDREN, &usage) == 0);
  std::cout << "4 GB model: " << usage.ru_maxrss / 1024 << " MiB resident at most\n";
  CHECK(usage.ru_maxrss < 600 * 1024);
  CHECK(io::read_four_bit(io::ModelFiles::open(folder / "out"), "layers.3.up_proj.weight").tensor.rows() == rows);
}

}  // namespace quantize_test
