// SPDX-License-Identifier: MIT
// Causal attention of one head, by blocks of as many queries as a register has lanes: scores and softmax have a query per lane, so
// that nothing is summed across lanes; the mean of the values has four queries per tile.  Included once per instruction set, by
// targets.hpp only.
//
// Order of summation of one query: a score over depth, the sum of the weights and the mean of the values over positions, each from
// the first to the last, by itself.  So a query's result does not depend on the block it falls into.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

inline constexpr std::size_t key_tile = 8;    // scores under way at once: two additions a cycle, each four cycles long
inline constexpr std::size_t query_tile = 4;  // queries that share a loaded value

// to (to_rows, to_n) = from (rows, n), zero outside.  Contiguous rows: those of a fused projection stand a multiple of 1 KiB apart
// and would fall into a few sets of the cache.
LOWBIT_NOINLINE inline void stage_rows(const float* from, std::size_t stride, std::size_t rows, std::size_t n, float* to,
                                       std::size_t to_rows, std::size_t to_n) {
  using S = simd;
  const std::size_t full = n / S::lanes * S::lanes;
  for (std::size_t r = 0; r < to_rows; ++r, to += to_n) {
    const float* row = from + (r < rows ? r : 0) * stride;
    std::size_t i = 0;
    if (r < rows) {
      for (; i < full; i += S::lanes) S::store(to + i, S::load(row + i));
      if (i < n) S::store(to + i, S::load_n(row + i, n - i));
      if (i < n) i += S::lanes;
    }
    for (; i < to_n; i += S::lanes) S::store(to + i, S::zero());
  }
}

// What a head's blocks share.  A block is the queries [begin, end), lane i the query begin + i; lanes behind `end` are idle.
struct AttentionHead {
  std::size_t depth, padded;  // padded: to whole registers
  float *keys, *values;       // (attention_rows, padded)
  float* weights;             // (attention_rows, lanes): scores, then weights, of a position for every query of the block
  float* queries;             // (lanes, padded)
  float* transposed;          // (padded, lanes)
  float* inverse;             // [lanes]: 1 / sum of the weights
};

// The query of lane i sees the positions below begin + i + 1.
LOWBIT_INLINE simd::vf positions_seen(std::size_t begin) {
  static constexpr float lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return simd::add(simd::load(lane), simd::set1(static_cast<float>(begin + 1)));
}

LOWBIT_NOINLINE inline void softmax_weights(const AttentionHead& h, std::size_t begin, std::size_t end) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes;
  const V seen = positions_seen(begin), lowest = S::set1(-3.0e38f);
  V top = lowest;
  for (std::size_t s = 0; s < end; s += key_tile) {
    V score[key_tile];
    LOWBIT_UNROLL for (std::size_t j = 0; j < key_tile; ++j) score[j] = S::zero();
    const float* k = h.keys + s * h.padded;
    for (std::size_t d = 0; d < h.depth; ++d) {
      const V q = S::load(h.transposed + d * L);
      LOWBIT_UNROLL for (std::size_t j = 0; j < key_tile; ++j) score[j] = S::fma(S::set1(k[j * h.padded + d]), q, score[j]);
    }
    if (s + key_tile > begin + 1) {
      LOWBIT_UNROLL for (std::size_t j = 0; j < key_tile; ++j) score[j] =
          S::if_less(S::set1(static_cast<float>(s + j)), seen, score[j], lowest);
    }
    LOWBIT_UNROLL for (std::size_t j = 0; j < key_tile; ++j) {
      top = S::maximum(top, score[j]);
      S::store(h.weights + (s + j) * L, score[j]);
    }
  }
  V total = S::zero();
  for (std::size_t s = 0; s < end; ++s) {
    V e = exp2(S::sub(S::load(h.weights + s * L), top));
    S::store(h.weights + s * L, e);
    if (s > begin) e = S::if_less(S::set1(static_cast<float>(s)), seen, e, S::zero());
    total = S::add(total, e);
  }
  S::store(h.inverse, S::div(S::set1(1.0f), total));
}

// out of the queries first ... first + 3, those below `end`: C registers of the depth, from `column` on, of which out has n floats.
template <std::size_t C>
LOWBIT_NOINLINE void weighted_values(const AttentionHead& h, std::size_t begin, std::size_t first, std::size_t end,
                                     std::size_t column, float* out, std::size_t out_stride, std::size_t n) {
  using S = simd;
  using V = typename S::vf;
  constexpr std::size_t L = S::lanes, R = query_tile;
  const std::size_t depth = h.padded;
  const float* values = h.values + column;
  const float* weights = h.weights + (first - begin);
  V acc[R][C];
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) { LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) acc[r][c] = S::zero(); }
  for (std::size_t s = 0; s <= first; ++s, values += depth, weights += L) {
    V v[C];
    LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) v[c] = S::load(values + c * L);
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
      const V w = S::set1(weights[r]);
      LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) acc[r][c] = S::fma(w, v[c], acc[r][c]);
    }
  }
  LOWBIT_UNROLL for (std::size_t later = 1; later < R; ++later, values += depth, weights += L) {  // seen by later queries alone
    V v[C];
    LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) v[c] = S::load(values + c * L);
    LOWBIT_UNROLL for (std::size_t r = later; r < R; ++r) {
      const V w = S::set1(weights[r]);
      LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) acc[r][c] = S::fma(w, v[c], acc[r][c]);
    }
  }
  const float* inverse = h.inverse + (first - begin);
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
    if (first + r < end) {
      const V factor = S::set1(inverse[r]);
      LOWBIT_UNROLL for (std::size_t c = 0; c < C; ++c) {
        float* y = out + r * out_stride + c * L;
        const V value = S::mul(acc[r][c], factor);
        if (c * L + L <= n)
          S::store(y, value);
        else
          S::store_n(y, value, n - c * L);
      }
    }
  }
}

// A head's parts of the scratch; keys and values are still to be laid there.
inline AttentionHead attention_head(const AttentionArgs& a) {
  constexpr std::size_t L = simd::lanes;
  const std::size_t rows = attention_rows(a.positions);
  AttentionHead h;
  h.depth = a.depth;
  h.padded = (a.depth + L - 1) / L * L;
  h.keys = a.scratch;
  h.values = h.keys + rows * h.padded;
  h.weights = h.values + rows * h.padded;
  h.queries = h.weights + rows * L;
  h.transposed = h.queries + L * h.padded;
  h.inverse = h.transposed + L * h.padded;
  return h;
}
// e^x is 2^(x log2 e); the factor costs nothing on the queries.
LOWBIT_INLINE float score_factor(float scale) { return scale * 1.44269504f; }

// The queries [first_query, positions); q and out begin with query `origin`.
inline void attend(const AttentionHead& h, const AttentionArgs& a, std::size_t origin) {
  constexpr std::size_t L = simd::lanes;
  constexpr std::size_t columns = L == 16 ? 4 : 2;  // 4 x 4 sums of 32 registers, 4 x 2 of 16
  // From the last query down: the block that is not full is the first one, which sees least.
  for (std::size_t end = a.positions, begin; end > a.first_query; end = begin) {
    begin = end - a.first_query > L ? end - L : a.first_query;
    const float* q = a.q + (begin - origin) * a.stride;
    if (end - begin == L && h.depth == h.padded) {
      transpose(q, L, h.padded, a.stride, h.transposed, L, score_factor(a.scale));
    } else {
      stage_rows(q, a.stride, end - begin, a.depth, h.queries, L, h.padded);
      transpose(h.queries, L, h.padded, h.padded, h.transposed, L, score_factor(a.scale));
    }
    softmax_weights(h, begin, end);
    for (std::size_t first = begin; first < end; first += query_tile) {
      float* out = a.out + (first - origin) * a.out_stride;
      std::size_t d = 0;
      for (; d + columns * L <= h.padded; d += columns * L)
        weighted_values<columns>(h, begin, first, end, d, out + d, a.out_stride, a.depth - d);
      for (; d < h.padded; d += L) weighted_values<1>(h, begin, first, end, d, out + d, a.out_stride, a.depth - d);
    }
  }
}

inline void attention(const AttentionArgs& a) {
  const AttentionHead h = attention_head(a);
  const std::size_t rows = attention_rows(a.positions);
  stage_rows(a.k, a.stride, a.positions, a.depth, h.keys, rows, h.padded);
  stage_rows(a.v, a.stride, a.positions, a.depth, h.values, rows, h.padded);
  attend(h, a, 0);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
