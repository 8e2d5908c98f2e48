// SPDX-License-Identifier: MIT
// Causal attention over a batch of rows, every head of every row on its own.  T: tokens of all rows together, C: width.
#pragma once
#include <cmath>
#include <cstddef>
#include <span>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Where a head of a row stands in qkv (T, 3C) and in its result (T, C), both row-major.
struct HeadPlace {
  std::size_t positions, depth;
  std::size_t q, k, v, stride;  // floats to the first position's query, key and value, and from one position to the next
  std::size_t out, out_stride;
  float scale;  // of the scores: 1 / sqrt(depth)

  // The arguments that the kernel and its gradient have in common.
  template <class Args>
  Args args(const float* qkv) const {
    Args a;
    a.positions = positions;
    a.depth = depth;
    a.q = qkv + q;
    a.k = qkv + k;
    a.v = qkv + v;
    a.stride = stride;
    a.out_stride = out_stride;
    a.scale = scale;
    return a;
  }
};
// visit(HeadPlace) for every head of every row [offsets[r], offsets[r+1]), counted from offsets[0], on several threads.
template <class Visit>
void for_each_head(std::span<const std::size_t> offsets, std::size_t heads, std::size_t width, Executor& executor,
                   const Visit& visit) {
  executor.run((offsets.size() - 1) * heads, [&](std::size_t task) {
    const std::size_t r = task / heads, depth = width / heads, column = task % heads * depth, first = offsets[r] - offsets[0];
    HeadPlace p;
    p.positions = offsets[r + 1] - offsets[r];
    p.depth = depth;
    p.stride = 3 * width;
    p.q = first * p.stride + column;
    p.k = p.q + width;
    p.v = p.k + width;
    p.out = first * width + column;
    p.out_stride = width;
    p.scale = 1.0f / std::sqrt(static_cast<float>(depth));
    visit(p);
  });
}

// Of one thread, for one head.
struct AttentionScratch {
  AlignedBuffer<float> floats;
};

// out (T, C) from qkv (T, 3C).
inline void attention(const float* qkv, std::span<const std::size_t> offsets, std::size_t heads, std::size_t width, float* out,
                      Executor& executor) {
  for_each_head(offsets, heads, width, executor, [&](const HeadPlace& p) {
    const lowbit::detail::PerThread<AttentionScratch> scratch;
    auto a = p.args<lowbit::detail::AttentionArgs>(qkv);
    a.out = out + p.out;
    scratch->floats.grow(lowbit::detail::attention_scratch_floats(p.positions, p.depth));
    a.scratch = scratch->floats.data();
    lowbit::detail::transformer_kernels().attention(a);
  });
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
