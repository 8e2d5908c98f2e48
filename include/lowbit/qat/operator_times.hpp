// SPDX-License-Identifier: MIT
// Where a training step's time goes: seconds and floating-point operations by operator.
#pragma once
#include <chrono>
#include <map>
#include <string>

#include "lowbit/base/config.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// What an operator took, summed over its calls.
struct OperatorTime {
  double seconds = 0, flops = 0;  // by the clock; multiplications and additions
};
// By the operator's name.
using OperatorTimes = std::map<std::string, OperatorTime>;

}  // namespace lowbit::qat::inline LOWBIT_ABI

namespace lowbit::qat::detail::inline LOWBIT_ABI {
// Adds the time of its scope to `times`, where there is one.
class Timer {
 public:
  Timer(OperatorTimes* times, const char* name, double flops = 0) : times_(times), name_(name), flops_(flops) {
    if (times_) start_ = std::chrono::steady_clock::now();
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    if (!times_) return;
    OperatorTime& t = (*times_)[name_];
    t.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    t.flops += flops_;
  }

 private:
  OperatorTimes* times_;
  const char* name_;
  double flops_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace lowbit::qat::detail::inline LOWBIT_ABI
