// SPDX-License-Identifier: MIT
// Ctrl-C, and the signals with which a system ends a program (SIGTERM, SIGHUP): the first one asks the work to stop where its
// results are whole, the second one ends the program at once.
#pragma once
#include <atomic>
#include <csignal>
#include <cstdlib>

namespace examples {

inline constexpr int exit_interrupted = 130;  // 128 + SIGINT, as shells report it

namespace detail {
inline std::atomic<int> interrupt_seen{0};  // the signal
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");
extern "C" inline void four_models_on_interrupt(int signal) {
  if (detail::interrupt_seen.exchange(signal) != 0) std::_Exit(128 + signal);
  std::signal(signal, four_models_on_interrupt);  // systems differ in whether a handler stays
}
}  // namespace detail

// A signal that the program was started to ignore stays ignored: nohup does that with SIGHUP, a shell with SIGINT of what it runs
// in the background.
inline void watch_for_interrupt() {
  const auto watch = [](int signal) {
    if (std::signal(signal, detail::four_models_on_interrupt) == SIG_IGN) std::signal(signal, SIG_IGN);
  };
  watch(SIGINT);
  watch(SIGTERM);
#if defined(SIGHUP)
  watch(SIGHUP);
#endif
}
// Thread safe.
inline bool interrupted() { return detail::interrupt_seen.load(std::memory_order_relaxed) != 0; }
// The exit code of a program that was interrupted: 128 and the signal, 130 for Ctrl-C.
inline int interrupted_exit_code() {
  const int signal = detail::interrupt_seen.load(std::memory_order_relaxed);
  return signal == 0 ? exit_interrupted : 128 + signal;
}

}  // namespace examples
