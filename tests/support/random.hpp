// SPDX-License-Identifier: MIT
// Random numbers that are the same on every machine: the engine is the standard's, the distributions are ours.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace lowbit_test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  // In [0, n), n > 0.
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }
  bool coin() { return below(2) != 0; }
  template <class T, std::size_t N>
  const T& one_of(const T (&values)[N]) {
    return values[below(N)];
  }
  // In [low, high).
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53; }
  // Mean 0, variance 1.
  float normal() {
    const double radius = std::sqrt(-2 * std::log(uniform(0x1p-53, 1)));
    return static_cast<float>(radius * std::cos(uniform(0, 6.283185307179586)));
  }
  std::vector<float> normals(std::size_t n, float scale = 1) {
    std::vector<float> values(n);
    for (float& v : values) v = scale * normal();
    return values;
  }
  // Weights whose size changes by a factor of up to 64 from one run of 16 to the next, some runs zero: a scale that is taken from
  // the wrong block shows.
  std::vector<float> uneven(std::size_t n) {
    std::vector<float> values(n);
    float scale = 1;
    for (std::size_t i = 0; i < n; ++i) {
      if (i % 16 == 0) scale = below(24) == 0 ? 0.0f : std::ldexp(1.0f, static_cast<int>(below(7)) - 6);
      values[i] = scale * normal();
    }
    return values;
  }
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace lowbit_test
