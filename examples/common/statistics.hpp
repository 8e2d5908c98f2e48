// SPDX-License-Identifier: MIT
// How sure a comparison of two classifiers on the same rows is: Wilson's interval of a share, McNemar's exact test, and the bootstrap,
// which resamples whole rows and so keeps what each model said about a row together.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace examples {

struct Interval {
  double low = 0, high = 0;
  bool holds(double value) const { return low <= value && value <= high; }
  bool operator==(const Interval&) const = default;
};

inline constexpr double normal_97_5 = 1.959963984540054;  // 97.5 % of a standard normal lie below

// Wilson's 95 % interval of a share: correct of rows.  (0, 1) where there are no rows.
inline Interval wilson_interval(std::size_t correct, std::size_t rows) {
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

// Row numbers drawn with replacement, the same on every system for a seed (SplitMix64, and the upper half of a product).
class Resampler {
 public:
  Resampler(std::size_t rows, std::uint64_t seed) : rows_(rows), state_(seed) {}
  // sample.size() numbers below `rows`, which must be below 2^32.
  void draw(std::span<std::size_t> sample) {
    for (std::size_t& s : sample) s = static_cast<std::size_t>((next() >> 32) * rows_ >> 32);
  }

 private:
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint64_t rows_, state_;
};

// statistic(sample) of `replicates` samples of as many rows as there are, drawn with replacement; sorted.
// statistic: double of a std::span<const std::size_t>, the numbers of the rows.
template <class Statistic>
std::vector<double> bootstrap(std::size_t rows, std::size_t replicates, std::uint64_t seed, Statistic statistic) {
  Resampler resampler(rows, seed);
  std::vector<std::size_t> sample(rows);
  std::vector<double> values(replicates);
  for (double& value : values) {
    resampler.draw(sample);
    value = statistic(std::span<const std::size_t>(sample));
  }
  std::sort(values.begin(), values.end());
  return values;
}

// The middle 95 % of sorted values (Efron's percentile interval); (0, 0) of none.
inline Interval middle_95(std::span<const double> sorted) {
  if (sorted.empty()) return {};
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const double above = place - static_cast<double>(below);
    return sorted[below] + above * (sorted[std::min(below + 1, sorted.size() - 1)] - sorted[below]);
  };
  return {at(0.025), at(0.975)};
}

}  // namespace examples
