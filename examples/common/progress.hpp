// SPDX-License-Identifier: MIT
// How far a long step is and how long it will still take: one line that changes on a terminal; elsewhere (a log) a line after ten
// seconds, and then whenever a tenth of the time spent has passed since the last one, so that a log stays short.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace examples {

// Not thread safe.
class Progress {
 public:
  // total: steps to come; 0 if nobody knows, then only the name is shown.  done: those of an earlier run.
  // out: where to, with nothing written before `patience` has passed if that is no terminal.
  explicit Progress(std::string what, std::size_t total = 0, std::size_t done = 0, std::FILE* out = stderr,
                    std::chrono::milliseconds patience = std::chrono::seconds(10))
      : what_(std::move(what)), total_(total), first_(done), done_(done), out_(out), patience_(patience) {
#if defined(__unix__) || defined(__APPLE__)
    terminal_ = ::isatty(::fileno(out_)) == 1;
#endif
    replace_line(what_);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { replace_line(""); }

  // note: shown behind the time that is left, which nobody knows before the first step.
  void step(std::size_t steps = 1, std::string_view note = {}) {
    done_ += steps;
    const auto now = Clock::now();
    const Clock::duration pause =
        terminal_ ? std::chrono::milliseconds(200) : std::max<Clock::duration>(patience_, (now - start_) / 10);
    if (now - shown_ < pause) return;
    shown_ = now;
    const double spent = std::chrono::duration<double>(now - start_).count();
    std::string text = what_ + ": " + std::to_string(done_) + " of " + std::to_string(total_);
    if (done_ != first_) {
      const double left = spent * static_cast<double>(total_ - done_) / static_cast<double>(done_ - first_);
      const auto seconds = static_cast<long>(left + 0.5);
      text += ", " + (seconds >= 60 ? std::to_string(seconds / 60) + " min " : "") + std::to_string(seconds % 60) + " s left";
    }
    text += note;
    terminal_ ? replace_line(text) : add_line(text);
  }

 private:
  using Clock = std::chrono::steady_clock;
  void replace_line(std::string_view text) {
    if (!terminal_) return;
    std::fprintf(out_, "\r%.*s\033[K", static_cast<int>(text.size()), text.data());
    std::fflush(out_);
  }
  void add_line(const std::string& text) {
    std::fprintf(out_, "progress: %s\n", text.c_str());
    std::fflush(out_);
  }
  std::string what_;
  std::size_t total_, first_, done_;
  std::FILE* out_;
  Clock::duration patience_;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
  bool terminal_ = false;
};

}  // namespace examples
