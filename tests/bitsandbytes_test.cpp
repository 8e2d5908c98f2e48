// SPDX-License-Identifier: MIT
// bitsandbytes' state dict: read, decoded, written back byte for byte; the forms that real files come in; damaged ones.  Hidden,
// with the full-size model: what quantize() stores against what bitsandbytes stored on a GPU.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/io/bitsandbytes.hpp"
#include "lowbit/io/bitsandbytes_writer.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/matmul.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace bitsandbytes_test {

namespace io = lowbit::io;
using io::DType;
using lowbit::FormatError;
using lowbit::InvalidArgument;
using lowbit_test::bits_of;
using lowbit_test::data_path;
using lowbit_test::decoded;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::unsaid;

namespace {

using Floats = std::vector<float>;

const std::string nested_weight = "layer.nested.weight", plain_weight = "layer.plain.weight", fp4_weight = "layer.fp4.weight";
const std::string state_suffix = ".quant_state.bitsandbytes__nf4";

// A checkpoint whose tensors may be changed, and that can be read again.
struct Checkpoint {
  struct Entry {
    std::string name;
    DType dtype;
    std::vector<std::size_t> shape;
    std::string bytes;
  };
  std::vector<Entry> entries;

  static Checkpoint open(const std::string& name) {
    const auto file = io::SafeTensors::open(data_path("model/" + name));
    Checkpoint c;
    for (const io::TensorView& t : file.tensors())
      c.entries.push_back({t.name, t.dtype, t.shape, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}});
    return c;
  }
  Entry& at(const std::string& name) {
    for (Entry& e : entries)
      if (e.name == name) return e;
    throw std::runtime_error("no entry " + name);
  }
  void remove(const std::string& name) {
    std::erase_if(entries, [&](const Entry& e) { return e.name == name; });
  }
  void set(const std::string& name, DType dtype, std::vector<std::size_t> shape, std::string bytes) {
    at(name) = {name, dtype, std::move(shape), std::move(bytes)};
  }
  void set_text(const std::string& name, const std::string& text) { set(name, DType::U8, {text.size()}, text); }
  void replace(const std::string& name, const std::string& what, const std::string& with) {
    std::string text = at(name).bytes;
    const auto found = text.find(what);
    if (found == text.npos) throw std::runtime_error(name + " holds no " + what);
    set_text(name, text.replace(found, what.size(), with));
  }
  // Writes an image and reads it.
  template <class Use>
  void with(const Use& use) const {
    std::vector<io::TensorToWrite> list;
    for (const Entry& e : entries) list.push_back({e.name, e.dtype, e.shape, lowbit_test::as_bytes(e.bytes)});
    const std::vector<std::byte> bytes = io::serialize_safetensors(list);
    const auto file = io::SafeTensors::parse(bytes, "m.safetensors");
    use(file);
  }
};

template <class T>
std::string as_text(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// What is wrong with reading `weight` after `damage`, or "": it must be refused with these words.
std::string refused(const std::string& weight, const std::function<void(Checkpoint&)>& damage,
                    std::initializer_list<std::string_view> words) {
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  damage(c);
  std::string result = "not read";
  c.with([&](const io::SafeTensors& file) { result = unsaid<FormatError>([&] { io::read_four_bit(file, weight); }, words); });
  return result;
}

}  // namespace

// ---- reading and writing
// ---------------------------------------------------------------------------------------------------------

TEST_CASE("4-bit weights decode to the producer's values, exactly", "[read]") {
  const auto file = io::SafeTensors::open(data_path("model/tiny_4bit.safetensors"));
  for (const auto& [weight, expected] : {std::pair<std::string, std::string>{nested_weight, "nested"}, {plain_weight, "plain"}}) {
    INFO(weight);
    REQUIRE(io::is_four_bit(file, weight));
    const io::FourBitState state = io::read_four_bit(file, weight);
    CHECK(state.dtype == "float16");
    CHECK(state.nested_dtype == "float32");
    CHECK(state.tensor.format() == lowbit::Format::nf4);
    CHECK(state.tensor.block_size() == 64);
    CHECK(state.tensor.double_quantized() == (expected == "nested"));
    CHECK(decoded(state.tensor) ==
          lowbit_test::load_npy_as<float>(data_path("model/tiny_" + expected + "_dequant_f32.npy")));  // 0 == -0
  }
  const io::FourBitState nested = io::read_four_bit(file, nested_weight);
  CHECK(nested.tensor.rows() == 64);
  CHECK(nested.tensor.cols() == 128);
  CHECK(nested.tensor.parts().offset == 0.12763500213623047f);

  // FP4, by its own table and absmax.
  const io::FourBitState fp4 = io::read_four_bit(file, fp4_weight);
  CHECK(fp4.tensor.format() == lowbit::Format::fp4);
  const lowbit_test::GoldenFile raw(data_path("model/tiny_4bit.safetensors"));
  const auto codes = raw.bytes(fp4_weight);
  const Floats table = raw.floats(fp4_weight + ".quant_map"), absmax = raw.floats(fp4_weight + ".absmax");
  Floats want;
  for (std::size_t i = 0; i < 32 * 96; ++i)
    want.push_back(table[i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15] * absmax[i / 64]);
  CHECK(decoded(fp4.tensor) == want);

  CHECK_FALSE(io::is_four_bit(file, "layer.nested"));
  CHECK_FALSE(io::is_four_bit(file, "layer.nested.bias"));
  CHECK_FALSE(io::is_llm_int8(file, "layer.nested"));
}

TEST_CASE("LLM.int8() weights decode by their own rule", "[read]") {
  const auto file = io::SafeTensors::open(data_path("model/tiny_8bit.safetensors"));
  REQUIRE(io::is_llm_int8(file, "layer"));
  CHECK_FALSE(io::is_llm_int8(file, "other"));
  const lowbit::LlmInt8Tensor t = io::read_llm_int8(file, "layer");
  CHECK(t.rows() == 32);
  CHECK(t.cols() == 96);
  const lowbit_test::GoldenFile raw(data_path("model/tiny_8bit.safetensors"));
  const auto codes = raw.get<std::int8_t>("layer.weight", "I8");
  const Floats scb = raw.floats("layer.SCB"), got = decoded(t);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    CHECK(t.codes()[i] == codes[i]);
    wrong += got[i] != lowbit::llm_int8_decode(codes[i], scb[i / 96]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a checkpoint that is read and written again is the same file, byte for byte", "[write]") {
  const lowbit_test::Folder folder;
  SECTION("4 bits") {
    const std::string path = data_path("model/tiny_4bit.safetensors");
    const auto file = io::SafeTensors::open(path);
    const io::FourBitState nested = io::read_four_bit(file, nested_weight), plain = io::read_four_bit(file, plain_weight),
                           fp4 = io::read_four_bit(file, fp4_weight);
    io::StateDict dict;
    io::add_four_bit(dict, nested_weight, nested.tensor, nested.dtype);
    const io::TensorView& bias = file.at("layer.nested.bias");
    dict.add(bias.name, bias.dtype, bias.shape, bias.data.data(), bias.data.size());
    io::add_four_bit(dict, plain_weight, plain.tensor, plain.dtype);
    io::add_four_bit(dict, fp4_weight, fp4.tensor, fp4.dtype);
    io::write_safetensors(folder / "again.safetensors", dict.tensors, file.metadata());
    CHECK(lowbit_test::read_bytes((folder / "again.safetensors").string()) == lowbit_test::read_bytes(path));
  }
  SECTION("8 bits") {
    const std::string path = data_path("model/tiny_8bit.safetensors");
    const auto file = io::SafeTensors::open(path);
    const lowbit::LlmInt8Tensor t = io::read_llm_int8(file, "layer");
    io::StateDict dict;
    io::add_llm_int8(dict, "layer", t);
    const io::TensorView& bias = file.at("layer.bias");
    dict.add(bias.name, bias.dtype, bias.shape, bias.data.data(), bias.data.size());
    io::write_safetensors(folder / "again.safetensors", dict.tensors, file.metadata());
    CHECK(lowbit_test::read_bytes((folder / "again.safetensors").string()) == lowbit_test::read_bytes(path));
  }
}

TEST_CASE("what we quantize can be written and read, for every block size, shape and kind", "[write]") {
  Random random(51);
  for (int i = 0; i < 40; ++i) {
    const std::size_t rows = 1 + random.below(40), cols = 1 + random.below(70), block = random.one_of(lowbit_test::four_bit_blocks);
    const Floats w = random.uneven(rows * cols);
    const bool double_quantized = random.coin(), nf4 = random.coin();
    const lowbit_test::Weights weights = nf4 ? lowbit_test::four_bit_weights<lowbit::Nf4>(w, rows, cols, block, double_quantized)
                                             : lowbit_test::four_bit_weights<lowbit::Fp4>(w, rows, cols, block, double_quantized);
    INFO(weights.name << " " << rows << " x " << cols);
    io::StateDict dict;
    io::add_four_bit(dict, "a.weight", weights.tensor, "bfloat16");
    const auto image = io::serialize_safetensors(dict.tensors);
    const auto file = io::SafeTensors::parse(image, "m");
    const io::FourBitState back = io::read_four_bit(file, "a.weight");
    CHECK(back.dtype == "bfloat16");
    CHECK(back.tensor.rows() == rows);
    CHECK(back.tensor.cols() == cols);
    CHECK(back.tensor.parts().offset == weights.tensor.parts().offset);  // float -> JSON -> double -> float
    CHECK(bits_of(decoded(back.tensor)) == bits_of(decoded(weights.tensor)));
    io::StateDict again;
    io::add_four_bit(again, "a.weight", back.tensor, back.dtype);
    CHECK(io::serialize_safetensors(again.tensors) == image);
  }
  const float one[4] = {1, 2, 3, 4};
  io::StateDict dict;
  CHECK(unsaid<InvalidArgument>([&] { io::add_four_bit(dict, "a.weight", lowbit::Int8Tensor<>::quantize(one, 2, 2), "float32"); },
                                {"a.weight", "int8"}) == "");
}

TEST_CASE("nested_offset passes through JSON unchanged, whatever its digits", "[write]") {
  Random random(52);
  const Floats w = random.normals(128);
  for (int i = 0; i < 300; ++i) {
    float offset = std::bit_cast<float>(random.bits());
    if (i < 6) offset = std::vector<float>{0.0f, -0.0f, 1.0f, 1e-45f, 3.4028235e38f, 0.1f}[static_cast<std::size_t>(i)];
    if (!std::isfinite(offset)) continue;
    auto parts = lowbit_test::clone(lowbit::NF4Tensor<>::quantize(w.data(), 2, 64).parts());
    parts.offset = offset;
    const lowbit::Tensor t(std::move(parts));
    io::StateDict dict;
    io::add_four_bit(dict, "w", t, "float16");
    const auto image = io::serialize_safetensors(dict.tensors);
    const auto file = io::SafeTensors::parse(image, "m");
    CHECK(bits_of({io::read_four_bit(file, "w").tensor.parts().offset}) == bits_of({offset}));
  }
}

TEST_CASE("the JSON is what Python writes, character for character", "[write]") {
  const Floats w(64, 0.25f);
  lowbit::FourBitOptions options;
  options.offset = 0.1f;
  const auto t = lowbit::FP4Tensor<32>::quantize(w.data(), 2, 32, options);
  io::StateDict dict;
  io::add_four_bit(dict, "w", t, "bfloat16");
  std::vector<std::string> names;
  for (const io::TensorToWrite& x : dict.tensors) names.push_back(x.name);
  CHECK(names == std::vector<std::string>{"w", "w.absmax", "w.quant_map", "w.nested_absmax", "w.nested_quant_map",
                                          "w.quant_state.bitsandbytes__fp4"});
  const auto& state = dict.tensors.back();
  CHECK(
      std::string(reinterpret_cast<const char*>(state.bytes.data()), state.bytes.size()) ==
      R"({"quant_type": "fp4", "blocksize": 32, "dtype": "bfloat16", "shape": [2, 32], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.10000000149011612})");
  CHECK(dict.tensors[0].shape == std::vector<std::size_t>{32, 1});
}

TEST_CASE("weights of a file are multiplied where they lie, bit for bit as copies of them", "[view]") {
  const auto four = io::SafeTensors::open(data_path("model/tiny_4bit.safetensors"));
  const auto eight = io::SafeTensors::open(data_path("model/tiny_8bit.safetensors"));
  Random random(55);
  const auto check = [&](const lowbit::WeightsView& view, const lowbit::Tensor& copy, const io::TensorView& codes) {
    CHECK(view.format() == copy.format());
    CHECK(view.canonical().codes == static_cast<const void*>(codes.data.data()));
    const Floats x = random.normals(3 * copy.cols());
    for (const auto compute : {lowbit::Compute::f32, lowbit::Compute::int8}) {
      Floats a(3 * copy.rows()), b(a.size());
      lowbit::matmul(x.data(), 3, view, a.data(), {{.compute = compute}});
      lowbit::matmul(x.data(), 3, copy, b.data(), {{.compute = compute}});
      CHECK(bits_of(a) == bits_of(b));
    }
  };
  for (const std::string& weight : {nested_weight, plain_weight}) {
    INFO(weight);
    check(io::view_four_bit(four, weight), io::read_four_bit(four, weight).tensor, four.at(weight));
  }
  // Here the file's order has put floats behind an odd number of bytes.
  CHECK(unsaid<FormatError>([&] { io::view_four_bit(four, fp4_weight); }, {fp4_weight, "multiple of 4"}) == "");
  check(io::view_llm_int8(eight, "layer"), io::read_llm_int8(eight, "layer"), eight.at("layer.weight"));

  // What kernels cannot read in place is refused: sizes that lie, scales in 16 bits, scales that are not aligned.
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  const auto refused_view = [&](std::initializer_list<std::string_view> words) {
    std::string result;
    c.with(
        [&](const io::SafeTensors& file) { result = unsaid<FormatError>([&] { io::view_four_bit(file, plain_weight); }, words); });
    return result;
  };
  c.at(plain_weight + ".absmax").shape = {c.at(plain_weight + ".absmax").shape[0] - 1};
  c.at(plain_weight + ".absmax").bytes.resize(c.at(plain_weight + ".absmax").bytes.size() - 4);
  CHECK(refused_view({plain_weight + ".absmax", "48", "47"}) == "");
  c = Checkpoint::open("tiny_4bit.safetensors");
  c.set(plain_weight + ".absmax", DType::F16, {48}, std::string(96, '\1'));
  CHECK(refused_view({plain_weight + ".absmax", "F32", "F16"}) == "");
  c = Checkpoint::open("tiny_4bit.safetensors");
  c.entries.insert(c.entries.begin(), {"odd", DType::U8, {1}, "x"});
  CHECK(refused_view({plain_weight, "multiple of 4"}) == "");
}

// ---- the forms of real files
// -----------------------------------------------------------------------------------------------------

TEST_CASE("a view has the file's own map, also one that was a view of other weights", "[view]") {
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  Floats map(256);
  for (std::size_t i = 0; i < 256; ++i) map[i] = static_cast<float>(i) / 300 - 0.4f;
  c.set(nested_weight + ".nested_quant_map", DType::F32, {256}, as_text(map));
  c.with([&](const io::SafeTensors& file) {
    const lowbit::Tensor copy = std::move(io::read_four_bit(file, nested_weight).tensor);
    lowbit::WeightsView view = io::view_four_bit(file, plain_weight);
    view = io::view_four_bit(file, nested_weight);
    const Floats x = Random(56).normals(copy.cols());
    Floats a(copy.rows()), b(a.size());
    lowbit::matmul(x.data(), 1, view, a.data());
    lowbit::matmul(x.data(), 1, copy, b.data());
    CHECK(bits_of(a) == bits_of(b));
  });
}

TEST_CASE("packed bytes may be stored as another type", "[read]") {
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  Floats want;
  c.with([&](const io::SafeTensors& file) { want = decoded(io::read_four_bit(file, nested_weight).tensor); });
  for (const DType type : {DType::BF16, DType::F16, DType::F32, DType::I8, DType::F64}) {
    const std::string bytes = c.at(nested_weight).bytes;
    c.set(nested_weight, type, {bytes.size() * 8 / io::dtype_bits(type), 1}, bytes);
    c.with([&](const io::SafeTensors& file) { CHECK(decoded(io::read_four_bit(file, nested_weight).tensor) == want); });
    c.at(nested_weight).shape = {1, bytes.size() * 8 / io::dtype_bits(type)};  // the orientation of old files
    c.with([&](const io::SafeTensors& file) { CHECK(decoded(io::read_four_bit(file, nested_weight).tensor) == want); });
  }
  // Three bytes of codes are no whole number of floats.
  const Floats six(6, 1.0f);
  io::StateDict dict;
  CHECK(unsaid<InvalidArgument>(
            [&] { io::add_four_bit(dict, "a.weight", lowbit::NF4Tensor<>::quantize(six.data(), 2, 3), "float32", DType::F32); },
            {"a.weight", "3 bytes of codes cannot be stored as F32"}) == "");
  CHECK(dict.tensors.empty());
}

TEST_CASE("a shape of 2^62 rows of nothing takes no time", "[read]") {
  const std::string state = R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4611686018427387904,0]})";
  const std::string table(64, '\0');
  const std::vector<io::TensorToWrite> list{
      {"w", DType::U8, {0, 1}, {}},
      {"w.absmax", DType::BF16, {0, std::size_t{1} << 62}, {}},  // as if transposed
      {"w.quant_map", DType::F32, {16}, lowbit_test::as_bytes(table)},
      {"w.quant_state.bitsandbytes__nf4", DType::U8, {state.size()}, lowbit_test::as_bytes(state)}};
  const std::vector<std::byte> bytes = io::serialize_safetensors(list);
  const io::SafeTensors file = io::SafeTensors::parse(bytes, "m");
  CHECK(io::read_four_bit(file, "w").tensor.size() == 0);
}

TEST_CASE("bf16 absmax that was stored transposed comes back in order", "[read]") {
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  // A layer of 32 x 128 with 2 blocks of 64 a row; its absmax as bf16, shape (blocks of a row, rows).
  const std::size_t rows = 24, cols = 128, per_row = 2;
  Random random(53);
  std::vector<std::uint16_t> transposed(per_row * rows);
  Floats in_order(rows * per_row);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t b = 0; b < per_row; ++b) {
      const lowbit::BFloat16 a = lowbit::to_bfloat16(static_cast<float>(random.uniform(0.01, 1)));
      transposed[b * rows + r] = a.bits;
      in_order[r * per_row + b] = lowbit::to_float(a);
    }
  REQUIRE(rows * cols / 2 == c.at(plain_weight).bytes.size());
  c.replace(plain_weight + state_suffix, "[32, 96]", "[24, 128]");
  c.set(plain_weight + ".absmax", DType::BF16, {per_row, rows}, as_text(transposed));
  c.with([&](const io::SafeTensors& file) {
    const io::FourBitState state = io::read_four_bit(file, plain_weight);
    CHECK(Floats(state.tensor.parts().scales.begin(), state.tensor.parts().scales.end()) == in_order);
  });
  // One-dimensional bf16 is in order already.
  std::vector<std::uint16_t> flat;
  for (const float a : in_order) flat.push_back(lowbit::to_bfloat16(a).bits);
  c.set(plain_weight + ".absmax", DType::BF16, {rows * per_row}, as_text(flat));
  c.with([&](const io::SafeTensors& file) {
    const io::FourBitState state = io::read_four_bit(file, plain_weight);
    CHECK(Floats(state.tensor.parts().scales.begin(), state.tensor.parts().scales.end()) == in_order);
  });
}

TEST_CASE("the file's own map and table are used, and JSON may be written otherwise", "[read]") {
  Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
  Floats map(256), table(16);
  for (std::size_t i = 0; i < 256; ++i) map[i] = static_cast<float>(i) / 300 - 0.4f;
  for (std::size_t i = 0; i < 16; ++i) table[i] = static_cast<float>(i) / 16 - 0.5f;
  c.set(nested_weight + ".nested_quant_map", DType::F32, {256}, as_text(map));
  c.set(nested_weight + ".quant_map", DType::F32, {16}, as_text(table));
  c.set_text(nested_weight + state_suffix,
             "  "
             "{\"nested_offset\":0.25,\n\"shape\":[64,128],\"other\":[1,2],\"blocksize\":64,\"dtype\":\"float32\",\"nested_"
             "blocksize\":256,"
             "\"quant_type\":\"nf4\"} \n" +
                 std::string(5, '\0'));
  c.with([&](const io::SafeTensors& file) {
    const lowbit::Tensor t = std::move(io::read_four_bit(file, nested_weight).tensor);
    const auto& p = t.parts();
    CHECK(p.offset == 0.25f);
    const Floats got = decoded(t);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const float absmax = lowbit_test::once_rounded(lowbit_test::once_rounded(map[p.scale_codes[i / 64]] * p.nested[0]) + 0.25f);
      const float want = lowbit_test::once_rounded(table[i % 2 == 0 ? p.codes[i / 2] >> 4 : p.codes[i / 2] & 15] * absmax);
      wrong += got[i] != want;
    }
    CHECK(wrong == 0);
  });
}

// ---- damaged files
// ---------------------------------------------------------------------------------------------------------------

TEST_CASE("a 4-bit weight that is not whole is refused, and the message names the tensor", "[damaged]") {
  const std::string state = nested_weight + state_suffix, plain_state = plain_weight + state_suffix;
  const std::string file = "m.safetensors", in_state = "quant_state.bitsandbytes__nf4";
  // Keys that are missing.
  CHECK(refused(nested_weight, [&](Checkpoint& c) { c.remove(state); }, {file, nested_weight, "quant_state"}) == "");
  for (const std::string key : {"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    CHECK(refused(nested_weight, [&](Checkpoint& c) { c.remove(nested_weight + key); },
                  {file, "\"" + nested_weight + key + "\""}) == "");
  CHECK(refused("layer.other.weight", [](Checkpoint&) {}, {file, "layer.other.weight"}) == "");

  // JSON that is none, or of another shape.
  for (const std::string text : {"", "{", "[]", "7", "null", "\"nf4\"", "{\"quant_type\": \"nf4\"",
                                 "{\"quant_type\": \"nf4\", \"quant_type\": \"nf4\"}", "\xff\xfe"})
    CHECK(refused(nested_weight, [&](Checkpoint& c) { c.set_text(state, text); }, {file, in_state}) == "");
  CHECK(refused(nested_weight, [&](Checkpoint& c) { c.at(state).dtype = DType::I8; }, {in_state, "U8", "I8"}) == "");
  const auto changed = [&](const std::string& from, const std::string& to, std::initializer_list<std::string_view> words) {
    INFO(from << " -> " << to);
    CHECK(refused(
              nested_weight, [&](Checkpoint& c) { c.replace(state, from, to); }, words) == "");
  };
  for (const std::string key : {"quant_type", "blocksize", "dtype", "shape", "nested_blocksize", "nested_offset"})
    changed("\"" + key + "\"", "\"x" + key + "\"", {file, in_state, key, "expected"});
  for (const std::string wrong : {"\"fp4\"", "\"int8\"", "4", "null"})
    changed("\"nf4\"", wrong, {in_state, "quant_type", "\"nf4\""});
  for (const std::string wrong :
       {"0", "16", "63", "65", "8192", "-64", "64.0", "\"64\"", "1e2", "18446744073709551616", "null", "[64]"})
    changed("\"blocksize\": 64", "\"blocksize\": " + wrong, {in_state, "blocksize", "32 to 4096"});
  for (const std::string wrong :
       {"[64]", "[64, 128, 1]", "[]", "8192", "\"64x128\"", "[64, -128]", "[64.0, 128]", "[64, \"128\"]", "null", "{\"0\": 64}"})
    changed("[64, 128]", wrong, {in_state, "shape", "[out, in]"});
  changed("[64, 128]", "[64, 127]", {nested_weight, "4064", "(64, 127)", "4096"});
  changed("[64, 128]", "[65, 128]", {nested_weight, "4160", "(65, 128)", "4096"});
  changed("[64, 128]", "[0, 128]", {nested_weight, "expected 0", "4096"});
  changed("[64, 128]", "[9223372036854775808, 4]", {in_state, "shape"});
  changed("[64, 128]", "[18446744073709551615, 18446744073709551615]", {in_state, "shape"});
  changed("[64, 128]", "[18446744073709551615, 1]", {nested_weight, "9223372036854775808"});
  changed("\"float16\"", "16", {in_state, "dtype", "string"});
  for (const std::string wrong : {"64", "\"256\"", "-256", "null"})
    changed("\"nested_blocksize\": 256", "\"nested_blocksize\": " + wrong, {in_state, "nested_blocksize", "256"});
  for (const std::string wrong : {"\"0.1\"", "null", "[0.1]", "1e300", "-3.5e38"})
    changed("0.12763500213623047", wrong, {in_state, "nested_offset", "number"});
  for (const std::string wrong : {"NaN", "Infinity", "1e999"}) changed("0.12763500213623047", wrong, {in_state});
  for (const std::string wrong : {"\"float16\"", "\"bfloat16\"", "32", "null"})
    changed("\"nested_dtype\": \"float32\"", "\"nested_dtype\": " + wrong, {in_state, "nested_dtype", "float32"});
  // Another block size is a valid one for other scales.
  changed("\"blocksize\": 64", "\"blocksize\": 128", {nested_weight + ".absmax", "64", "128"});

  // Sizes and types of the others.
  const auto resized = [&](const std::string& weight, const std::string& key, std::size_t elements,
                           std::initializer_list<std::string_view> words) {
    CHECK(refused(
              weight,
              [&](Checkpoint& c) {
                auto& e = c.at(weight + key);
                const std::size_t size = io::dtype_bits(e.dtype) / 8;
                e.bytes.resize(elements * size, '\1');
                e.shape = {elements};
              },
              words) == "");
  };
  for (const std::size_t n : Sizes{0, 1, 4095, 4097, 8192})
    resized(nested_weight, "", n, {"\"" + nested_weight + "\"", "4096", std::to_string(n)});
  for (const std::size_t n : Sizes{0, 127, 129})
    resized(nested_weight, ".absmax", n, {nested_weight + ".absmax", "128", std::to_string(n)});
  for (const std::size_t n : Sizes{0, 47, 49})
    resized(plain_weight, ".absmax", n, {plain_weight + ".absmax", "48", std::to_string(n)});
  for (const std::size_t n : Sizes{0, 15, 17})
    resized(nested_weight, ".quant_map", n, {nested_weight + ".quant_map", "16", std::to_string(n)});
  for (const std::size_t n : Sizes{0, 2})
    resized(nested_weight, ".nested_absmax", n, {nested_weight + ".nested_absmax", "1 ", std::to_string(n)});
  for (const std::size_t n : Sizes{0, 255, 257})
    resized(nested_weight, ".nested_quant_map", n, {nested_weight + ".nested_quant_map", "256", std::to_string(n)});
  for (const std::string key : {".quant_map", ".nested_absmax", ".nested_quant_map"})
    CHECK(refused(nested_weight, [&](Checkpoint& c) { c.at(nested_weight + key).dtype = DType::I32; },
                  {nested_weight + key, "float", "I32"}) == "");
  CHECK(refused(plain_weight, [&](Checkpoint& c) { c.at(plain_weight + ".absmax").dtype = DType::I32; },
                {plain_weight + ".absmax", "float", "I32"}) == "");
  // bf16 absmax of a shape that is neither flat nor transposed.
  CHECK(refused(plain_weight,
                [&](Checkpoint& c) {
                  c.set(plain_weight + ".absmax", DType::BF16, {2, 32}, std::string(128, '\1'));
                },
                {plain_weight + ".absmax", "48", "64"}) == "");
}

TEST_CASE("an LLM.int8() layer that is not whole is refused, and the message names the tensor", "[damaged]") {
  const auto check = [](const std::function<void(Checkpoint&)>& damage, std::initializer_list<std::string_view> words) {
    Checkpoint c = Checkpoint::open("tiny_8bit.safetensors");
    damage(c);
    c.with(
        [&](const io::SafeTensors& file) { CHECK(unsaid<FormatError>([&] { io::read_llm_int8(file, "layer"); }, words) == ""); });
  };
  check([](Checkpoint& c) { c.remove("layer.SCB"); }, {"m.safetensors", "layer.SCB"});
  check([](Checkpoint& c) { c.remove("layer.weight"); }, {"m.safetensors", "layer.weight"});
  check([](Checkpoint& c) { c.at("layer.weight").dtype = DType::U8; }, {"layer.weight", "I8", "U8"});
  check([](Checkpoint& c) { c.at("layer.weight").shape = {32 * 96}; }, {"layer.weight", "[out, in]", "[3072]"});
  check([](Checkpoint& c) { c.at("layer.weight").shape = {32, 96, 1}; }, {"layer.weight", "[out, in]"});
  check([](Checkpoint& c) { c.at("layer.weight").shape = {96, 32}; }, {"layer.SCB", "96", "32"});
  check([](Checkpoint& c) { c.at("layer.SCB").dtype = DType::I32; }, {"layer.SCB", "float", "I32"});
  check([](Checkpoint& c) { c.set("layer.SCB", DType::F32, {31}, std::string(124, '\1')); }, {"layer.SCB", "32", "31"});
  for (const char code : {'\1', '\2', '\3'})
    check([=](Checkpoint& c) { c.at("layer.weight_format").bytes = code; }, {"layer.weight_format", "row-major"});
  check([](Checkpoint& c) { c.set("layer.weight_format", DType::U8, {2}, std::string(2, '\0')); }, {"layer.weight_format"});

  // Without weight_format, as early files are, and with SCB in 16 bits or none at all to hold.
  Checkpoint c = Checkpoint::open("tiny_8bit.safetensors");
  c.remove("layer.weight_format");
  c.with([&](const io::SafeTensors& file) { CHECK(io::read_llm_int8(file, "layer").rows() == 32); });
  c.set("layer.weight", DType::I8, {32, 0}, "");
  c.with([&](const io::SafeTensors& file) { CHECK(io::read_llm_int8(file, "layer").cols() == 0); });
}

TEST_CASE("random damage to a state is refused or gives a whole tensor", "[damaged]") {
  Random random(54);
  std::size_t refusals = 0, whole = 0;
  for (int i = 0; i < 3000; ++i) {
    Checkpoint c = Checkpoint::open("tiny_4bit.safetensors");
    std::string& bytes = c.at(nested_weight + state_suffix).bytes;
    for (std::size_t n = 1 + random.below(3); n > 0; --n) bytes[random.below(bytes.size())] = static_cast<char>(random.below(128));
    c.with([&](const io::SafeTensors& file) {
      try {
        const Floats values = decoded(io::read_four_bit(file, nested_weight).tensor);
        whole += values.size() == 8192;
      } catch (const FormatError& error) {
        if (std::string_view(error.what()).find(nested_weight) == std::string_view::npos) FAIL("no tensor in: " << error.what());
        ++refusals;
      }
    });
  }
  CHECK(refusals + whole == 3000);
  CHECK(refusals > 1000);
  CHECK(whole > 100);  // a changed digit of the offset, another dtype
}

// ---- against a GPU, with the full-size model
// --------------------------------------------------------------------------------------

TEST_CASE("quantizing the real weights gives what bitsandbytes stored on a GPU", "[.full]") {
  const auto golden_path = lowbit::testing::shared_dir() / "golden" / "bnb_cuda.safetensors";
  const auto model_path = lowbit::testing::models_dir() / "gpt2-small-ag-news" / "model.safetensors";
  if (lowbit::testing::shared_dir().empty() || !std::filesystem::exists(golden_path) || lowbit::testing::models_dir().empty() ||
      !std::filesystem::exists(model_path)) {
    std::cout << "skipped: needs LOWBIT_SHARED_DIR (golden/bnb_cuda.safetensors) and LOWBIT_MODELS_DIR (gpt2-small-ag-news)\n";
    return;
  }
  const auto golden = io::SafeTensors::open(golden_path), model = io::SafeTensors::open(model_path);
  // GPT-2 stores (in, out); quantized checkpoints hold (out, in).
  const auto weights_of = [&](const std::string& name) {
    const io::TensorView& view = model.at(name + ".weight");
    Floats stored(view.elements()), w(stored.size());
    io::read_floats(view, stored);
    const std::size_t in = view.shape[0], out = view.shape[1];
    for (std::size_t i = 0; i < in; ++i)
      for (std::size_t o = 0; o < out; ++o) w[o * in + i] = stored[i * out + o];
    return w;
  };
  const auto code = [](const lowbit::TensorParts& p, std::size_t e) {
    return e % 2 == 0 ? p.codes[e / 2] >> 4 : p.codes[e / 2] & 15;
  };

  std::size_t codes_off = 0, codes_seen = 0;
  int furthest = 0;
  const auto compare_codes = [&](const lowbit::TensorParts& ours, const lowbit::TensorParts& theirs, std::size_t n) {
    for (std::size_t e = 0; e < n; ++e) {
      codes_off += code(ours, e) != code(theirs, e);
      furthest = std::max(furthest, std::abs(code(ours, e) - code(theirs, e)));
    }
    codes_seen += n;
  };
  for (const std::string module : {"transformer.h.0.attn.c_attn", "transformer.h.5.mlp.c_fc"}) {
    INFO(module);
    const io::FourBitState theirs = io::read_four_bit(golden, "nested." + module + ".weight");
    const auto& p = theirs.tensor.parts();
    CHECK(theirs.dtype == "float32");
    const Floats w = weights_of(module);
    lowbit::FourBitOptions options;
    options.offset = p.offset;
    const auto ours = lowbit::NF4Tensor<>::quantize(w.data(), p.rows, p.cols, options);
    const auto& q = ours.parts();
    compare_codes(q, p, w.size());
    // Given the offset, double quantization is exact.
    REQUIRE(q.scale_codes.size() == p.scale_codes.size());
    CHECK(std::equal(q.scale_codes.begin(), q.scale_codes.end(), p.scale_codes.begin()));
    CHECK(bits_of(Floats(q.nested.begin(), q.nested.end())) == bits_of(Floats(p.nested.begin(), p.nested.end())));
    CHECK(bits_of(Floats(q.nested_map.begin(), q.nested_map.end())) == bits_of(Floats(p.nested_map.begin(), p.nested_map.end())));
    CHECK(bits_of(Floats(q.table.begin(), q.table.end())) == bits_of(Floats(p.table.begin(), p.table.end())));
    // Our own offset is within 2 ulp.
    const auto alone = lowbit::NF4Tensor<>::quantize(w.data(), p.rows, p.cols);
    const auto bits = [](float x) { return static_cast<std::int64_t>(std::bit_cast<std::int32_t>(x)); };
    CHECK(std::abs(bits(alone.parts().offset) - bits(p.offset)) <= 2);
    // And the file comes back as it was.
    io::StateDict dict;
    io::add_four_bit(dict, "nested." + module + ".weight", theirs.tensor, theirs.dtype);
    for (const io::TensorToWrite& t : dict.tensors) {
      const io::TensorView& view = golden.at(t.name);
      CHECK(view.dtype == t.dtype);
      CHECK(view.shape == t.shape);
      CHECK(std::equal(t.bytes.begin(), t.bytes.end(), view.data.begin(), view.data.end()));
    }
  }
  {
    const std::string module = "transformer.h.5.attn.c_proj";
    const io::FourBitState theirs = io::read_four_bit(golden, "plain." + module + ".weight");
    const auto& p = theirs.tensor.parts();
    const Floats w = weights_of(module);
    const auto ours = lowbit::NF4Tensor<64, lowbit::PlainAbsmax>::quantize(w.data(), p.rows, p.cols);
    compare_codes(ours.parts(), p, w.size());
    CHECK(bits_of(Floats(ours.parts().scales.begin(), ours.parts().scales.end())) ==
          bits_of(Floats(p.scales.begin(), p.scales.end())));
  }
  std::cout << "NF4 codes that differ from a GPU's: " << codes_off << " of " << codes_seen << '\n';
  CHECK(codes_seen > 4'000'000);
  CHECK(codes_off * 1'000'000 <= codes_seen);
  CHECK(furthest <= 1);

  {  // LLM.int8(): SCB and codes equal
    const std::string module = "transformer.h.0.attn.c_attn";
    const auto cb = golden.at("int8." + module + ".CB").copy<std::int8_t>();
    const auto scb = golden.at("int8." + module + ".SCB").copy<float>();
    const Floats w = weights_of(module);
    const std::size_t rows = scb.size(), cols = w.size() / rows;
    const auto ours = lowbit::LlmInt8Tensor::quantize(w.data(), rows, cols);
    CHECK(bits_of(Floats(ours.scb(), ours.scb() + rows)) == bits_of(Floats(scb.begin(), scb.end())));
    const auto off = [&](const lowbit::LlmInt8Tensor& q) {
      std::size_t count = 0;
      for (std::size_t i = 0; i < w.size(); ++i) count += q.codes()[i] != cb[i];
      return count;
    };
    CHECK(off(ours) == 0);
    CHECK(off(lowbit::LlmInt8Tensor::quantize(w.data(), rows, cols, {.producer = lowbit::LlmInt8Rule::torch})) == 162);
  }
}

}  // namespace bitsandbytes_test
