// SPDX-License-Identifier: MIT
// Threads: an interface that an application implements with its own, and a default pool that is made on first use.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"

namespace lowbit {

// A task that is called with its number; a view, valid during the call that receives it.
class TaskRef {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>) TaskRef(F&& f)  // NOLINT: a view of any callable
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, std::size_t i) { (*static_cast<std::remove_reference_t<F>*>(o))(i); }) {}
  void operator()(std::size_t i) const { call_(object_, i); }

 private:
  void* object_;
  void (*call_)(void*, std::size_t);
};

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

namespace detail {

// Whether this thread is running a task of one of our executors: what it runs from there stays in its thread.
inline bool& inside_task() {
  thread_local bool value = false;
  return value;
}

// Whether this thread is one of an OpenMP parallel region.  By a weak reference, so that it depends neither on the flags of the
// including file nor on an OpenMP library: without one in the program the function is not there.
#if defined(__ELF__) && (defined(__GNUC__) || defined(__clang__))
__attribute__((weak, visibility("default"))) int openmp_in_parallel() __asm__("omp_in_parallel");
inline bool inside_openmp_region() { return openmp_in_parallel != nullptr && openmp_in_parallel() != 0; }
#else
inline bool inside_openmp_region() { return false; }
#endif

}  // namespace detail

// A fixed number of threads, the caller among them.  run() may be called from several threads; the calls take turns.  Inside a
// task, and inside a parallel region of OpenMP, where the caller's threads are busy already, it runs in place.
class ThreadPool final : public Executor {
 public:
  // threads: 0 means one per processor.
  explicit ThreadPool(std::size_t threads = 0) {
    if (threads == 0) threads = std::max<std::size_t>(1, std::thread::hardware_concurrency());
    ranges_ = std::make_unique<Range[]>(threads);
    workers_.reserve(threads - 1);
    for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() override {
    {
      const std::lock_guard lock(mutex_);
      stop_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }
  std::size_t concurrency() const override { return workers_.size() + 1; }

  void run(std::size_t count, TaskRef task) override {
    if (count <= 1 || workers_.empty() || detail::inside_task() || detail::inside_openmp_region()) {
      for (std::size_t i = 0; i < count; ++i) task(i);
      return;
    }
    const std::lock_guard turn(turn_);
    for (std::size_t first = 0; first < count; first += Range::most_tasks)
      run_round(first, std::min<std::size_t>(Range::most_tasks, count - first), task);
  }

 private:
  // The tasks of a round are dealt out in ranges, one per thread.  A thread takes those of its own range first: the same ones every
  // time, whose weights may still be in its cache, and without touching memory that another thread writes meanwhile (between two
  // dies each such touch costs a quarter of a microsecond, a round of 8 x 768 x 768 in int8 takes six).  Then it takes what the
  // others have left.
  //
  // One word of a range says which round it is, how many tasks it has and which is the next: a thread that comes late, or wakes in
  // a later round, sees all three at once and takes a task of the round that is.  So a round ends with its last task, and never
  // waits for a thread that took none.
  struct alignas(64) Range {
    static constexpr int bits = 24;
    static constexpr std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    static constexpr std::size_t most_tasks = std::size_t{1} << (bits - 1);  // room for threads that ask when nothing is left
    static std::uint64_t start(std::uint64_t number, std::size_t count) { return (number << 48) | (std::uint64_t{count} << bits); }
    static std::uint64_t number(std::uint64_t word) { return word >> 48; }
    static std::size_t count(std::uint64_t word) { return static_cast<std::size_t>((word >> bits) & mask); }
    static std::size_t next(std::uint64_t word) { return static_cast<std::size_t>(word & mask); }
    std::atomic<std::uint64_t> word{0};
    alignas(64) std::atomic<std::uint64_t> done{0};  // tasks that its thread has ended, in all rounds
  };

  std::size_t range_begin(std::size_t range) const { return (round_.count * range + concurrency() - 1) / concurrency(); }

  void run_round(std::size_t first, std::size_t count, TaskRef task) {
    round_.task = &task;
    round_.first = first;
    round_.count = count;
    round_.failed.store(false, std::memory_order_relaxed);
    target_ += count;
    ++number_;
    for (std::size_t r = concurrency(); r-- > 0;)
      ranges_[r].word.store(Range::start(number_, range_begin(r + 1) - range_begin(r)), std::memory_order_release);
    // A thread counts itself asleep before it looks for a round once more: one of us sees the other.
    fence();
    if (asleep_.load(std::memory_order_relaxed) != 0) {
      { const std::lock_guard lock(mutex_); }
      wake_.notify_all();
    }
    take_tasks(0);
    const auto finished = [this] {
      std::uint64_t done = 0;
      for (std::size_t r = 0; r < concurrency(); ++r) done += ranges_[r].done.load(std::memory_order_acquire);
      return done == target_;
    };
    if (!spin(finished)) {
      std::unique_lock lock(mutex_);
      caller_asleep_.store(true, std::memory_order_relaxed);
      fence();
      done_.wait(lock, finished);
      caller_asleep_.store(false, std::memory_order_relaxed);
    }
#if LOWBIT_EXCEPTIONS
    if (round_.failed.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(error_, nullptr));
#endif
  }
  // Waits awake for a short while: a forward pass runs hundreds of small rounds, and sleeping costs more than most of them.
  template <class Condition>
  static bool spin(const Condition& met) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
    do {
      for (int i = 0; i < 64; ++i) {
        if (met()) return true;
        pause();
      }
    } while (std::chrono::steady_clock::now() < end);
    return met();
  }
  static void pause() {
#if LOWBIT_X86 && (defined(__GNUC__) || defined(__clang__))
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }
  // Takes tasks until none is left, those of range `own` first; returns the number of the round in which that range had no more.
  std::uint64_t take_tasks(std::size_t own) {
    detail::inside_task() = true;
    std::uint64_t seen = 0;
    std::size_t done = 0;
    for (std::size_t i = 0; i < concurrency(); ++i) {
      const std::size_t r = own + i < concurrency() ? own + i : own + i - concurrency();
      // A look before the step: it leaves the line with its owner where nothing is left.
      if (i != 0 && at_end(ranges_[r].word.load(std::memory_order_relaxed))) continue;
      for (;;) {
        const std::uint64_t word = ranges_[r].word.fetch_add(1, std::memory_order_acq_rel);
        if (i == 0) seen = Range::number(word);
        if (at_end(word)) break;
        call(range_begin(r) + Range::next(word));
        ++done;
      }
      if (done != 0) report(own, std::exchange(done, 0));
    }
    detail::inside_task() = false;
    return seen;
  }
  // Thread `own` has ended as many tasks more.
  void report(std::size_t own, std::size_t tasks) {
    ranges_[own].done.store(ranges_[own].done.load(std::memory_order_relaxed) + tasks, std::memory_order_release);
    fence();
    if (own != 0 && caller_asleep_.load(std::memory_order_relaxed)) {
      { const std::lock_guard lock(mutex_); }
      done_.notify_one();
    }
  }
  // Between what a thread has written and its look at who sleeps.  GCC warns that its thread sanitizer does not see fences; what is
  // handed over is ordered by the words and counters themselves.
  static void fence() {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    std::atomic_thread_fence(std::memory_order_seq_cst);
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#pragma GCC diagnostic pop
#endif
  }
  static bool at_end(std::uint64_t word) { return Range::next(word) >= Range::count(word); }
  void call(std::size_t i) {
#if LOWBIT_EXCEPTIONS
    if (round_.failed.load(std::memory_order_relaxed)) return;
    try {
      (*round_.task)(round_.first + i);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      round_.failed.store(true, std::memory_order_relaxed);
    }
#else
    (*round_.task)(round_.first + i);
#endif
  }
  void work(std::size_t own) {
    std::uint64_t seen = 0;
    const auto called = [&] {
      return stop_.load(std::memory_order_relaxed) || Range::number(ranges_[own].word.load(std::memory_order_acquire)) != seen;
    };
    for (;;) {
      if (!spin(called)) {
        std::unique_lock lock(mutex_);
        asleep_.fetch_add(1, std::memory_order_relaxed);
        fence();
        wake_.wait(lock, called);
        asleep_.fetch_sub(1, std::memory_order_relaxed);
      }
      if (stop_.load(std::memory_order_relaxed)) return;
      seen = take_tasks(own);
    }
  }
  // Written once a round, read by all.
  struct alignas(64) Round {
    const TaskRef* task = nullptr;
    std::size_t first = 0, count = 0;
    std::atomic<bool> failed{false};
  };

  std::unique_ptr<Range[]> ranges_;
  std::vector<std::thread> workers_;
  Round round_;
  alignas(64) std::atomic<std::size_t> asleep_{0};
  std::atomic<bool> caller_asleep_{false}, stop_{false};
  alignas(64) std::uint64_t target_ = 0;  // tasks of all rounds so far
  std::uint64_t number_ = 0;              // of the round
  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  std::exception_ptr error_;
};

inline namespace LOWBIT_ABI {

// The pool that is used where the caller gives no executor: one thread per processor, made on first use.
inline Executor& default_executor() {
  static ThreadPool pool;
  return pool;
}

}  // namespace LOWBIT_ABI
}  // namespace lowbit
