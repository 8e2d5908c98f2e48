// SPDX-License-Identifier: MIT
// GGUF files: keys and tensors, what the quantized types decode to, a GPT-2 with its tokenizer, written and read, and damaged ones;
// hidden, files that llama.cpp's own tools made.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/gpt2/gguf.hpp"
#include "lowbit/gpt2/gguf_writer.hpp"
#include "lowbit/gpt2/model.hpp"
#include "support/catch.hpp"
#include "support/gguf_image.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/npy.hpp"
#include "support/paths.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace gguf_test {

namespace io = lowbit::io;
namespace fs = std::filesystem;
using lowbit::FormatError;
using lowbit_test::as_bytes;
using lowbit_test::bits_of;
using lowbit_test::decoded;
using lowbit_test::Random;
using lowbit_test::unsaid;

namespace {

using Floats = std::vector<float>;

using namespace lowbit_test::gguf;

std::string refused(const std::function<void(Image&)>& bend, std::initializer_list<std::string_view> words) {
  Image i = small();
  bend(i);
  const std::string bytes = i.bytes();
  return unsaid<FormatError>([&] { io::Gguf::parse(as_bytes(bytes), "f.gguf"); }, words);
}

}  // namespace

TEST_CASE("GGUF: keys and tensors are read as they stand") {
  Image image = small();
  image.keys.push_back(key("f", 6, raw(0.5f)));
  image.keys.push_back(key("yes", 7, "\1"));
  image.keys.push_back(key("i", 1, raw(std::int8_t{-3})));
  image.keys.push_back(key("i16", 3, raw(std::int16_t{-300})));
  image.keys.push_back(key("i64", 11, raw(std::int64_t{-5'000'000'000})));
  image.keys.push_back(key("f64", 12, raw(0.1)));
  image.keys.push_back(key("deep", 9, u32(9) + u64(1) + u32(4) + u64(2) + u32(1) + u32(2)));
  const std::string bytes = image.bytes();
  const io::Gguf file = io::Gguf::parse(as_bytes(bytes), "f.gguf");
  CHECK(file.keys().at("general.architecture") == "gpt2");
  CHECK(file.keys().at("n") == 7);
  CHECK(file.keys().at("list") == io::Json::array({"a", "b"}));
  CHECK(file.keys().at("f") == 0.5);
  CHECK(file.keys().at("yes") == true);
  CHECK(file.keys().at("i") == -3);
  CHECK(file.keys().at("i16") == -300);
  CHECK(file.keys().at("i64") == -5'000'000'000);
  CHECK(file.keys().at("f64") == 0.1);
  CHECK(file.keys().at("deep").dump() == "[[1,2]]");
  CHECK(file.at("a").shape == std::vector<std::size_t>{3, 2});
  CHECK(file.at("b").data.size() == 68);
  CHECK(unsaid<FormatError>([&] { file.at("c"); }, {"f.gguf", "\"c\""}) == "");
}

TEST_CASE("GGUF: quantized types decode to d times the code, exactly") {
  Random random(7);
  constexpr std::array<int, 16> iq4_nl{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  Image image;
  Floats q8, q4, nl;
  std::string data8, data4;
  const std::size_t rows = 3, cols = 96;
  for (std::size_t b = 0; b < rows * cols / 32; ++b) {
    const lowbit::Float16 d = lowbit::to_float16(random.normal() * 0.01f);
    data8 += raw(d.bits);
    data4 += raw(d.bits);
    for (int j = 0; j < 32; ++j) {
      const auto code = static_cast<std::int8_t>(static_cast<int>(random.below(255)) - 127);
      data8 += static_cast<char>(code);
      q8.push_back(lowbit::to_float(d) * static_cast<float>(code));
    }
    std::array<unsigned, 32> codes;
    for (unsigned& c : codes) c = static_cast<unsigned>(random.below(16));
    for (std::size_t j = 0; j < 16; ++j) data4 += static_cast<char>(codes[j] | codes[j + 16] << 4);
    for (const unsigned c : codes) {
      q4.push_back(lowbit::to_float(d) * (static_cast<float>(c) - 8));
      nl.push_back(lowbit::to_float(d) * static_cast<float>(iq4_nl[c]));
    }
  }
  image.tensors = {{"q8", {cols, rows}, 8, data8, 0}, {"q4", {cols, rows}, 2, data4, 0}, {"nl", {cols, rows}, 20, data4, 0}};
  const std::string bytes = image.bytes();
  const io::Gguf file = io::Gguf::parse(as_bytes(bytes), "f");
  for (const auto& [name, expected] : {std::pair<const char*, const Floats&>{"q8", q8}, {"q4", q4}, {"nl", nl}}) {
    INFO(name);
    const lowbit::Tensor t = io::read_gguf(file.at(name));
    CHECK(t.rows() == rows);
    CHECK(t.cols() == cols);
    CHECK(t.block_size() == 32);
    CHECK(lowbit_test::comparable32(decoded(t)) == lowbit_test::comparable32(expected));  // 0 == -0

    // The kernels take them, in every compute type.
    const Floats x = random.normals(2 * cols);
    for (const auto compute : {lowbit::Compute::f32, lowbit::Compute::int8, lowbit::Compute::bf16}) {
      Floats y(2 * rows);
      lowbit::matmul(x.data(), 2, t, y.data(), {{.compute = compute}});
      for (std::size_t m = 0; m < 2; ++m)
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0, size = 0;
          for (std::size_t k = 0; k < cols; ++k) {
            const double term = static_cast<double>(x[m * cols + k]) * static_cast<double>(expected[r * cols + k]);
            sum += term;
            size += std::fabs(term);
          }
          // int8 rounds activations, and what it looks 4-bit codes up in, to 1/127 of their largest: 2 % of all terms is ample.
          CHECK(std::fabs(static_cast<double>(y[m * rows + r]) - sum) <= (compute == lowbit::Compute::f32 ? 1e-5 : 0.02) * size);
        }
    }
  }
}

TEST_CASE("GGUF: damaged files are refused, each with words of its own") {
  CHECK(refused([](Image&) {}, {}) == "nothing thrown");
  CHECK(refused([](Image& i) { i.magic = "GGML"; }, {"f.gguf", "begins with GGUF", "\"GGML\""}) == "");
  CHECK(refused([](Image& i) { i.magic = "<html><body>"; }, {"HTML page"}) == "");
  CHECK(refused([](Image& i) { i.magic = "version https://git-lfs.github.com/spec/v1\n"; }, {"git-LFS pointer"}) == "");
  CHECK(refused([](Image& i) { i.version = 1; }, {"version", "found 1"}) == "");
  CHECK(refused([](Image& i) { i.version = 0x03000000; }, {"version", "big-endian"}) == "");
  CHECK(refused([](Image& i) { i.more_tensors = 1; }, {"f.gguf"}) == "");
  CHECK(refused([](Image& i) { i.more_tensors = std::int64_t{1} << 60; }, {"number of tensors", "room for"}) == "");
  CHECK(refused([](Image& i) { i.more_tensors = -3; }, {"number of tensors"}) == "");
  CHECK(refused([](Image& i) { i.more_keys = std::int64_t{1} << 61; }, {"number of keys", "room for"}) == "");
  CHECK(refused([](Image& i) { i.more_keys = -4; }, {"number of keys"}) == "");
  CHECK(refused([](Image& i) { i.keys[1] = key("n", 13, u32(7)); }, {"\"n\"", "type", "found 13"}) == "");
  CHECK(refused([](Image& i) { i.keys[1] = key("n", 7, "\2"); }, {"\"n\"", "true (1) or false (0)", "found 2"}) == "");
  CHECK(refused([](Image& i) { i.keys[1] = key("", 4, u32(7)); }, {"key 1", "name"}) == "");
  CHECK(refused([](Image& i) { i.keys.push_back(i.keys[1]); }, {"\"n\"", "twice"}) == "");
  CHECK(refused([](Image& i) { i.keys[1] = key("n", 8, u64(std::uint64_t{1} << 62)); }, {"\"n\"", "length", "room for"}) == "");
  CHECK(refused([](Image& i) { i.keys[1] = u64(~std::uint64_t{0}); }, {"key 1", "length"}) == "");
  CHECK(refused([](Image& i) { i.keys[2] = key("list", 9, u32(8) + u64(std::uint64_t{1} << 40)); },
                {"\"list\"", "number of elements"}) == "");
  CHECK(refused([](Image& i) { i.keys[2] = key("list", 9, u32(0) + u64(std::uint64_t{1} << 63)); },
                {"\"list\"", "number of elements"}) == "");
  CHECK(refused([](Image& i) { i.keys[2] = key("list", 9, u32(99) + u64(1)); }, {"\"list\"", "type of elements", "found 99"}) ==
        "");
  CHECK(refused(
            [](Image& i) {
              std::string nested = u32(0) + u64(0);
              for (int d = 0; d < 5; ++d) nested = u32(9) + u64(1) + nested;
              i.keys[2] = key("list", 9, nested);
            },
            {"\"list\"", "more than 4 deep"}) == "");
  CHECK(refused([](Image& i) { i.keys.push_back(key("general.alignment", 4, u32(0))); },
                {"general.alignment", "power of two", "found 0"}) == "");
  CHECK(refused([](Image& i) { i.keys.push_back(key("general.alignment", 4, u32(48))); }, {"general.alignment", "found 48"}) == "");
  CHECK(refused([](Image& i) { i.keys.push_back(key("general.alignment", 8, text("32"))); }, {"general.alignment", "\"32\""}) ==
        "");
  CHECK(refused([](Image& i) { i.tensors[0].dimensions = {1, 1, 1, 1, 6}; }, {"\"a\"", "4 dimensions", "found 5"}) == "");
  CHECK(refused(
            [](Image& i) {
              i.tensors[0].dimensions = {std::uint64_t{1} << 32, std::uint64_t{1} << 32};
            },
            {"\"a\"", "fits in a size"}) == "");
  CHECK(refused([](Image& i) { i.tensors[0].dimensions = {2, ~std::uint64_t{0}}; }, {"\"a\"", "fits in a size"}) == "");
  CHECK(refused([](Image& i) { i.tensors[0].dimensions = {2, 300}; }, {"\"a\"", "expected 2400 bytes", "cut short"}) == "");
  CHECK(refused([](Image& i) { i.tensors[0].type = 4; }, {"\"a\"", "type", "number 4"}) == "");
  CHECK(refused([](Image& i) { i.tensors[0].type = 1000; }, {"\"a\"", "number 1000"}) == "");
  CHECK(refused([](Image& i) { i.tensors[0].type = 2; }, {"\"a\"", "whole blocks of 32", "Q4_0", "[3, 2]"}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].type = 14; }, {"\"b\"", "whole blocks of 256", "Q6_K"}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].name = "a"; }, {"\"a\"", "twice"}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].shift = 8; }, {"\"b\"", "multiple of 32", "found 40"}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].shift = 32; }, {"\"b\"", "68 bytes from offset 64"}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].shift = -32; }, {"\"b\"", "overlaps tensor \"a\""}) == "");
  CHECK(refused([](Image& i) { i.tensors[1].shift = std::int64_t{1} << 62; }, {"\"b\"", "bytes of data"}) == "");
  CHECK(refused([](Image& i) { i.cut = 1; }, {"\"b\"", "cut short"}) == "");
  for (const std::size_t length : lowbit_test::Sizes{0, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, 60, 90, 130, 170})
    CHECK(unsaid<FormatError>(
              [&] {
                const std::string bytes = small().bytes().substr(0, length);
                io::Gguf::parse(as_bytes(bytes), "f.gguf");
              },
              {"f.gguf"}) == "");

  // Whole files whose tensors are of another kind.
  Image image = small();
  image.tensors = {{"k", {256}, 14, std::string(210, '\1'), 0},
                   {"three", {1, 1, 2}, 0, std::string(8, '\0'), 0},
                   {"edge", {32}, 8, std::string(33, '\0') + '\x80', 0}};
  const std::string bytes = image.bytes();
  const io::Gguf file = io::Gguf::parse(as_bytes(bytes), "f.gguf");
  CHECK(unsaid<FormatError>([&] { io::read_gguf(file.at("k")); }, {"f.gguf", "\"k\"", "IQ4_NL", "found Q6_K"}) == "");
  CHECK(unsaid<FormatError>([&] { io::read_gguf(file.at("three")); }, {"\"three\"", "matrix", "[2, 1, 1]"}) == "");
  CHECK(unsaid<FormatError>([&] { io::read_gguf(file.at("edge")); }, {"\"edge\"", "-128"}) == "");
}

TEST_CASE("GGUF: random damage is refused or gives a file that can be read") {
  Random random(8);
  const std::string whole = small().bytes();
  std::size_t refusals = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string bytes = whole;
    for (std::size_t n = 1 + random.below(4); n > 0; --n) bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    if (random.below(4) == 0) bytes.resize(random.below(bytes.size()));
    try {
      const io::Gguf file = io::Gguf::parse(as_bytes(bytes), "f.gguf");
      for (const io::GgufTensor& t : file.tensors()) decoded(io::read_gguf(t));
    } catch (const FormatError& error) {
      ++refusals;
      if (!std::string_view(error.what()).starts_with("f.gguf: ")) FAIL("no file in: " << error.what());
    }
  }
  CHECK(refusals > 1000);
  CHECK(refusals < 4000);
}

// ---- writing -------------------------------------------------------------------------------------------------------------------

namespace {
fs::path mini() { return lowbit::testing::assets_dir() / "gpt2-mini-ag-news"; }

// One block by ggml's rule, in its words.
std::string q8_0(const float* x) {
  float amax = 0;
  for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(x[i]));
  const float d = amax / 127, id = d != 0 ? 1 / d : 0;
  std::string bytes = raw(lowbit::to_float16(d).bits);
  for (int i = 0; i < 32; ++i) {
    volatile float v = x[i] * id;
    bytes += static_cast<char>(std::lround(v));
  }
  return bytes;
}
std::string encoded(io::GgufType type, const Floats& x) {
  std::string bytes(io::gguf_bytes(type, x.size()), '\0');
  REQUIRE(io::encode_gguf(type, x, reinterpret_cast<std::byte*>(bytes.data())) == x.size());
  return bytes;
}
}  // namespace

TEST_CASE("GGUF: Q8_0 is written by ggml's rule") {
  Random random(9);
  for (int i = 0; i < 300; ++i) {
    Floats x = random.normals(32);
    for (float& v : x) v *= std::exp2f(static_cast<float>(i % 60) - 50);
    // Halves, which go away from zero, and what is just below them.
    if (i % 3 == 0) {
      x[0] = 127;
      for (std::size_t j = 1; j < 32; ++j) {
        x[j] = static_cast<float>(static_cast<int>(random.below(254)) - 127) + 0.5f;
        if (j % 2 == 0) x[j] = std::nextafterf(x[j], 0.0f);
      }
    }
    CHECK(encoded(io::GgufType::q8_0, x) == q8_0(x.data()));
  }
  CHECK(encoded(io::GgufType::q8_0, Floats(32)) == std::string(34, '\0'));
  CHECK(encoded(io::GgufType::q8_0, Floats(32, 1e-39f)) == std::string(34, '\0'));
  Floats bad(64, 1.0f);
  std::string bytes(256, '\0');
  auto* out = reinterpret_cast<std::byte*>(bytes.data());
  for (const float v : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::quiet_NaN(), 1e7f}) {
    bad[40] = v;
    CHECK(io::encode_gguf(io::GgufType::q8_0, bad, out) == 40);
    CHECK(io::encode_gguf(io::GgufType::f16, bad, out) == 40);
    CHECK(io::encode_gguf(io::GgufType::f32, bad, out) == (v == 1e7f ? std::size_t{64} : std::size_t{40}));
  }
}

TEST_CASE("GGUF: what is written is read back, or nothing is written") {
  const lowbit_test::Folder folder;
  const fs::path path = folder / "f.gguf";
  io::GgufKeys keys;
  keys.add("text", "a\xC3\xA4");
  keys.add("number", std::uint32_t{7});
  keys.add("float", 0.5f);
  keys.add("yes", true);
  keys.add("texts", std::vector<std::string>{"", "b"});
  keys.add("numbers", std::vector<std::int32_t>{-1, 2});
  const std::vector<io::GgufTensorToWrite> tensors{
      {"odd", io::GgufType::f16, {3, 5}}, {"q", io::GgufType::q8_0, {4, 64}}, {"v", io::GgufType::f32, {7}}};
  Random random(10);
  std::vector<Floats> values{random.normals(15), random.normals(256), random.normals(7)};
  const auto write = [&] {
    io::write_gguf(path, keys, tensors, [&](std::size_t i, const io::GgufRows& rows) {
      const std::size_t row = tensors[i].shape.back();
      for (std::size_t at = 0; at < values[i].size(); at += row)
        rows({values[i].data() + at, std::min(row, values[i].size() - at)});
    });
  };
  write();
  {
    const io::Gguf file = io::Gguf::open(path);
    CHECK(file.keys().at("text") == "a\xC3\xA4");
    CHECK(file.keys().at("number") == 7);
    CHECK(file.keys().at("float") == 0.5);
    CHECK(file.keys().at("yes") == true);
    CHECK(file.keys().at("texts") == io::Json::array({"", "b"}));
    CHECK(file.keys().at("numbers") == io::Json::array({-1, 2}));
    for (std::size_t i = 0; i < 3; ++i) {
      const io::GgufTensor& t = file.at(tensors[i].name);
      CHECK(t.shape == tensors[i].shape);
      CHECK(std::string(reinterpret_cast<const char*>(t.data.data()), t.data.size()) == encoded(tensors[i].type, values[i]));
    }
  }
  const std::string before = lowbit_test::read_bytes(path.string());
  const auto refused_to_write = [&](std::initializer_list<std::string_view> words) {
    CHECK(unsaid<lowbit::InvalidArgument>(write, words) == "");
    CHECK(lowbit_test::read_bytes(path.string()) == before);
    CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  };
  values[0][8] = 70000;
  refused_to_write({"f.gguf", "\"odd\"", "element 8", "float16"});
  values[0][8] = 0;
  values[1].push_back(1);
  refused_to_write({"\"q\"", "whole rows", "[4, 64]", "1 values after 256"});
  values[1].resize(192);
  refused_to_write({"\"q\"", "expected 256 values, found 192"});
  for (const std::vector<std::size_t>& shape : {std::vector<std::size_t>{4, 0}, {0, 32}, {}, {1, 1, 1, 1, 32}, {1, 33}}) {
    const io::GgufTensorToWrite bad{"bad", io::GgufType::q8_0, shape};
    const auto none = [&] { io::write_gguf(path, keys, {&bad, 1}, [](std::size_t, const io::GgufRows& rows) { rows({}); }); };
    CHECK(unsaid<lowbit::InvalidArgument>(none, {"f.gguf", "\"bad\"", "1 to 4 dimensions of 1 and more"}) == "");
  }
  // A size, and an offset, beyond what a size holds.
  const std::size_t half = SIZE_MAX / 8 + 1;
  for (const std::size_t n : {SIZE_MAX / 2, half}) {
    const io::GgufTensorToWrite large[] = {
        {"a", io::GgufType::f32, {n}}, {"b", io::GgufType::f32, {n}}, {"c", io::GgufType::f32, {n}}};
    const auto none = [&] { io::write_gguf(path, keys, large, [](std::size_t, const io::GgufRows&) {}); };
    CHECK(unsaid<lowbit::InvalidArgument>(none, {"f.gguf", n == half ? "\"b\"" : "\"a\"", "does not fit in a size"}) == "");
  }
  CHECK(lowbit_test::read_bytes(path.string()) == before);
}

TEST_CASE("GGUF: the small model is written, and runs as its folder does") {
  const lowbit_test::Folder folder;
  const lowbit::gpt2::FolderParameters source(mini());
  const auto tokenizer = lowbit::gpt2::TokenizerFiles::read(mini());
  lowbit::SerialExecutor serial;
  using Dense = lowbit::DenseTensor<float>;
  lowbit::gpt2::ModelOptions<Dense> exact;
  exact.linear.compute = lowbit::Compute::f32;
  const auto logits_of = [&](const lowbit::gpt2::ParameterSource& s) {
    const lowbit::gpt2::Model<Dense> model(s, exact);
    const std::vector<std::int32_t> ids = lowbit::gpt2::Tokenizer::load(mini()).encode("Stocks rise as oil falls to a new low");
    const std::array<std::size_t, 2> offsets{0, ids.size()};
    Floats logits(ids.size() * s.config().vocab);
    model.language_logits(ids, offsets, logits, serial);
    return logits;
  };
  const Floats expected = logits_of(source);
  for (const auto type : {io::GgufType::f32, io::GgufType::f16, io::GgufType::q8_0}) {
    CAPTURE(static_cast<int>(type));
    const fs::path path = folder / "mini.gguf";
    std::size_t watched = 0;
    lowbit::gpt2::write_gguf(path, source, tokenizer, type, "mini", [&](std::size_t i, std::size_t n) {
      CHECK(i == watched++);
      CHECK(n == 52);
    });
    CHECK(watched == 52);
    const lowbit::gpt2::GgufParameters back(path);
    CHECK(back.config().classes == 0);
    CHECK_FALSE(back.contains("score.weight"));
    for (const char* text : {"Stocks rise <|endoftext|> \xC3\xA4\xFF", "  two  spaces\n"})
      CHECK(back.tokenizer().encode(text) == lowbit::gpt2::Tokenizer::load(mini()).encode(text));
    const Floats found = logits_of(back);
    double furthest = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
      furthest = std::max(furthest, static_cast<double>(std::fabs(found[i] - expected[i])));
    // bfloat16 weights are exact in both but for the smallest, which float16 rounds.
    CHECK(furthest <= (type == io::GgufType::f32 ? 0 : type == io::GgufType::f16 ? 1e-4 : 0.2));
  }
  CHECK(unsaid<std::runtime_error>(
            [&] {
              lowbit::gpt2::write_gguf(folder / "other.gguf", source, tokenizer, io::GgufType::f16, "mini",
                                       [](std::size_t i, std::size_t) {
                                         if (i == 3) throw std::runtime_error("enough");
                                       });
            },
            {"enough"}) == "");
  CHECK_FALSE(fs::exists(folder / "other.gguf"));
  // What llama.cpp has no GPT-2 with.
  fs::copy(mini(), folder / "relu");
  io::Json config = io::parse_json(io::read_text(mini() / "config.json"), "config.json");
  config["activation_function"] = "relu";
  lowbit_test::put_file(folder / "relu" / "config.json", config.dump());
  CHECK(unsaid<lowbit::InvalidArgument>(
            [&] {
              lowbit::gpt2::write_gguf(folder / "other.gguf", lowbit::gpt2::FolderParameters(folder / "relu"), tokenizer,
                                       io::GgufType::f16, "mini");
            },
            {"mini", "expected the activation gelu_new"}) == "");
  // A weight of [in, out] where [out, in] is due: the two sizes change places behind the tensor's name.
  lowbit::gpt2::write_gguf(folder / "swapped.gguf", source, tokenizer, io::GgufType::f16, "mini");
  std::string bytes = io::read_text(folder / "swapped.gguf");
  const std::string weight = "blk.1.ffn_up.weight";
  const std::size_t sizes = bytes.find(weight) + weight.size() + sizeof(std::uint32_t);
  std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(sizes), bytes.begin() + static_cast<std::ptrdiff_t>(sizes + 8),
                   bytes.begin() + static_cast<std::ptrdiff_t>(sizes + 8));
  lowbit_test::put_file(folder / "swapped.gguf", bytes);
  CHECK(unsaid<FormatError>([&] { lowbit::gpt2::Model<Dense>(lowbit::gpt2::GgufParameters(folder / "swapped.gguf"), exact); },
                            {"swapped.gguf", weight, "expected shape"}) == "");
  lowbit::gpt2::TokenizerFiles large = tokenizer;
  large.vocab_json.insert(large.vocab_json.rfind('}'), ",\"another\":9000");
  CHECK(unsaid<FormatError>([&] { lowbit::gpt2::write_gguf(folder / "other.gguf", source, large, io::GgufType::f16, "mini"); },
                            {"mini", "9000"}) == "");
}

TEST_CASE("GGUF: added tokens are written with their types, and read back to the same tokenization") {
  using lowbit::gpt2::Tokenizer;
  using lowbit::gpt2::TokenizerFiles;
  const lowbit_test::Folder folder;
  fs::create_directories(folder / "m");
  const TokenizerFiles plain = TokenizerFiles::read(mini());
  plain.write_into(folder / "m");
  const auto section = [&](std::size_t vocab) {
    io::GgufKeys keys;
    lowbit::gpt2::detail::add_tokenizer(keys, TokenizerFiles::read(folder / "m"), vocab, "m");
    // A model of one float an embedding: what GgufParameters asks for.
    for (const auto& [key, value] : {std::pair<const char*, std::uint32_t>{"gpt2.block_count", 1},
                                     {"gpt2.embedding_length", 1},
                                     {"gpt2.context_length", 1},
                                     {"gpt2.attention.head_count", 1},
                                     {"gpt2.feed_forward_length", 1}})
      keys.add(key, value);
    keys.add("general.architecture", "gpt2");
    const Floats values(vocab);
    const io::GgufTensorToWrite embedding{"token_embd.weight", io::GgufType::f32, {vocab, 1}};
    io::write_gguf(folder / "m.gguf", keys, {&embedding, 1}, [&](std::size_t, const io::GgufRows& rows) { rows(values); });
    return lowbit::gpt2::GgufParameters(folder / "m.gguf");
  };
  const auto check = [&](const lowbit::gpt2::GgufParameters& file) {
    const Tokenizer expected = Tokenizer::load(folder / "m"), found = file.tokenizer();
    for (const char* text : {"<pad> Stocks <|endoftext|>rise\xC3\xA9 <p\xC3\xA9"
                             "d> n\xC3\xA9<|user|>two words",
                             "\xE2\x96\x81", "  plain\n\xFF"}) {
      CHECK(found.encode(text) == expected.encode(text));
      const auto ids = expected.encode_with_added(text);
      CHECK(found.encode_with_added(text) == ids);
      CHECK(found.decode(ids) == text);
      CHECK(expected.decode(ids) == text);
    }
  };
  const auto type = [](const lowbit::gpt2::GgufParameters& file, std::size_t id) {
    return file.file().keys().at("tokenizer.ggml.token_type")[id].get<int>();
  };
  const auto token = [](const lowbit::gpt2::GgufParameters& file, std::size_t id) {
    return file.file().keys().at("tokenizer.ggml.tokens")[id].get<std::string>();
  };
  constexpr int normal = 1, control = 3, user_defined = 4, unused = 5;

  // added_tokens.json says that they are there, tokenizer_config.json what they are, and one more.
  const auto put = [&](const char* name, const std::string& text) { lowbit_test::put_file(folder / "m" / name, text); };
  put("added_tokens.json",
      "{\"<p\xC3\xA9"
      "d>\": 8192, \"n\xC3\xA9\": 8193, \"<|user|>\": 8194, \"two words\": 8196}");
  put("tokenizer_config.json", R"({"model_max_length": 1e30, "added_tokens_decoder":
      {"0": {"content": "<|endoftext|>", "special": true}, "8192": {"content": "<p\u00e9d>", "special": true},
       "8193": {"content": "n\u00e9", "special": false}, "8197": {"content": "<pad>"}}})");
  {
    const auto file = section(8200);
    check(file);
    CHECK(type(file, 0) == control);
    CHECK(type(file, 1) == normal);
    for (const auto& [id, text, expected] : {std::tuple<std::size_t, const char*, int>{8192,
                                                                                       "<p\xC3\xA9"
                                                                                       "d>",
                                                                                       control},
                                             {8193, "n\xC3\xA9", user_defined},
                                             {8194, "<|user|>", control},
                                             {8195, "[PAD8195]", unused},
                                             {8196, "two words", user_defined},
                                             {8197, "<pad>", control},
                                             {8199, "[PAD8199]", unused}}) {
      CHECK(token(file, id) == text);
      CHECK(type(file, id) == expected);
    }
  }
  // Written and read as files, the same again.
  TokenizerFiles::read(folder / "m").write(folder / "again");
  CHECK(Tokenizer::load(folder / "again").encode_with_added("<pad>two words<|user|>") ==
        Tokenizer::load(folder / "m").encode_with_added("<pad>two words<|user|>"));

  // A tokenizer.json alone.
  io::Json whole = {{"added_tokens",
                     {{{"id", 0}, {"content", "<|endoftext|>"}, {"special", true}},
                      {{"id", 8192}, {"content", "n\xC3\xA9"}, {"special", true}},
                      {{"id", 8193}, {"content", "two words"}, {"special", false}}}},
                    {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                    {"model", {{"type", "BPE"}, {"vocab", io::parse_json(plain.vocab_json, "v")}, {"merges", io::Json::array()}}}};
  for (std::size_t at = plain.merges.find('\n') + 1, end; (end = plain.merges.find('\n', at)) != std::string::npos; at = end + 1)
    whole["model"]["merges"].push_back(plain.merges.substr(at, end - at));
  for (const char* name : {"vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"})
    fs::remove(folder / "m" / name);
  put("tokenizer.json", whole.dump());
  {
    const auto file = section(8194);
    check(file);
    CHECK(type(file, 8192) == control);
    CHECK(type(file, 8193) == user_defined);
  }

  // What GGUF cannot say, and what nobody can read.
  const auto refused = [&](const char* name, const std::string& text, std::initializer_list<std::string_view> words) {
    put(name, text);
    CHECK(unsaid<FormatError>([&] { section(8200); }, words) == "");
    fs::remove(folder / "m" / name);
  };
  refused("added_tokens.json", "{\"two words\": 8195}", {"m: id 8195", "\"two words\" again"});
  refused("added_tokens.json", "{\"three words\": 8193}", {"8193", "given to two tokens"});
  refused("added_tokens.json", "{\"\xC3\xA9\": 8195}", {"m: id 8195", "\"\xC3\xA9\" again"});  // how the byte E9 is spelled
  refused("added_tokens.json", "{\"far\": 8200}", {"8200"});
  refused("tokenizer_config.json", R"({"added_tokens_decoder": []})", {"tokenizer_config.json: added_tokens_decoder", "array"});
  for (const char* bad :
       {R"({"-1": {"content": "x"}})", R"({"1 ": {"content": "x"}})", R"({"9": "x"})", R"({"9": {"content": 9}})"})
    refused("tokenizer_config.json", std::string(R"({"added_tokens_decoder": )") + bad + "}",
            {"added_tokens_decoder", "expected an id of an object with content"});
}

// ---- against llama.cpp ---------------------------------------------------------------------------------------------------------

namespace {

fs::path golden(const std::string& name) {
  const fs::path path = lowbit::testing::shared_dir() / "golden" / "gguf" / name;
  if (!lowbit::testing::shared_dir().empty() && fs::exists(path)) return path;
  std::cout << "skipped: needs LOWBIT_SHARED_DIR (golden/gguf)\n";
  return {};
}
std::string sha256(const Floats& values) {
  const std::string file = "gguf_test_values";
  lowbit_test::put_file(fs::current_path() / file, {reinterpret_cast<const char*>(values.data()), values.size() * 4});
  std::FILE* pipe = ::popen(("sha256sum " + file).c_str(), "r");
  std::array<char, 65> digest{};
  const std::size_t got = std::fread(digest.data(), 1, 64, pipe);
  ::pclose(pipe);
  fs::remove(file);
  return {digest.data(), got};
}

}  // namespace

TEST_CASE("GGUF: llama.cpp's files decode to its values, and compute its logits", "[.full]") {
  const fs::path list = golden("dequant.json");
  if (list.empty()) return;
  const auto dequant = nlohmann::json::parse(lowbit_test::read_bytes(list.string()));
  const lowbit_test::Folder folder;
  REQUIRE(std::system(
              ("python3 -m zipfile -e '" + golden("reference.npz").string() + "' '" + folder.path().string() + "'").c_str()) == 0);
  const auto prompts = lowbit_test::load_npy((folder / "prompts.npy").string());
  REQUIRE(prompts.shape == std::vector<std::size_t>{6, 40});
  std::vector<std::int32_t> ids(240);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::size_t width = prompts.bytes.size() / 240;
    std::memcpy(&ids[i], prompts.bytes.data() + i * width, std::min<std::size_t>(4, width));
  }
  const auto tokens = nlohmann::json::parse(lowbit_test::read_bytes(golden("tokens.json").string()));
  lowbit::SerialExecutor serial;
  for (const std::string format : {"Q8_0", "Q4_0", "IQ4_NL"}) {
    INFO(format);
    const lowbit::gpt2::GgufParameters source(golden("mini-" + format + ".gguf"));
    std::size_t compared = 0;
    for (const auto& [name, expected] : dequant.at(format).items()) {
      INFO(name);
      const io::GgufTensor& t = source.file().at(name);
      CHECK(t.shape == expected[1].get<std::vector<std::size_t>>());
      Floats values = decoded(io::read_gguf(t));
      CHECK(sha256(values) == expected[2].get<std::string>());
      ++compared;
    }
    CHECK(compared == 52);

    const lowbit::gpt2::Tokenizer tokenizer = source.tokenizer();
    for (const auto& entry : tokens)
      CHECK(tokenizer.encode(entry.at("text").get<std::string>()) == entry.at("tokens").get<std::vector<std::int32_t>>());

    // llama.cpp rounds activations to int8 in blocks; its own distance from the exact logits is up to 0.10 at the last position.
    const Floats expected = lowbit_test::load_npy_as<float>((folder / (format + ".last.npy")).string());
    const std::size_t vocab = source.config().vocab;
    lowbit::gpt2::ModelOptions<lowbit::DenseTensor<float>> exact;
    exact.linear.compute = lowbit::Compute::f32;
    const lowbit::gpt2::Model<lowbit::DenseTensor<float>> decoded_model(source, exact);
    const auto check = [&](const lowbit::gpt2::Transformer& model, double tolerance) {
      double furthest = 0;
      for (std::size_t row = 0; row < 6; ++row) {
        const std::array<std::size_t, 2> offsets{0, 40};
        Floats logits(40 * vocab);
        model.language_logits({ids.data() + row * 40, 40}, offsets, logits, serial);
        const float* last = logits.data() + 39 * vocab;
        for (std::size_t v = 0; v < vocab; ++v)
          furthest = std::max(furthest, static_cast<double>(std::fabs(last[v] - expected[row * vocab + v])));
        CHECK(std::max_element(last, last + vocab) - last ==
              std::max_element(expected.begin() + static_cast<std::ptrdiff_t>(row * vocab),
                               expected.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocab)) -
                  (expected.begin() + static_cast<std::ptrdiff_t>(row * vocab)));
      }
      std::cout << format << ": " << furthest << " from llama.cpp's logits at most\n";
      CHECK(furthest <= tolerance);
    };
    check(decoded_model, 0.11);
    // The codes as they are, on the packed kernels: the same numbers.
    if (format == "Q8_0") {
      lowbit::gpt2::ModelOptions<lowbit::Int8Tensor<lowbit::Blockwise<32>>> o;
      o.linear.compute = lowbit::Compute::f32;
      check(lowbit::gpt2::Model<lowbit::Int8Tensor<lowbit::Blockwise<32>>>(source, o), 0.11);
    } else {
      using Any = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;
      lowbit::gpt2::ModelOptions<Any> o;
      o.linear.compute = lowbit::Compute::f32;
      const lowbit::gpt2::Model<Any> model(source, o);
      CHECK(model.plans()[0].format == lowbit::Format::nf4);
      check(model, 0.11);
    }
  }
}

TEST_CASE("GGUF: Q8_0 is written as llama.cpp's own quantizer writes it, byte for byte", "[.full]") {
  const fs::path theirs_path = golden("mini-Q8_0.gguf");
  if (theirs_path.empty()) return;
  const lowbit_test::Folder folder;
  lowbit::gpt2::write_gguf(folder / "mini.gguf", lowbit::gpt2::FolderParameters(mini()), lowbit::gpt2::TokenizerFiles::read(mini()),
                           io::GgufType::q8_0, "gpt2-mini");
  const io::Gguf theirs = io::Gguf::open(theirs_path), ours = io::Gguf::open(folder / "mini.gguf");
  CHECK(ours.keys() == theirs.keys());
  REQUIRE(ours.tensors().size() == theirs.tensors().size());
  for (const io::GgufTensor& t : theirs.tensors()) {
    INFO(t.name);
    const io::GgufTensor& o = ours.at(t.name);
    CHECK(o.type == t.type);
    CHECK(o.shape == t.shape);
    CHECK(std::equal(o.data.begin(), o.data.end(), t.data.begin(), t.data.end()));
  }
}

}  // namespace gguf_test
