// SPDX-License-Identifier: MIT
// Which level runs: the best one of the processor, unless LOWBIT_ISA in the environment or set_level() says otherwise.
#pragma once
#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/kernel/dispatch/cpu.hpp"
#include "lowbit/kernel/dispatch/targets.hpp"

namespace lowbit::inline LOWBIT_ABI {

// The levels that this build holds and this processor runs, the best one last; never empty.
inline std::vector<Level> available_levels() {
  std::vector<Level> levels;
  for (const Level l : all_levels)
    if (cpu_supports(l) && detail::kernels_of(l)) levels.push_back(l);
  if (levels.empty())
    raise<Error>(std::string("this file was compiled for a processor with more instructions than this one has (it has ") +
                 level_name(cpu_level()) + ")");
  return levels;
}

// The level of a name such as "avx2"; throws InvalidArgument that lists the names this machine can run.
LOWBIT_COLD inline Level level_from_name(const std::string& name) {
  std::string known;
  for (const Level l : available_levels()) {
    if (name == level_name(l)) return l;
    known += std::string(known.empty() ? "" : ", ") + level_name(l);
  }
  raise<InvalidArgument>("instruction-set level '" + name + "': expected one of " + known);
}

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

inline const Kernels* default_kernels() {
  if (const char* name = std::getenv("LOWBIT_ISA"); name != nullptr && *name != '\0') return kernels_of(level_from_name(name));
  return kernels_of(available_levels().back());
}
inline constinit std::atomic<const Kernels*> active_kernels{nullptr};  // null before the first use
inline const Kernels& kernels() {
  const Kernels* active = active_kernels.load(std::memory_order_acquire);
  if (active != nullptr) [[likely]]
    return *active;
  const Kernels* const fresh = default_kernels();
  return active_kernels.compare_exchange_strong(active, fresh, std::memory_order_acq_rel) ? *fresh : *active;
}
inline const TransformerKernels& transformer_kernels() { return *float_kernels_of<TransformerKernels>(kernels().level); }
inline const TrainingKernels& training_kernels() { return *float_kernels_of<TrainingKernels>(kernels().level); }

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// The level that products run at.  Thread safe.
inline Level active_level() { return detail::kernels().level; }

// Makes later calls run at `level` (for tests and measurements); throws InvalidArgument if this build or machine has it not.
// Thread safe; a product under way keeps the level it began with.
inline void set_level(Level level) {
  detail::active_kernels.store(detail::kernels_of(level_from_name(level_name(level))), std::memory_order_release);
}

}  // namespace lowbit::inline LOWBIT_ABI
