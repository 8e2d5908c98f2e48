// SPDX-License-Identifier: MIT
// What a process can do to threads: fork at any time, refuse them, have fewer processors than were asked for.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

#include "lowbit/base/processors.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/sanitizers.hpp"

using lowbit::ThreadPool;

#if defined(__unix__) || defined(__APPLE__)
namespace {

// How a child ended that ran `body` and then called exit() with what it returned: "exit 0", or else.  A child that hangs is killed.
std::string child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);  // its default action ends the child
    std::exit(body());
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return "no child";
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGALRM ? "hung" : "signal " + std::to_string(WTERMSIG(status));
  return "exit " + std::to_string(WEXITSTATUS(status));
}

struct Problem {
  std::vector<float> x, y;
  lowbit::PackedTensor w;
  Problem() : x(32 * 256), y(32 * 384) {
    std::vector<float> weights(384 * 256);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 97) - 48;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 89) - 44;
    w = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(weights.data(), 384, 256));
  }
  const std::vector<float>& multiply() {
    lowbit::matmul(x.data(), 32, w, y.data(), {{.compute = lowbit::Compute::int8}});
    return y;
  }
};

bool runs_all(lowbit::Executor& executor) {
  std::vector<std::atomic<int>> calls(100);
  executor.run(100, [&](std::size_t i) { ++calls[i]; });
  return std::all_of(calls.begin(), calls.end(), [](const auto& n) { return n == 1; });
}

}  // namespace

TEST_CASE("a child made by fork() exits, multiplies, and has threads again") {
  Problem problem;
  const std::vector<float> want = problem.multiply();  // the default pool exists
  for (int i = 0; i < 5; ++i) {
    CHECK(child([] { return 0; }) == "exit 0");
    CHECK(child([&] { return problem.multiply() == want ? 0 : 1; }) == "exit 0");
  }
  ThreadPool pool(3);
  CHECK(runs_all(pool));
  CHECK(child([&] {
          if (pool.concurrency() != 3 || !runs_all(pool)) return 1;
          std::atomic<std::size_t> arrived{0};
          pool.run(3, [&](std::size_t) {  // three threads, or this does not end
            ++arrived;
            while (arrived < 3) std::this_thread::yield();
          });
          return child([&] { return runs_all(pool) ? 0 : 1; }) == "exit 0" ? 0 : 2;  // and a child of the child
        }) == "exit 0");
  CHECK(child([] {
          auto dropped = std::make_unique<ThreadPool>(2);
          return child([&] {
                   dropped.reset();
                   return 0;
                 }) == "exit 0"
                     ? 0
                     : 1;
        }) == "exit 0");
  CHECK(runs_all(pool));
}

TEST_CASE("a child that is forked while other threads multiply computes and exits") {
  std::atomic<bool> stop{false};
  Problem problem;
  const std::vector<float> want = problem.multiply();
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      Problem mine;
      while (!stop) mine.multiply();
    });
  for (int i = 0; i < 20; ++i) {
    INFO("child " << i);
    CHECK(child([&] { return problem.multiply() == want ? 0 : 1; }) == "exit 0");
  }
  stop = true;
  for (std::thread& t : threads) t.join();
}

TEST_CASE("a task that forks: the child may end there, but not return into the round") {
  ThreadPool pool(2);
  std::atomic<int> ended_well{0};
  pool.run(4, [&](std::size_t) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(60);
      std::exit(0);
    }
    int status = 1;
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) ++ended_well;
  });
  CHECK(ended_well == 4);
  CHECK(child([&] {
          pid_t made = 0;
          const auto caller = std::this_thread::get_id();
          std::atomic<bool> forked{false};
          try {
            pool.run(64, [&](std::size_t) {
              if (std::this_thread::get_id() != caller)
                while (!forked) std::this_thread::yield();  // leaves a task to the caller
              else if (!forked)
                made = fork(), forked = true;
              if (made == 0) alarm(60);
            });
          } catch (const lowbit::Error&) {
            std::_Exit(made == 0 ? 0 : 1);
          }
          int status = 1;
          if (made <= 0 || waitpid(made, &status, 0) != made) return 2;
          return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
        }) == "exit 0");
}

TEST_CASE("exit() inside a task, and beside a running round, ends the process") {
  CHECK(child([]() -> int {
          lowbit::default_executor().run(8, [](std::size_t i) {
            if (i == 5) std::exit(7);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          });
          return 1;
        }) == "exit 7");
  CHECK(child([] {
          std::thread([] {
            for (;;) lowbit::default_executor().run(4, [](std::size_t) {});
          }).detach();
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          return 7;
        }) == "exit 7");
}

TEST_CASE("exit() inside a task of a pool with static storage ends the process") {
  CHECK(child([]() -> int {
          static ThreadPool pool(3);
          pool.run(8, [](std::size_t i) {
            if (i == 5) std::exit(7);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          });
          return 1;
        }) == "exit 7");
}

TEST_CASE("where the system gives no more threads, a pool has as many as it gave") {
  const auto limited = [](int what, rlim_t most) {
    rlimit limit{};
    getrlimit(what, &limit);
    limit.rlim_cur = most;
    return setrlimit(what, &limit) == 0;
  };
#if defined(RLIMIT_AS)
  if (!LOWBIT_TEST_SANITIZED)
    CHECK(child([&] {
            if (!limited(RLIMIT_AS, rlim_t{200} << 20)) return 1;
            ThreadPool pool(64);
            return pool.concurrency() < 64 && runs_all(pool) ? 0 : 2;
          }) == "exit 0");
#endif
#if defined(RLIMIT_NPROC)
  CHECK(child([&] {
          if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 0;  // root has no limit
          if (!limited(RLIMIT_NPROC, 1)) return 1;
          ThreadPool pool(8);
          return pool.concurrency() <= 8 && runs_all(pool) ? 0 : 2;
        }) == "exit 0");
#endif
}
#endif

TEST_CASE("more threads than processors run every task, and wake one another") {
  const std::size_t many = 8 * lowbit::available_processors();
  ThreadPool pool(many);
  CHECK(pool.concurrency() == many);
  for (int round = 0; round < 200; ++round) {
    std::atomic<std::size_t> arrived{0};
    // Every task waits for all: a thread that nobody woke would be missed.
    if (round % 50 == 0)
      pool.run(many, [&](std::size_t) {
        ++arrived;
        while (arrived < many) std::this_thread::yield();
      });
    else
      pool.run(many, [&](std::size_t) { ++arrived; });
    CHECK(arrived == many);
  }
}

TEST_CASE("the count of processors follows affinity and control groups") {
  CHECK(lowbit::available_processors() >= 1);
#if defined(__linux__)
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  CHECK(lowbit::available_processors() <= static_cast<std::size_t>(CPU_COUNT(&all)));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++i)
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(lowbit::available_processors() == 1);
  CHECK(ThreadPool().concurrency() == 1);
  REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
#endif
  const lowbit_test::Folder folder;
  const std::string mount = folder.path().string();
  const auto write = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder.path() / name).parent_path());
    std::ofstream(folder.path() / name) << text;
    return mount + "/" + name;
  };
  using lowbit::detail::control_group_limit;
  write("a/b/cpu.max", "150000 100000\n");
  write("a/cpu.max", "max 100000\n");
  write("tight/cpu.max", "50000 100000\n");
  write("tight/wide/cpu.max", "800000 100000\n");
  write("cpu,cpuacct/old/cpu.cfs_quota_us", "300000\n");
  write("cpu,cpuacct/old/cpu.cfs_period_us", "100000\n");
  write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  CHECK(control_group_limit(write("v2", "0::/a/b\n"), mount) == 2);  // one and a half
  CHECK(control_group_limit(write("v2_none", "0::/a\n"), mount) == 0);
  CHECK(control_group_limit(write("v2_above", "0::/tight/wide\n"), mount) == 1);
  CHECK(control_group_limit(write("v1", "7:memory:/x\n4:cpu,cpuacct:/old\n1:cpuset:/tight\n"), mount) == 3);
  CHECK(control_group_limit(write("v1_none", "4:cpu,cpuacct:/\n"), mount) == 0);
  CHECK(control_group_limit(write("broken", "nonsense\n::\n0::\n"), mount) == 0);
  CHECK(control_group_limit(mount + "/missing", mount) == 0);
}
