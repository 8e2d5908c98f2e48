// SPDX-License-Identifier: MIT
// The floating-point environment in which lowbit computes: the default one, whatever the caller's thread has.
#pragma once
#include <cstdint>

#include "lowbit/base/config.hpp"

#if defined(_MSC_VER) && !defined(__clang__) && LOWBIT_X86
#include <xmmintrin.h>
#elif !LOWBIT_X86 && !defined(__aarch64__)
#include <cfenv>
#endif

namespace lowbit::detail::inline LOWBIT_ABI {

// Round to nearest, subnormal numbers kept, no traps: while it lives, in its thread.  Afterwards the thread has its own again;
// flags that were raised meanwhile stay raised only where nothing had to be changed.
class DefaultFloatEnvironment {
 public:
#if LOWBIT_X86 || defined(__aarch64__)
  DefaultFloatEnvironment() : saved_(get()), changed_((saved_ & control) != standard) {
    if (changed_) [[unlikely]]
      set((saved_ & ~control) | standard);
  }
  ~DefaultFloatEnvironment() {
    if (changed_) [[unlikely]]
      set(saved_);
  }
#else
  DefaultFloatEnvironment() : changed_(true) {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
#endif
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  // The memory clobbers keep what is computed from memory on its side of a change.
#if LOWBIT_X86
  using Register = std::uint32_t;  // MXCSR
  static constexpr Register control = 0xFFC0, standard = 0x1F80;
#if defined(_MSC_VER) && !defined(__clang__)
  static Register get() { return _mm_getcsr(); }
  static void set(Register value) { _mm_setcsr(value); }
#else
  static Register get() {
    Register value;
    __asm__ volatile("stmxcsr %0" : "=m"(value)::"memory");
    return value;
  }
  static void set(Register value) { __asm__ volatile("ldmxcsr %0" ::"m"(value) : "memory"); }
#endif
  Register saved_;
#elif defined(__aarch64__)
  using Register = std::uint64_t;  // FPCR
  static constexpr Register control = ~Register{0}, standard = 0;
  static Register get() {
    Register value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value)::"memory");
    return value;
  }
  static void set(Register value) { __asm__ volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
  Register saved_;
#else
  std::fenv_t saved_;
#endif
  bool changed_;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
