// SPDX-License-Identifier: MIT
// The OpenMP executor, and what both executors do inside a parallel region of the caller's: nothing that adds threads.
#include "lowbit/openmp.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

using lowbit::Executor;
using lowbit::OpenMpExecutor;
using lowbit::ThreadPool;
using lowbit_test::bits_of;
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

// Whether all tasks run, in the thread that asks.
bool runs_in_place(Executor& executor, std::size_t count) {
  const auto self = std::this_thread::get_id();
  std::atomic<std::size_t> here{0};
  executor.run(count, [&](std::size_t) { here += std::this_thread::get_id() == self; });
  return here == count;
}

}  // namespace

TEST_CASE("every task runs once, for any number of tasks and threads", "[openmp]") {
  for (const std::size_t threads : Sizes{0, 1, 2, 3, 7}) {
    OpenMpExecutor executor(threads);
    CHECK(executor.concurrency() == (threads != 0 ? threads : static_cast<std::size_t>(omp_get_max_threads())));
    for (const std::size_t count : Sizes{0, 1, 2, 3, 8, 64, 5000}) {
      INFO(threads << " threads, " << count << " tasks");
      CHECK(run_and_count(executor, count) == "");
    }
  }
}

TEST_CASE("tasks run on as many threads as asked for", "[openmp]") {
  OpenMpExecutor executor(3);
  std::atomic<std::size_t> arrived{0};
  // Every task waits for the others; with fewer threads this would not end.
  executor.run(3, [&](std::size_t) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  CHECK(arrived == 3);
}

TEST_CASE("inside a parallel region both executors run in place", "[openmp]") {
  OpenMpExecutor openmp(4);
  ThreadPool pool(4);
  std::atomic<int> wrong{0}, threads{0};
#pragma omp parallel num_threads(3)
  {
    ++threads;
    wrong += openmp.concurrency() != 1;
    for (int i = 0; i < 50; ++i) wrong += !runs_in_place(openmp, 5) + !runs_in_place(pool, 5);
  }
  CHECK(threads == 3);
  CHECK(wrong == 0);
  // Afterwards they have their threads again.
  CHECK(openmp.concurrency() == 4);
  for (Executor* executor : {static_cast<Executor*>(&openmp), static_cast<Executor*>(&pool)}) {
    std::atomic<std::size_t> arrived{0};
    executor->run(4, [&](std::size_t) {
      ++arrived;
      while (arrived < 4) std::this_thread::yield();
    });
    CHECK(arrived == 4);
  }
}

TEST_CASE("a task that runs tasks runs them in its own thread, whichever executor it asks", "[openmp]") {
  OpenMpExecutor openmp(3);
  ThreadPool pool(3);
  std::atomic<int> elsewhere{0}, tasks{0};
  for (Executor* outer : {static_cast<Executor*>(&openmp), static_cast<Executor*>(&pool)})
    outer->run(8, [&](std::size_t) {
      ++tasks;
      elsewhere += !runs_in_place(openmp, 4) + !runs_in_place(pool, 4);
    });
  CHECK(tasks == 16);
  CHECK(elsewhere == 0);
}

TEST_CASE("an exception of a task arrives, and the executor works on", "[openmp]") {
  for (const std::size_t threads : Sizes{1, 2, 4}) {
    OpenMpExecutor executor(threads);
    for (const std::size_t thrower : Sizes{0, 57, 99})
      CHECK_THROWS_WITH(executor.run(100,
                                     [&](std::size_t i) {
                                       if (i == thrower) throw std::runtime_error("task " + std::to_string(i));
                                     }),
                        "task " + std::to_string(thrower));
    CHECK_THROWS_AS(executor.run(50, [](std::size_t) { throw std::out_of_range("each"); }), std::out_of_range);
    CHECK_THROWS_WITH(executor.run(4, [&](std::size_t) { executor.run(2, [](std::size_t) { throw std::logic_error("inner"); }); }),
                      "inner");
    CHECK(run_and_count(executor, 100) == "");
  }
}

TEST_CASE("products on OpenMP's threads, and inside a parallel region, have the bits of one thread", "[openmp]") {
  lowbit_test::Random random(1);
  const std::size_t m = 19, out = 301, in = 256;
  const std::vector<float> x = random.normals(m * in), w = random.normals(out * in);
  const auto packed = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(w.data(), out, in));
  lowbit::SerialExecutor serial;
  OpenMpExecutor openmp(3);
  ThreadPool pool(3);
  const auto product = [&](Executor& executor) {
    std::vector<float> y(m * out);
    lowbit::MatmulOptions o;
    o.executor = &executor;
    lowbit::matmul(x.data(), m, packed, y.data(), o);
    return y;
  };
  const std::vector<float> expected = product(serial);
  CHECK(bits_of(product(openmp)) == bits_of(expected));
  std::atomic<int> wrong{0};
#pragma omp parallel num_threads(3)
  for (int i = 0; i < 3; ++i) wrong += bits_of(product(openmp)) != bits_of(expected) || bits_of(product(pool)) != bits_of(expected);
  CHECK(wrong == 0);
}

#if defined(__unix__) || defined(__APPLE__)
TEST_CASE("a forked child runs in place, on an executor of its parent's or its own", "[openmp]") {
  OpenMpExecutor before(3);
  CHECK(run_and_count(before, 100) == "");  // GNU's OpenMP has its threads now, which the child lacks
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);  // ends a child that hangs
    OpenMpExecutor after(3);
    for (Executor* executor : {static_cast<Executor*>(&before), static_cast<Executor*>(&after)})
      if (executor->concurrency() != 1 || !runs_in_place(*executor, 100)) std::_Exit(1);
    std::_Exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
}
#endif
