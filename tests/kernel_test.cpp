// SPDX-License-Identifier: MIT
// The kernels of every instruction-set level, called through their table: float functions against double, conversions against the
// scalar rules of the format layer bit for bit, and the products' division into panels and rows.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lowbit/format/int8.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"
#include "support/tolerance.hpp"

namespace kernel_test {

using lowbit::AlignedBuffer;
using lowbit::Level;
using lowbit::detail::Kernels;
using lowbit::detail::kernels;
using lowbit::detail::QuantizeRowsArgs;
using lowbit::detail::QuantizeRule;
using lowbit::detail::training_kernels;
using lowbit::detail::transformer_kernels;
using lowbit_test::bits_of;
using lowbit_test::Bounded;
using lowbit_test::for_each_level;
using lowbit_test::gamma;
using lowbit_test::outside;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::smallest_normal;
using lowbit_test::unit_roundoff;

namespace {

using Floats = std::vector<float>;

const float nan_value = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();
constexpr float sentinel = -12345.5f;

// The distance of y from the exact value, in units of the last place of the float nearest to it.
double ulps(float y, double exact) {
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::fabs(static_cast<double>(y) - exact) / std::ldexp(1.0, exponent - 23);
}

// f on an array of any length gives what it gives element by element, and nothing is written behind the end.
template <class Function>
void check_tails(const Function& f) {
  Random random(3);
  const Floats x = random.normals(80, 4);
  Floats one(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) f(&x[i], &one[i], std::size_t{1});
  std::size_t wrong = 0;
  for (std::size_t n = 0; n <= 70; ++n)
    for (const std::size_t begin : Sizes{0, 1, 7}) {
      const Floats in(x.begin() + static_cast<std::ptrdiff_t>(begin), x.begin() + static_cast<std::ptrdiff_t>(begin + n));
      Floats out(n + 3, sentinel);
      f(in.data(), out.data(), n);
      for (std::size_t i = 0; i < out.size(); ++i) wrong += out[i] != (i < n ? one[begin + i] : sentinel);
      Floats in_place = in;
      f(in_place.data(), in_place.data(), n);
      for (std::size_t i = 0; i < n; ++i) wrong += in_place[i] != one[begin + i];
    }
  CHECK(wrong == 0);
}

}  // namespace

// ---- float functions
// -------------------------------------------------------------------------------------------------------------

TEST_CASE("exp2 is within 2 ulp on [-126, 128) and keeps NaN", "[math]") {
  constexpr std::size_t n = 700001;
  Floats x(n), y(n);
  Random random(1);
  for (std::size_t i = 0; i < n; ++i)
    x[i] = i % 2 == 0 ? static_cast<float>(-126 + 253.99 * static_cast<double>(i) / n)
                      : static_cast<float>(random.uniform(-126, 127.99));
  // Where the polynomial's interval ends, and next to it.
  std::size_t at = 0;
  for (int i = -126; i < 128; ++i)
    for (const float half : {static_cast<float>(i) + 0.5f, static_cast<float>(i)})
      for (const float v : {std::nextafter(half, -infinity), half, std::nextafter(half, infinity)})
        if (v >= -126) x[at++] = v;
  for_each_level([&](Level) {
    training_kernels().exp2(x.data(), y.data(), n);
    double worst = 0;
    for (std::size_t i = 0; i < n; ++i) worst = std::max(worst, ulps(y[i], std::exp2(static_cast<double>(x[i]))));
    CHECK(worst <= 2);
    check_tails(training_kernels().exp2);

    const Floats special{0.0f, -0.0f, nan_value, -nan_value, -infinity, -1e30f, -126.5f, 1.0f, -126.0f};
    Floats out(special.size());
    training_kernels().exp2(special.data(), out.data(), special.size());
    CHECK(out[0] == 1.0f);
    CHECK(out[1] == 1.0f);
    CHECK(std::isnan(out[2]));
    CHECK(std::isnan(out[3]));
    for (const std::size_t i : Sizes{4, 5, 6, 8}) CHECK(out[i] == 0x1p-126f);
    CHECK(out[7] == 2.0f);
  });
}

TEST_CASE("GELU is within its derived bound on the whole float range", "[math]") {
  Floats x;
  for (int i = -600000; i <= 600000; ++i) x.push_back(static_cast<float>(i) * 2e-5f);
  for (std::uint32_t bits = 0; bits < 0x7F800000u; bits += 0x3A735u) {  // every magnitude of float
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(std::bit_cast<float>(bits | 0x80000000u));
  }
  x.push_back(std::numeric_limits<float>::max());
  x.push_back(-std::numeric_limits<float>::max());
  std::vector<Bounded> expected;
  double tanh_form = 0;
  for (const float v : x) {
    const double d = v, exact = lowbit_test::gelu_tanh(d);
    expected.push_back({exact, lowbit_test::gelu_tanh_bound(d)});
    if (std::fabs(d) < 4)
      tanh_form = std::max(
          tanh_form,
          std::fabs(0.5 * d * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (d + 0.044715 * d * d * d))) - exact));
  }
  CHECK(tanh_form < 1e-15);  // the reference is the function it should be
  for_each_level([&](Level) {
    Floats y(x.size());
    training_kernels().gelu(x.data(), y.data(), x.size());
    CHECK(outside(y, expected) == "");
    check_tails(training_kernels().gelu);
    const Floats special{nan_value, infinity, -infinity, 0.0f};
    Floats out(4);
    training_kernels().gelu(special.data(), out.data(), 4);
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == infinity);
    CHECK(std::fabs(out[2]) <= 1e-36f);
    CHECK(out[3] == 0.0f);
  });
}

TEST_CASE("layer normalization is within its derived bound, for any width", "[math]") {
  Random random(4);
  const float epsilon = 1e-5f;
  for (const std::size_t n : Sizes{1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 47, 49, 63, 65, 100, 127, 129, 255, 768, 771, 3072}) {
    for (const float offset : {0.0f, 50.0f}) {
      const std::size_t rows = 3;
      Floats x = random.normals(rows * n);
      for (float& v : x) v += offset;
      const Floats gain = random.normals(n), shift = random.normals(n);
      std::vector<Bounded> expected;
      for (std::size_t r = 0; r < rows; ++r) {
        // Sums run in at least 4 lanes.  The mean is off by gamma times the mean magnitude and its own roundings; every difference
        // takes that along; the variance about a mean that is off by e is larger by e^2.
        const std::size_t lanes = n / 4 + 8;
        double mean = 0, magnitude = 0, variance = 0;
        for (std::size_t i = 0; i < n; ++i) {
          mean += x[r * n + i];
          magnitude += std::fabs(x[r * n + i]);
        }
        mean /= static_cast<double>(n);
        magnitude /= static_cast<double>(n);
        for (std::size_t i = 0; i < n; ++i) variance += (x[r * n + i] - mean) * (x[r * n + i] - mean);
        variance /= static_cast<double>(n);
        const double mean_error = gamma(lanes + 2) * magnitude, total = variance + static_cast<double>(epsilon);
        double difference_error = 0;  // of sum (x - mean)^2, through the differences' own rounding
        for (std::size_t i = 0; i < n; ++i) {
          const double d = std::fabs(x[r * n + i] - mean) + mean_error;
          difference_error += 2 * d * (unit_roundoff * d);
        }
        const double relative =
            (mean_error * mean_error + difference_error / static_cast<double>(n)) / total + gamma(lanes + 4);  // of the variance
        for (std::size_t i = 0; i < n; ++i) {
          const double d = x[r * n + i] - mean, inverse = 1 / std::sqrt(total), g = std::fabs(static_cast<double>(gain[i]));
          const double scaled_error = inverse * (mean_error + (std::fabs(d) + mean_error) * (relative + 6 * unit_roundoff));
          const double value = d * inverse * static_cast<double>(gain[i]) + static_cast<double>(shift[i]);
          expected.push_back({value, g * scaled_error + unit_roundoff * (std::fabs(value) + g * scaled_error)});
        }
      }
      INFO("n " << n << ", offset " << offset);
      for_each_level([&](Level) {
        Floats out(rows * n + 4, sentinel);
        lowbit::detail::LayerNormArgs a;
        a.x = x.data();
        a.out = out.data();
        a.gain = gain.data();
        a.shift = shift.data();
        a.rows = rows;
        a.n = n;
        a.epsilon = epsilon;
        transformer_kernels().layer_norm(a);
        for (std::size_t i = rows * n; i < out.size(); ++i) CHECK(out[i] == sentinel);
        out.resize(rows * n);
        CHECK(outside(out, expected) == "");
        Floats in_place = x;
        a.x = a.out = in_place.data();
        transformer_kernels().layer_norm(a);
        CHECK(in_place == out);
      });
    }
  }
}

namespace {

// One head: q, k and v side by side in rows of `stride` floats, as a fused projection leaves them.
struct Attention {
  std::size_t positions, depth, stride;
  Floats qkv;
  float scale;
};

Floats run_attention(const Attention& h, std::size_t first_query, std::size_t out_stride) {
  Floats out(h.positions * out_stride, sentinel);
  AlignedBuffer<float> scratch(lowbit::detail::attention_scratch_floats(h.positions, h.depth));
  std::fill(scratch.begin(), scratch.end(), nan_value);  // what was there before must not matter
  lowbit::detail::AttentionArgs a;
  a.q = h.qkv.data();
  a.k = h.qkv.data() + h.depth;
  a.v = h.qkv.data() + 2 * h.depth;
  a.stride = h.stride;
  a.out = out.data();
  a.out_stride = out_stride;
  a.positions = h.positions;
  a.depth = h.depth;
  a.first_query = first_query;
  a.scale = h.scale;
  a.scratch = scratch.data();
  transformer_kernels().attention(a);
  return out;
}

// Scores are off by the roundings of a dot product and of the queries' factor; e^(s - largest) by the errors of both and the
// rounding of their difference, and 3 ulp; the weights of the mean by that twice (numerator and sum), and the sums' roundings.
std::vector<Bounded> expected_attention(const Attention& h) {
  std::vector<Bounded> expected;
  const auto at = [&](std::size_t t, std::size_t i) { return static_cast<double>(h.qkv[t * h.stride + i]); };
  for (std::size_t t = 0; t < h.positions; ++t) {
    std::vector<double> score(t + 1);
    double error = 0, largest = -1e300, smallest = 1e300;
    for (std::size_t s = 0; s <= t; ++s) {
      double dot = 0, size = 0;
      for (std::size_t d = 0; d < h.depth; ++d) {
        dot += at(t, d) * at(s, h.depth + d);
        size += std::fabs(at(t, d) * at(s, h.depth + d));
      }
      score[s] = dot * static_cast<double>(h.scale);
      error = std::max(error, gamma(h.depth + 4) * size * static_cast<double>(h.scale));
      largest = std::max(largest, score[s]);
      smallest = std::min(smallest, score[s]);
    }
    double total = 0;
    for (double& s : score) total += s = std::exp(s - largest);
    const double weight = 2 * (2 * error + unit_roundoff * (largest - smallest) + 6 * unit_roundoff);
    const double relative = 1.01 * weight + gamma(2 * (t + 1) + 6);
    for (std::size_t d = 0; d < h.depth; ++d) {
      double sum = 0, size = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        sum += score[s] / total * at(s, 2 * h.depth + d);
        size += score[s] / total * std::fabs(at(s, 2 * h.depth + d));
      }
      // e^x stops at e^-87.3, which a far smaller weight may be instead.
      expected.push_back({sum, relative * size + static_cast<double>(t + 1) * 1e-36});
    }
  }
  return expected;
}

}  // namespace

TEST_CASE("attention is within its derived bound, for any depth, length and first query", "[math]") {
  Random random(5);
  constexpr std::size_t depths[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 77, 100, 129};
  constexpr std::size_t lengths[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 130};
  for (std::size_t i = 0; i < 30; ++i) {
    Attention h;
    h.depth = i < std::size(depths) ? depths[i] : random.one_of(depths);
    h.positions = i < std::size(lengths) ? lengths[std::size(lengths) - 1 - i] : random.one_of(lengths);
    h.stride = 3 * h.depth + random.below(4);
    h.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(h.depth)));
    h.qkv = random.normals(h.positions * h.stride, i % 3 == 0 ? 4.0f : 1.0f);
    const std::vector<Bounded> expected = expected_attention(h);
    const std::size_t out_stride = h.depth + random.below(3), first = random.below(h.positions),
                      cut = 1 + random.below(h.positions);
    INFO("depth " << h.depth << ", positions " << h.positions << ", first query " << first);
    for_each_level([&](Level) {
      const Floats out = run_attention(h, 0, out_stride);
      Floats dense;
      std::size_t touched = 0;
      for (std::size_t t = 0; t < h.positions; ++t)
        for (std::size_t d = 0; d < out_stride; ++d)
          d < h.depth ? dense.push_back(out[t * out_stride + d]) : void(touched += out[t * out_stride + d] != sentinel);
      CHECK(touched == 0);
      CHECK(outside(dense, expected) == "");

      // Queries before the first are not written; the others do not depend on it.
      const Floats last = run_attention(h, first, out_stride);
      std::size_t wrong = 0;
      for (std::size_t e = 0; e < last.size(); ++e) wrong += last[e] != (e < first * out_stride ? sentinel : out[e]);
      CHECK(wrong == 0);

      // Causal, to the bit: what follows is not seen.
      Attention shorter = h;
      shorter.positions = cut;
      const Floats prefix = run_attention(shorter, 0, out_stride);
      CHECK(std::equal(prefix.begin(), prefix.end(), out.begin()));

      // A NaN in one key reaches every query that sees it, and no other.
      Attention broken = h;
      broken.qkv[first * h.stride + h.depth] = nan_value;
      const Floats after = run_attention(broken, 0, out_stride);
      std::size_t misplaced = 0;
      for (std::size_t t = 0; t < h.positions; ++t) misplaced += std::isnan(after[t * out_stride]) != (t >= first);
      CHECK(misplaced == 0);

      // Neither what follows a query, its value included, nor what stands between the rows is looked at.
      broken = h;
      for (std::size_t d = 0; d < h.depth; ++d)
        broken.qkv[(h.positions - 1) * h.stride + 2 * h.depth + d] = d % 2 == 0 ? nan_value : infinity;
      for (std::size_t t = 0; t < h.positions; ++t)
        std::fill(&broken.qkv[t * h.stride] + 3 * h.depth, &broken.qkv[t * h.stride] + h.stride, nan_value);
      const Floats before = run_attention(broken, 0, out_stride);
      const std::size_t until = (h.positions - 1) * out_stride;
      CHECK(bits_of({before.begin(), before.begin() + static_cast<std::ptrdiff_t>(until)}) ==
            bits_of({out.begin(), out.begin() + static_cast<std::ptrdiff_t>(until)}));
      CHECK(std::isnan(before[until]));
    });
  }
}

TEST_CASE("embedding rows equal the scalar conversion, for any width, and are added where asked", "[math]") {
  Random random(10);
  for (const std::size_t n : Sizes{1, 3, 4, 7, 8, 15, 16, 17, 33, 63, 100}) {
    const std::size_t entries = 9;
    const Floats values = random.normals(entries * n), start = random.normals(5 * n);
    std::vector<std::uint16_t> halves(values.size()), brains(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      halves[i] = lowbit::to_float16(values[i]).bits;
      brains[i] = lowbit::to_bfloat16(values[i]).bits;
    }
    halves[0] = 0x0001;  // the smallest subnormal
    const std::int32_t ids[5] = {8, 0, 3, 3, 7};
    using lowbit::detail::Element;
    for (const Element element : {Element::f32, Element::f16, Element::bf16})
      for (const bool add : {false, true})
        for (const bool in_order : {false, true}) {
          lowbit::detail::EmbedRowsArgs a;
          a.element = element;
          a.table = element == Element::f32 ? static_cast<const void*>(values.data())
                                            : (element == Element::f16 ? halves.data() : brains.data());
          a.ids = in_order ? nullptr : ids;
          a.rows = 5;
          a.n = n;
          a.add = add;
          INFO("width " << n << ", element " << static_cast<int>(element));
          for_each_level([&](Level) {
            Floats out = start;
            out.resize(5 * n + 4, sentinel);
            a.out = out.data();
            transformer_kernels().embed_rows(a);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < 5 * n; ++i) {
              const std::size_t e = (in_order ? i / n : static_cast<std::size_t>(ids[i / n])) * n + i % n;
              const float v = element == Element::f32   ? values[e]
                              : element == Element::f16 ? lowbit::to_float(lowbit::Float16{halves[e]})
                                                        : lowbit::to_float(lowbit::BFloat16{brains[e]});
              wrong += out[i] != (add ? start[i] + v : v);
            }
            for (std::size_t i = 5 * n; i < out.size(); ++i) wrong += out[i] != sentinel;
            CHECK(wrong == 0);
          });
        }
  }
}

// ---- conversions
// -----------------------------------------------------------------------------------------------------------------

TEST_CASE("floats become bfloat16 as the scalar code does it", "[convert]") {
  // Every upper half with lower halves round the tie: all signs, exponents, infinities, NaN payloads, subnormals.
  Floats x;
  for (std::uint32_t high = 0; high <= 0xFFFFu; ++high)
    for (const std::uint32_t low : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu})
      x.push_back(std::bit_cast<float>(high << 16 | low));
  // And once more with the kinds mixed, so that a register holds subnormal numbers among others.
  for (std::size_t i = 0, n = x.size(); i < n; ++i) x.push_back(x[i * 4099 % n]);
  std::vector<std::uint16_t> want(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) want[i] = lowbit::to_bfloat16(x[i]).bits;
  for_each_level([&](Level) {
    std::vector<std::uint16_t> got(x.size(), 0xABCD);
    lowbit::detail::Bf16RowsArgs a;
    a.x = x.data();
    a.m = 1;
    a.k = a.x_stride = a.k_padded = x.size();
    a.out = got.data();
    kernels().bf16_rows(a);
    CHECK(got == want);

    for (std::size_t k = 1; k <= 40; ++k) {  // rows, strides and padding
      const std::size_t padded = (k + 7) / 8 * 8, stride = k + 3, m = 3;
      std::vector<std::uint16_t> rows(m * padded + 2, 0xABCD);
      a.x = x.data() + 1000 * k;
      a.m = m;
      a.k = k;
      a.x_stride = stride;
      a.k_padded = padded;
      a.out = rows.data();
      kernels().bf16_rows(a);
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < m; ++r)
        for (std::size_t i = 0; i < padded; ++i) wrong += rows[r * padded + i] != (i < k ? want[1000 * k + r * stride + i] : 0);
      CHECK(wrong == 0);
      CHECK(rows[m * padded] == 0xABCD);
    }
  });
}

namespace {

struct Quantized {
  std::vector<std::int8_t> codes;
  Floats scale;
  std::vector<std::int32_t> offset;
};

Quantized quantize_rows(QuantizeRowsArgs a) {
  Quantized q{std::vector<std::int8_t>(a.m * a.k_padded + 2, 99), Floats(a.m, sentinel), {}};
  if (a.kc != 0) q.offset.assign(a.m * ((a.k_padded + a.kc - 1) / a.kc), 7);
  a.codes = q.codes.data();
  a.scale = q.scale.data();
  a.offset = a.kc != 0 ? q.offset.data() : nullptr;
  kernels().quantize_rows(a);
  CHECK(q.codes[a.m * a.k_padded] == 99);
  q.codes.resize(a.m * a.k_padded);
  return q;
}

// Rows that try the rule: random ones of every size, ties and their neighbours, tiny numbers, zeros.
std::vector<Floats> telling_rows(std::size_t k, Random& random) {
  std::vector<Floats> rows;
  for (const float size : {1.0f, 1e-3f, 3e4f, 1e30f, 1e-25f, 1e-30f, 1e-34f, 3e-35f, 1e-36f, 1e-37f, 1e-38f, 1e-40f, 1e-44f})
    rows.push_back(random.normals(k, size));
  for (int i = 0; i < 12; ++i) {  // x / scale half way between two codes, for any scale
    const float step = static_cast<float>(random.uniform(0.001, 2)), largest = 127 * step, scale = largest / 127.0f;
    Floats row(k);
    for (float& v : row) {
      v = scale * (static_cast<float>(random.below(254)) - 126.5f);
      const std::size_t side = random.below(3);
      if (side != 0) v = std::nextafter(v, side == 1 ? infinity : -infinity);
    }
    row[random.below(k)] = random.coin() ? largest : -largest;
    rows.push_back(row);
  }
  for (int i = 0; i < 4; ++i) {  // exact ties: scale 1
    Floats row(k);
    for (float& v : row) v = static_cast<float>(random.below(254)) - 126.5f;
    row[random.below(k)] = 127;
    rows.push_back(row);
  }
  rows.push_back(Floats(k));
  rows.push_back(Floats(k, -0.0f));
  rows.push_back(Floats(k, 2.5f));
  Floats one(k);
  one[k / 2] = -3;
  rows.push_back(one);
  return rows;
}

}  // namespace

TEST_CASE("rows of int8 codes equal the scalar rules bit for bit", "[convert]") {
  Random random(6);
  for (const std::size_t k : Sizes{1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 65, 100, 127, 256, 771}) {
    const std::vector<Floats> rows = telling_rows(k, random);
    const std::size_t m = rows.size(), stride = k + 5;
    Floats x(m * stride, nan_value);  // what lies between the rows is not looked at
    for (std::size_t r = 0; r < m; ++r) std::copy(rows[r].begin(), rows[r].end(), &x[r * stride]);
    for (const QuantizeRule rule : {QuantizeRule::absmax, QuantizeRule::llm_int8})
      for (const float threshold : {0.0f, 6.0f, 0.5f}) {
        if (rule == QuantizeRule::absmax && threshold > 0) continue;
        QuantizeRowsArgs a;
        a.x = x.data();
        a.m = m;
        a.k = k;
        a.x_stride = stride;
        a.rule = rule;
        a.k_padded = (k + 7) / 8 * 8;
        a.threshold = threshold;
        constexpr std::size_t chunk_sizes[] = {8, 16, 64, 256};
        a.kc = random.one_of(chunk_sizes);
        std::vector<std::int8_t> codes(m * a.k_padded);
        Floats scale(m);
        // The scalar code compares outliers in fp16, which is the same where both sides are fp16 values.
        Floats input = x;
        if (threshold > 0)
          for (std::size_t r = 0; r < m; ++r)
            for (std::size_t i = 0; i < k; ++i) {
              float& v = input[r * stride + i];
              v = lowbit::to_float(lowbit::to_float16(std::clamp(v, -6e4f, 6e4f)));
            }
        a.x = input.data();
        for (std::size_t r = 0; r < m; ++r)
          if (rule == QuantizeRule::absmax) {
            lowbit::quantize_int8_group(&input[r * stride], k, &codes[r * a.k_padded], scale[r]);
          } else {
            lowbit::llm_int8_quantize_row(&input[r * stride], k, false, threshold, &codes[r * a.k_padded], scale[r]);
            scale[r] = lowbit_test::once_rounded(scale[r] / 127.0f);
          }
        INFO("k " << k << ", rule " << static_cast<int>(rule) << ", threshold " << threshold);
        for_each_level([&](Level) {
          const Quantized plain = quantize_rows(a);
          CHECK(bits_of(plain.scale) == bits_of(scale));
          for (std::size_t r = 0; r < m; ++r) {
            INFO("row " << r);
            CHECK(std::equal(&plain.codes[r * a.k_padded], &plain.codes[r * a.k_padded] + a.k_padded, &codes[r * a.k_padded]));
          }
          std::size_t wrong = 0;
          const std::size_t chunks = (a.k_padded + a.kc - 1) / a.kc;
          for (std::size_t b = 0; b < plain.offset.size(); ++b) {
            std::int64_t sum = 0;
            for (std::size_t i = b % chunks * a.kc; i < std::min(a.k_padded, (b % chunks + 1) * a.kc); ++i)
              sum += codes[b / chunks * a.k_padded + i];
            wrong += plain.offset[b] != -128 * sum;
          }
          CHECK(wrong == 0);

          QuantizeRowsArgs p = a;  // the packed layout's order
          p.permute = true;
          const Quantized permuted = quantize_rows(p);
          constexpr std::size_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};
          for (std::size_t i = 0; i < codes.size(); ++i) wrong += permuted.codes[i] != codes[i / 8 * 8 + order[i % 8]];
          CHECK(wrong == 0);
          CHECK(permuted.offset == plain.offset);
          CHECK(bits_of(permuted.scale) == bits_of(scale));

          QuantizeRowsArgs w = a;  // and its 16-bit words
          w.words = true;
          std::vector<std::int16_t> words(codes.size() + 1, 99);
          Floats word_scale(m);
          std::vector<std::int32_t> word_offset(plain.offset.size());
          w.codes = words.data();
          w.scale = word_scale.data();
          w.offset = word_offset.data();
          kernels().quantize_rows(w);
          for (std::size_t i = 0; i < codes.size(); ++i) wrong += words[i] != codes[i];
          CHECK(wrong == 0);
          CHECK(words[codes.size()] == 99);
          CHECK(word_offset == plain.offset);
          CHECK(bits_of(word_scale) == bits_of(scale));
        });
      }
  }
}

TEST_CASE("a row with NaN or infinity has scale NaN and codes 0; its neighbours are as without it", "[convert]") {
  Random random(7);
  for (const std::size_t k : Sizes{1, 5, 16, 33, 100})
    for (const float bad : {nan_value, -nan_value, infinity, -infinity})
      for (const QuantizeRule rule : {QuantizeRule::absmax, QuantizeRule::llm_int8})
        for (const float threshold : {0.0f, 6.0f}) {
          Floats x = random.normals(3 * k);
          QuantizeRowsArgs a;
          a.m = 3;
          a.k = a.x_stride = k;
          a.k_padded = (k + 7) / 8 * 8;
          a.kc = 8;
          a.rule = rule;
          a.threshold = threshold;
          a.x = x.data();
          Floats broken = x;
          broken[k + random.below(k)] = bad;
          for_each_level([&](Level) {
            const Quantized good = quantize_rows(a);
            QuantizeRowsArgs b = a;
            b.x = broken.data();
            const Quantized q = quantize_rows(b);
            CHECK(std::isnan(q.scale[1]));
            for (std::size_t i = 0; i < a.k_padded; ++i) CHECK(q.codes[a.k_padded + i] == 0);
            for (const std::size_t r : Sizes{0, 2}) {
              CHECK(q.scale[r] == good.scale[r]);
              CHECK(std::equal(&q.codes[r * a.k_padded], &q.codes[r * a.k_padded] + a.k_padded, &good.codes[r * a.k_padded]));
            }
            for (std::size_t i = 0; i < a.k_padded / 8; ++i) CHECK(q.offset[a.k_padded / 8 + i] == 0);
          });
        }
}

TEST_CASE("codes are zero in the outlier columns of a call", "[convert]") {
  Random random(8);
  const std::size_t k = 77, m = 4;
  const Floats x = random.normals(m * k);
  std::vector<std::uint8_t> columns(k);
  for (const std::size_t c : Sizes{0, 13, 40, 76}) columns[c] = 1;
  for_each_level([&](Level) {
    QuantizeRowsArgs a;
    a.x = x.data();
    a.m = m;
    a.k = a.x_stride = k;
    a.k_padded = 80;
    a.kc = 80;
    a.rule = QuantizeRule::llm_int8;
    a.threshold = 6;
    const Quantized all = quantize_rows(a);
    a.column_is_outlier = columns.data();
    const Quantized q = quantize_rows(a);
    CHECK(bits_of(q.scale) == bits_of(all.scale));
    for (std::size_t r = 0; r < m; ++r) {
      std::int32_t sum = 0;
      for (std::size_t i = 0; i < 80; ++i) {
        const int want = i < k && columns[i] ? 0 : all.codes[r * 80 + i];
        CHECK(q.codes[r * 80 + i] == want);
        sum += want;
      }
      CHECK(q.offset[r] == -128 * sum);
    }
  });
}

// ---- products
// --------------------------------------------------------------------------------------------------------------------

TEST_CASE("the tables of a codebook hold its values, rounded as they should be", "[gemm]") {
  for (const auto* values : {&lowbit::Nf4::table, &lowbit::Fp4::table}) {
    const auto t = lowbit::detail::make_codebook_tables(values->data());
    for (std::size_t i = 0; i < 16; ++i) {
      const float v = (*values)[i];
      CHECK(std::bit_cast<std::uint32_t>(t.f32[i]) == std::bit_cast<std::uint32_t>(v));
      CHECK(t.bf16[i] == lowbit::to_float(lowbit::to_bfloat16(v)));
      for (std::size_t copy = 0; copy < 2; ++copy) CHECK(t.pairs[16 * copy + i] == lowbit::to_bfloat16(v).bits);
      for (std::size_t copy = 0; copy < 4; ++copy) CHECK(t.bytes[16 * copy + i] - 128 == std::lround(static_cast<double>(v) * 127));
    }
    CHECK(t.byte_scale == 1.0f / 127.0f);
  }
}

TEST_CASE("panels of columns, and rows of canonical weights, are computed independently of one another", "[gemm]") {
  Random random(9);
  const std::size_t m = 5, n = 150, k = 96;
  const Floats x = random.normals(m * k);
  for (const lowbit_test::Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
    INFO(w.name);
    for_each_level([&](Level level) {
      const lowbit::detail::GemmKernels& gemm = *lowbit::detail::gemm_kernels_for(w.tensor.format())(level);
      const Floats whole = lowbit_test::run_product(x, m, w, false, {{.compute = lowbit::Compute::f32}});
      lowbit::detail::CanonicalGemmArgs c;
      c.w = w.tensor.canonical();
      c.m = m;
      c.y_stride = n;
      AlignedBuffer<std::uint8_t> scratch(lowbit::detail::canonical_scratch_bytes(c.w, m));
      c.scratch = scratch.data();
      c.x.data = x.data();
      c.x.stride_bytes = k * sizeof(float);
      Floats y(m * n, sentinel);
      c.y = y.data();
      for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 1}, {1, 50}, {100, 150}}) {
        c.row_begin = begin;
        c.row_end = end;
        gemm.canonical(lowbit::Compute::f32, c);
      }
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool computed = i % n < 50 || i % n >= 100;
        wrong += computed ? y[i] != whole[i] : y[i] != sentinel;
      }
      CHECK(wrong == 0);

      if (!w.packed) return;
      const Floats packed_whole = lowbit_test::run_product(x, m, w, true, {{.compute = lowbit::Compute::f32}});
      lowbit::detail::PackedGemmArgs p;
      p.w = w.packed->view();
      p.x = c.x;
      p.m = m;
      p.y_stride = n;
      std::fill(y.begin(), y.end(), sentinel);
      p.y = y.data();
      AlignedBuffer<std::uint8_t> packed_scratch(lowbit::detail::packed_scratch_bytes(p.w, lowbit::Compute::f32));
      p.scratch = packed_scratch.data();
      for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 1}, {2, 4}}) {
        p.panel_begin = begin;
        p.panel_end = end;
        gemm.packed(lowbit::Compute::f32, p);
      }
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool computed = i % n < 48 || i % n >= 96;
        wrong += computed ? y[i] != packed_whole[i] : y[i] != sentinel;
      }
      CHECK(wrong == 0);
    });
  }
}

}  // namespace kernel_test
