// SPDX-License-Identifier: MIT
// Executors: every task runs once, tasks may run tasks, exceptions arrive, callers take turns, and the caller's own executor is
// used.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lowbit/parallel.hpp"
#include "support/catch.hpp"
#include "support/sizes.hpp"

namespace parallel_test {

using lowbit::Executor;
using lowbit::SerialExecutor;
using lowbit::ThreadPool;
using lowbit_test::Sizes;

namespace {

// Catch2's checks are for one thread; tasks count, and the test looks at the counts.
std::string run_and_count(Executor& executor, std::size_t count) {
  std::vector<std::atomic<int>> calls(count);
  std::atomic<int> outside{0};
  executor.run(count, [&](std::size_t i) { i < count ? ++calls[i] : ++outside; });
  for (std::size_t i = 0; i < count; ++i)
    if (calls[i] != 1) return "task " + std::to_string(i) + " ran " + std::to_string(calls[i]) + " times";
  return outside == 0 ? "" : "a task that does not exist ran";
}

}  // namespace

TEST_CASE("every task runs once, for any number of tasks and threads") {
  for (const std::size_t threads : Sizes{1, 2, 3, 7}) {
    ThreadPool pool(threads);
    CHECK(pool.concurrency() == threads);
    for (const std::size_t count : Sizes{0, 1, 2, 3, 5, 8, 64, 1000, 20000}) {
      INFO(threads << " threads, " << count << " tasks");
      CHECK(run_and_count(pool, count) == "");
    }
  }
  SerialExecutor serial;
  CHECK(serial.concurrency() == 1);
  CHECK(run_and_count(serial, 100) == "");
  CHECK(ThreadPool().concurrency() == lowbit::available_processors());
  CHECK(lowbit::default_executor().concurrency() >= 1);
  CHECK(&lowbit::default_executor() == &lowbit::default_executor());
}

TEST_CASE("many short rounds lose no task and wake sleeping threads") {
  ThreadPool pool(3);
  std::atomic<std::size_t> sum{0};
  std::size_t want = 0;
  for (std::size_t round = 0; round < 20000; ++round) {
    const std::size_t count = round % 7;
    pool.run(count, [&](std::size_t i) { sum += i + 1; });
    want += count * (count + 1) / 2;
    if (round % 5000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough that the others sleep
  }
  CHECK(sum == want);
}

TEST_CASE("a pool made and dropped without work, or right after it, ends") {
  for (int i = 0; i < 50; ++i) {
    ThreadPool idle(4);
    auto busy = std::make_unique<ThreadPool>(3);
    std::atomic<int> calls{0};
    busy->run(10, [&](std::size_t) { ++calls; });
    busy.reset();
    CHECK(calls == 10);
  }
}

TEST_CASE("tasks run on as many threads as the pool has, the caller among them") {
  const std::size_t n = 3;
  ThreadPool pool(n);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<std::size_t> arrived{0};
  // Every task waits for the others, so no thread can run two; with fewer threads this would not end.
  pool.run(n, [&](std::size_t) {
    {
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    }
    ++arrived;
    while (arrived < n) std::this_thread::yield();
  });
  CHECK(ids.size() == n);
  CHECK(ids.count(std::this_thread::get_id()) == 1);
}

TEST_CASE("a task that runs tasks runs them in its own thread") {
  ThreadPool pool(3), other(2);
  std::atomic<int> inner{0}, elsewhere{0};
  pool.run(8, [&](std::size_t) {
    const auto self = std::this_thread::get_id();
    const auto task = [&](std::size_t) {
      ++inner;
      if (std::this_thread::get_id() != self) ++elsewhere;
    };
    pool.run(5, task);
    other.run(4, task);  // nor does another pool add threads
    pool.run(1, [&](std::size_t) { pool.run(2, task); });
  });
  CHECK(inner == 8 * (5 + 4 + 2));
  CHECK(elsewhere == 0);
  // Afterwards the caller is outside again.
  std::atomic<std::size_t> arrived{0};
  pool.run(3, [&](std::size_t) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  CHECK(arrived == 3);
}

TEST_CASE("an exception of a task arrives, and the pool works on") {
  for (const std::size_t threads : Sizes{1, 2, 4}) {
    ThreadPool pool(threads);
    for (const std::size_t thrower : Sizes{0, 1, 57, 99}) {
      std::atomic<int> calls{0};
      CHECK_THROWS_WITH(pool.run(100,
                                 [&](std::size_t i) {
                                   ++calls;
                                   if (i == thrower) throw std::runtime_error("task " + std::to_string(i));
                                 }),
                        "task " + std::to_string(thrower));
      CHECK(calls >= 1);
      CHECK(calls <= 100);
      CHECK(run_and_count(pool, 100) == "");
    }
    // Out of a nested run, through both.
    CHECK_THROWS_WITH(pool.run(4, [&](std::size_t) { pool.run(2, [](std::size_t) { throw std::logic_error("inner"); }); }),
                      "inner");
    // When all throw, one arrives.
    CHECK_THROWS_AS(pool.run(50, [](std::size_t) { throw std::out_of_range("each"); }), std::out_of_range);
    CHECK(run_and_count(pool, 10) == "");
  }
}

TEST_CASE("calls from several threads take turns") {
  ThreadPool pool(3);
  std::vector<std::string> results(4);
  std::atomic<int> thrown{0};
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < results.size(); ++c)
    callers.emplace_back([&, c] {
      for (std::size_t i = 0; i < 300 && results[c].empty(); ++i) {
        results[c] = run_and_count(pool, (c + 1) * 3 + i % 5);
        if (i % 50 == 0) {
          try {
            pool.run(6, [&](std::size_t task) {
              if (task == c) throw c;
            });
          } catch (std::size_t own) {  // each gets its own
            thrown += own == c ? 1 : 1000;
          }
        }
      }
    });
  for (std::thread& t : callers) t.join();
  for (const std::string& result : results) CHECK(result == "");
  CHECK(thrown == 4 * 6);
}

TEST_CASE("a task is a view of any callable, and its state is the caller's") {
  SerialExecutor serial;
  std::size_t sum = 0;
  auto lambda = [&sum](std::size_t i) { sum += i; };
  serial.run(5, lambda);
  CHECK(sum == 10);
  const std::function<void(std::size_t)> function = lambda;
  serial.run(5, function);
  CHECK(sum == 20);
  struct Functor {
    std::size_t calls = 0;
    void operator()(std::size_t) { ++calls; }
  } functor;
  serial.run(7, functor);
  CHECK(functor.calls == 7);
  lowbit::TaskRef copy = lowbit::TaskRef(functor), again = copy;
  again(0);
  CHECK(functor.calls == 8);
}

}  // namespace parallel_test
