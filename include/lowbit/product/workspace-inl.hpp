// SPDX-License-Identifier: MIT
// What a workspace holds, in bytes.
#pragma once
#include "lowbit/product/workspace.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

LOWBIT_FUNCTION std::size_t held_bytes(const InputRows& r) {
  std::size_t bytes = r.data.size_bytes() + r.scale.size_bytes() + r.offset.size_bytes() + r.made.size_bytes() +
                      r.outliers.capacity() * sizeof(OutlierRow) + r.column_is_outlier.capacity() +
                      (r.chunks.begin.capacity() + r.chunks.end.capacity()) * sizeof(std::uint32_t) +
                      r.parts.capacity() * sizeof(InputRows::Part);
  for (const InputRows::Part& p : r.parts)
    bytes += p.column.capacity() * sizeof(std::uint32_t) + p.value.capacity() * sizeof(float) + p.made.size_bytes() +
             p.rounded.size_bytes() + p.converted.size_bytes() + p.sums.size_bytes();
  return bytes;
}
LOWBIT_FUNCTION std::size_t held_bytes(const WorkspaceState& w) {
  std::size_t bytes = held_bytes(w.input) + w.result.size_bytes() + w.sums.size_bytes() + w.slot_count * sizeof(WorkspaceSlot);
  for (std::size_t i = 0; i < w.slot_count; ++i)
    bytes += held_bytes(w.slots[i].input) + w.slots[i].gemm.size_bytes() + w.slots[i].row.size_bytes();
  return bytes;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
