// SPDX-License-Identifier: MIT
// base/: the 16-bit floats against an oracle that works in exact arithmetic, checked sizes, buffers, views and errors.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/checked.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/base/view.hpp"
#include "support/catch.hpp"

namespace base_test {

namespace {

using lowbit::BFloat16;
using lowbit::Float16;

// A binary format with an implicit leading bit, as IEEE 754 describes it.
struct Binary16 {
  static constexpr int mantissa_bits = 10, exponent_bits = 5;
};
struct BrainFloat16 {
  static constexpr int mantissa_bits = 7, exponent_bits = 8;
};

// The value of finite bits, worked out from the definition; every such value is a double.
template <class F>
double value_of(std::uint16_t bits) {
  constexpr int bias = (1 << (F::exponent_bits - 1)) - 1;
  const int mantissa = bits & ((1 << F::mantissa_bits) - 1), exponent = (bits >> F::mantissa_bits) & ((1 << F::exponent_bits) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - F::mantissa_bits)
                                         : std::ldexp(mantissa + (1 << F::mantissa_bits), exponent - bias - F::mantissa_bits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <class F>
constexpr std::uint16_t infinity_bits() {
  return static_cast<std::uint16_t>(((1 << F::exponent_bits) - 1) << F::mantissa_bits);
}

// The bits nearest to a finite x, ties to the even ones: bits of one sign ascend with their values, so the two neighbours are
// found by bisection and the distances compared exactly (a difference of a float and a 16-bit float is a double, or far from a
// tie).
template <class F>
std::uint16_t nearest(float x) {
  const double magnitude = std::fabs(static_cast<double>(x));
  std::uint16_t low = 0,
                high = infinity_bits<F>();  // value(low) <= magnitude < value(high); infinity counts as the next power of 2
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value_of<F>(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value_of<F>(low), above = value_of<F>(high) - magnitude;
  const std::uint16_t chosen = below < above ? low : above < below ? high : (low & 1) == 0 ? low : high;
  return static_cast<std::uint16_t>(chosen | (std::signbit(x) ? 0x8000 : 0));
}

float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

// All 65,536 bit patterns: the value is right, and it comes back as the same bits.
template <class F, class Half, class Narrow>
void check_every_pattern(Narrow narrow) {
  int wrong_value = 0, wrong_bits = 0, finite = 0, infinite = 0, nans = 0;
  for (std::uint32_t pattern = 0; pattern <= 0xFFFF; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const std::uint32_t sign = (pattern & 0x8000u) << 16;
    const int magnitude = bits & 0x7FFF;
    const float x = to_float(Half{bits});
    if (magnitude < infinity_bits<F>()) {
      ++finite;
      const auto expected = static_cast<float>(value_of<F>(bits));  // exact
      wrong_value += bits_of(x) != bits_of(expected);
      wrong_bits += narrow(x).bits != bits;
    } else if (magnitude == infinity_bits<F>()) {
      ++infinite;
      wrong_value += bits_of(x) != (sign | 0x7F800000u);
      wrong_bits += narrow(x).bits != bits;
    } else {  // NaN stays NaN, keeps sign and payload, and becomes quiet at the latest on the way back
      ++nans;
      const std::uint32_t quiet = 1u << (F::mantissa_bits - 1);
      wrong_value += !(lowbit::is_nan_bits(x) && (bits_of(x) & 0x80000000u) == sign);
      wrong_bits += narrow(x).bits != (pattern | quiet);
    }
  }
  CHECK(wrong_value == 0);
  CHECK(wrong_bits == 0);
  CHECK(finite == 2 * infinity_bits<F>());
  CHECK(infinite == 2);
  CHECK(finite + infinite + nans == 65536);
}

// Every value, every midpoint between two neighbours and the floats on either side of both, with both signs; then random floats.
template <class F, class Narrow>
void check_rounding(Narrow narrow) {
  int wrong = 0;
  float first_wrong = 0.0f;
  const auto check = [&](float x) {
    if (narrow(x).bits == nearest<F>(x)) return;
    if (wrong++ == 0) first_wrong = x;
  };
  const auto check_around = [&](float x) {
    for (const std::uint32_t bits : {(std::max)(bits_of(x), 1u) - 1, bits_of(x), bits_of(x) + 1}) {
      if (bits >= 0x7F800000u) continue;  // x is the largest float
      check(float_of(bits));
      check(float_of(bits | 0x80000000u));
    }
  };
  for (std::uint32_t bits = 0; bits < infinity_bits<F>(); ++bits) {
    const double value = value_of<F>(static_cast<std::uint16_t>(bits)), next = value_of<F>(static_cast<std::uint16_t>(bits + 1));
    check_around(static_cast<float>(value));
    check_around(static_cast<float>((value + next) / 2));
  }
  std::mt19937 random(20240607);
  int finite = 0;
  for (int i = 0; i < 300000; ++i) {
    const float x = float_of(static_cast<std::uint32_t>(random()));
    if (!lowbit::is_finite_bits(x)) continue;
    ++finite;
    check(x);
  }
  CHECK(finite > 290000);
  INFO("the first float that is rounded wrongly is " << first_wrong);
  CHECK(wrong == 0);
}

const auto to_f16 = [](float x) { return lowbit::to_float16(x); };
const auto to_bf16 = [](float x) { return lowbit::to_bfloat16(x); };

}  // namespace

TEST_CASE("binary16: every pattern has its value and comes back", "[half]") { check_every_pattern<Binary16, Float16>(to_f16); }
TEST_CASE("bfloat16: every pattern has its value and comes back", "[half]") {
  check_every_pattern<BrainFloat16, BFloat16>(to_bf16);
}
TEST_CASE("binary16: floats go to the nearest value, ties to even", "[half]") { check_rounding<Binary16>(to_f16); }
TEST_CASE("bfloat16: floats go to the nearest value, ties to even", "[half]") { check_rounding<BrainFloat16>(to_bf16); }

TEST_CASE("16-bit floats: infinity and NaN", "[half]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(lowbit::to_float16(infinity).bits == 0x7C00);
  CHECK(lowbit::to_float16(-infinity).bits == 0xFC00);
  CHECK(lowbit::to_bfloat16(infinity).bits == 0x7F80);
  CHECK(lowbit::to_bfloat16(-infinity).bits == 0xFF80);
  // A NaN whose payload lies in the bits that are cut off must not become infinity.
  for (const std::uint32_t nan : {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0x7FFFFFFFu}) {
    CAPTURE(nan);
    CHECK(lowbit::is_nan_bits(lowbit::to_float(lowbit::to_float16(float_of(nan)))));
    CHECK(lowbit::is_nan_bits(lowbit::to_float(lowbit::to_bfloat16(float_of(nan)))));
  }
}

TEST_CASE("classification by bits agrees with the exponent field", "[half]") {
  CHECK(lowbit::is_finite_bits(0.0f));
  CHECK(lowbit::is_finite_bits(-std::numeric_limits<float>::max()));
  CHECK(lowbit::is_finite_bits(std::numeric_limits<float>::denorm_min()));
  for (const std::uint32_t sign : {0u, 0x80000000u}) {
    CHECK_FALSE(lowbit::is_finite_bits(float_of(sign | 0x7F800000u)));
    CHECK_FALSE(lowbit::is_nan_bits(float_of(sign | 0x7F800000u)));
    CHECK_FALSE(lowbit::is_finite_bits(float_of(sign | 0x7F800001u)));
    CHECK(lowbit::is_nan_bits(float_of(sign | 0x7F800001u)));
  }
}

TEST_CASE("conversions are usable in constant expressions", "[half]") {
  STATIC_REQUIRE(lowbit::to_float16(1.0f).bits == 0x3C00);
  STATIC_REQUIRE(lowbit::to_bfloat16(-2.0f).bits == 0xC000);
  STATIC_REQUIRE(lowbit::to_float(Float16{0x0001}) == 0x1p-24f);
  STATIC_REQUIRE(lowbit::rounded(0.5f) == 0.5f);
}

TEST_CASE("rounded() keeps a product from being fused with the sum that follows", "[rounding]") {
  // a * a = 1 + 2^-11 + 2^-24 is a tie and rounds to 1 + 2^-11; a fused multiply-add would keep the 2^-24.
  volatile float source = 1.0f + 0x1p-12f;
  const float a = source, c = -(1.0f + 0x1p-11f);
  CHECK(lowbit::rounded(a * a) + c == 0.0f);
}

TEST_CASE("checked sizes", "[checked]") {
  const std::size_t most = std::numeric_limits<std::size_t>::max(), root = std::size_t{1} << (sizeof(std::size_t) * 4);
  SECTION("products and sums that fit") {
    CHECK(lowbit::checked_mul(0, most, "n") == 0);
    CHECK(lowbit::checked_mul(most, 0, "n") == 0);
    CHECK(lowbit::checked_mul(1, most, "n") == most);
    CHECK(lowbit::checked_mul(root, root - 1, "n") == most - root + 1);
    CHECK(lowbit::checked_add(most - 1, 1, "n") == most);
    CHECK(lowbit::checked_add(most, 0, "n") == most);
  }
  SECTION("the first ones that do not") {
    CHECK_THROWS_AS(lowbit::checked_mul(root, root, "n"), lowbit::InvalidArgument);
    CHECK_THROWS_AS(lowbit::checked_mul(most, 2, "n"), lowbit::InvalidArgument);
    CHECK_THROWS_AS(lowbit::checked_mul(most / 3 + 1, 3, "n"), lowbit::InvalidArgument);
    CHECK_THROWS_AS(lowbit::checked_add(most, 1, "n"), lowbit::InvalidArgument);
    CHECK_THROWS_WITH(lowbit::checked_mul(most, 3, "weights"), "weights: " + std::to_string(most) + " x 3 does not fit in a size");
  }
  SECTION("ceil_div") {
    for (std::size_t b = 1; b < 9; ++b)
      for (std::size_t a = 0; a < 40; ++a) {
        CAPTURE(a, b);
        const std::size_t q = lowbit::ceil_div(a, b);
        REQUIRE((q * b >= a && (q == 0 || (q - 1) * b < a)));
      }
    CHECK(lowbit::ceil_div(most, 2) == most / 2 + 1);
    CHECK(lowbit::ceil_div(most, most) == 1);
  }
}

TEST_CASE("AlignedBuffer is aligned, clear and readable past its end", "[buffer]") {
  for (const std::size_t size : {1u, 3u, 63u, 64u, 65u, 4099u}) {
    CAPTURE(size);
    lowbit::AlignedBuffer<float> buffer(size);
    CHECK(buffer.size() == size);
    CHECK(buffer.size_bytes() == size * sizeof(float));
    CHECK(buffer.end() - buffer.begin() == static_cast<std::ptrdiff_t>(size));
    CHECK(buffer.span().size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64 == 0);
    const auto* bytes = reinterpret_cast<const unsigned char*>(buffer.data());
    const std::size_t readable = buffer.size_bytes() + lowbit::AlignedBuffer<float>::slack_bytes;
    CHECK(std::all_of(bytes, bytes + readable, [](unsigned char byte) { return byte == 0; }));
  }
  const lowbit::AlignedBuffer<float> empty(0);
  CHECK(empty.empty());
  CHECK(empty.data() == nullptr);
  CHECK(empty.begin() == empty.end());
}

TEST_CASE("AlignedBuffer moves, clones, clears and grows", "[buffer]") {
  using Buffer = lowbit::AlignedBuffer<int>;
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Buffer>);
  STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<Buffer>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Buffer>);

  Buffer a(5);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<int>(i) + 1;
  const int* const memory = a.data();

  SECTION("clone is a copy of its own") {
    Buffer b = a.clone();
    REQUIRE(b.size() == 5);
    CHECK(b.data() != a.data());
    CHECK(std::equal(a.begin(), a.end(), b.begin()));
    b[0] = 99;
    CHECK(a[0] == 1);
    CHECK(Buffer().clone().empty());
  }
  SECTION("moving takes the memory along and leaves nothing behind") {
    Buffer b = std::move(a);
    CHECK(b.data() == memory);
    CHECK(b.size() == 5);
    CHECK(a.empty());  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
    CHECK(a.data() == nullptr);
    Buffer c(3);
    c = std::move(b);
    CHECK(c.data() == memory);
    CHECK(c[4] == 5);
    CHECK(b.empty());  // NOLINT(bugprone-use-after-move)
  }
  SECTION("reset clears") {
    a.reset(4);
    REQUIRE(a.size() == 4);
    CHECK(std::count(a.begin(), a.end(), 0) == 4);
  }
  SECTION("grow keeps what suffices and never shrinks") {
    a.grow(3);
    CHECK(a.data() == memory);
    CHECK(a.size() == 5);
    CHECK(a[4] == 5);
    a.grow(6);
    REQUIRE(a.size() == 6);
    CHECK(std::count(a.begin(), a.end(), 0) == 6);
  }
  SECTION("a size that overflows in bytes is refused and leaves the buffer empty but usable") {
    CHECK_THROWS_AS(a.reset(std::numeric_limits<std::size_t>::max() / sizeof(int) + 1), lowbit::InvalidArgument);
    CHECK_THROWS_AS(a.reset(std::numeric_limits<std::size_t>::max() / sizeof(int)), lowbit::InvalidArgument);
    CHECK(a.empty());
    CHECK(a.data() == nullptr);
    a.reset(2);
    CHECK(a.size() == 2);
  }
}

TEST_CASE("MatrixView steps by its stride", "[view]") {
  float data[12];
  for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i);
  const lowbit::MatrixView<float> whole(data, 3, 4), part(data + 1, 3, 2, 4);
  CHECK(whole.stride == 4);
  CHECK(whole(2, 3) == 11.0f);
  CHECK(part(2, 1) == 10.0f);
  CHECK(part.row(1) == data + 5);
  part(0, 0) = -1.0f;
  const lowbit::MatrixView<const float> constant = part;
  CHECK(constant(0, 0) == -1.0f);
  CHECK((constant.rows == 3 && constant.cols == 2 && constant.stride == 4));
  STATIC_REQUIRE_FALSE(std::is_convertible_v<lowbit::MatrixView<const float>, lowbit::MatrixView<float>>);
  CHECK(lowbit::shape_string(3, 768) == "(3, 768)");
}

TEST_CASE("errors have one root, keep their message and cost nothing when all is well", "[error]") {
  STATIC_REQUIRE(std::is_base_of_v<std::runtime_error, lowbit::Error>);
  STATIC_REQUIRE(std::is_base_of_v<lowbit::Error, lowbit::InvalidArgument>);
  STATIC_REQUIRE(std::is_base_of_v<lowbit::Error, lowbit::FormatError>);
  STATIC_REQUIRE(std::is_base_of_v<lowbit::Error, lowbit::IoError>);
  CHECK_THROWS_AS(lowbit::raise<lowbit::FormatError>("x"), lowbit::FormatError);
  CHECK_THROWS_AS(lowbit::raise<lowbit::IoError>("x"), lowbit::IoError);
  CHECK_THROWS_WITH(lowbit::raise<lowbit::Error>("tensor h.0: expected 3, found 4"), "tensor h.0: expected 3, found 4");

  bool asked = false;
  const auto message = [&asked] {
    asked = true;
    return std::string("shapes differ");
  };
  lowbit::require(true, message);
  CHECK_FALSE(asked);
  CHECK_THROWS_AS(lowbit::require(false, message), lowbit::InvalidArgument);
  CHECK(asked);
}

TEST_CASE("the version is the same in numbers and in words", "[config]") {
  CHECK(std::string(LOWBIT_VERSION) == std::to_string(LOWBIT_VERSION_MAJOR) + "." + std::to_string(LOWBIT_VERSION_MINOR) + "." +
                                           std::to_string(LOWBIT_VERSION_PATCH));
  CHECK(LOWBIT_BASELINE >= 0);
  CHECK(LOWBIT_BASELINE <= 9);
}

}  // namespace base_test
