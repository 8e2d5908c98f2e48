// SPDX-License-Identifier: MIT
#include "examples/train_classifier/profile.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include <fmt/format.h>

#include "examples/train_classifier/say.hpp"
#include "lowbit/qat/panels.hpp"

namespace train_classifier {

double product_limit(std::size_t threads) {
  constexpr std::size_t m = 1024, n = 1536, k = 768;
  lowbit::ThreadPool pool(threads);
  const std::vector<float> x(m * k, 0.5f), w(n * k, 0.25f);
  std::vector<float> y(m * n);
  lowbit::qat::Panels panels;
  panels.lay_rows(w.data(), n, k, k, pool);
  double best = 1e9;
  for (int i = 0; i < 12; ++i) {
    const auto start = std::chrono::steady_clock::now();
    lowbit::qat::product(lowbit::MatrixView<const float>(x.data(), m, k), panels, lowbit::MatrixView<float>(y.data(), m, n), pool);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return 2.0 * static_cast<double>(m * n * k) / best;
}

void print_profile(const lowbit::qat::OperatorTimes& times, std::size_t threads) {
  if (times.empty()) {
    say("\nno step was taken, so there is nothing to profile\n");
    return;
  }
  const double limit = product_limit(threads);
  double total = 0, flops = 0;
  for (const auto& [name, time] : times) total += time.seconds, flops += time.flops;
  say("\n{:32} {:>10} {:>8} {:>10} {:>10}\n", "operator", "seconds", "share", "GFLOP/s", "of limit");
  const auto line = [&](const std::string& name, double seconds, double work) {
    say("{:32} {:10.1f} {:7.1f}% {:>10} {:>10}\n", name, seconds, 100 * seconds / total,
        work > 0 ? fmt::format("{:.1f}", work / seconds * 1e-9) : "",
        work > 0 ? fmt::format("{:.0f}%", 100 * work / seconds / limit) : "");
  };
  for (const auto& [name, time] : times) line(name, time.seconds, time.flops);
  line("all", total, flops);
  say("limit: {:.1f} GFLOP/s, this library's float product of 1024 x 1536 x 768 on {} threads, measured just now\n", limit * 1e-9,
      threads);
}

}  // namespace train_classifier
