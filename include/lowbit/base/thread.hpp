// SPDX-License-Identifier: MIT
// What a pool needs of threads and std::thread does not give: a start that reports failure where exceptions are off, and word of
// forks.
#pragma once
#include <atomic>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#define LOWBIT_POSIX_THREADS 1
#include <pthread.h>
#else
#define LOWBIT_POSIX_THREADS 0
#endif

#include "lowbit/base/config.hpp"

#if !LOWBIT_POSIX_THREADS && LOWBIT_EXCEPTIONS
#include <system_error>
#endif

namespace lowbit::detail::inline LOWBIT_ABI {

// A thread that runs body(argument).  join() must be called once after a start that succeeded.
class Thread {
 public:
  using Body = void (*)(void*);
#if LOWBIT_POSIX_THREADS
  // Whether the system gave a thread.
  bool start(Body body, void* argument) {
    body_ = body;
    argument_ = argument;
    return pthread_create(&handle_, nullptr, &run, this) == 0;
  }
  void join() { pthread_join(handle_, nullptr); }

 private:
  static void* run(void* self) {
    const Thread* const thread = static_cast<const Thread*>(self);
    thread->body_(thread->argument_);
    return nullptr;
  }
  pthread_t handle_{};
  Body body_ = nullptr;
  void* argument_ = nullptr;
#else
  bool start(Body body, void* argument) {
#if LOWBIT_EXCEPTIONS
    try {
      handle_ = std::thread(body, argument);
    } catch (const std::system_error&) {
      return false;
    }
#else
    handle_ = std::thread(body, argument);
#endif
    return true;
  }
  void join() { handle_.join(); }

 private:
  std::thread handle_;
#endif
};

// How often this process was made by fork() since watch_forks(): a pool of another number lost its threads.
inline std::atomic<unsigned> forks{0};
inline void count_fork() { forks.fetch_add(1, std::memory_order_relaxed); }

// Thread safe; to be called before the first thread is made.
inline void watch_forks() {
#if LOWBIT_POSIX_THREADS
  static std::atomic<bool> watched{false};
  if (watched.load(std::memory_order_acquire)) return;
  pthread_atfork(nullptr, nullptr, &count_fork);  // twice does no harm
  watched.store(true, std::memory_order_release);
#endif
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
