// SPDX-License-Identifier: MIT
// What is said about predictions and times: confusion matrix, accuracy, precision, recall and F1 as the paper (and scikit-learn)
// averages them, and the summary of a list of latencies.
#pragma once
#include <algorithm>
#include <cstddef>
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

// In the unit of the values.
struct Summary {
  std::size_t count = 0;
  // p5: the largest value that at least 95 % reach; p95: the smallest that at least 95 % do not exceed.
  double mean = 0, median = 0, p5 = 0, p95 = 0;
};
inline Summary summary_of(std::vector<double> values) {
  Summary s;
  s.count = values.size();
  if (values.empty()) return s;
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size(), rank_95 = (n * 95 + 99) / 100;
  for (const double v : values) s.mean += v / static_cast<double>(n);
  s.median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  s.p5 = values[n - rank_95];
  s.p95 = values[rank_95 - 1];
  return s;
}

}  // namespace examples
