// SPDX-License-Identifier: MIT
// What an executor runs, and what a thread knows of it.
#pragma once
#include <cstddef>
#include <type_traits>

#include "lowbit/base/config.hpp"
#include "lowbit/base/float_environment.hpp"

namespace lowbit::inline LOWBIT_ABI {

// A task that is called with its number; a view, valid during the call that receives it.  It runs in the default floating-point
// environment (round to nearest, subnormal numbers kept, no traps), whatever its thread has, which gets its own back.
class TaskRef {
 public:
  // Binds to a callable of a std::size_t, the number of the task, which must outlive the view.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>) TaskRef(F&& f)  // NOLINT: a view of any callable
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, std::size_t i) { (*static_cast<std::remove_reference_t<F>*>(o))(i); }) {}
  void operator()(std::size_t i) const {
    const detail::DefaultFloatEnvironment environment;
    call_(object_, i);
  }

 private:
  void* object_;
  void (*call_)(void*, std::size_t);
};

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI_OF_ALL_FLAGS {

inline constinit thread_local bool inside_task_of_this_thread = false;

}  // namespace lowbit::detail::inline LOWBIT_ABI_OF_ALL_FLAGS

namespace lowbit::detail::inline LOWBIT_ABI {

// Whether this thread is running a task of one of our executors: what it runs from there stays in its thread.
LOWBIT_INLINE bool& inside_task() { return inside_task_of_this_thread; }

// Whether this thread is one of an OpenMP parallel region.  By a weak reference, so that it depends neither on the flags of the
// including file nor on an OpenMP library: without one in the program the function is not there.
#if defined(__ELF__) && (defined(__GNUC__) || defined(__clang__))
__attribute__((weak, visibility("default"))) int openmp_in_parallel() __asm__("omp_in_parallel");
inline bool inside_openmp_region() { return openmp_in_parallel != nullptr && openmp_in_parallel() != 0; }
#else
inline bool inside_openmp_region() { return false; }
#endif

}  // namespace lowbit::detail::inline LOWBIT_ABI
