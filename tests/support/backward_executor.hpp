// SPDX-License-Identifier: MIT
// An executor for tests: runs tasks last to first, and says that it could run many at once, so that work is cut into many parts.
#pragma once
#include <algorithm>
#include <cstddef>

#include "lowbit/parallel.hpp"

namespace lowbit_test {

class BackwardExecutor final : public lowbit::Executor {
 public:
  explicit BackwardExecutor(std::size_t claimed) : claimed_(claimed) {}
  std::size_t concurrency() const override { return claimed_; }
  void run(std::size_t count, lowbit::TaskRef task) override {
    ++runs;
    most = std::max(most, count);
    for (std::size_t i = count; i != 0; --i) task(i - 1);
  }
  std::size_t runs = 0, most = 0;  // calls, and the parts of the largest

 private:
  std::size_t claimed_;
};

}  // namespace lowbit_test
