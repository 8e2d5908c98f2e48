// SPDX-License-Identifier: MIT
// Keys and values that are kept between calls: appending, and attention over them.  Few queries read the cache as it stands, a
// position per lane; many have it laid out in floats first and take the way of attention-inl.hpp.  Both sum in the order that is
// promised there, so a query's result does not depend on how many came with it.  Included once per instruction set, by targets.hpp
// only.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

LOWBIT_INLINE simd::vf load_kept(const float* p) { return simd::load(p); }
LOWBIT_INLINE simd::vf load_kept(const std::uint16_t* p) { return simd::load_bf16(p); }
LOWBIT_INLINE simd::vf load_kept(const std::int8_t* p) { return simd::load_i8(p); }

// visit(a pointer of the type in which the head holds its elements).
template <class Visit>
LOWBIT_INLINE void with_kept_type(Element element, const Visit& visit) {
  switch (element) {
    case Element::bf16: return visit(static_cast<std::uint16_t*>(nullptr));
    case Element::int8: return visit(static_cast<std::int8_t*>(nullptr));
    default: return visit(static_cast<float*>(nullptr));
  }
}

// rows (count, kv_padded(depth)) of `from` as the cache holds them, zero behind the depth.
inline void keep_rows(const AppendKvArgs& a, const float* from, float* rows, float*) {
  const std::size_t padded = kv_padded(a.head.depth);
  for (std::size_t r = 0; r < a.count; ++r) {
    std::memcpy(rows + r * padded, from + r * a.stride, a.head.depth * sizeof(float));
    std::memset(rows + r * padded + a.head.depth, 0, (padded - a.head.depth) * sizeof(float));
  }
}
inline void keep_rows(const AppendKvArgs& a, const float* from, std::uint16_t* rows, float*) {
  Bf16RowsArgs b;
  b.x = from;
  b.m = a.count;
  b.k = a.head.depth;
  b.x_stride = a.stride;
  b.k_padded = kv_padded(a.head.depth);
  b.out = rows;
  bf16_rows(b);
}
inline void keep_rows(const AppendKvArgs& a, const float* from, std::int8_t* rows, float* scales) {
  QuantizeRowsArgs q;
  q.x = from;
  q.m = a.count;
  q.k = a.head.depth;
  q.x_stride = a.stride;
  q.k_padded = kv_padded(a.head.depth);
  q.codes = rows;
  q.scale = scales;
  quantize_rows(q);
}

// keys of positions first, ... from rows (count, row_stride) into their tiles.
template <class T>
inline void put_keys(const AppendKvArgs& a, const T* rows, std::size_t row_stride) {
  T* const keys = static_cast<T*>(a.head.keys);
  for (std::size_t r = 0; r < a.count; ++r, rows += row_stride) {
    const std::size_t p = a.first + r;
    T* to = keys + p / kv_tile * a.head.depth * kv_tile + p % kv_tile;
    for (std::size_t d = 0; d < a.head.depth; ++d) to[d * kv_tile] = rows[d];
  }
}

inline void append_kv(const AppendKvArgs& a) {
  const std::size_t padded = kv_padded(a.head.depth);
  const bool scaled = a.head.element == Element::int8;
  float* const key_scales = scaled ? a.head.key_scales + a.first : nullptr;
  float* const value_scales = scaled ? a.head.value_scales + a.first : nullptr;
  with_kept_type(a.head.element, [&]<class T>(T*) LOWBIT_INLINE_LAMBDA {
    keep_rows(a, a.v, static_cast<T*>(a.head.values) + a.first * padded, value_scales);
    if constexpr (std::is_same_v<T, float>) {
      put_keys(a, a.k, a.stride);
    } else {
      keep_rows(a, a.k, static_cast<T*>(a.scratch), key_scales);
      put_keys(a, static_cast<const T*>(a.scratch), padded);
    }
  });
}

// The scores of N registers of positions, from p on.
template <std::size_t N, class T>
LOWBIT_INLINE void score_positions(const KvHead& h, const float* q, std::size_t p, std::size_t positions, simd::vf& top,
                                   float* scores) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes;
  const V lowest = S::set1(-3.0e38f), seen = S::set1(static_cast<float>(positions));
  const T* k[N];
  V score[N], scale[N];
  LOWBIT_UNROLL for (std::size_t j = 0; j < N; ++j) {
    const std::size_t at = p + j * L;
    k[j] = static_cast<const T*>(h.keys) + at / kv_tile * h.depth * kv_tile + at % kv_tile;
    score[j] = S::zero();
    scale[j] = std::is_same_v<T, std::int8_t> ? S::load(h.key_scales + at) : S::zero();
  }
  for (std::size_t d = 0; d < h.depth; ++d) {
    const V query = S::set1(q[d]);
    LOWBIT_UNROLL for (std::size_t j = 0; j < N; ++j) {
      V key = load_kept(k[j] + d * kv_tile);
      if constexpr (std::is_same_v<T, std::int8_t>) key = S::mul(key, scale[j]);
      score[j] = S::fma(key, query, score[j]);
    }
  }
  LOWBIT_UNROLL for (std::size_t j = 0; j < N; ++j) {
    const std::size_t at = p + j * L;
    if (at + L > positions) {
      static constexpr float lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      score[j] = S::if_less(S::add(S::load(lane), S::set1(static_cast<float>(at))), seen, score[j], lowest);
    }
    top = S::maximum(top, score[j]);
    S::store(scores + at, score[j]);
  }
}

// out (n floats) = columns [column, column + C registers) of the mean of the values.
template <std::size_t C, class T>
LOWBIT_NOINLINE void mean_of_values(const KvHead& h, const float* weights, std::size_t positions, std::size_t column, float* out,
                                    std::size_t n) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes;
  const std::size_t padded = kv_padded(h.depth);
  const T* values = static_cast<const T*>(h.values) + column;
  V acc[C], total = S::zero();
  LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) acc[c] = S::zero();
  for (std::size_t s = 0; s < positions; ++s, values += padded) {
    const V w = S::set1(weights[s]);
    LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) {
      V value = load_kept(values + c * L);
      if constexpr (std::is_same_v<T, std::int8_t>) value = S::mul(value, S::set1(h.value_scales[s]));
      acc[c] = S::fma(w, value, acc[c]);
    }
    total = S::add(total, w);
  }
  const V factor = S::div(S::set1(1.0f), total);
  LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) {
    const V value = S::mul(acc[c], factor);
    if (c * L + L <= n)
      S::store(out + c * L, value);
    else if (c * L < n)
      S::store_n(out + c * L, value, n - c * L);
  }
}

// out (depth) of one query that sees `positions` positions.  scratch: attention_scratch_floats().
template <class T>
inline void attend_once(const KvHead& h, const float* q, float factor, std::size_t positions, float* scratch, float* out) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes, whole = kv_tile / L;  // registers of a tile
  float* const query = scratch;
  float* const weights = scratch + kv_padded(h.depth);
  for (std::size_t d = 0; d < h.depth; ++d) query[d] = q[d] * factor;
  const std::size_t end = kv_padded(positions);
  V top = S::set1(-3.0e38f);
  std::size_t p = 0;
  for (; p + 8 * L <= end; p += 8 * L) score_positions<8, T>(h, query, p, positions, top, weights);
  if constexpr (whole < 4)
    for (; p + 4 * L <= end; p += 4 * L) score_positions<4, T>(h, query, p, positions, top, weights);
  for (; p < end; p += whole * L) score_positions<whole, T>(h, query, p, positions, top, weights);
  top = S::set1(S::reduce_max(top));
  for (p = 0; p < end; p += L) S::store(weights + p, exp2(S::sub(S::load(weights + p), top)));
  constexpr std::size_t columns = 64 / L < 8 ? 64 / L : 8;  // sums under way; another pass reads the weights again
  for (std::size_t d = 0; d < h.depth;) {
    if (d + columns * L <= kv_padded(h.depth)) {
      mean_of_values<columns, T>(h, weights, positions, d, out + d, h.depth - d);
      d += columns * L;
    } else {
      mean_of_values<whole, T>(h, weights, positions, d, out + d, h.depth - d);
      d += kv_tile;
    }
  }
}

// The cache in floats, where attention() has its keys and values.
template <class T>
inline void lay_out_kept(const KvHead& kept, const AttentionArgs& a, const AttentionHead& h) {
  using S = simd;
  constexpr std::size_t L = S::lanes;
  const std::size_t rows = attention_rows(a.positions), padded = kv_padded(a.depth);
  float* const tile = h.queries;  // (depth, kv_tile); nothing is there yet, and the scratch ends behind 2 x 16 such columns
  for (std::size_t p = 0; p < rows; p += kv_tile) {
    const std::size_t count = rows - p < kv_tile ? rows - p : kv_tile;
    if (p >= a.positions) {
      std::memset(h.keys + p * h.padded, 0, count * h.padded * sizeof(float));
      continue;
    }
    const T* keys = static_cast<const T*>(kept.keys) + p * a.depth;
    for (std::size_t i = 0; i < a.depth * kv_tile; i += L) {
      typename S::vf key = load_kept(keys + i);
      if constexpr (std::is_same_v<T, std::int8_t>) key = S::mul(key, S::load(kept.key_scales + p + i % kv_tile));
      S::store(tile + i, key);
    }
    transpose(tile, a.depth, count, kv_tile, h.keys + p * h.padded, h.padded);
  }
  const T* values = static_cast<const T*>(kept.values);
  for (std::size_t p = 0; p < rows; ++p, values += padded)
    for (std::size_t i = 0; i < h.padded; i += L) {
      typename S::vf value = S::zero();
      if (p < a.positions) {
        value = load_kept(values + i);
        if constexpr (std::is_same_v<T, std::int8_t>) value = S::mul(value, S::set1(kept.value_scales[p]));
      }
      S::store(h.values + p * h.padded + i, value);
    }
}

inline void cached_attention(const CachedAttentionArgs& c) {
  constexpr std::size_t few = 4;
  const AttentionArgs& a = c.queries;
  with_kept_type(c.head.element, [&]<class T>(T*) LOWBIT_INLINE_LAMBDA {
    if (a.positions - a.first_query > few) {
      const AttentionHead h = attention_head(a);
      lay_out_kept<T>(c.head, a, h);
      return attend(h, a, a.first_query);
    }
    for (std::size_t t = a.first_query; t < a.positions; ++t) {
      const std::size_t r = t - a.first_query;
      attend_once<T>(c.head, a.q + r * a.stride, score_factor(a.scale), t + 1, a.scratch, a.out + r * a.out_stride);
    }
  });
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
