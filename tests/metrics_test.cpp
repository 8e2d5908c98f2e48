// SPDX-License-Identifier: MIT
// The figures of the comparison against values that were worked out elsewhere: by hand, by enumeration, by scikit-learn.
#include "examples/common/metrics.hpp"

#include <cmath>

#include "support/catch.hpp"

namespace metrics_test {

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

TEST_CASE("summaries: mean, the middle of an even count, the nearest rank") {
  CHECK(summary_of({}).count == 0);
  const Summary one = summary_of({3});
  CHECK((one.mean == 3 && one.median == 3 && one.p5 == 3 && one.p95 == 3));
  const Summary four = summary_of({4, 1, 3, 100});
  CHECK(four.mean == 27);
  CHECK(four.median == 3.5);
  CHECK(four.p5 == 1);
  CHECK(four.p95 == 100);
  std::vector<double> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(i);
  CHECK(summary_of(hundred).p95 == 95);
  CHECK(summary_of(hundred).p5 == 6);  // 95 of them reach it
  hundred.push_back(101);
  CHECK(summary_of(hundred).p95 == 96);  // 95 of 101 are 94.06 %
  CHECK(summary_of(hundred).median == 51);
}

}  // namespace metrics_test
