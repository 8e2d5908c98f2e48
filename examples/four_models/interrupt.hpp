// SPDX-License-Identifier: MIT
// Ctrl-C: the first one asks the work to stop where its results are whole, the second one ends the program at once.
#pragma once
#include <atomic>
#include <csignal>
#include <cstdlib>

namespace four_models {

inline constexpr int exit_interrupted = 130;  // 128 + SIGINT, as shells report it

namespace detail {
inline std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch nothing else");
extern "C" inline void four_models_on_interrupt(int) {
  if (detail::interrupt_seen.exchange(true)) std::_Exit(exit_interrupted);
  std::signal(SIGINT, four_models_on_interrupt);  // systems differ in whether a handler stays
}
}  // namespace detail

inline void watch_for_interrupt() { std::signal(SIGINT, detail::four_models_on_interrupt); }
// Thread safe.
inline bool interrupted() { return detail::interrupt_seen.load(std::memory_order_relaxed); }

}  // namespace four_models
