// SPDX-License-Identifier: MIT
// What is timed: a product in some implementation, or a limit of the machine.  Peers' files see this and raw pointers alone, never
// lowbit, so that one of them can be compiled with flags of its own.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

// y (m, n) = x (m, k) w (n, k)^T, all row-major.
struct Problem {
  std::size_t n = 0, k = 0, m = 0;
  std::size_t threads = 1;
  bool cold = false;  // m = 1: every call reads another copy of the weights

  double operations() const { return 2.0 * static_cast<double>(n) * static_cast<double>(k) * static_cast<double>(m); }
};

// Copies of `bytes` that one call after the other goes round: together too large for any cache where the case is cold.
inline constexpr std::size_t cold_bytes = std::size_t{96} << 20;
inline std::size_t copies_of(const Problem& p, std::size_t bytes) { return p.cold ? cold_bytes / bytes + 1 : 1; }

// One way to do the work.  `call` receives a number that grows by one from call to call.
struct Way {
  std::string label;
  std::function<void(std::size_t)> call;
};

struct Contender {
  std::string maker;  // whose it is: the implementation
  std::size_t threads = 1;
  std::function<void()> enter = [] {};  // before every turn: number of threads, level
  std::vector<Way> ways;                // where there are several, the fastest counts
  std::size_t lap = 1;                  // calls until the first copy of the weights has its turn again
  double operations = 0;                // per call
  double bytes = 0;                     // per call: of the weights with their scales; of a limit: what it reads
  std::string wrong;                    // what the check found, empty if the result is right
};

}  // namespace bench
