// SPDX-License-Identifier: MIT
// The pools of parallel.hpp: which crew of threads a pool has in this process, and the default pool.
#pragma once
#include <memory>

#include "lowbit/base/crew.hpp"
#include "lowbit/base/processors.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

inline Crew* crew_of(PoolThreads* threads) { return reinterpret_cast<Crew*>(threads); }

// Threads that fork() left behind cannot be joined, nor their locks destroyed; what they had stays reachable for leak checkers.
inline constinit std::atomic<Crew*> forgotten_crews{nullptr};
inline void forget(Crew* crew) {
  if (crew == nullptr) return;
  crew->forgotten_before = forgotten_crews.load(std::memory_order_relaxed);
  while (!forgotten_crews.compare_exchange_weak(crew->forgotten_before, crew, std::memory_order_acq_rel)) {
  }
}

// The threads of this process.  Without a lock, which a fork() could leave locked for ever.
inline Crew& crew_here(PoolState& pool) {
  for (;;) {
    PoolThreads* old = pool.made.load(std::memory_order_acquire);
    if (old != nullptr && crew_of(old)->is_here()) return *crew_of(old);
    watch_forks();
    auto fresh = std::make_unique<Crew>(pool.threads == 0 ? count_processors() : pool.threads);
    if (!pool.made.compare_exchange_strong(old, reinterpret_cast<PoolThreads*>(fresh.get()), std::memory_order_acq_rel)) continue;
    forget(crew_of(old));
    return *fresh.release();
  }
}

LOWBIT_FUNCTION void start_pool(PoolState& pool) { crew_here(pool); }

LOWBIT_FUNCTION void destroy_pool(PoolState& pool) {
  Crew* const crew = crew_of(pool.made.load(std::memory_order_acquire));
  // exit() inside a task: its round would wait for this thread.
  crew != nullptr && crew->is_here() && !inside_task() ? delete crew : forget(crew);
}

LOWBIT_FUNCTION void end_pool(PoolState& pool) {
  pool.ended.store(true, std::memory_order_relaxed);
  if (inside_task()) return;  // as in destroy_pool()
  Crew* const crew = crew_of(pool.made.load(std::memory_order_acquire));
  if (crew != nullptr && crew->is_here()) crew->stop();
}

LOWBIT_FUNCTION std::size_t pool_concurrency(PoolState& pool) {
  return pool.ended.load(std::memory_order_relaxed) ? 1 : crew_here(pool).size();
}

LOWBIT_FUNCTION void run_on_pool(PoolState& pool, std::size_t count, TaskRef task) {
  if (count > 1 && !inside_task() && !inside_openmp_region() && !pool.ended.load(std::memory_order_relaxed))
    if (Crew& crew = crew_here(pool); crew.size() > 1) return crew.run(count, task);
  for (std::size_t i = 0; i < count; ++i) task(i);
}

// Never destroyed, since destructors of static objects may multiply; its threads end with `end`.
class DefaultPool final : public Executor {
 public:
  std::size_t concurrency() const override { return pool_concurrency(state); }
  void run(std::size_t count, TaskRef task) override { run_on_pool(state, count, task); }
  mutable PoolState state;
};
union DefaultPoolStorage {
  DefaultPool pool;
  constexpr DefaultPoolStorage() noexcept : pool() {}
  ~DefaultPoolStorage() {}
};
inline constinit DefaultPoolStorage default_pool;
struct EndDefaultPool {
  ~EndDefaultPool() { end_pool(default_pool.pool.state); }
};
inline constinit EndDefaultPool end_default_pool;

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

LOWBIT_FUNCTION std::size_t available_processors() { return detail::count_processors(); }
LOWBIT_FUNCTION Executor& default_executor() { return detail::default_pool.pool; }

}  // namespace lowbit::inline LOWBIT_ABI
