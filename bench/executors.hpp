// SPDX-License-Identifier: MIT
// The threads that lowbit's products and the limits run on.
#pragma once
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "lowbit/parallel.hpp"
#include "machine.hpp"

namespace bench {

// One for each number of threads, kept for the whole run.
inline lowbit::Executor& executor(std::size_t threads) {
  static lowbit::SerialExecutor serial;
  static std::map<std::size_t, std::unique_ptr<lowbit::ThreadPool>> pools;
  if (threads == 1) return serial;
  auto& pool = pools[threads];
  if (!pool) pool = std::make_unique<lowbit::ThreadPool>(threads);
  return *pool;
}

// Wakes the threads of executor(threads) and waits until each has a processor of its own, for 50 ms at most.  The system may wake a
// thread where its caller is busy, and leave the two there for milliseconds beside an idle processor.  A pool whose caller waits
// for all of its threads has that behind it after the first call; in lowbit's the caller goes on alone, so that no call shows it.
inline void gather(std::size_t threads) {
#if defined(__linux__)
  if (threads == 1 || threads > usable_processors()) return;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  std::vector<std::atomic<int>> places(threads);
  for (auto& p : places) p.store(-1, std::memory_order_relaxed);
  const auto apart = [&] {
    for (std::size_t i = 0; i < threads; ++i) {
      const int place = places[i].load(std::memory_order_relaxed);
      if (place < 0) return false;
      for (std::size_t j = 0; j < i; ++j)
        if (places[j].load(std::memory_order_relaxed) == place) return false;
    }
    return true;
  };
  std::atomic<bool> done = false;
  // A thread that is in a task takes no other, so each has one of these.
  executor(threads).run(threads, [&](std::size_t i) {
    while (!done.load(std::memory_order_relaxed)) {
      places[i].store(::sched_getcpu(), std::memory_order_relaxed);
      if (apart() || std::chrono::steady_clock::now() >= end) done.store(true, std::memory_order_relaxed);
    }
  });
#else
  static_cast<void>(threads);
#endif
}

}  // namespace bench
