// SPDX-License-Identifier: MIT
// The threads that lowbit's products and the limits run on.
#pragma once
#include <map>
#include <memory>

#include "lowbit/parallel.hpp"

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

}  // namespace bench
