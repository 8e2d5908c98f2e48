// SPDX-License-Identifier: MIT
// The threads of a pool and the rounds of tasks that they run together with their caller.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "lowbit/base/error.hpp"
#include "lowbit/base/processors.hpp"
#include "lowbit/base/task.hpp"
#include "lowbit/base/thread.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Not movable: its threads know where it is.
class Crew {
 public:
  // threads: at least 1, the caller of run() among them.  Makes fewer where the system gives no more.
  explicit Crew(std::size_t threads)
      : birth_(forks.load(std::memory_order_relaxed)),
        crowded_(threads > count_processors()),
        workers_(std::make_unique<Worker[]>(threads)),
        size_(1) {
    // A thread looks at no more than its own range until the first round, so size_ may grow meanwhile.
    while (size_ < threads && workers_[size_].start(*this, size_)) ++size_;
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() { stop(); }

  // Threads of a round; 1 after stop().
  std::size_t size() const { return stop_.load(std::memory_order_relaxed) ? 1 : size_; }
  // Whether this process has its threads: a child made by fork() has not.
  bool is_here() const { return birth_ == forks.load(std::memory_order_relaxed); }

  // Ends the threads, after the round that is running.  Later rounds run in place.
  void stop() {
    const std::lock_guard<std::mutex> turn(turn_);
    if (stop_.load(std::memory_order_relaxed)) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_.store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
    for (std::size_t i = 1; i < size_; ++i) workers_[i].thread.join();
  }

  // As Executor::run() does.  Calls from several threads take turns.
  void run(std::size_t count, TaskRef task) {
    const std::lock_guard<std::mutex> turn(turn_);
    if (stop_.load(std::memory_order_relaxed)) {
      for (std::size_t i = 0; i < count; ++i) task(i);
      return;
    }
    for (std::size_t first = 0; first < count; first += Range::most_tasks)
      run_round(first, (std::min<std::size_t>)(Range::most_tasks, count - first), task);
  }

  Crew* forgotten_before = nullptr;  // a list of those whose threads a fork() left behind

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
    static std::size_t count(std::uint64_t word) { return (word >> bits) & mask; }
    static std::size_t next(std::uint64_t word) { return word & mask; }
    std::atomic<std::uint64_t> word{0};
    alignas(64) std::atomic<std::uint64_t> done{0};  // tasks that its thread has ended, in all rounds
  };

  std::size_t range_begin(std::size_t range) const { return (round_.count * range + size_ - 1) / size_; }

  void run_round(std::size_t first, std::size_t count, TaskRef task) {
    round_.task = &task;
    round_.first = first;
    round_.count = count;
    round_.failed.store(false, std::memory_order_relaxed);
    target_ += count;
    ++number_;
    for (std::size_t r = size_; r != 0; --r)
      workers_[r - 1].range.word.store(Range::start(number_, range_begin(r) - range_begin(r - 1)), std::memory_order_release);
    wake();
    take_tasks(0);
    if (!is_here()) raise<Error>("thread pool: a task called fork() and returned in the child, which lacks the other threads");
    const auto finished = [this] {
      std::uint64_t done = 0;
      for (std::size_t r = 0; r < size_; ++r) done += workers_[r].range.done.load(std::memory_order_acquire);
      return done == target_;
    };
    if (!spin(finished)) {
      std::unique_lock<std::mutex> lock(mutex_);
      caller_asleep_.store(true, std::memory_order_relaxed);
      fence();
      done_.wait(lock, finished);
      caller_asleep_.store(false, std::memory_order_relaxed);
    }
#if LOWBIT_EXCEPTIONS
    if (round_.failed.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(error_, nullptr));
#endif
  }
  // Tells sleeping threads of a round.  Where threads share processors, one: it wakes the next while tasks are left, so that no
  // more threads run than there are tasks for.
  void wake() {
    fence();  // a thread counts itself asleep before it looks for a round once more: one of us sees the other
    if (asleep_.load(std::memory_order_relaxed) == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }
    crowded_ ? wake_.notify_one() : wake_.notify_all();
  }
  bool tasks_left() const {
    for (std::size_t r = 0; r < size_; ++r)
      if (!at_end(workers_[r].range.word.load(std::memory_order_relaxed))) return true;
    return false;
  }
  // Waits awake for a short while: a forward pass runs hundreds of small rounds, and sleeping costs more than most of them.
  template <class Condition>
  bool spin(const Condition& met) const {
    if (crowded_) return met();
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
    inside_task() = true;
    std::uint64_t seen = 0;
    std::size_t done = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const std::size_t r = own + i < size_ ? own + i : own + i - size_;
      // A look before the step: it leaves the line with its owner where nothing is left.
      if (i != 0 && at_end(workers_[r].range.word.load(std::memory_order_relaxed))) continue;
      for (;;) {
        const std::uint64_t word = workers_[r].range.word.fetch_add(1, std::memory_order_acq_rel);
        if (i == 0) seen = Range::number(word);
        if (at_end(word)) break;
        call(range_begin(r) + Range::next(word));
        ++done;
      }
      if (done != 0) report(own, std::exchange(done, 0));
    }
    inside_task() = false;
    return seen;
  }
  // Thread `own` has ended as many tasks more.
  void report(std::size_t own, std::size_t tasks) {
    workers_[own].range.done.store(workers_[own].range.done.load(std::memory_order_relaxed) + tasks, std::memory_order_release);
    fence();
    if (own != 0 && caller_asleep_.load(std::memory_order_relaxed)) {
      { const std::lock_guard<std::mutex> lock(mutex_); }
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
      const std::lock_guard<std::mutex> lock(mutex_);
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
      const std::uint64_t word = workers_[own].range.word.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed) || Range::number(word) != seen || !at_end(word)) return true;
      // Where threads share processors: a thread that looked at the other ranges before they began was the only one woken.
      return seen != 0 && crowded_ && tasks_left();
    };
    for (;;) {
      if (!spin(called)) {
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1, std::memory_order_relaxed);
        fence();
        wake_.wait(lock, called);
        asleep_.fetch_sub(1, std::memory_order_relaxed);
      }
      if (stop_.load(std::memory_order_relaxed)) return;
      if (crowded_ && tasks_left()) wake();
      seen = take_tasks(own);
      if (!is_here()) return;  // a task called fork(): this is the only thread of the child
    }
  }
  // Written once a round, read by all.
  struct alignas(64) Round {
    const TaskRef* task = nullptr;
    std::size_t first = 0, count = 0;
    std::atomic<bool> failed{false};
  };

  // One thread; the first is the caller's, and has a range alone.
  struct Worker {
    Range range;
    Thread thread;
    Crew* crew = nullptr;
    std::size_t own = 0;

    bool start(Crew& c, std::size_t i) {
      crew = &c;
      own = i;
      return thread.start(&main, this);
    }
    static void main(void* self) {
      const Worker* const worker = static_cast<const Worker*>(self);
      worker->crew->work(worker->own);
    }
  };

  const unsigned birth_;
  const bool crowded_;  // more threads than processors: nobody waits awake
  std::unique_ptr<Worker[]> workers_;
  std::size_t size_;
  Round round_;
  alignas(64) std::atomic<std::size_t> asleep_{0};
  std::atomic<bool> caller_asleep_{false}, stop_{false};
  alignas(64) std::uint64_t target_ = 0;  // tasks of all rounds so far
  std::uint64_t number_ = 0;              // of the round
  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  std::exception_ptr error_;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
