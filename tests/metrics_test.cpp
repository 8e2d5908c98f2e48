// SPDX-License-Identifier: MIT
// The figures of the comparison against values that were worked out elsewhere: by hand, by enumeration, by scikit-learn.
#include "examples/common/metrics.hpp"

#include <cstdint>

#include "support/catch.hpp"

using namespace examples;

namespace {
// Equal to the last digit that `expected` was printed with.
bool printed_as(double value, double expected, double unit) { return std::fabs(value - expected) <= unit / 2 * (1 + 1e-9); }
}  // namespace

TEST_CASE("scores of GPT-2 small on AG News are scikit-learn's") {
  const Confusion confusion = {{1813, 9, 41, 37}, {11, 1875, 8, 6}, {53, 11, 1700, 136}, {41, 9, 94, 1756}};
  const Scores s = scores_of(confusion);
  CHECK(s.rows == 7600);
  CHECK(s.correct == 7144);
  CHECK(printed_as(100 * s.accuracy, 94.0, 1e-4));
  CHECK(printed_as(100 * s.precision, 93.9982, 1e-4));
  CHECK(printed_as(100 * s.recall, 94.0, 1e-4));
  CHECK(printed_as(100 * s.f1, 93.9914, 1e-4));
  const double class_f1[] = {94.9712, 98.5804, 90.8362, 91.5776};
  REQUIRE(s.class_f1.size() == 4);
  for (std::size_t c = 0; c < 4; ++c) CHECK(printed_as(100 * s.class_f1[c], class_f1[c], 1e-4));
}

TEST_CASE("scores worked out by hand, rows and columns not mixed up") {
  // Of class 0 three rows, two of them taken for class 1; of class 1 one row, right.
  const Scores s = scores_of({{1, 2}, {0, 1}});
  CHECK(s.accuracy == 0.5);
  CHECK(s.precision == Approx((1.0 + 1.0 / 3) / 2).epsilon(1e-15));
  CHECK(s.recall == Approx((1.0 / 3 + 1.0) / 2).epsilon(1e-15));
  CHECK(s.class_f1 == std::vector<double>{0.5, 0.5});
  CHECK(s.f1 == 0.5);
}

TEST_CASE("classes that never occur or are never predicted count as zero") {
  const Scores s = scores_of({{2, 0, 0}, {1, 0, 0}, {0, 0, 0}});
  CHECK(s.rows == 3);
  CHECK(s.class_f1 == std::vector<double>{0.8, 0, 0});
  CHECK(s.precision == Approx(2.0 / 9).epsilon(1e-15));
  CHECK(s.recall == Approx(1.0 / 3).epsilon(1e-15));
  CHECK(scores_of({}).accuracy == 0);
  CHECK(scores_of({{0}}).f1 == 0);
}

TEST_CASE("Wilson's interval holds what solves (p - q)^2 = z^2 q (1 - q) / n") {
  // Ends from the quadratic that defines them, with the sign of the remainder on both sides.
  const double z = 1.959963984540054;
  for (const auto& [correct, rows] : {std::pair<std::size_t, std::size_t>{7144, 7600}, {340, 400}, {1, 3}, {48, 50}}) {
    const auto [low, high] = wilson_interval(correct, rows);
    const double n = static_cast<double>(rows), p = static_cast<double>(correct) / n;
    CHECK(low < p);
    CHECK(p < high);
    for (const double q : {low, high}) CHECK(std::fabs((p - q) * (p - q) - z * z * q * (1 - q) / n) < 1e-14);
  }
  // Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 15 of 148 is 0.0624 to 0.1605, 0 of 20 is 0 to 0.1611.
  CHECK(printed_as(wilson_interval(81, 263).first, 0.2553, 1e-4));
  CHECK(printed_as(wilson_interval(81, 263).second, 0.3662, 1e-4));
  CHECK(printed_as(wilson_interval(15, 148).first, 0.0624, 1e-4));
  CHECK(printed_as(wilson_interval(15, 148).second, 0.1605, 1e-4));
  CHECK(wilson_interval(0, 20).first == 0);
  CHECK(printed_as(wilson_interval(0, 20).second, 0.1611, 1e-4));
  CHECK(wilson_interval(20, 20).second == 1);
  CHECK(wilson_interval(0, 0) == std::pair<double, double>{0, 1});
}

TEST_CASE("McNemar's p is what counting all outcomes of the coins gives") {
  for (std::size_t a = 0; a <= 8; ++a)
    for (std::size_t b = 0; a + b <= 12; ++b) {
      const std::size_t n = a + b, distance = a > b ? a - b : b - a;
      std::size_t as_uneven = 0;
      for (std::uint32_t coins = 0; coins < (1u << n); ++coins) {
        std::size_t heads = 0;
        for (std::size_t i = 0; i < n; ++i) heads += coins >> i & 1u;
        const std::size_t tails = n - heads;
        as_uneven += (heads > tails ? heads - tails : tails - heads) >= distance;
      }
      CAPTURE(a, b);
      CHECK(mcnemar_p(a, b) == Approx(static_cast<double>(as_uneven) / static_cast<double>(1u << n)).epsilon(1e-12));
    }
  CHECK(mcnemar_p(10, 2) == Approx(158.0 / 4096).epsilon(1e-12));  // 2 (1 + 12 + 66) / 2^12
  CHECK(mcnemar_p(2, 10) == mcnemar_p(10, 2));
}

TEST_CASE("McNemar's p survives thousands of rows") {
  // No row of 2000 on the other side: 2 / 2^2000 is below every double.
  CHECK(mcnemar_p(0, 2000) == 0);
  CHECK(mcnemar_p(0, 1000) == Approx(std::ldexp(1.0, -999)).epsilon(1e-10));
  CHECK(mcnemar_p(1500, 1500) == 1);
  // n = 3000, 1440 to 1560: the normal limit with continuity correction, z = 119 / sqrt(3000), is right to its own order, 1 / n.
  CHECK(mcnemar_p(1440, 1560) == Approx(std::erfc(119 / std::sqrt(3000.0) / std::sqrt(2.0))).epsilon(2e-3));
}

TEST_CASE("summaries: mean, the middle of an even count, the nearest rank") {
  CHECK(summary_of({}).count == 0);
  const Summary one = summary_of({3});
  CHECK((one.mean == 3 && one.median == 3 && one.p95 == 3));
  const Summary four = summary_of({4, 1, 3, 100});
  CHECK(four.mean == 27);
  CHECK(four.median == 3.5);
  CHECK(four.p95 == 100);
  std::vector<double> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(i);
  CHECK(summary_of(hundred).p95 == 95);
  hundred.push_back(101);
  CHECK(summary_of(hundred).p95 == 96);  // 95 of 101 are 94.06 %
  CHECK(summary_of(hundred).median == 51);
}

TEST_CASE("paired difference: by hand", "[metrics]") {
  // 18 against 23 of 7,600: -5 rows; variance (41 - 25 / 7600) / 7600^2.
  const auto [gain, reach] = examples::paired_difference(18, 23, 7600);
  CHECK(gain == Approx(-5.0 / 7600));
  CHECK(reach == Approx(1.959963984540054 * std::sqrt(41 - 25.0 / 7600) / 7600));
  CHECK(examples::paired_difference(0, 0, 10) == std::pair(0.0, 0.0));
}
