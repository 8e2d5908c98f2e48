// SPDX-License-Identifier: MIT
// Causal attention over a batch of rows, every head of every row on its own: of whole rows, or of rows that go on from caches.
// T: tokens of all rows together, C: width.
#pragma once
#include <cmath>
#include <cstddef>
#include <span>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/gpt2/kv_cache.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Where a head of a row stands in qkv (T, 3C) and in its result (T, C), both row-major.
struct HeadPlace {
  std::size_t row, head;         // of the batch
  std::size_t positions, depth;  // tokens of the row; width of a head
  std::size_t q, k, v, stride;   // floats to the first position's query, key and value, and from one position to the next
  std::size_t out, out_stride;   // the same of the result
  float scale;                   // of the scores: 1 / sqrt(depth)

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
    p.row = r;
    p.head = task % heads;
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
  AlignedBuffer<float> floats;     // of attention
  AlignedBuffer<std::byte> bytes;  // of appending to a cache
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
// The same where row r goes on from caches[r]: appends its keys and values to layer `layer` there, and attends over all of them.  The
// caches' lengths are still those of before.
inline void attention(const float* qkv, std::span<const std::size_t> offsets, std::span<KvCache* const> caches, std::size_t layer,
                      std::size_t heads, std::size_t width, float* out, Executor& executor) {
  const lowbit::detail::TransformerKernels& kernels = lowbit::detail::transformer_kernels();
  for_each_head(offsets, heads, width, executor, [&](const HeadPlace& p) {
    const lowbit::detail::PerThread<AttentionScratch> scratch;
    KvCache& cache = *caches[p.row];
    lowbit::detail::AppendKvArgs append;
    append.head = cache.head(layer, p.head);
    append.k = qkv + p.k;
    append.v = qkv + p.v;
    append.stride = p.stride;
    append.first = cache.length();
    append.count = p.positions;
    scratch->bytes.grow(lowbit::detail::append_kv_scratch_bytes(p.positions, p.depth));
    append.scratch = scratch->bytes.data();
    kernels.append_kv(append);
    lowbit::detail::CachedAttentionArgs c;
    c.head = append.head;
    c.queries = p.args<lowbit::detail::AttentionArgs>(qkv);
    c.queries.out = out + p.out;
    c.queries.first_query = cache.length();
    c.queries.positions = cache.length() + p.positions;
    scratch->floats.grow(lowbit::detail::attention_scratch_floats(c.queries.positions, p.depth));
    c.queries.scratch = scratch->floats.data();
    kernels.cached_attention(c);
  });
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
