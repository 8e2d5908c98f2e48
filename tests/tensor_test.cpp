// SPDX-License-Identifier: MIT
// Owning tensors: what quantize() refuses, what decoding gives, what parts are accepted, the memory they take; error
// statistics.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lowbit/tensor/error_statistics.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tensor_test {

using lowbit::AnyAbsmax;
using lowbit::BFloat16;
using lowbit::Blockwise;
using lowbit::DenseTensor;
using lowbit::DoubleQuantizedAbsmax;
using lowbit::Float16;
using lowbit::Format;
using lowbit::FP4Tensor;
using lowbit::Int8Tensor;
using lowbit::InvalidArgument;
using lowbit::LlmInt8Tensor;
using lowbit::NF4Tensor;
using lowbit::PackedTensor;
using lowbit::PerTensor;
using lowbit::PlainAbsmax;
using lowbit::Tensor;
using lowbit::TensorParts;
using lowbit_test::bits_of;
using lowbit_test::clone;
using lowbit_test::copy_of;
using lowbit_test::difference;
using lowbit_test::one_of_every_kind;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

const float nan_value = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();

Floats values_of(const Tensor& t) {
  Floats out(t.size());
  t.dequantize(out.data());
  return out;
}

constexpr std::size_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 77, 96, 100, 127, 128, 129};

}  // namespace

// ---- decoding
// --------------------------------------------------------------------------------------------------------------------

TEST_CASE("every kind decodes to code value times scale, in any range of rows and any output type", "[decode]") {
  Random random(31);
  for (int shape = 0; shape < 40; ++shape) {
    const std::size_t rows = random.one_of(sizes), cols = random.one_of(sizes);
    for (const Weights& w : one_of_every_kind(rows, cols, random)) {
      INFO(w.name << " " << rows << " x " << cols);
      const auto e = lowbit_test::take_apart(w.tensor);
      Floats want(rows * cols);
      for (std::size_t i = 0; i < want.size(); ++i) {
        // 24-bit values: the double product is exact, so this is one rounding; LLM.int8() multiplies by float(1/127) after it.
        want[i] = static_cast<float>(e.value[i] * e.scale[i]);
        if (w.tensor.format() == Format::llm_int8) want[i] = lowbit_test::once_rounded(want[i] * static_cast<float>(1.0 / 127));
      }
      Floats got(rows * cols);
      w.tensor.dequantize(got.data());
      CHECK(bits_of(got) == bits_of(want));
      const std::size_t begin = random.below(rows + 1), end = begin + random.below(rows - begin + 1);
      Floats part((end - begin) * cols + 1, -9.0f);
      w.tensor.dequantize_rows(begin, end, part.data());
      CHECK(part.back() == -9.0f);
      part.pop_back();
      CHECK(bits_of(part) == bits_of(Floats(want.begin() + static_cast<std::ptrdiff_t>(begin * cols),
                                            want.begin() + static_cast<std::ptrdiff_t>(end * cols))));
      std::vector<Float16> halves(want.size());
      std::vector<BFloat16> brains(want.size());
      w.tensor.dequantize(halves.data());
      w.tensor.dequantize(brains.data());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < want.size(); ++i)
        wrong += halves[i] != lowbit::to_float16(want[i]) || brains[i] != lowbit::to_bfloat16(want[i]);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a range of rows outside the tensor is refused", "[decode]") {
  const Floats w(6, 1.0f);
  const auto t = Int8Tensor<>::quantize(w.data(), 2, 3);
  Floats out(6);
  CHECK(unsaid<InvalidArgument>([&] { t.dequantize_rows(1, 3, out.data()); }, {"[1, 3)", "(2, 3)"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { t.dequantize_rows(2, 1, out.data()); }, {"[2, 1)", "(2, 3)"}) == "");
  CHECK_NOTHROW(t.dequantize_rows(2, 2, out.data()));
}

TEST_CASE("double-quantized scales are the scalar rule's, and what quantize() stores is the format layer's", "[decode]") {
  Random random(32);
  const std::size_t rows = 130, cols = 160;  // 325 blocks: more than one nested block
  const Floats w = random.uneven(rows * cols);
  const auto t = NF4Tensor<>::quantize(w.data(), rows, cols);
  const TensorParts& p = t.parts();
  const std::size_t blocks = 325;
  std::vector<std::uint8_t> packed(lowbit::packed_size(w.size())), codes(blocks);
  Floats absmax(blocks), nested(2), decoded(blocks);
  lowbit::quantize_four_bit<lowbit::Nf4>(w.data(), w.size(), 64, lowbit::Producer::cuda, packed.data(), absmax.data());
  const float offset = lowbit::mean_offset(absmax.data(), blocks);
  lowbit::double_quantize(absmax.data(), blocks, offset, codes.data(), nested.data());
  lowbit::double_dequantize(lowbit::dynamic_map().data(), codes.data(), nested.data(), blocks, offset, decoded.data());
  CHECK(copy_of(p.codes) == packed);
  CHECK(copy_of(p.scale_codes) == codes);
  CHECK(bits_of(copy_of(p.nested)) == bits_of(nested));
  CHECK(p.offset == offset);
  CHECK(p.scales.empty());
  CHECK(t.double_quantized());
  std::size_t wrong = 0;
  for (std::size_t b = 0; b < blocks; ++b) wrong += t.scale(b) != decoded[b];
  CHECK(wrong == 0);

  // The offset may be given, as a checkpoint has it.
  lowbit::FourBitOptions options;
  options.offset = 0.125f;
  const auto given = NF4Tensor<>::quantize(w.data(), rows, cols, options);
  CHECK(given.parts().offset == 0.125f);
  lowbit::double_quantize(absmax.data(), blocks, 0.125f, codes.data(), nested.data());
  CHECK(copy_of(given.parts().scale_codes) == codes);
  // So may the rules.
  options = {};
  options.producer = lowbit::Producer::safe;
  const Floats zeros(64);
  CHECK((NF4Tensor<64, PlainAbsmax>::quantize(zeros.data(), 1, 64, options).parts().codes[0]) == 0x77);
  CHECK((NF4Tensor<64, PlainAbsmax>::quantize(zeros.data(), 1, 64).parts().codes[0]) == 0x00);
}

// ---- refusals
// --------------------------------------------------------------------------------------------------------------------

namespace {

template <class T>
void check_refuses_non_finite() {
  for (const float bad : {nan_value, infinity, -infinity}) {
    Floats w(5 * 7, 1.0f);
    w[2 * 7 + 3] = bad;
    w[4 * 7 + 1] = bad;
    CHECK(unsaid<InvalidArgument>([&] { T::quantize(w.data(), 5, 7); }, {"(5, 7)", "(2, 3)", "NaN or infinite"}) == "");
    typename T::Options options;
    options.allow_non_finite = true;
    const T allowed = T::quantize(w.data(), 5, 7, options);
    Floats decoded(35);
    allowed.dequantize(decoded.data());
    CHECK_FALSE(decoded[2 * 7 + 3] == 1.0f);
  }
}

}  // namespace

TEST_CASE("quantize() refuses NaN and infinity and names the first, unless told otherwise", "[refuse]") {
  check_refuses_non_finite<Int8Tensor<>>();
  check_refuses_non_finite<Int8Tensor<PerTensor>>();
  check_refuses_non_finite<Int8Tensor<Blockwise<24>>>();
  check_refuses_non_finite<LlmInt8Tensor>();
  check_refuses_non_finite<NF4Tensor<>>();
  check_refuses_non_finite<NF4Tensor<32, PlainAbsmax>>();
  check_refuses_non_finite<FP4Tensor<lowbit::any_block_size, AnyAbsmax>>();

  Floats w(4, 1.0f);
  w[1] = 70000;  // finite, but not in fp16
  CHECK(unsaid<InvalidArgument>([&] { LlmInt8Tensor::quantize(w.data(), 2, 2); }, {"fp16", "70000"}) == "");
  CHECK_NOTHROW(Int8Tensor<>::quantize(w.data(), 2, 2));
  w[1] = nan_value;  // dense tensors hold anything
  CHECK(std::isnan(lowbit::to_float(DenseTensor<BFloat16>::quantize(w.data(), 2, 2).data()[1])));
}

TEST_CASE("block sizes and absmax kinds are those of the type", "[refuse]") {
  const Floats w(256, 1.0f);
  lowbit::FourBitOptions options;
  using Any = NF4Tensor<lowbit::any_block_size, AnyAbsmax>;
  for (const std::size_t block : Sizes{0, 1, 16, 48, 100, 8192}) {
    options.block_size = block;
    CHECK(unsaid<InvalidArgument>([&] { Any::quantize(w.data(), 4, 64, options); }, {"32 to 4096", std::to_string(block)}) == "");
  }
  for (const std::size_t block : lowbit_test::four_bit_blocks)
    for (const bool double_quantized : {false, true}) {
      options.block_size = block;
      options.double_quantized = double_quantized;
      const Any t = Any::quantize(w.data(), 4, 64, options);
      CHECK(t.block_size() == block);
      CHECK(t.double_quantized() == double_quantized);
    }
  const auto plain = NF4Tensor<64, PlainAbsmax>::quantize(w.data(), 4, 64);
  const auto nested = NF4Tensor<64>::quantize(w.data(), 4, 64);
  CHECK(unsaid<InvalidArgument>([&] { NF4Tensor<32, PlainAbsmax>{clone(plain.parts())}; }, {"nf4", "32", "64"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { NF4Tensor<64>{clone(plain.parts())}; }, {"expected double-quantized absmax"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { NF4Tensor<64, PlainAbsmax>{clone(nested.parts())}; }, {"expected plain absmax"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { FP4Tensor<64>{clone(nested.parts())}; }, {"expected fp4", "found nf4"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { Int8Tensor<>{clone(nested.parts())}; }, {"expected int8", "found nf4"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { DenseTensor<float>{clone(nested.parts())}; }, {"expected f32", "found nf4"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { LlmInt8Tensor{clone(nested.parts())}; }, {"expected llm_int8", "found nf4"}) == "");
  const auto row = Int8Tensor<>::quantize(w.data(), 4, 64);
  CHECK(unsaid<InvalidArgument>([&] { Int8Tensor<PerTensor>{clone(row.parts())}; }, {"256", "64"}) == "");
  CHECK_NOTHROW(Int8Tensor<Blockwise<64>>{clone(row.parts())});
  CHECK_NOTHROW(Any{clone(nested.parts())});
  CHECK_NOTHROW(Any{clone(plain.parts())});
}

TEST_CASE("parts whose sizes do not fit the shape are refused", "[refuse]") {
  Random random(33);
  const auto check = [](const Tensor& t, const auto& damage, std::initializer_list<std::string_view> words) {
    TensorParts p = clone(t.parts());
    damage(p);
    CHECK(unsaid<InvalidArgument>([&] { Tensor{std::move(p)}; }, words) == "");
  };
  for (const Weights& w : one_of_every_kind(9, 33, random)) {
    INFO(w.name);
    const Tensor& t = w.tensor;
    CHECK_NOTHROW(Tensor{clone(t.parts())});
    const std::string bytes = std::to_string(t.parts().codes.size());
    check(t, [](TensorParts& p) { p.codes.reset(p.codes.size() - 1); }, {"(9, 33)", bytes, "bytes of elements"});
    check(t, [](TensorParts& p) { p.codes.reset(p.codes.size() + 1); }, {"(9, 33)", bytes, "bytes of elements"});
    check(t, [](TensorParts& p) { p.rows += 2; }, {"(11, 33)", "bytes of elements"});
    check(t, [](TensorParts& p) { p.rows = std::size_t{1} << 40, p.cols = std::size_t{1} << 40; }, {"does not fit"});
    if (t.block_size() == 0) {
      check(t, [](TensorParts& p) { p.block = 64; }, {"block size"});
      continue;
    }
    check(t, [](TensorParts& p) { p.block = 0; }, {"block size 0"});
    if (t.double_quantized()) {
      check(t, [](TensorParts& p) { p.scale_codes.reset(p.scale_codes.size() + 1); }, {"absmax codes"});
      check(t, [](TensorParts& p) { p.nested.reset(p.nested.size() + 1); }, {"nested absmax"});
      check(t, [](TensorParts& p) { p.nested.reset(0); }, {"nested absmax"});
    } else {
      check(t, [](TensorParts& p) { p.scales.reset(p.scales.size() + 1); }, {"scales"});
      check(t, [](TensorParts& p) { p.scales.reset(0); }, {"scales"});
    }
    if (lowbit::detail::element_bits(t.format()) == 4)
      check(t, [](TensorParts& p) { p.block = 48; }, {"block size 48"});
    else
      check(t, [](TensorParts& p) { p.scale_codes.reset(p.scales.size()); }, {"cannot be double-quantized"});
  }
}

TEST_CASE("tensors without elements are tensors", "[refuse]") {
  Random random(34);
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{0, 5}, {5, 0}, {0, 0}})
    for (const Weights& w : one_of_every_kind(rows, cols, random)) {
      INFO(w.name << " " << rows << " x " << cols);
      CHECK(w.tensor.size() == 0);
      CHECK(w.tensor.resident_bytes() == 0);
      float nothing = -1;
      w.tensor.dequantize(&nothing);
      CHECK(nothing == -1);
      if (w.packed) {
        const Tensor back = w.packed->unpack();
        CHECK(difference(w.tensor.parts(), back.parts()) == "");
      }
    }
  const float scb[3] = {1, 2, 3};
  CHECK(LlmInt8Tensor::from_codes(nullptr, scb, 3, 0).rows() == 3);
}

// ---- memory
// ----------------------------------------------------------------------------------------------------------------------

TEST_CASE("element and resident bytes add up", "[memory]") {
  const std::size_t rows = 96, cols = 128, n = rows * cols;
  const Floats w(n, 0.5f);
  struct Case {
    Tensor tensor;
    std::size_t elements, scales;
  };
  std::vector<Case> cases;
  cases.push_back({DenseTensor<float>::quantize(w.data(), rows, cols), 4 * n, 0});
  cases.push_back({DenseTensor<Float16>::quantize(w.data(), rows, cols), 2 * n, 0});
  cases.push_back({DenseTensor<BFloat16>::quantize(w.data(), rows, cols), 2 * n, 0});
  cases.push_back({Int8Tensor<>::quantize(w.data(), rows, cols), n, 4 * rows});
  cases.push_back({Int8Tensor<PerTensor>::quantize(w.data(), rows, cols), n, 4});
  cases.push_back({Int8Tensor<Blockwise<32>>::quantize(w.data(), rows, cols), n, 4 * n / 32});
  cases.push_back({LlmInt8Tensor::quantize(w.data(), rows, cols), n, 4 * rows});
  cases.push_back({NF4Tensor<64, PlainAbsmax>::quantize(w.data(), rows, cols), n / 2, 4 * n / 64});
  cases.push_back({NF4Tensor<64>::quantize(w.data(), rows, cols), n / 2, n / 64 + 4});
  cases.push_back({FP4Tensor<32>::quantize(w.data(), rows, cols), n / 2, n / 32 + 4 * 2});
  for (const Case& c : cases) {
    INFO(lowbit::format_name(c.tensor.format()));
    CHECK(c.tensor.element_bytes() == c.elements);
    CHECK(c.tensor.resident_bytes() == c.elements + c.scales);
    // Packed: 96 columns are two whole panels, so elements take the same bytes, and every 48 columns have a scale per block of a
    // row.
    const PackedTensor p = PackedTensor::pack(c.tensor);
    const std::size_t block = c.tensor.block_size();
    const std::size_t packed_scales = block == 0 ? 0 : 4 * rows * std::max<std::size_t>(1, cols / block);
    CHECK(p.element_bytes() == c.elements);
    std::size_t nested = c.tensor.double_quantized() ? 4 * c.tensor.parts().nested.size() : 0;
    // All blocks are alike here, so their nested absmax is 0, every code decodes alike, and the codes are kept.
    if (c.tensor.double_quantized()) nested += n / block;
    CHECK(p.resident_bytes() == c.elements + packed_scales + nested);
  }
}

TEST_CASE("packing keeps no codes that the scales tell, whatever the block size", "[memory]") {
  Random random(35);
  const std::size_t rows = 96, cols = 128;
  Floats w(rows * cols);
  for (std::size_t r = 0; r < rows; ++r)  // scales all alike in size, no two equal
    for (std::size_t c = 0; c < cols; ++c)
      w[r * cols + c] = static_cast<float>(random.uniform(-1, 1)) * (1 + 0.01f * static_cast<float>(r));
  for (const std::size_t block : Sizes{32, 64, 128, 256, 512}) {
    const Weights t = lowbit_test::four_bit_weights<lowbit::Nf4>(w, rows, cols, block, true);
    const std::size_t scales = rows * std::max<std::size_t>(1, cols / block);
    INFO(t.name);
    CHECK(t.packed->resident_bytes() == rows * cols / 2 + 4 * scales + t.tensor.parts().nested.size_bytes());
    CHECK(difference(t.tensor.parts(), t.packed->unpack().parts()) == "");
  }
}

// ---- statistics
// ------------------------------------------------------------------------------------------------------------------

TEST_CASE("searched scales lose less than absmax does, in the same bytes", "[search]") {
  using Any = NF4Tensor<lowbit::any_block_size, AnyAbsmax>;
  using AnyFp4 = FP4Tensor<lowbit::any_block_size, AnyAbsmax>;
  const std::size_t rows = 128, cols = 4096;
  const Floats w = Random(61).normals(rows * cols, 0.02f);
  const auto snr = [&](const Tensor& t) { return lowbit::error_statistics(w.data(), rows, cols, t).snr_db; };
  // At least so much better; a million weights measure it to 0.02 dB.
  for (const auto& [block, better] : {std::pair<std::size_t, double>{32, 1.0}, {64, 0.75}, {128, 0.55}, {4096, 0.8}})
    for (const bool twice : {false, true}) {
      INFO(block << (twice ? ", double-quantized" : ""));
      lowbit::FourBitOptions o;
      o.block_size = block;
      o.double_quantized = twice;
      const double plain = snr(Any::quantize(w.data(), rows, cols, o)), plain_fp4 = snr(AnyFp4::quantize(w.data(), rows, cols, o));
      o.scales = lowbit::FourBitScales::search;
      const Any searched = Any::quantize(w.data(), rows, cols, o);
      CHECK(searched.double_quantized() == twice);
      CHECK(snr(searched) > plain + better);
      CHECK(snr(AnyFp4::quantize(w.data(), rows, cols, o)) > plain_fp4 + 0.5);
      std::size_t negative = 0;
      for (std::size_t b = 0; b < rows * cols / block; ++b) negative += searched.scale(b) < 0;
      CHECK(negative * 10 > rows * cols / block * 3);
      // The kernels take scales of either sign: decoded, packed and back.
      CHECK(bits_of(values_of(PackedTensor::pack(searched).unpack())) == bits_of(values_of(searched)));
    }

  // Blocks of zeros, of one value, short ones, odd sizes; each block's error is no larger than that of a single zero.
  Floats odd = Random(62).uneven(7 * 51);
  std::fill_n(odd.begin(), 64, 0.0f);
  std::fill_n(odd.begin() + 64, 32, -0.125f);
  lowbit::FourBitOptions o;
  o.block_size = 32;
  o.double_quantized = false;
  o.scales = lowbit::FourBitScales::search;
  const Floats back = values_of(Any::quantize(odd.data(), 7, 51, o));
  for (std::size_t i = 0; i < 64; ++i) CHECK(back[i] == 0);
  for (std::size_t i = 64; i < 96; ++i) CHECK(std::fabs(back[i] + 0.125f) < 1e-6f);
  for (std::size_t b = 0; b < odd.size(); b += 32) {
    double error = 0, all = 0;
    for (std::size_t i = b; i < std::min(odd.size(), b + 32); ++i) {
      error += std::pow(static_cast<double>(odd[i]) - static_cast<double>(back[i]), 2);
      all += std::pow(static_cast<double>(odd[i]), 2);
    }
    CHECK(error <= 0.05 * all);
  }
}

TEST_CASE("searched scales lose least where columns count most", "[search]") {
  using Any = NF4Tensor<lowbit::any_block_size, AnyAbsmax>;
  const std::size_t rows = 96, cols = 80;  // blocks begin in every fifth of a row
  Random random(63);
  const Floats w = random.normals(rows * cols, 0.02f);
  Floats weights = random.normals(cols);
  for (float& v : weights) v = std::exp(1.5f * v);
  const auto weighted_error = [&](const Tensor& t) {
    const Floats back = values_of(t);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i)
      sum += static_cast<double>(weights[i % cols]) * std::pow(static_cast<double>(w[i]) - static_cast<double>(back[i]), 2);
    return sum;
  };
  for (const std::size_t block : lowbit_test::Sizes{32, 64, 128, 4096})
    for (const bool twice : {false, true}) {
      INFO(block << (twice ? ", double-quantized" : ""));
      lowbit::FourBitOptions o;
      o.block_size = block;
      o.double_quantized = twice;
      const double plain = weighted_error(Any::quantize(w.data(), rows, cols, o));
      o.scales = lowbit::FourBitScales::search;
      const double searched = weighted_error(Any::quantize(w.data(), rows, cols, o));
      o.column_weights = weights;
      const Any t = Any::quantize(w.data(), rows, cols, o);
      CHECK(weighted_error(t) < searched * (block <= 64 ? 0.93 : block == 128 ? 0.97 : 1.0));
      CHECK(searched < plain);
      // A factor of all changes nothing but the rounding of the weights.
      Floats larger = weights;
      for (float& v : larger) v *= 4096;
      o.column_weights = larger;
      CHECK(bits_of(values_of(Any::quantize(w.data(), rows, cols, o))) == bits_of(values_of(t)));
    }

  // Columns that all count alike, or not at all, are as good as none are given, but for rounding.
  lowbit::FourBitOptions o;
  o.scales = lowbit::FourBitScales::search;
  const auto error = [&] {
    return lowbit::error_statistics(w.data(), rows, cols, NF4Tensor<>::quantize(w.data(), rows, cols, o)).rms;
  };
  const double even = error();
  for (const float all : {0.0f, 1.0f}) {
    const Floats same(cols, all);
    o.column_weights = same;
    CHECK(error() == Approx(even).epsilon(0.002));
  }
  o.column_weights = std::span(weights).first(79);
  CHECK(lowbit_test::unsaid<lowbit::InvalidArgument>([&] { NF4Tensor<>::quantize(w.data(), rows, cols, o); },
                                                     {"column weights", "expected 80", "found 79"}) == "");
  for (const float bad : {-1.0f, infinity, nan_value}) {
    Floats with = weights;
    with[7] = bad;
    o.column_weights = with;
    CHECK(lowbit_test::unsaid<lowbit::InvalidArgument>([&] { NF4Tensor<>::quantize(w.data(), rows, cols, o); },
                                                       {"column weights", "finite", "column 7"}) == "");
  }
  o.column_weights = weights;
  o.scales = lowbit::FourBitScales::absmax;
  CHECK(lowbit_test::unsaid<lowbit::InvalidArgument>([&] { NF4Tensor<>::quantize(w.data(), rows, cols, o); },
                                                     {"column weights", "search"}) == "");
}

TEST_CASE("error statistics are what one works out by hand", "[statistics]") {
  const Floats a{3, -4, 0, 12}, b{3, -2, 1, 10};  // differences 0, 2, 1, 2; squares 9 + 16 + 144 = 169 and 9 + 4 + 1 + 100 = 114
  const auto s = lowbit::error_statistics(a.data(), b.data(), 4);
  CHECK(s.max == 2);
  CHECK(s.rms == 1.5);
  CHECK(std::fabs(s.snr_db - 10 * std::log10(169.0 / 9.0)) < 1e-12);
  CHECK(std::fabs(s.cosine - 137 / std::sqrt(169.0 * 114.0)) < 1e-12);

  const auto same = lowbit::error_statistics(a.data(), a.data(), 4);
  CHECK(same.max == 0);
  CHECK(same.rms == 0);
  CHECK(std::isinf(same.snr_db));
  CHECK(std::fabs(same.cosine - 1) < 1e-12);
  const Floats zeros(4);
  CHECK(lowbit::error_statistics(zeros.data(), zeros.data(), 4).cosine == 1);
  const auto nothing = lowbit::error_statistics(nullptr, nullptr, 0);
  CHECK(nothing.rms == 0);
  CHECK(nothing.max == 0);

  for (std::size_t i = 0; i < 4; ++i)
    for (const bool first : {false, true}) {  // NaN anywhere, in either, makes everything NaN
      Floats x = a, y = b;
      (first ? x : y)[i] = nan_value;
      const auto bad = lowbit::error_statistics(x.data(), y.data(), 4);
      CHECK(std::isnan(bad.max));
      CHECK(std::isnan(bad.rms));
      CHECK(std::isnan(bad.snr_db));
      CHECK(std::isnan(bad.cosine));
    }
}

TEST_CASE("error statistics of a tensor compare its decoded values, of the same shape only", "[statistics]") {
  const Floats w{1.0f, 0.5f, -127.0f, 40.25f};
  const auto t = Int8Tensor<PerTensor>::quantize(w.data(), 2, 2);  // scale 1: 1, 0, -127, 40
  const auto s = lowbit::error_statistics(w.data(), 2, 2, t);
  CHECK(s.max == 0.5);
  CHECK(std::fabs(s.rms - std::sqrt((0.25 + 0.0625) / 4)) < 1e-12);
  CHECK(unsaid<InvalidArgument>([&] { lowbit::error_statistics(w.data(), 4, 1, t); }, {"(4, 1)", "(2, 2)"}) == "");
}

// ---- ownership
// -------------------------------------------------------------------------------------------------------------------

TEST_CASE("tensors move and are never copied by accident", "[memory]") {
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Tensor>);
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<NF4Tensor<>>);
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<PackedTensor>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Tensor>);
  const Floats w(64, 1.0f);
  auto t = NF4Tensor<>::quantize(w.data(), 1, 64);
  const std::uint8_t* bytes = t.parts().codes.data();
  const Tensor base(std::move(t));  // the bytes themselves
  CHECK(base.parts().codes.data() == bytes);
  CHECK(reinterpret_cast<std::uintptr_t>(bytes) % 64 == 0);
}

}  // namespace tensor_test
