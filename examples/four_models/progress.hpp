// SPDX-License-Identifier: MIT
// One line on the terminal that says how far a long step is and how long it will still take; silent where stderr is no terminal.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace four_models {

// Not thread safe.
class Progress {
 public:
  // total: steps to come; 0 if nobody knows, then only the name is shown.  done: those of an earlier run.
  explicit Progress(std::string what, std::size_t total = 0, std::size_t done = 0)
      : what_(std::move(what)), total_(total), first_(done), done_(done) {
#if defined(__unix__) || defined(__APPLE__)
    visible_ = ::isatty(STDERR_FILENO) == 1;
#endif
    show(what_);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { show(""); }

  // note: shown behind the time that is left.
  void step(std::size_t steps = 1, std::string_view note = {}) {
    done_ += steps;
    const auto now = Clock::now();
    if (now - shown_ < std::chrono::milliseconds(200)) return;
    shown_ = now;
    const double spent = std::chrono::duration<double>(now - start_).count();
    const double left = spent * static_cast<double>(total_ - done_) / static_cast<double>(done_ - first_);
    const auto seconds = static_cast<long>(left + 0.5);
    show(what_ + ": " + std::to_string(done_) + " of " + std::to_string(total_) + ", " +
         (seconds >= 60 ? std::to_string(seconds / 60) + " min " : "") + std::to_string(seconds % 60) + " s left" +
         std::string(note));
  }

 private:
  using Clock = std::chrono::steady_clock;
  void show(std::string_view text) {
    if (!visible_) return;
    std::fprintf(stderr, "\r%.*s\033[K", static_cast<int>(text.size()), text.data());
    std::fflush(stderr);
  }
  std::string what_;
  std::size_t total_, first_, done_;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
  bool visible_ = false;
};

}  // namespace four_models
