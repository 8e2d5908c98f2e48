// SPDX-License-Identifier: MIT
// What is said about predictions and times: confusion matrix, accuracy with its interval, precision, recall and F1 as the paper
// (and scikit-learn) averages them, McNemar's test against a baseline, and the summary of a list of latencies.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace examples {

// counts[true class][predicted class].
using Confusion = std::vector<std::vector<std::size_t>>;

// All in 0..1.
struct Scores {
  std::size_t rows = 0, correct = 0;
  double accuracy = 0, precision = 0, recall = 0, f1 = 0;  // the last three: means over the classes, each class alike
  std::vector<double> class_f1;
};

// Scores of a square matrix.  A class that is never predicted has precision 0, one that never occurs recall 0, and F1 is 0 where
// both are; an empty matrix gives zeros.
inline Scores scores_of(const Confusion& confusion) {
  Scores s;
  const std::size_t classes = confusion.size();
  const auto ratio = [](std::size_t part, std::size_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  for (std::size_t c = 0; c < classes; ++c) {
    std::size_t actual = 0, predicted = 0;
    for (std::size_t other = 0; other < classes; ++other) {
      actual += confusion[c][other];
      predicted += confusion[other][c];
    }
    const std::size_t hits = confusion[c][c];
    s.rows += actual;
    s.correct += hits;
    s.precision += ratio(hits, predicted);
    s.recall += ratio(hits, actual);
    s.class_f1.push_back(ratio(2 * hits, actual + predicted));
    s.f1 += s.class_f1.back();
  }
  if (classes != 0)
    for (double* mean : {&s.precision, &s.recall, &s.f1}) *mean /= static_cast<double>(classes);
  s.accuracy = ratio(s.correct, s.rows);
  return s;
}

inline constexpr double normal_97_5 = 1.959963984540054;  // 97.5 % of a standard normal lie below

// Wilson's 95 % interval of a share: correct of rows.  (0, 1) where there are no rows.
inline std::pair<double, double> wilson_interval(std::size_t correct, std::size_t rows) {
  if (rows == 0) return {0, 1};
  const double z = normal_97_5;
  const double n = static_cast<double>(rows), p = static_cast<double>(correct) / n;
  const double middle = p + z * z / (2 * n), reach = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n)), scale = 1 + z * z / n;
  return {std::max(0.0, (middle - reach) / scale), std::min(1.0, (middle + reach) / scale)};
}

// McNemar's exact test, two-sided: the chance that fair coins split rows on which exactly one of two models is right at least as
// unevenly as (a, b).  1 where there are none.
inline double mcnemar_p(std::size_t a, std::size_t b) {
  const std::size_t n = a + b, few = std::min(a, b);
  // In logarithms: 2^-n leaves the range of double at n = 1075, long before the rows run out.
  double log_term = -static_cast<double>(n) * std::log(2.0), sum = std::exp(log_term);
  for (std::size_t k = 1; k <= few; ++k) {
    log_term += std::log(static_cast<double>(n - k + 1)) - std::log(static_cast<double>(k));
    sum += std::exp(log_term);
  }
  return std::min(1.0, 2 * sum);
}

// The difference of two models' accuracies on the same rows, and the half width of its 95 % interval (normal, paired): a of the
// rows only the first gets right, b only the second.  rows > 0.
inline std::pair<double, double> paired_difference(std::size_t a, std::size_t b, std::size_t rows) {
  const double n = static_cast<double>(rows), gain = static_cast<double>(a) - static_cast<double>(b);
  return {gain / n, normal_97_5 * std::sqrt(std::max(0.0, static_cast<double>(a + b) - gain * gain / n)) / n};
}

// In the unit of the values.
struct Summary {
  std::size_t count = 0;
  double mean = 0, median = 0, p95 = 0;  // p95: the smallest value that at least 95 % do not exceed
};
inline Summary summary_of(std::vector<double> values) {
  Summary s;
  s.count = values.size();
  if (values.empty()) return s;
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  for (const double v : values) s.mean += v / static_cast<double>(n);
  s.median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  s.p95 = values[(n * 95 + 99) / 100 - 1];
  return s;
}

}  // namespace examples
