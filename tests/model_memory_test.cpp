// SPDX-License-Identifier: MIT
// The bytes that a model says it takes, counted by hand.
#include "lowbit/gpt2/model.hpp"

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <random>
#include <string>
#include <utility>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/gpt2_models.hpp"

namespace fs = std::filesystem;
using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::Tensor;

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
