// SPDX-License-Identifier: MIT
// Products on threads that a program has anyway, behind lowbit's Executor: lowbit then makes none, and the bits of a result are those
// of any other executor.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <lowbit/lowbit.hpp>

namespace {

// The program's team: threads that sleep until there is a round of tasks, which they take together with its caller.
class Team final : public lowbit::Executor {
 public:
  explicit Team(std::size_t helpers) {
    while (helpers_.size() < helpers) helpers_.emplace_back([this] { help(); });
  }
  ~Team() override { ended_ = true, call(); }
  std::size_t concurrency() const override { return helpers_.size() + 1; }
  void run(std::size_t count, lowbit::TaskRef task) override {
    if (inside_) return lowbit::SerialExecutor().run(count, task);  // a task that multiplies: all could wait for each other
    const std::lock_guard turn(turn_);
    task_ = &task, count_ = count, next_ = 0, busy_ = helpers_.size();
    call();
    take_tasks();
    for (std::size_t left = busy_; left != 0; left = busy_) busy_.wait(left);
    if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void call() { ++round_, round_.notify_all(); }
  void help() {
    for (unsigned seen = 0;; ++seen) {
      round_.wait(seen);
      if (ended_) return;
      take_tasks();
      if (--busy_ == 0) busy_.notify_one();
    }
  }
  void take_tasks() {
    inside_ = true;
    try {
      for (std::size_t i = next_++; i < count_; i = next_++) (*task_)(i);
    } catch (...) {  // memory that ran out
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
    inside_ = false;
  }
  static inline thread_local bool inside_ = false;
  std::mutex turn_;
  const lowbit::TaskRef* task_ = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0}, busy_{0};
  std::atomic<unsigned> round_{0};
  std::atomic<bool> ended_{false}, failed_{false};
  std::exception_ptr error_;
  std::vector<std::jthread> helpers_;  // last: they end first
};

}  // namespace

int main() {
  const std::size_t in = 256, out = 2048, m = 32;
  std::vector<float> w(out * in), x(m * in), mine(m * out), pool(m * out);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 1009) / 1009 - 0.5f;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1013) / 1013 - 0.5f;
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w.data(), out, in));

  Team team(3);
  layer.forward(x.data(), m, mine.data(), {}, {.executor = &team});
  layer.forward(x.data(), m, pool.data());
  std::printf("%zu threads, the bits of the pool's result: %s\n", team.concurrency(), mine == pool ? "yes" : "NO");
  return mine == pool ? 0 : 1;
}
