// SPDX-License-Identifier: MIT
// Memory that a thread keeps from one call to the next.
#pragma once
#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Access to this thread's T, which is made at its first use and kept until the thread ends.  Where it is gone already (a destructor
// of a static or thread_local object multiplies), to a T that lives as long as this object.
template <class T>
class PerThread {
 public:
  PerThread() : value_(ended_ ? new T : &kept()), own_(ended_) {}
  ~PerThread() {
    if (own_) delete value_;
  }
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  struct Kept {
    T value;
    ~Kept() { ended_ = true; }
  };
  static T& kept() {
    thread_local Kept kept;
    return kept.value;
  }
  inline static thread_local bool ended_ = false;  // needs no destructor, so it can be asked to the last

  T* value_;
  bool own_;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
