// SPDX-License-Identifier: MIT
// Opt-in: an Executor on OpenMP's threads, for programs that have them already.  Never included by lowbit.hpp; the only file of
// lowbit that -fopenmp changes anything in.
#pragma once
#if !defined(_OPENMP)
#error "lowbit/openmp.hpp needs OpenMP: compile this file with -fopenmp (CMake: link OpenMP::OpenMP_CXX)"
#endif
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>

#include "lowbit/base/thread.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Every run() is one parallel region, its tasks dealt out one by one.  Inside a parallel region of the caller's, or a task, it runs
// in place, as in a child made by fork(), where GNU's OpenMP hangs.  Thread safe.
class OpenMpExecutor final : public Executor {
 public:
  // threads: 0 means what OpenMP would take where run() is called (OMP_NUM_THREADS, omp_set_num_threads).
  explicit OpenMpExecutor(std::size_t threads = 0) : threads_(threads) { detail::watch_forks(); }

  // 1 where run() would run in place.
  std::size_t concurrency() const override {
    if (in_place()) return 1;
    return threads_ != 0 ? threads_ : static_cast<std::size_t>((std::max)(1, omp_get_max_threads()));
  }

  void run(std::size_t count, TaskRef task) override {
    const std::size_t threads = (std::min)(count, concurrency());
    if (threads <= 1) {
      for (std::size_t i = 0; i < count; ++i) task(i);
      return;
    }
    std::atomic<bool> failed{false};
    std::exception_ptr error;  // written by whoever sets `failed`, read after the region
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(threads))
    for (std::size_t i = 0; i < count; ++i) {
      detail::inside_task() = true;
#if LOWBIT_EXCEPTIONS
      try {
        if (!failed.load(std::memory_order_relaxed)) task(i);
      } catch (...) {  // must not leave the region
        if (!failed.exchange(true)) error = std::current_exception();
      }
#else
      task(i);
#endif
      detail::inside_task() = false;
    }
#if LOWBIT_EXCEPTIONS
    if (error) std::rethrow_exception(error);
#endif
  }

 private:
  bool in_place() const {
    return omp_in_parallel() != 0 || detail::inside_task() || detail::forks.load(std::memory_order_relaxed) != 0;
  }
  std::size_t threads_;
};

}  // namespace lowbit::inline LOWBIT_ABI
