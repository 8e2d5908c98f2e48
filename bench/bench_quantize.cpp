// SPDX-License-Identifier: MIT
// bench_quantize: how fast one core makes NF4 of floats in memory, as the library's text and as lowbit-quantize does it, beside reading
// the floats alone.  As many weights as GPT-2 small has in its linear layers.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <vector>

#include "examples/quantize/quantizers.hpp"
#include "lowbit/format/four_bit.hpp"
#include "lowbit/format/scale_search.hpp"

namespace {

// Seconds that this thread computed: what other processes do meanwhile counts only where they share memory and cores.
double cpu_seconds() {
  ::timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Contender {
  const char* name;
  std::function<void()> run;
  std::vector<double> seconds{};
};

}  // namespace

int main() {
  constexpr std::size_t n = 84'934'656, block = 64, rounds = 9;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> part(1 << 20), x(n), absmax(n / block), expected_absmax(n / block);
  for (float& v : part) v = normal(random);
  for (std::size_t i = 0; i < n; ++i) x[i] = part[(i * 7 + i / part.size()) % part.size()];
  std::vector<std::uint8_t> codes(n / 2), expected(n / 2);
  const auto library = [&] {
    lowbit::quantize_four_bit<lowbit::Nf4>(x.data(), n, block, lowbit::Producer::cuda, codes.data(), absmax.data());
  };
  const auto tool = [&] { quantize::quantize_four_bit(lowbit::Format::nf4, x.data(), n, block, codes.data(), absmax.data()); };
  library();
  expected.swap(codes);
  expected_absmax.swap(absmax);
  tool();
  if (codes != expected || absmax != expected_absmax) {
    std::fprintf(stderr, "bench_quantize: lowbit-quantize's codes are not the library's\n");
    return 1;
  }
  std::uint64_t sink = 0;
  std::vector<Contender> contenders{
      {"reading alone",
       [&] {
         std::uint64_t pair = 0;
         for (std::size_t i = 0; i < n; i += 2) {
           std::memcpy(&pair, x.data() + i, sizeof(pair));
           sink ^= pair;
         }
       }},
      {"library, absmax", library},
      {"lowbit-quantize, absmax", tool},
      {"lowbit-quantize, searched scales",
       [&] { quantize::search_scales(lowbit::Format::nf4, x.data(), n / 8, block, absmax.data()); }},
  };
  for (std::size_t round = 0; round < rounds; ++round)
    for (Contender& c : contenders) {
      const double began = cpu_seconds();
      c.run();
      c.seconds.push_back(cpu_seconds() - began);
    }
  std::printf("NF4, blocks of %zu, %zu weights, one thread; medians of %zu rounds in turns, CPU time (%llx)\n", block, n, rounds,
              static_cast<unsigned long long>(sink & 0xF));
  double reading = 0;
  for (Contender& c : contenders) {
    std::nth_element(c.seconds.begin(), c.seconds.begin() + rounds / 2, c.seconds.end());
    const bool search = &c == &contenders.back();
    const double rate = static_cast<double>(search ? n / 8 : n) / c.seconds[rounds / 2] * 1e-9;
    if (reading == 0) reading = rate;
    std::printf("  %-34s %6.3f G elements/s  %6.2f GB/s  %5.1f %% of reading\n", c.name, rate, 4 * rate, 100 * rate / reading);
  }
  return 0;
}
