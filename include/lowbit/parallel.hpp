// SPDX-License-Identifier: MIT
// Threads: an interface that an application implements with its own, and a default pool that is made on first use.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>

#include "lowbit/base/config.hpp"
#include "lowbit/base/task.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Runs tasks.  An application that has threads of its own implements this and passes it along; lowbit then makes none.
class Executor {
 public:
  virtual ~Executor() = default;
  // How many tasks run at the same time; at least 1.
  virtual std::size_t concurrency() const = 0;
  // Calls task(0) ... task(count - 1), each once, in any order, and returns when all are done.  A call from inside one of its own
  // tasks must work (running in place is right).  Passes on an exception of a task.  A thread that waits inside run() must not take
  // up work of another run(): products keep what they work in with their thread.
  virtual void run(std::size_t count, TaskRef task) = 0;
};

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// What stands behind a pool.  Its threads belong to the file that made them, whatever its flags.
struct PoolThreads;
struct PoolState {
  std::size_t threads = 0;
  std::atomic<PoolThreads*> made{nullptr};
  std::atomic<bool> ended{false};
};

LOWBIT_FUNCTION void start_pool(PoolState& pool);
LOWBIT_FUNCTION void destroy_pool(PoolState& pool);
// Ends the threads, and makes no more: what runs later runs in place.
LOWBIT_FUNCTION void end_pool(PoolState& pool);
LOWBIT_FUNCTION std::size_t pool_concurrency(PoolState& pool);
LOWBIT_FUNCTION void run_on_pool(PoolState& pool, std::size_t count, TaskRef task);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Processors that this process may use, at least 1: those of its affinity, at most as many as its control group's CPU quota is
// worth, rounded up.  Asks the system at every call.  Thread safe.
LOWBIT_FUNCTION std::size_t available_processors();

// Everything in the caller's thread.
class SerialExecutor final : public Executor {
 public:
  std::size_t concurrency() const override { return 1; }
  void run(std::size_t count, TaskRef task) override {
    for (std::size_t i = 0; i < count; ++i) task(i);
  }
};

// A fixed number of threads, the caller among them.  run() may be called from several threads; the calls take turns.  Inside a
// task, and inside a parallel region of OpenMP, where the caller's threads are busy already, it runs in place.
// More threads than processors are allowed, and take turns on them.
// After fork() the child has threads of its own, made when it first runs something; a task must not return in a child that it made.
class ThreadPool final : public Executor {
 public:
  // threads: 0 means available_processors().  Where the system gives fewer threads, there are as many as it gave.
  explicit ThreadPool(std::size_t threads = 0) {
    state_.threads = threads;
    detail::start_pool(state_);
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() override { detail::destroy_pool(state_); }
  std::size_t concurrency() const override { return detail::pool_concurrency(state_); }
  void run(std::size_t count, TaskRef task) override { detail::run_on_pool(state_, count, task); }

 private:
  mutable detail::PoolState state_;
};

// The pool that is used where the caller gives no executor: one thread per available processor, made on first use.  It may be used
// until the process ends, in destructors of static objects too; there it runs in place once its threads have ended.
LOWBIT_FUNCTION Executor& default_executor();

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// Rows in parts of at least 8: fewer are not worth a thread.  part(i, begin, end).
template <class Part>
void for_row_parts(std::size_t rows, Executor& executor, const Part& part) {
  const std::size_t parts = (std::max<std::size_t>)(1, (std::min)(executor.concurrency(), rows / 8));
  executor.run(parts, [&](std::size_t i) { part(i, rows * i / parts, rows * (i + 1) / parts); });
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/parallel-inl.hpp"
#endif
