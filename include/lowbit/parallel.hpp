// SPDX-License-Identifier: MIT
// Threads: an interface that an application implements with its own, and a default pool that is made on first use.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>

#include "lowbit/base/config.hpp"
#include "lowbit/base/crew.hpp"
#include "lowbit/base/processors.hpp"
#include "lowbit/base/task.hpp"

namespace lowbit {

namespace detail {
struct DefaultPool;
}

// Runs tasks.  An application that has threads of its own implements this and passes it along; lowbit then makes none.
class Executor {
 public:
  virtual ~Executor() = default;
  // How many tasks run at the same time; at least 1.
  virtual std::size_t concurrency() const = 0;
  // Calls task(0) ... task(count - 1), each once, in any order, and returns when all are done.  A call from inside one of its own
  // tasks must work (running in place is right).  Passes on an exception of a task.  A thread that waits inside run() must not take
  // up work of another run(): products keep converted activations in memory of their thread.
  virtual void run(std::size_t count, TaskRef task) = 0;
};

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
  explicit ThreadPool(std::size_t threads = 0) : threads_(threads) { crew(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() override {
    detail::Crew* const crew = crew_.load(std::memory_order_acquire);
    // exit() inside a task: its round would wait for this thread.
    crew != nullptr && crew->is_here() && !detail::inside_task() ? delete crew : forget(crew);
  }
  std::size_t concurrency() const override { return ended_.load(std::memory_order_relaxed) ? 1 : crew().size(); }

  void run(std::size_t count, TaskRef task) override {
    if (count > 1 && !detail::inside_task() && !detail::inside_openmp_region() && !ended_.load(std::memory_order_relaxed))
      if (detail::Crew& crew = this->crew(); crew.size() > 1) return crew.run(count, task);
    for (std::size_t i = 0; i < count; ++i) task(i);
  }

 private:
  friend struct detail::DefaultPool;
  struct Later {};
  constexpr explicit ThreadPool(Later) : threads_(0) {}  // makes no thread before it must run something

  // The threads of this process.  Without a lock, which a fork() could leave locked for ever.
  detail::Crew& crew() const {
    for (;;) {
      detail::Crew* old = crew_.load(std::memory_order_acquire);
      if (old != nullptr && old->is_here()) return *old;
      detail::watch_forks();
      auto fresh = std::make_unique<detail::Crew>(threads_ == 0 ? available_processors() : threads_);
      if (!crew_.compare_exchange_strong(old, fresh.get(), std::memory_order_acq_rel)) continue;
      forget(old);
      return *fresh.release();
    }
  }
  // Threads that fork() left behind cannot be joined, nor their locks destroyed; what they had stays reachable for leak checkers.
  static void forget(detail::Crew* crew) {
    static std::atomic<detail::Crew*> forgotten{nullptr};
    if (crew == nullptr) return;
    crew->forgotten_before = forgotten.load(std::memory_order_relaxed);
    while (!forgotten.compare_exchange_weak(crew->forgotten_before, crew, std::memory_order_acq_rel)) {
    }
  }
  // Ends the threads, and makes no more: what runs later runs in place.
  void end() {
    ended_.store(true, std::memory_order_relaxed);
    if (detail::inside_task()) return;  // exit() inside a task: its round would wait for this thread
    detail::Crew* const crew = crew_.load(std::memory_order_acquire);
    if (crew != nullptr && crew->is_here()) crew->stop();
  }

  std::size_t threads_;
  mutable std::atomic<detail::Crew*> crew_{nullptr};
  std::atomic<bool> ended_{false};
};

namespace detail {

// The pool is never destroyed, since destructors of static objects may multiply; its threads end with this object.
struct DefaultPool {
  union {
    ThreadPool pool;
  };
  constexpr DefaultPool() : pool(ThreadPool::Later()) {}
  ~DefaultPool() { pool.end(); }
};

inline namespace LOWBIT_ABI {
inline constinit DefaultPool default_pool;
}  // namespace LOWBIT_ABI
}  // namespace detail

inline namespace LOWBIT_ABI {

// The pool that is used where the caller gives no executor: one thread per available processor, made on first use.  It may be used
// until the process ends, in destructors of static objects too; there it runs in place once its threads have ended.
inline Executor& default_executor() { return detail::default_pool.pool; }

}  // namespace LOWBIT_ABI
}  // namespace lowbit
