// SPDX-License-Identifier: MIT
// The memory that a product works in, kept from one call to the next: the caller's, or one that every thread has.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "lowbit/base/per_thread.hpp"
#include "lowbit/product/input.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// What one task works in at a time.
struct WorkspaceSlot {
  std::atomic<unsigned> taken{0};  // 0 or 1: on riscv64 the exchange of a byte would need libatomic
  InputRows input;
  std::uint64_t input_of = 0;  // the call that it was converted for by this slot's task alone
  AlignedBuffer<std::uint8_t> gemm;
  AlignedBuffer<float> row;  // of weights in block-offset classes: sums in order
};

// Whether a call works here; not moved along with what it guards.
struct InUse {
  std::atomic<unsigned> value{0};

  InUse() = default;
  InUse(InUse&&) noexcept {}
  InUse& operator=(InUse&&) noexcept { return *this; }
};

struct WorkspaceState {
  InUse in_use;
  InputRows input;              // of a call, for all its tasks
  AlignedBuffer<float> result;  // of a product that only its successor reads
  AlignedBuffer<float> sums;    // of weights in block-offset classes
  std::unique_ptr<WorkspaceSlot[]> slots;
  std::size_t slot_count = 0;
  std::uint64_t calls = 0;
};

LOWBIT_FUNCTION std::size_t held_bytes(const WorkspaceState& workspace);
LOWBIT_FUNCTION std::size_t held_bytes(const InputRows& rows);

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// One call at a time may work in it: a second one throws InvalidArgument.  It grows to what the largest call needs, and never shrinks by itself.
class Workspace {
 public:
  // Bytes that it holds.
  std::size_t size_bytes() const { return detail::held_bytes(state_); }
  // Gives them back; the next call takes them anew.
  void release() { state_ = {}; }
  // What the operations work on.
  detail::WorkspaceState& state() { return state_; }

 private:
  detail::WorkspaceState state_;
};

// That of the calling thread, in which its calls work where they are given none (a call inside another's task works in memory of its
// own): ThreadWorkspace()->release().
using ThreadWorkspace = detail::PerThread<Workspace>;

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/product/workspace-inl.hpp"
#endif
