// SPDX-License-Identifier: MIT
// The format layer against golden vectors: tests/data/model, from a numpy model of bitsandbytes' three producers, and
// tests/data/bnb_cuda_small.safetensors, from a run of bitsandbytes on a GPU.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lowbit/format/format.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

// Fast-math entitles the compiler to assume that there is no NaN and no infinity, so cases that hold them are left out there.
#if defined(__FAST_MATH__)
#define LOWBIT_TEST_FAST_MATH 1
#else
#define LOWBIT_TEST_FAST_MATH 0
#endif

namespace format_test {

using lowbit::BFloat16;
using lowbit::DynamicRule;
using lowbit::Float16;
using lowbit::Fp4;
using lowbit::LlmInt8Rule;
using lowbit::Nf4;
using lowbit::Producer;
using lowbit_test::bits_of;
using lowbit_test::comparable32;
using lowbit_test::comparable_bf16;
using lowbit_test::comparable_f16;
using lowbit_test::data_path;
using lowbit_test::GoldenFile;
using lowbit_test::model;
using lowbit_test::model_index;
using nlohmann::json;

namespace {

using Bytes = std::vector<std::uint8_t>;
using Codes = std::vector<std::int8_t>;
using Floats = std::vector<float>;

struct FourBit {
  Bytes packed;
  Floats absmax;
};

FourBit quantize(const std::string& type, const Floats& x, std::size_t block, Producer producer) {
  FourBit q{Bytes(lowbit::packed_size(x.size()), 0xEE), Floats(lowbit::block_count(x.size(), block), -7.0f)};
  if (type == "nf4")
    lowbit::quantize_four_bit<Nf4>(x.data(), x.size(), block, producer, q.packed.data(), q.absmax.data());
  else
    lowbit::quantize_four_bit<Fp4>(x.data(), x.size(), block, producer, q.packed.data(), q.absmax.data());
  return q;
}

const float* table_of(const std::string& type) { return type == "nf4" ? Nf4::table.data() : Fp4::table.data(); }

template <class Out>
std::vector<Out> dequantize(const std::string& type, const FourBit& q, std::size_t n, std::size_t block) {
  std::vector<Out> out(n);
  lowbit::dequantize_four_bit(table_of(type), q.packed.data(), q.absmax.data(), 0, n, block, out.data());
  return out;
}

Floats widen(const std::vector<std::uint16_t>& bits, bool bf16) {
  Floats out;
  for (const std::uint16_t b : bits) out.push_back(bf16 ? lowbit::to_float(BFloat16{b}) : lowbit::to_float(Float16{b}));
  return out;
}

std::vector<std::uint16_t> halves(const Floats& values) {
  std::vector<std::uint16_t> out;
  for (const float v : values) out.push_back(lowbit::to_float16(v).bits);
  return out;
}

bool all_finite(const Floats& x) { return lowbit::first_non_finite(x.data(), x.size()) == x.size(); }

bool has_subnormal(const Floats& x) {
  const auto bits = bits_of(x);
  return std::any_of(bits.begin(), bits.end(), [](std::uint32_t b) { return (b & 0x7F800000u) == 0 && (b & 0x7FFFFFu) != 0; });
}

std::vector<std::int32_t> integer_product(const Codes& a, const Codes& b, std::size_t m, std::size_t n, std::size_t k) {
  std::vector<std::int32_t> acc(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t p = 0; p < k; ++p) acc[i * n + j] += a[i * k + p] * b[j * k + p];
  return acc;
}

struct Rows {
  Codes codes;
  Floats stats;
};

Rows llm_int8_rows(const Floats& x, std::size_t rows, float threshold, bool round_to_fp16) {
  const std::size_t cols = x.size() / rows;
  Rows q{Codes(x.size(), 99), Floats(rows, -7.0f)};
  for (std::size_t r = 0; r < rows; ++r)
    lowbit::llm_int8_quantize_row(&x[r * cols], cols, round_to_fp16, threshold, &q.codes[r * cols], q.stats[r]);
  return q;
}

void zero_columns(Codes& codes, std::size_t cols, const std::vector<std::int64_t>& which) {
  for (std::size_t i = 0; i < codes.size(); ++i)
    if (std::find(which.begin(), which.end(), static_cast<std::int64_t>(i % cols)) != which.end()) codes[i] = 0;
}

std::vector<std::int64_t> outlier_columns(const Floats& x, std::size_t cols, float threshold) {
  std::vector<std::int64_t> which;
  for (std::size_t c = 0; c < cols; ++c)
    for (std::size_t i = c; i < x.size(); i += cols)
      if (lowbit::llm_int8_outlier(x[i], threshold)) {
        which.push_back(static_cast<std::int64_t>(c));
        break;
      }
  return which;
}

// Division in the widest type, rounded to float once; volatile keeps every flag, -mrecip too, away from it.
float divide(float a, float b) {
  volatile long double x = a, y = b;
  volatile long double q = x / y;
  return static_cast<float>(q);
}

}  // namespace

TEST_CASE("codebooks and the dynamic map have the exact bits") {
  CHECK(bits_of({Nf4::table.begin(), Nf4::table.end()}) == model<std::uint32_t>("table_nf4.npy"));
  CHECK(bits_of({Fp4::table.begin(), Fp4::table.end()}) == model<std::uint32_t>("table_fp4.npy"));
  const std::string file = lowbit_test::read_bytes(data_path("model/dynamic_map_f32le.bin"));
  REQUIRE(file.size() == 1024);
  CHECK(std::memcmp(file.data(), lowbit::dynamic_map().data(), 1024) == 0);

  const GoldenFile cuda(data_path("bnb_cuda_small.safetensors"));
  CHECK(bits_of({lowbit::dynamic_map().begin(), lowbit::dynamic_map().end()}) == bits_of(cuda.floats("dynamic_map")));
  CHECK(bits_of({Nf4::table.begin(), Nf4::table.end()}) == bits_of(cuda.floats("nf4_map")));
  CHECK(bits_of({Fp4::table.begin(), Fp4::table.end()}) == bits_of(cuda.floats("fp4_map")));
  CHECK(Nf4::table[Nf4::zero_code] == 0.0f);
  CHECK(Fp4::table[Fp4::zero_code] == 0.0f);
  CHECK(lowbit::dynamic_map()[127] == 0.0f);
}

TEST_CASE("NF4 thresholds: a value on one takes the lower code, the next float the upper") {
  const Floats thresholds = model<float>("thresholds_nf4.npy");
  REQUIRE(thresholds.size() == 15);
  for (const Producer producer : {Producer::cuda, Producer::safe, Producer::torch})
    for (std::size_t k = 0; k < 15; ++k) {
      CHECK(Nf4::encode(thresholds[k], producer) == k);
      CHECK(Nf4::encode(std::nextafter(thresholds[k], 2.0f), producer) == k + 1);
      CHECK(Nf4::encode(Nf4::table[k], producer) == k);
    }
  static_assert(Nf4::encode(0.0f) == Nf4::zero_code && Nf4::encode(-0.0f) == Nf4::zero_code && Nf4::encode(1.0f) == 15);
  static_assert(Fp4::encode(0.0f) == 0 && Fp4::encode(-0.0f) == 0 && Fp4::encode(1.0f) == 3 && Fp4::encode(-1.0f) == 11);
  static_assert(Fp4::encode(1e-3f) == 0 && Fp4::encode(-1e-3f) == 8);
  static_assert(Fp4::encode(1e-3f, Producer::torch) == 8 && Fp4::encode(-1e-3f, Producer::torch) == 0);
}

TEST_CASE("4-bit quantization and decoding equal the model's, for both producers") {
  std::size_t cases = 0;
  const json index = model_index();
  for (const json& c : index.at("cases")) {
    if (c.at("kind") != "quant4") continue;
    const Floats x = model<float>(c.at("input"));
    if (LOWBIT_TEST_FAST_MATH && !all_finite(x)) continue;
    const std::string type = c.at("quant_type");
    const std::size_t block = c.at("blocksize");
    for (const auto& [rule, producer] : {std::pair{"cuda", Producer::cuda}, std::pair{"torch", Producer::torch}}) {
      INFO(c.at("name") << " " << rule);
      const json& want = c.at(rule);
      const FourBit q = quantize(type, x, block, producer);
      // Linked with -ffast-math the program flushes subnormal elements to zero, whose code may be another, decoding to the same.
      if (!LOWBIT_TEST_FAST_MATH || !has_subnormal(x)) CHECK(q.packed == model<std::uint8_t>(want.at("packed")));
      CHECK(comparable32(q.absmax) == comparable32(model<float>(want.at("absmax"))));
      CHECK(comparable32(dequantize<float>(type, q, x.size(), block)) == comparable32(model<float>(want.at("dequant_f32"))));
      CHECK(comparable_f16(dequantize<Float16>(type, q, x.size(), block)) ==
            comparable_f16(model<std::uint16_t>(want.at("dequant_f16"))));
      CHECK(comparable_bf16(dequantize<BFloat16>(type, q, x.size(), block)) ==
            comparable_bf16(model<std::uint16_t>(want.at("dequant_bf16_bits"))));
      ++cases;
    }
  }
  CHECK(cases == (LOWBIT_TEST_FAST_MATH ? 34 : 36));
}

TEST_CASE("16-bit inputs are widened first") {
  std::size_t cases = 0;
  const json index = model_index();
  for (const json& c : index.at("cases")) {
    if (c.at("kind") != "quant4_16bit_input") continue;
    INFO(c.at("name"));
    const Floats x = widen(model<std::uint16_t>(c.at("input")), c.at("name") == "nf4_bf16");
    const FourBit q = quantize(c.at("quant_type"), x, c.at("blocksize"), Producer::cuda);
    CHECK(q.packed == model<std::uint8_t>(c.at("packed")));
    CHECK(bits_of(q.absmax) == model<std::uint32_t>(c.at("absmax")));
    ++cases;
  }
  CHECK(cases == 2);
}

TEST_CASE("special 4-bit blocks: zeros, subnormals, odd tails") {
  const Floats zeros(65, 0.0f);
  const auto nibbles = [](const std::string& type, const Floats& x, Producer producer) {
    return quantize(type, x, 64, producer).packed;
  };
  CHECK(nibbles("nf4", zeros, Producer::cuda) == Bytes(33, 0x00));
  CHECK(nibbles("nf4", zeros, Producer::safe) == Bytes(33, 0x77));
  CHECK(nibbles("nf4", zeros, Producer::torch) == Bytes(33, 0x77));
  for (const Producer producer : {Producer::cuda, Producer::safe, Producer::torch})
    CHECK(nibbles("fp4", zeros, producer) == Bytes(33, 0x00));
  CHECK(bits_of(quantize("nf4", zeros, 64, Producer::cuda).absmax) == std::vector<std::uint32_t>{0, 0});
  CHECK(bits_of(quantize("nf4", zeros, 64, Producer::torch).absmax) == std::vector<std::uint32_t>{0, 0x006CE3EE});

  // An absmax below 2^-126 counts as zero; at 2^-126 it does not.
  const FourBit subnormal = quantize("nf4", Floats(64, std::bit_cast<float>(0x007FFFFFu)), 64, Producer::cuda);
  CHECK(subnormal.packed == Bytes(32, 0x00));
  CHECK(bits_of(subnormal.absmax) == std::vector<std::uint32_t>{0});
  const FourBit normal = quantize("nf4", Floats(64, std::bit_cast<float>(0x00800000u)), 64, Producer::cuda);
  CHECK(normal.packed == Bytes(32, 0xFF));
  CHECK(bits_of(normal.absmax) == std::vector<std::uint32_t>{0x00800000});

  // The padding nibble of an odd tail is the code of zero, unless the tail's block is all zero.
  CHECK(nibbles("nf4", {1.0f}, Producer::cuda) == Bytes{0xF7});
  CHECK(nibbles("fp4", {1.0f}, Producer::cuda) == Bytes{0x30});
  CHECK(nibbles("nf4", {}, Producer::cuda).empty());
}

TEST_CASE("short blocks: torch divides by absmax, everything else multiplies by its reciprocal") {
  const Floats thresholds = model<float>("thresholds_nf4.npy");
  std::mt19937 random(9);
  std::uniform_real_distribution<float> uniform(0.5f, 1.0f);
  std::size_t told_apart = 0;
  for (int i = 0; i < 20000; ++i) {
    const float absmax = uniform(random), reciprocal = divide(1.0f, absmax), threshold = thresholds[7 + random() % 8];
    volatile float near = threshold * absmax, product = near * reciprocal;
    const float quotient = divide(near, absmax);
    if ((quotient > threshold) == (product > threshold)) continue;
    ++told_apart;
    const int by_quotient = Nf4::encode(quotient), by_product = Nf4::encode(product);
    REQUIRE(by_quotient != by_product);
    const auto first_code = [&](std::size_t n, Producer producer) {
      Floats x(n, absmax);
      x[0] = near;
      return quantize("nf4", x, 64, producer).packed[0] >> 4;
    };
    CHECK(first_code(10, Producer::torch) == by_quotient);
    CHECK(first_code(64, Producer::torch) == by_product);
    CHECK(first_code(10, Producer::cuda) == by_product);
    CHECK(first_code(64, Producer::safe) == by_product);
  }
  CHECK(told_apart > 100);
}

TEST_CASE("any range of elements decodes to the same values") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.1f);
  Floats x(333);
  for (float& v : x) v = normal(random);
  const FourBit q = quantize("nf4", x, 32, Producer::cuda);
  Floats want;
  for (std::size_t e = 0; e < x.size(); ++e) {
    volatile float product = Nf4::table[lowbit::four_bit_code(q.packed.data(), e)] * q.absmax[e / 32];
    const float rounded = product;
    want.push_back(rounded);
  }
  for (std::size_t begin = 0; begin <= 70; ++begin)
    for (const std::size_t end :
         {begin, begin + 1, begin + 2, std::size_t{96}, std::size_t{97}, std::size_t{332}, std::size_t{333}}) {
      Floats out(end - begin + 1, -7.0f);
      lowbit::dequantize_four_bit(Nf4::table.data(), q.packed.data(), q.absmax.data(), begin, end, 32, out.data());
      CHECK(out.back() == -7.0f);  // nothing is written past the range
      out.pop_back();
      REQUIRE(bits_of(out) ==
              bits_of({want.begin() + static_cast<std::ptrdiff_t>(begin), want.begin() + static_cast<std::ptrdiff_t>(end)}));
    }
}

TEST_CASE("dynamic 8-bit quantization equals the model's, for three producers") {
  std::size_t cases = 0;
  const json index = model_index();
  for (const json& c : index.at("cases")) {
    if (c.at("kind") != "quant8") continue;
    const Floats x = model<float>(c.at("input"));
    const std::size_t block = c.at("blocksize");
    for (const auto& [name, rule] :
         {std::pair{"cuda", DynamicRule::cuda}, std::pair{"torch", DynamicRule::torch}, std::pair{"cpulib", DynamicRule::cpulib}}) {
      INFO(c.at("name") << " " << name);
      const json& want = c.at(name);
      Bytes codes(x.size(), 0xEE);
      Floats absmax(lowbit::block_count(x.size(), block)), decoded(x.size());
      lowbit::quantize_dynamic8(x.data(), x.size(), block, rule, codes.data(), absmax.data());
      lowbit::dequantize_dynamic8(lowbit::dynamic_map().data(), codes.data(), absmax.data(), x.size(), block, decoded.data());
      CHECK(codes == model<std::uint8_t>(want.at("codes")));
      CHECK(bits_of(absmax) == model<std::uint32_t>(want.at("absmax")));
      CHECK(comparable32(decoded) == comparable32(model<float>(want.at("dequant_f32"))));
      ++cases;
    }
  }
  CHECK(cases == 9);
}

TEST_CASE("double quantization is exact given the offset") {
  std::size_t cases = 0;
  const json index = model_index();
  for (const json& c : index.at("cases")) {
    if (c.at("kind") != "nested") continue;
    const Floats absmax = model<float>(c.at("absmax"));
    const std::size_t n = absmax.size();
    const float offset = c.at("offset").get<float>();
    CHECK(std::bit_cast<std::uint32_t>(lowbit::mean_offset(absmax.data(), n)) == std::bit_cast<std::uint32_t>(offset));
    for (const auto& [name, rule] :
         {std::pair{"cuda", DynamicRule::cuda}, std::pair{"torch", DynamicRule::torch}, std::pair{"cpulib", DynamicRule::cpulib}}) {
      INFO(c.at("name") << " " << name);
      const json& want = c.at(name);
      Bytes codes(n, 0xEE);
      Floats nested(lowbit::block_count(n, lowbit::nested_block_size)), decoded(n);
      lowbit::double_quantize(absmax.data(), n, offset, codes.data(), nested.data(), rule);
      lowbit::double_dequantize(lowbit::dynamic_map().data(), codes.data(), nested.data(), n, offset, decoded.data());
      CHECK(codes == model<std::uint8_t>(want.at("codes")));
      CHECK(bits_of(nested) == model<std::uint32_t>(want.at("nested_absmax")));
      CHECK(bits_of(decoded) == model<std::uint32_t>(want.at("dequant_two_roundings")));
      if (n > 3) CHECK(bits_of(decoded) != model<std::uint32_t>(want.at("dequant_fma")));  // the two are told apart
      ++cases;
    }
  }
  CHECK(cases == 9);
  CHECK(lowbit::mean_offset(nullptr, 0) == 0.0f);
}

TEST_CASE("LLM.int8() equals the model's: codes, stats, sums, outputs by both rules") {
  const json cases = model_index().at("cases");
  const json& c = *std::find_if(cases.begin(), cases.end(), [](const json& entry) { return entry.at("kind") == "int8"; });
  const std::size_t m = 8, n = 48, k = 96;
  const Floats a = widen(model<std::uint16_t>(c.at("A_f16")), false), w = widen(model<std::uint16_t>(c.at("W_f16")), false),
               bias = widen(model<std::uint16_t>(c.at("bias_f16")), false);
  const Rows weight = llm_int8_rows(w, n, 0.0f, false);
  CHECK(weight.codes == model<std::int8_t>(c.at("CB")));
  CHECK(bits_of(weight.stats) == model<std::uint32_t>(c.at("SCB")));
  for (const float threshold : {0.0f, 6.0f}) {
    INFO("threshold " << threshold);
    const json& want = c.at(threshold == 0.0f ? "threshold_0" : "threshold_6");
    Rows rows = llm_int8_rows(a, m, threshold, true);
    const std::vector<std::int64_t> columns = outlier_columns(a, k, threshold);
    zero_columns(rows.codes, k, columns);
    CHECK(rows.codes == model<std::int8_t>(want.at("CA")));
    CHECK(bits_of(rows.stats) == model<std::uint32_t>(want.at("SCA")));
    const std::vector<std::int32_t> acc = integer_product(rows.codes, weight.codes, m, n, k);
    CHECK(acc == model<std::int32_t>(want.at("acc_i32")));
    for (const auto& [name, rule] : {std::pair{"cuda", LlmInt8Rule::cuda}, std::pair{"torch", LlmInt8Rule::torch}})
      for (const bool with_bias : {true, false}) {
        INFO(name << " bias " << with_bias);
        Floats out;
        for (std::size_t i = 0; i < m * n; ++i)
          out.push_back(
              lowbit::llm_int8_dequantize(acc[i], rows.stats[i / n], weight.stats[i % n], with_bias ? bias[i % n] : 0.0f, rule));
        const std::string key = std::string(with_bias ? "out_f16_" : "out_f16_nobias_") + name;
        CHECK(comparable_f16(halves(out)) == comparable_f16(model<std::uint16_t>(want.at(key))));
      }
    if (threshold == 0.0f) {
      CHECK(columns.empty());
      continue;
    }
    CHECK(columns == model<std::int64_t>(want.at("outlier_cols")));
    Floats outlier_weights;
    for (std::size_t j = 0; j < n; ++j)
      for (const std::int64_t col : columns)
        outlier_weights.push_back(lowbit::llm_int8_decode(weight.codes[j * k + static_cast<std::size_t>(col)], weight.stats[j]));
    CHECK(comparable_f16(halves(outlier_weights)) == comparable_f16(model<std::uint16_t>(want.at("subW_f16"))));
  }
  const Rows ties = llm_int8_rows(widen(model<std::uint16_t>(c.at("ties").at("A_f16")), false), 1, 0.0f, false);
  CHECK(ties.codes == model<std::int8_t>(c.at("ties").at("q")));
  CHECK(bits_of(ties.stats) == model<std::uint32_t>(c.at("ties").at("stat")));
}

TEST_CASE("LLM.int8() rounds to fp16 when asked, and only then") {
  const Floats x{1.0f, 1.0f + 0x1p-12f, 0.3f, -2.0f - 0x1p-11f};
  CHECK(llm_int8_rows(x, 1, 0.0f, true).stats[0] == 2.0f);
  CHECK(llm_int8_rows(x, 1, 0.0f, false).stats[0] == 2.0f + 0x1p-11f);
  CHECK(llm_int8_rows(Floats(8, 0.0f), 1, 0.0f, true).codes == Codes(8, 0));
  // The threshold is inclusive and compared in fp16.
  CHECK(lowbit::llm_int8_outlier(6.0f, 6.0f));
  CHECK(lowbit::llm_int8_outlier(-6.0f + 0x1p-10f, 6.0f));  // rounds to -6
  CHECK_FALSE(lowbit::llm_int8_outlier(5.996f, 6.0f));
  CHECK_FALSE(lowbit::llm_int8_outlier(100.0f, 0.0f));
}

TEST_CASE("LLM.int8()'s scale has two roundings, and its constants their bits") {
  CHECK(std::bit_cast<std::uint32_t>(lowbit::llm_int8_dequantize(1, 1.0f, 1.0f, 0.0f, LlmInt8Rule::cuda)) == 0x38820610u);
  CHECK(std::bit_cast<std::uint32_t>(lowbit::llm_int8_dequantize(1, 1.0f, 1.0f, 0.0f, LlmInt8Rule::torch)) == 0x388206AAu);
  CHECK(std::bit_cast<std::uint32_t>(lowbit::llm_int8_decode(1, 1.0f)) == 0x3C010204u);

  std::mt19937 random(11);
  std::uniform_real_distribution<float> uniform(0.5f, 1.0f);
  std::size_t told_apart = 0;
  for (int i = 0; i < 20000; ++i) {
    const float stat = uniform(random);
    volatile float scale = 127.0f * divide(1.0f, stat);
    const float once = divide(127.0f, stat), half = static_cast<float>(random() % 126) + 0.5f;
    volatile float x = divide(half, scale), product = x * scale, other = x * once;
    const int want = static_cast<int>(std::nearbyint(static_cast<double>(product)));
    told_apart += want != static_cast<int>(std::nearbyint(static_cast<double>(other)));
    const float value = x;
    REQUIRE(llm_int8_rows({value, stat}, 1, 0.0f, false).codes == Codes{static_cast<std::int8_t>(want), 127});
  }
  CHECK(told_apart > 100);

  // Every rounding of the dequantization shows in its float result.
  for (int i = 0; i < 20000; ++i) {
    const auto acc = static_cast<std::int32_t>(random() % 40000001) - 20000000;
    const float row = uniform(random), col = uniform(random), bias = 700.0f * uniform(random);
    volatile float sum = static_cast<float>(acc);
    volatile float by_row = sum * row, both = by_row * col, scale = row * col, scaled = sum * scale;
    volatile float unbiased = scaled * std::bit_cast<float>(0x388206AAu), torch = unbiased + bias;
    // Exact but for the 64-bit mantissa of long double, which no tie is near to here.
    volatile long double fused =
        static_cast<long double>(both) * static_cast<long double>(std::bit_cast<float>(0x38820610u)) + bias;
    const float cuda = static_cast<float>(fused), torch_want = torch;
    REQUIRE(lowbit::llm_int8_dequantize(acc, row, col, bias, LlmInt8Rule::cuda) == cuda);
    REQUIRE(lowbit::llm_int8_dequantize(acc, row, col, bias, LlmInt8Rule::torch) == torch_want);
  }
}

TEST_CASE("the reciprocal of a GPU is one of the two floats beside the exact one") {
  int other = 0;
  for (std::uint32_t mantissa = 0; mantissa < 1024; ++mantissa)
    for (const std::uint32_t exponent : {103u, 127u, 142u}) {
      const float x = std::bit_cast<float>(exponent << 23 | mantissa << 13), r = lowbit::detail::gpu_reciprocal(x);
      const double one = static_cast<double>(x) * static_cast<double>(r);
      CHECK(std::fabs(one - 1) < 0x1p-23);  // less than an ulp of 1 / x, 2^-24 below a power of two, times 2
      other += r != divide(1.0f, x);
    }
  CHECK(other == 3 * 130);
  // As an H200 has them.
  CHECK(std::bit_cast<std::uint32_t>(lowbit::detail::gpu_reciprocal(1 + 176 / 1024.0f)) == 0x3F5A740Du);
  CHECK(std::bit_cast<std::uint32_t>(lowbit::detail::gpu_reciprocal(1 + 304 / 1024.0f)) == 0x3F4565C9u);
  CHECK(std::bit_cast<std::uint32_t>(lowbit::detail::gpu_reciprocal(1 + 1016 / 1024.0f)) == 0x3F008080u);
}

TEST_CASE("4-bit and dynamic 8-bit codes equal a GPU's") {
  const GoldenFile cuda(data_path("bnb_cuda_small.safetensors"));
  // The GPU's reciprocal is approximate, so one code in a million may be the neighbour's; of these 33,000 none is.
  for (const std::string vector : {"normal", "mixed", "tail", "zeros"}) {
    const Floats x = cuda.floats("vec." + vector + ".input");
    for (const std::string type : {"nf4", "fp4"})
      for (const std::size_t block : {64u, 128u, 256u}) {
        const std::string key = "vec." + vector + "." + type + "." + std::to_string(block) + ".";
        INFO(key);
        const FourBit q = quantize(type, x, block, Producer::cuda);
        CHECK(q.packed == cuda.bytes(key + "codes"));
        CHECK(bits_of(q.absmax) == bits_of(cuda.floats(key + "absmax")));
        CHECK(comparable32(dequantize<float>(type, q, x.size(), block)) == comparable32(cuda.floats(key + "dequant")));
      }
    Bytes codes(x.size());
    Floats absmax(lowbit::block_count(x.size(), 256));
    lowbit::quantize_dynamic8(x.data(), x.size(), 256, DynamicRule::cuda, codes.data(), absmax.data());
    CHECK(codes == cuda.bytes("vec." + vector + ".dyn8.256.codes"));
    CHECK(bits_of(absmax) == bits_of(cuda.floats("vec." + vector + ".dyn8.256.absmax")));
  }
}

TEST_CASE("LLM.int8() codes and outputs equal a GPU's") {
  const GoldenFile cuda(data_path("bnb_cuda_small.safetensors"));
  const std::size_t m = 64, n = 96, k = 768;
  const Floats a = cuda.floats("llm8.A"), b = cuda.floats("llm8.B");
  REQUIRE(a.size() == m * k);
  REQUIRE(b.size() == n * k);
  const auto columns = cuda.get<std::int64_t>("llm8.A.outlier_cols", "I64");
  CHECK(outlier_columns(a, k, 6.0f) == columns);
  const auto compare = [&](const std::string& name, const Floats& x, std::size_t rows, float threshold) {
    INFO(name);
    Rows ours = llm_int8_rows(x, rows, threshold, true);
    if (threshold > 0) zero_columns(ours.codes, k, columns);
    const auto codes = cuda.get<std::int8_t>(name + ".codes", "I8");
    CHECK(bits_of(ours.stats) == bits_of(cuda.floats(name + ".stats")));
    std::size_t off = 0;
    int worst = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      off += codes[i] != ours.codes[i];
      worst = std::max(worst, std::abs(codes[i] - ours.codes[i]));
    }
    CHECK(off * 10000 <= 2 * codes.size());
    CHECK(worst <= 1);
    // Every row of the GPU's codes is what some scale within 2 ulp of ours gives.
    for (std::size_t r = 0; r < rows; ++r) {
      const float stat = ours.stats[r], scale = stat > 0 ? 127.0f * divide(1.0f, stat) : 0.0f;
      bool explained = false;
      for (std::int32_t ulp = -2; ulp <= 2 && !explained; ++ulp) {
        const float s = std::bit_cast<float>(std::bit_cast<std::int32_t>(scale) + (scale > 0 ? ulp : 0));
        explained = true;
        for (std::size_t i = r * k; i < (r + 1) * k; ++i) {
          volatile float product = lowbit::to_float(lowbit::to_float16(x[i])) * s;
          const bool out =
              threshold > 0 && std::find(columns.begin(), columns.end(), static_cast<std::int64_t>(i % k)) != columns.end();
          explained = explained && codes[i] == (out ? 0 : static_cast<int>(std::nearbyint(static_cast<double>(product))));
        }
      }
      CHECK(explained);
    }
    return codes;
  };
  const Codes ca = compare("llm8.A", a, m, 6.0f), cb = compare("llm8.B", b, n, 0.0f);

  // The whole product: integer sums, then the outlier columns in fp16, added in fp16.
  const Floats sa = cuda.floats("llm8.A.stats"), sb = cuda.floats("llm8.B.stats");
  const std::vector<std::int32_t> acc = integer_product(ca, cb, m, n, k);
  const std::vector<std::uint16_t> want = halves(cuda.floats("llm8.out"));
  std::size_t off = 0;
  for (std::size_t i = 0; i < m * n; ++i) {
    double sum =
        lowbit::to_float(lowbit::to_float16(lowbit::llm_int8_dequantize(acc[i], sa[i / n], sb[i % n], 0.0f, LlmInt8Rule::cuda)));
    for (const std::int64_t col : columns) {
      const auto c = static_cast<std::size_t>(col);
      const float weight = lowbit::to_float(lowbit::to_float16(lowbit::llm_int8_decode(cb[(i % n) * k + c], sb[i % n])));
      sum += static_cast<double>(lowbit::to_float(lowbit::to_float16(a[(i / n) * k + c]))) * static_cast<double>(weight);
    }
    const std::uint16_t got = lowbit::to_float16(static_cast<float>(sum)).bits;
    off += got != want[i];
    CHECK(std::abs(got - want[i]) <= 1);
  }
  CHECK(off <= 2);  // the GPU's addition rounds once more; the torch rule would differ in 168
}

TEST_CASE("plain int8: true division, half to even, one scale per group") {
  {
    const Floats x{127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -127};
    Codes codes(x.size());
    float scale = 0;
    lowbit::quantize_int8(x.data(), x.size(), x.size(), codes.data(), &scale);
    CHECK(scale == 1.0f);
    CHECK(codes == Codes{127, 0, 2, 2, 0, -2, -2, 126, -127});
  }
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (const std::size_t block : {1u, 7u, 64u, 1000u, 5000u}) {
    Floats x(2003);
    for (float& v : x) v = normal(random) * std::exp2(static_cast<float>(random() % 40) - 20.0f);
    std::fill(x.begin() + 70, x.begin() + 140, 0.0f);
    Codes codes(x.size(), -128);
    Floats scales(lowbit::block_count(x.size(), block)), decoded(x.size());
    lowbit::quantize_int8(x.data(), x.size(), block, codes.data(), scales.data());
    lowbit::dequantize_int8(codes.data(), scales.data(), 0, x.size(), block, decoded.data());
    for (std::size_t g = 0; g < scales.size(); ++g) {
      const std::size_t begin = g * block, end = std::min(begin + block, x.size());
      float absmax = 0;
      for (std::size_t i = begin; i < end; ++i) absmax = std::max(absmax, std::abs(x[i]));
      REQUIRE(scales[g] == divide(absmax, 127.0f));
      for (std::size_t i = begin; i < end; ++i) {
        REQUIRE(codes[i] ==
                (scales[g] == 0.0f ? 0 : static_cast<int>(std::nearbyint(static_cast<double>(divide(x[i], scales[g]))))));
        REQUIRE(std::abs(codes[i]) <= 127);
        volatile float product = static_cast<float>(codes[i]) * scales[g];
        const float want = product;
        REQUIRE(std::bit_cast<std::uint32_t>(decoded[i]) == std::bit_cast<std::uint32_t>(want));
      }
    }
    std::vector<BFloat16> part(5);
    lowbit::dequantize_int8(codes.data(), scales.data(), 998, 1003, block, part.data());
    for (std::size_t i = 0; i < 5; ++i) CHECK(part[i] == lowbit::to_bfloat16(decoded[998 + i]));
  }
}

TEST_CASE("quotient is IEEE division whatever the flags") {
  std::mt19937 random(7);
  const auto any = [&] {
    return std::bit_cast<float>(static_cast<std::uint32_t>((random() & 0x807FFFFFu) | (96 + random() % 64) << 23));
  };
  for (int i = 0; i < 100000; ++i) {
    const float a = any(), b = any();
    REQUIRE(std::bit_cast<std::uint32_t>(lowbit::quotient(a, b)) == std::bit_cast<std::uint32_t>(divide(a, b)));
    REQUIRE(std::bit_cast<std::uint32_t>(lowbit::quotient(1.0f, b)) == std::bit_cast<std::uint32_t>(divide(1.0f, b)));
  }
}

TEST_CASE("first_non_finite finds NaN and infinity by their bits") {
  Floats x(100, 1.0f);
  CHECK(lowbit::first_non_finite(x.data(), x.size()) == 100);
  CHECK(lowbit::first_non_finite(x.data(), 0) == 0);
  for (const std::uint32_t bits : {0x7F800000u, 0xFF800000u, 0x7FC00000u, 0xFF800001u}) {
    Floats y = x;
    std::memcpy(&y[37], &bits, 4);
    CHECK(lowbit::first_non_finite(y.data(), y.size()) == 37);
    CHECK(lowbit::first_non_finite(y.data(), 37) == 37);
  }
  x[3] = std::numeric_limits<float>::max();
  x[4] = std::bit_cast<float>(0x00000001u);
  CHECK(lowbit::first_non_finite(x.data(), x.size()) == 100);
}

#if !LOWBIT_TEST_FAST_MATH
TEST_CASE("NaN and infinity are coded as the rules say") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  CHECK(Nf4::encode(nan) == 0);
  CHECK(Nf4::encode(nan, Producer::torch) == 15);
  CHECK(Fp4::encode(-nan) == 0);
  CHECK(Fp4::encode(nan, Producer::torch) == 3);

  Floats x(256, 0.5f);
  x[1] = nan;
  x[2] = 1.0f;
  Bytes codes(256);
  float absmax = 0;
  lowbit::quantize_dynamic8(x.data(), 256, 256, DynamicRule::cuda, codes.data(), &absmax);
  CHECK(absmax == 1.0f);
  CHECK(codes[1] == 0);
  CHECK(codes[2] == 255);
  lowbit::quantize_dynamic8(x.data(), 256, 256, DynamicRule::torch, codes.data(), &absmax);
  CHECK(std::isnan(absmax));
  CHECK(codes == Bytes(256, 255));

  // Plain int8: the group decodes to NaN, its neighbour is untouched.
  Codes ints(256, 99);
  Floats scales(4), decoded(256);
  for (const float bad : {nan, infinity, -infinity}) {
    x[1] = bad;
    lowbit::quantize_int8(x.data(), 256, 64, ints.data(), scales.data());
    lowbit::dequantize_int8(ints.data(), scales.data(), 0, 256, 64, decoded.data());
    CHECK(std::all_of(decoded.begin(), decoded.begin() + 64, [](float v) { return std::isnan(v); }));
    CHECK(ints[64] == 127);
    // LLM.int8(): stat tells, codes are 0; an infinite outlier is just an outlier.
    Rows rows = llm_int8_rows(x, 1, 0.0f, true);
    CHECK_FALSE(lowbit::is_finite_bits(rows.stats[0]));
    CHECK(rows.codes == Codes(256, 0));
    rows = llm_int8_rows(x, 1, 6.0f, true);
    CHECK(lowbit::is_finite_bits(rows.stats[0]) == (bad != bad ? false : true));
  }
  CHECK(llm_int8_rows({70000.0f, 1.0f}, 1, 0.0f, true).stats[0] == infinity);  // fp16 overflow is part of the format
}
#endif

TEST_CASE("sizes, names and refusals") {
  CHECK(lowbit::packed_size(0) == 0);
  CHECK(lowbit::packed_size(7) == 4);
  CHECK(lowbit::packed_size(std::numeric_limits<std::size_t>::max()) == std::numeric_limits<std::size_t>::max() / 2 + 1);
  CHECK(lowbit::block_count(65, 64) == 2);
  for (const std::size_t block : {32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u}) CHECK(lowbit::valid_block_size(block));
  for (const std::size_t block : {0u, 1u, 16u, 33u, 96u, 8192u}) {
    CHECK_FALSE(lowbit::valid_block_size(block));
    CHECK_THROWS_AS(quantize("nf4", Floats(64, 1.0f), block == 0 ? 16 : block, Producer::cuda), lowbit::InvalidArgument);
  }
  const float one = 1.0f;
  std::int8_t code = 0;
  std::uint8_t byte = 0;
  float scale = 0;
  CHECK_THROWS_AS(lowbit::quantize_int8(&one, 1, 0, &code, &scale), lowbit::InvalidArgument);
  CHECK_THROWS_AS(lowbit::quantize_dynamic8(&one, 1, 0, DynamicRule::cuda, &byte, &scale), lowbit::InvalidArgument);

  using lowbit::Format;
  CHECK(format_name(Format::f32) == std::string("f32"));
  CHECK(format_name(Format::f16) == std::string("f16"));
  CHECK(format_name(Format::bf16) == std::string("bf16"));
  CHECK(format_name(Format::int8) == std::string("int8"));
  CHECK(format_name(Format::nf4) == std::string("nf4"));
  CHECK(format_name(Format::fp4) == std::string("fp4"));
  CHECK(format_name(Format::llm_int8) == std::string("llm_int8"));
}

}  // namespace format_test
