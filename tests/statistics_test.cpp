// SPDX-License-Identifier: MIT
// The statistics of the comparison against published examples, by hand, and by enumeration.
#include "examples/common/statistics.hpp"

#include <cmath>
#include <cstdint>

#include "support/catch.hpp"

namespace statistics_test {

using namespace examples;

namespace {
// Equal to the last digit that `expected` was printed with.
bool printed_as(double value, double expected, double unit) { return std::fabs(value - expected) <= unit / 2 * (1 + 1e-9); }
using Sample = std::span<const std::size_t>;
}  // namespace

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
}

TEST_CASE("Wilson's interval: Newcombe 1998, Statistics in Medicine 17:857, table I") {
  // 81 of 263 is 0.2553 to 0.3662, 15 of 148 is 0.0624 to 0.1605, 0 of 20 is 0 to 0.1611.
  CHECK(printed_as(wilson_interval(81, 263).low, 0.2553, 1e-4));
  CHECK(printed_as(wilson_interval(81, 263).high, 0.3662, 1e-4));
  CHECK(printed_as(wilson_interval(15, 148).low, 0.0624, 1e-4));
  CHECK(printed_as(wilson_interval(15, 148).high, 0.1605, 1e-4));
  CHECK(wilson_interval(0, 20).low == 0);
  CHECK(printed_as(wilson_interval(0, 20).high, 0.1611, 1e-4));
  CHECK(wilson_interval(20, 20).high == 1);
  CHECK(wilson_interval(0, 0) == Interval{0, 1});
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

TEST_CASE("McNemar's exact test: published examples") {
  // Armitage and Berry, Statistical Methods in Medical Research, 3rd ed. 1994, p. 127: two media for tuberculosis cultures, 12 and 2
  // of 50 specimens on which they differ.
  CHECK(printed_as(mcnemar_p(12, 2), 0.0129, 1e-4));
  // Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91, "exact conditional": airway hyper-responsiveness of 21
  // children before and after a transplant, 1 and 7; complete response of 161 patients before and after consolidation, 6 and 16.
  CHECK(printed_as(mcnemar_p(1, 7), 0.0703, 1e-4));
  CHECK(printed_as(mcnemar_p(6, 16), 0.0525, 1e-4));
}

TEST_CASE("McNemar's p survives thousands of rows") {
  // No row of 2000 on the other side: 2 / 2^2000 is below every double.
  CHECK(mcnemar_p(0, 2000) == 0);
  CHECK(mcnemar_p(0, 1000) == Approx(std::ldexp(1.0, -999)).epsilon(1e-10));
  CHECK(mcnemar_p(1500, 1500) == 1);
  // n = 3000, 1440 to 1560: the normal limit with continuity correction, z = 119 / sqrt(3000), is right to its own order, 1 / n.
  CHECK(mcnemar_p(1440, 1560) == Approx(std::erfc(119 / std::sqrt(3000.0) / std::sqrt(2.0))).epsilon(2e-3));
}

TEST_CASE("paired difference: by hand") {
  // 18 against 23 of 7,600: -5 rows; variance (41 - 25 / 7600) / 7600^2.
  const auto [gain, reach] = paired_difference(18, 23, 7600);
  CHECK(gain == Approx(-5.0 / 7600));
  CHECK(reach == Approx(1.959963984540054 * std::sqrt(41 - 25.0 / 7600) / 7600));
  CHECK(paired_difference(0, 0, 10) == std::pair(0.0, 0.0));
}

TEST_CASE("bootstrap: the standard error of Efron and Tibshirani's law schools") {
  // An Introduction to the Bootstrap, 1993: table 3.1 has the 15 schools, whose correlation is 0.776; table 6.1 has a standard error of
  // 0.132 from 3,200 replicates.
  const double lsat[] = {576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594};
  const double gpa[] = {3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96};
  const auto correlation = [&](Sample sample) {
    double x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    const double n = static_cast<double>(sample.size());
    for (const std::size_t i : sample) {
      x += lsat[i] / n;
      y += gpa[i] / n;
    }
    for (const std::size_t i : sample) {
      xx += (lsat[i] - x) * (lsat[i] - x);
      yy += (gpa[i] - y) * (gpa[i] - y);
      xy += (lsat[i] - x) * (gpa[i] - y);
    }
    return xy / std::sqrt(xx * yy);
  };
  std::vector<std::size_t> all(15);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  CHECK(printed_as(correlation(all), 0.776, 1e-3));
  const std::vector<double> values = bootstrap(15, 3200, 7, correlation);
  double mean = 0, square = 0;
  for (const double v : values) mean += v / 3200;
  for (const double v : values) square += (v - mean) * (v - mean) / 3199;
  // Two such figures differ by sqrt(2) of a figure's own error, about 1.7 % of it (the kurtosis of table 6.1's replicates is near 4);
  // four of those.
  CHECK(std::fabs(std::sqrt(square) - 0.132) < 4 * std::sqrt(2.0) * 0.017 * 0.132);
}

TEST_CASE("bootstrap: a paired difference of accuracies has the published standard error") {
  // Armitage and Berry's cultures again: 20 both, 12 only A, 2 only B, 16 none; Newcombe 1998, Statistics in Medicine 17:2635, writes
  // the difference, 0.2, with the paired standard error that paired_difference() has: sqrt(14 - 10^2 / 50) / 50.
  std::vector<int> gain(50, 0);
  for (std::size_t i = 0; i < 12; ++i) gain[i] = 1;
  gain[12] = gain[13] = -1;
  const std::vector<double> values = bootstrap(50, 20000, 3, [&](Sample sample) {
    int sum = 0;
    for (const std::size_t i : sample) sum += gain[i];
    return sum / 50.0;
  });
  const auto [expected, reach] = paired_difference(12, 2, 50);
  CHECK(expected == 0.2);
  double mean = 0, square = 0;
  for (const double v : values) mean += v / 20000;
  for (const double v : values) square += (v - mean) * (v - mean) / 20000;
  const double error = reach / normal_97_5;
  CHECK(std::fabs(mean - 0.2) < 5 * error / std::sqrt(20000.0));
  CHECK(std::fabs(std::sqrt(square) / error - 1) < 5 / std::sqrt(2 * 20000.0));
  // Values are multiples of 0.02: an end may be the next one.
  const Interval i = middle_95(values);
  CHECK(std::fabs(i.low - (0.2 - reach)) < 0.02);
  CHECK(std::fabs(i.high - (0.2 + reach)) < 0.02);
}

TEST_CASE("bootstrap: macro F1 of four rows, against all 256 samples") {
  const std::size_t labels[] = {0, 0, 1, 1}, said[] = {0, 1, 1, 1};
  const auto f1 = [&](Sample sample) {
    double sum = 0;
    for (std::size_t c = 0; c < 2; ++c) {
      double hits = 0, both = 0;
      for (const std::size_t i : sample) {
        hits += labels[i] == c && said[i] == c;
        both += (labels[i] == c) + (said[i] == c);
      }
      sum += both == 0 ? 0 : 2 * hits / both;
    }
    return sum / 2;
  };
  double mean = 0, square = 0;
  for (std::size_t all = 0; all < 256; ++all) {
    const std::size_t sample[] = {all & 3u, all >> 2 & 3u, all >> 4 & 3u, all >> 6};
    const double v = f1(sample);
    mean += v / 256;
    square += v * v / 256;
  }
  double found = 0;
  const std::vector<double> values = bootstrap(4, 20000, 11, f1);
  for (const double v : values) found += v / 20000;
  CHECK(std::fabs(found - mean) < 5 * std::sqrt((square - mean * mean) / 20000));
  CHECK(std::is_sorted(values.begin(), values.end()));
}

TEST_CASE("bootstrap: rows are drawn alike, the same for a seed, and the middle of values is between them") {
  std::vector<std::size_t> sample(70000);
  Resampler(7, 1).draw(sample);
  std::size_t counts[7] = {};
  for (const std::size_t s : sample) ++counts[s];
  for (const std::size_t c : counts) CHECK(std::fabs(static_cast<double>(c) - 10000) < 5 * std::sqrt(10000.0 * 6 / 7));
  const auto first = [](Sample s) { return static_cast<double>(s[0]); };
  CHECK(bootstrap(1000, 50, 4, first) == bootstrap(1000, 50, 4, first));
  CHECK(bootstrap(1000, 50, 4, first) != bootstrap(1000, 50, 5, first));
  std::vector<double> values;
  for (int i = 0; i <= 40; ++i) values.push_back(i);
  CHECK(middle_95(values) == Interval{1, 39});
  CHECK(middle_95(std::vector<double>{}) == Interval{});
}

}  // namespace statistics_test
