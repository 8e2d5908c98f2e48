// SPDX-License-Identifier: MIT
// bitsandbytes' checkpoints: read, decoded exactly, written back byte for byte, refused where they are wrong; and, full size, our
// quantizers against what bitsandbytes made of the same weights on a GPU.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <bit>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/io/bitsandbytes.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/paths.hpp"

namespace io = lowbit::io;
using lowbit::testing::data_dir;

namespace {

// A state dict in memory that can be damaged.
class EditableSource final : public io::TensorSource {
 public:
  explicit EditableSource(const io::TensorSource& from) {
    for (const std::string& name : from.names()) {
      const io::TensorView& v = from.at(name);
      bytes_[name].assign(v.data.begin(), v.data.end());
      views_[name] = v;
      refresh(name);
    }
  }
  const std::string& location() const override { return location_; }
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, view] : views_) all.push_back(name);
    return all;
  }
  bool contains(std::string_view name) const override { return views_.find(std::string(name)) != views_.end(); }
  const io::TensorView& at(std::string_view name) const override {
    const auto found = views_.find(std::string(name));
    if (found == views_.end()) lowbit::raise<lowbit::FormatError>(location_ + ": no tensor " + std::string(name));
    return found->second;
  }
  void erase(const std::string& name) { views_.erase(name); }
  void put(const std::string& name, io::DType dtype, std::vector<std::size_t> shape, const void* data, std::size_t size) {
    const auto* p = static_cast<const std::byte*>(data);
    bytes_[name].assign(p, p + size);
    views_[name] = io::TensorView{name, dtype, std::move(shape), {}, location_};
    refresh(name);
  }
  io::TensorView& view(const std::string& name) { return views_.at(name); }
  std::string json(const std::string& key) const {
    const std::vector<std::byte>& b = bytes_.at(key);
    return {reinterpret_cast<const char*>(b.data()), b.size()};
  }
  void set_json(const std::string& key, const std::string& text) {
    put(key, io::DType::U8, {text.size()}, text.data(), text.size());
  }

 private:
  void refresh(const std::string& name) { views_.at(name).data = bytes_.at(name); }
  std::string location_ = "edited.safetensors";
  std::map<std::string, std::vector<std::byte>> bytes_;
  std::map<std::string, io::TensorView> views_;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const lowbit::FormatError& e) {
    return e.what();
  }
  return "nothing was thrown";
}
std::vector<float> decoded(const lowbit::Tensor& t) {
  std::vector<float> values(t.size());
  t.dequantize(values.data());
  return values;
}
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

const char* const nested_state = "layer.nested.weight.quant_state.bitsandbytes__nf4";

}  // namespace

TEST_CASE("4-bit checkpoints decode to the values of the numpy model, bit for bit", "[bitsandbytes]") {
  const io::SafeTensors file = io::SafeTensors::open(data_dir() / "model" / "tiny_4bit.safetensors");
  REQUIRE(io::is_four_bit(file, "layer.nested.weight"));
  REQUIRE(!io::is_four_bit(file, "layer.nested.bias"));
  const io::FourBitState nested = io::read_four_bit(file, "layer.nested.weight"),
                         plain = io::read_four_bit(file, "layer.plain.weight"), fp4 = io::read_four_bit(file, "layer.fp4.weight");
  CHECK(nested.tensor.double_quantized());
  CHECK(!plain.tensor.double_quantized());
  CHECK(fp4.tensor.format() == lowbit::Format::fp4);
  CHECK(nested.dtype == "float16");
  CHECK(lowbit_test::comparable32(decoded(nested.tensor)) ==
        lowbit_test::comparable32(lowbit_test::load_npy_as<float>(lowbit_test::data_path("model/tiny_nested_dequant_f32.npy"))));
  CHECK(lowbit_test::comparable32(decoded(plain.tensor)) ==
        lowbit_test::comparable32(lowbit_test::load_npy_as<float>(lowbit_test::data_path("model/tiny_plain_dequant_f32.npy"))));
  // The typed tensors take what fits them and nothing else.
  CHECK_NOTHROW(lowbit::NF4Tensor<>(io::read_four_bit(file, "layer.nested.weight").tensor.take_parts()));
  CHECK_THROWS_AS(lowbit::NF4Tensor<>(io::read_four_bit(file, "layer.plain.weight").tensor.take_parts()), lowbit::InvalidArgument);
  CHECK_THROWS_AS(lowbit::NF4Tensor<128>(io::read_four_bit(file, "layer.nested.weight").tensor.take_parts()),
                  lowbit::InvalidArgument);
  CHECK_THROWS_AS(lowbit::NF4Tensor<>(io::read_four_bit(file, "layer.fp4.weight").tensor.take_parts()), lowbit::InvalidArgument);
}

TEST_CASE("what was read is written back byte for byte", "[bitsandbytes]") {
  for (const char* name : {"tiny_4bit.safetensors", "tiny_8bit.safetensors"}) {
    const io::SafeTensors file = io::SafeTensors::open(data_dir() / "model" / name);
    io::StateDict out;
    std::vector<lowbit::Tensor> kept;
    std::vector<lowbit::LlmInt8Tensor> kept_int8;
    kept.reserve(8);
    kept_int8.reserve(8);
    for (const std::string& key : file.names()) {
      const io::TensorView& v = file.at(key);
      if (key.ends_with(".bias")) {
        out.add(key, v.dtype, v.shape, v.data.data(), v.data.size());
      } else if (io::is_four_bit(file, key)) {
        io::FourBitState s = io::read_four_bit(file, key);
        kept.push_back(std::move(s.tensor));
        io::add_four_bit(out, key, kept.back(), s.dtype);
      } else if (key.ends_with(".SCB")) {
        const std::string module = key.substr(0, key.size() - 4);
        kept_int8.push_back(io::read_llm_int8(file, module));
        io::add_llm_int8(out, module, kept_int8.back());
      }
    }
    CHECK(out.tensors.size() == file.names().size());
    for (const io::TensorToWrite& t : out.tensors) {
      INFO(t.name);
      const io::TensorView& v = file.at(t.name);
      CHECK(t.dtype == v.dtype);
      CHECK(t.shape == v.shape);
      CHECK(same_bytes(t.bytes, v.data));
    }
  }
}

TEST_CASE("LLM.int8() layers", "[bitsandbytes]") {
  const io::SafeTensors file = io::SafeTensors::open(data_dir() / "model" / "tiny_8bit.safetensors");
  REQUIRE(io::is_llm_int8(file, "layer"));
  const lowbit::LlmInt8Tensor t = io::read_llm_int8(file, "layer");
  CHECK(t.rows() == 32);
  CHECK(t.cols() == 96);
  for (std::size_t r = 0; r < t.rows(); ++r) {
    std::vector<float> row(t.cols());
    t.dequantize_rows(r, r + 1, row.data());
    for (std::size_t c = 0; c < t.cols(); ++c) REQUIRE(row[c] == lowbit::llm_int8_decode(t.codes()[r * t.cols() + c], t.scb()[r]));
  }
  EditableSource tiles(file);
  const std::uint8_t ampere = 3;
  tiles.put("layer.weight_format", io::DType::U8, {}, &ampere, 1);
  CHECK(message_of([&] { io::read_llm_int8(tiles, "layer"); }).find("weight_format") != std::string::npos);
}

TEST_CASE("packed bytes may be stored as another type, and the state may end in NULs", "[bitsandbytes]") {
  const io::SafeTensors file = io::SafeTensors::open(data_dir() / "model" / "tiny_4bit.safetensors");
  const std::vector<float> expected = decoded(io::read_four_bit(file, "layer.nested.weight").tensor);
  EditableSource edited(file);
  for (const io::DType dtype : {io::DType::BF16, io::DType::F16, io::DType::F32}) {
    io::TensorView& codes = edited.view("layer.nested.weight");
    codes.dtype = dtype;
    codes.shape = {codes.data.size() * 8 / io::dtype_bits(dtype), 1};
    CHECK(decoded(io::read_four_bit(edited, "layer.nested.weight").tensor) == expected);
  }
  edited.set_json(nested_state, edited.json(nested_state) + std::string(5, '\0'));
  CHECK(decoded(io::read_four_bit(edited, "layer.nested.weight").tensor) == expected);
}

TEST_CASE("scales that a CPU repacking left transposed in bf16 are understood", "[bitsandbytes]") {
  // (64, 128) in blocks of 64: two blocks a row.
  std::vector<float> w(64 * 128);
  for (std::size_t i = 0; i < w.size(); ++i)
    w[i] = std::sin(0.3f * static_cast<float>(i)) * (0.01f + 0.001f * static_cast<float>(i % 97));
  const auto tensor = lowbit::NF4Tensor<64, lowbit::PlainAbsmax>::quantize(w.data(), 64, 128);
  io::StateDict dict;
  io::add_four_bit(dict, "w", tensor, "float16");
  const auto image = io::serialize_safetensors(dict.tensors);
  const io::SafeTensors file = io::SafeTensors::parse(image, "memory");
  EditableSource edited(file);
  std::vector<std::uint16_t> transposed(128);
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t b = 0; b < 2; ++b) transposed[b * 64 + r] = lowbit::to_bfloat16(tensor.parts().scales[r * 2 + b]).bits;
  edited.put("w.absmax", io::DType::BF16, {2, 64}, transposed.data(), 256);
  const lowbit::Tensor read = io::read_four_bit(edited, "w").tensor;
  for (std::size_t b = 0; b < 128; ++b) REQUIRE(read.scale(b) == lowbit::to_float(lowbit::to_bfloat16(tensor.parts().scales[b])));
}

TEST_CASE("wrong states are refused with the name of what is wrong", "[bitsandbytes]") {
  const io::SafeTensors file = io::SafeTensors::open(data_dir() / "model" / "tiny_4bit.safetensors");
  const auto with = [&](const char* from, const char* to) {
    EditableSource edited(file);
    std::string json = edited.json(nested_state);
    const std::size_t at = json.find(from);
    REQUIRE(at != std::string::npos);
    json.replace(at, std::strlen(from), to);
    edited.set_json(nested_state, json);
    return message_of([&] { io::read_four_bit(edited, "layer.nested.weight"); });
  };
  const auto mentions = [](const std::string& message, const char* what) {
    INFO(message);
    CHECK(message.find(what) != std::string::npos);
    CHECK(message.find("layer.nested.weight") != std::string::npos);
  };
  mentions(with("\"blocksize\": 64", "\"blocksize\": 63"), "blocksize");
  mentions(with("\"blocksize\": 64", "\"blocksize\": -64"), "blocksize");
  mentions(with("\"nf4\"", "\"nf5\""), "quant_type");
  mentions(with("[64, 128]", "[64, 129]"), "bytes");
  mentions(with("[64, 128]", "[64]"), "shape");
  mentions(with("[64, 128]", "[4611686018427387904, 16]"), "layer.nested.weight");
  mentions(with("\"nested_blocksize\": 256", "\"nested_blocksize\": 128"), "nested_blocksize");
  mentions(with("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"bfloat16\""), "nested_dtype");
  mentions(with("\"nested_offset\": ", "\"nested_offset\": \"x\", \"y\": "), "nested_offset");
  mentions(with("{", "{{"), "layer.nested.weight");
  for (const char* key : {"layer.nested.weight.absmax", "layer.nested.weight.quant_map", "layer.nested.weight.nested_absmax",
                          "layer.nested.weight.nested_quant_map", nested_state, "layer.nested.weight"}) {
    EditableSource edited(file);
    edited.erase(key);
    mentions(message_of([&] { io::read_four_bit(edited, "layer.nested.weight"); }), "layer.nested.weight");
    EditableSource shorter(file);
    io::TensorView& v = shorter.view(key);
    v.data = v.data.first(v.data.size() / 8 * 4);
    mentions(message_of([&] { io::read_four_bit(shorter, "layer.nested.weight"); }), "layer.nested.weight");
  }
}

// ---- full size ---------------------------------------------------------------------------------------------------------

namespace {

// Codes that differ, and whether each differs by one step.
struct Difference {
  std::size_t count = 0, total = 0, largest = 0;
  void add(int a, int b) {
    ++total;
    if (a == b) return;
    ++count;
    largest = std::max(largest, static_cast<std::size_t>(std::abs(a - b)));
  }
};
lowbit::AlignedBuffer<float> weight(const lowbit::gpt2::ParameterSource& model, const std::string& module, std::size_t out,
                                    std::size_t in) {
  lowbit::AlignedBuffer<float> values(out * in);
  model.linear(module, out, in).dequantize(values.data());
  return values;
}
// a is b, or one or two floats beside it.
bool within_two_ulp(float a, float b) {
  const auto ordered = [](float x) {
    const auto u = std::bit_cast<std::int32_t>(x);
    return static_cast<std::int64_t>(u < 0 ? std::int32_t{-0x7FFFFFFF - 1} - u : u);
  };
  return std::llabs(ordered(a) - ordered(b)) <= 2;
}

}  // namespace

TEST_CASE("our codes are those of bitsandbytes on a GPU, on GPT-2 small's weights", "[.full][bitsandbytes]") {
  const std::filesystem::path shared = lowbit::testing::shared_dir(), models = lowbit::testing::models_dir();
  if (shared.empty() || models.empty()) {
    std::printf("SKIPPED: LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR are not set\n");
    return;
  }
  const io::SafeTensors golden = io::SafeTensors::open(shared / "golden" / "bnb_cuda.safetensors");
  const lowbit::gpt2::FolderParameters model(models / "gpt2-small-ag-news");
  const auto compare = [&](const std::string& prefix, const std::string& module, std::size_t out, std::size_t in) {
    const lowbit::Tensor theirs = io::read_four_bit(golden, prefix + "transformer." + module + ".weight").tensor;
    REQUIRE(theirs.rows() == out);
    REQUIRE(theirs.cols() == in);
    const auto w = weight(model, module, out, in);
    lowbit::FourBitOptions options;
    options.double_quantized = theirs.double_quantized();
    options.offset = theirs.parts().offset;
    const auto ours = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>::quantize(w.data(), out, in, options);
    Difference codes, scales, nested;
    for (std::size_t e = 0; e < ours.size(); ++e)
      codes.add(lowbit::four_bit_code(ours.parts().codes.data(), e), lowbit::four_bit_code(theirs.parts().codes.data(), e));
    if (theirs.double_quantized()) {
      for (std::size_t b = 0; b < ours.parts().scale_codes.size(); ++b)
        scales.add(ours.parts().scale_codes[b], theirs.parts().scale_codes[b]);
      for (std::size_t b = 0; b < ours.parts().nested.size(); ++b)
        nested.add(ours.parts().nested[b] != theirs.parts().nested[b], 0);
      // Our own offset, where no file gives one.
      const auto own = lowbit::NF4Tensor<>::quantize(w.data(), out, in);
      CHECK(within_two_ulp(own.parts().offset, theirs.parts().offset));
    } else {
      for (std::size_t b = 0; b < ours.parts().scales.size(); ++b)
        scales.add(ours.parts().scales[b] != theirs.parts().scales[b], 0);
    }
    std::printf("%s%s: %zu of %zu codes, %zu of %zu absmax, %zu of %zu nested absmax differ\n", prefix.c_str(), module.c_str(),
                codes.count, codes.total, scales.count, scales.total, nested.count, nested.total);
    CHECK(codes.count <= codes.total / 1000000);
    CHECK(codes.largest <= 1);
    CHECK(scales.count <= scales.total / 1000000);
    CHECK(nested.count == 0);
  };
  compare("nested.", "h.0.attn.c_attn", 2304, 768);
  compare("nested.", "h.5.mlp.c_fc", 3072, 768);
  compare("plain.", "h.5.attn.c_proj", 768, 768);

  // LLM.int8(): the GPU divides by an approximation, so its codes are those of some scale within 2 ulp of the exact one.
  const auto w = weight(model, "h.0.attn.c_attn", 2304, 768);
  const auto ours = lowbit::LlmInt8Tensor::quantize(w.data(), 2304, 768);
  const auto codes = golden.at("int8.transformer.h.0.attn.c_attn.CB").copy<std::int8_t>();
  const auto scb = golden.at("int8.transformer.h.0.attn.c_attn.SCB").copy<float>();
  Difference d;
  std::size_t unexplained = 0;
  for (std::size_t r = 0; r < 2304; ++r) {
    REQUIRE(ours.scb()[r] == scb[r]);
    bool differs = false;
    for (std::size_t c = 0; c < 768; ++c) {
      d.add(ours.codes()[r * 768 + c], codes[r * 768 + c]);
      differs |= ours.codes()[r * 768 + c] != codes[r * 768 + c];
    }
    if (!differs) continue;
    const float exact = 127.0f * (1.0f / scb[r]);
    bool explained = false;
    for (int ulp = -2; ulp <= 2 && !explained; ++ulp) {
      const float scale = std::bit_cast<float>(std::bit_cast<std::int32_t>(exact) + ulp);
      explained = true;
      for (std::size_t c = 0; c < 768 && explained; ++c) {
        const float v = lowbit::to_float(lowbit::to_float16(w[r * 768 + c])) * scale;
        explained = static_cast<int>(std::nearbyint(v)) == codes[r * 768 + c];
      }
    }
    unexplained += !explained;
  }
  std::printf("int8.h.0.attn.c_attn: %zu of %zu codes differ, by at most %zu; %zu rows without a scale within 2 ulp\n", d.count,
              d.total, d.largest, unexplained);
  CHECK(d.count <= d.total / 5000);
  CHECK(d.largest <= 1);
  CHECK(unexplained == 0);
}
