// SPDX-License-Identifier: MIT
// Rows of canonical float and int8 weights times rows of x: read where they stand if the compute type can, else decoded, a few rows
// at a time, and shared by all rows of x.  Any depth, blocks of any size that cross rows.
// Included once per instruction set, by targets.hpp.
//
// Order of summation of one output: spans (the part of a block inside the row) in order; inside a span lane by lane, k after k, by
// fma (int8: exactly); a span's lanes times its scale are added to the total's lanes, which are summed at the end.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// Row `n` of the codes as floats, in place or decoded into `out`.  bf16: rounded to bfloat16.
inline const float* decode_row(const CanonicalWeights& w, std::size_t n, bool bf16, float* out) {
  using S = simd;
  const std::size_t begin = n * w.k;
  std::size_t i = 0;
  switch (w.element) {
    case Element::f32: {
      const float* p = static_cast<const float*>(w.codes) + begin;
      if (!bf16) return p;
      for (; i + S::lanes <= w.k; i += S::lanes)
        S::store(out + i, S::as_float(S::template shift_left<16>(bf16_bits(S::load(p + i)))));
      for (; i < w.k; ++i) out[i] = to_float(to_bfloat16(p[i]));
      break;
    }
    case Element::f16: {
      const auto* p = static_cast<const std::uint16_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) {
        const typename S::vf v = S::load_f16(p + i);
        S::store(out + i, bf16 ? S::as_float(S::template shift_left<16>(bf16_bits(v))) : v);
      }
      for (; i < w.k; ++i) {
        const float v = to_float(Float16{p[i]});
        out[i] = bf16 ? to_float(to_bfloat16(v)) : v;
      }
      break;
    }
    case Element::bf16: {
      const auto* p = static_cast<const std::uint16_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::load_bf16(p + i));
      for (; i < w.k; ++i) out[i] = to_float(BFloat16{p[i]});
      break;
    }
    case Element::int8: {
      const auto* p = static_cast<const std::int8_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::load_i8(p + i));
      for (; i < w.k; ++i) out[i] = static_cast<float>(p[i]);
      break;
    }
    case Element::four_bit: break;  // four_bit-inl.hpp
  }
  return out;
}

// How far ahead each stream of rows is asked for, where the processor gains by it.
inline constexpr std::size_t rows_ahead = 2048;

// Visits rows [begin, end) of the weights in batches: visit(n, count, stride) is to do rows n to n + count of each of
// CanonicalPlan::streams streams, `stride` rows from one to the next; of one stream, and up to a whole batch, where stride is 0. Rows
// that are read at a time stand far apart, so that each stream goes on where its last row has ended: memory is read in a few long
// streams, which the hardware follows.
template <class Visit>
LOWBIT_INLINE void for_streams(std::size_t begin, std::size_t end, bool several, const Visit& visit) {
  using P = CanonicalPlan;
  const std::size_t stream_stride = several ? (end - begin) / P::streams : 0;
  for (std::size_t i = 0; i < stream_stride; i += P::stream_rows)
    visit(begin + i, stream_stride - i < P::stream_rows ? stream_stride - i : P::stream_rows, stream_stride);
  for (std::size_t n = begin + P::streams * stream_stride; n < end; n += P::batch)
    visit(n, end - n < P::batch ? end - n : P::batch, std::size_t{0});
}

// R rows of weights, whose blocks begin at the same k, times M rows of x.
struct RowTile {
  const void* w[CanonicalPlan::streams];        // floats, or int8 codes
  std::size_t ahead;                            // bytes to ask for ahead; 0 asks for what is read next, which costs nothing
  const float* scales[CanonicalPlan::streams];  // of the blocks that the row touches; null: none
  std::size_t k, block, lead;                   // block: 0 for none; lead: elements of the first block that lie before the row
  const std::uint8_t* x;
  std::size_t x_stride;
  float* out;  // of row m of x and row r of weights: out[m * CanonicalPlan::batch + r * CanonicalPlan::stream_rows]
};

template <bool Int8, std::size_t R, std::size_t M>
LOWBIT_NOINLINE void row_tile(const RowTile& t) {
  using S = simd;
  using V = typename S::vf;
  V total[R][M];
  float exact[R][M];
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) total[r][m] = S::zero(),
                                                                                                      exact[r][m] = 0;
  const auto ask = [&](std::size_t byte) LOWBIT_INLINE_LAMBDA {
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) prefetch(static_cast<const std::uint8_t*>(t.w[r]) + byte + t.ahead);
  };
  std::size_t span = 0;
  for (std::size_t k = 0; k < t.k; ++span) {
    std::size_t length = t.block == 0 ? t.k : t.block - (span == 0 ? t.lead : 0);
    length = length < t.k - k ? length : t.k - k;
    std::size_t i = 0;
    if constexpr (Int8) {
      const auto w = [&](std::size_t r) LOWBIT_INLINE_LAMBDA { return static_cast<const std::int8_t*>(t.w[r]) + k; };
      const auto x = [&](std::size_t m)
                         LOWBIT_INLINE_LAMBDA { return reinterpret_cast<const std::int8_t*>(t.x + m * t.x_stride) + k; };
      typename S::vi acc[R][M];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) acc[r][m] = S::izero();
      for (; i + S::bytes_step <= length; i += S::bytes_step) {
        ask(k + i);
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) acc[r][m] =
            S::dot_s8(acc[r][m], w(r) + i, x(m) + i);
      }
      if (i < length) {
        std::int8_t wt[S::bytes_step], xt[S::bytes_step];
        for (std::size_t r = 0; r < R; ++r)
          for (std::size_t m = 0; m < M; ++m) {
            std::memset(wt, 0, sizeof wt);
            std::memset(xt, 0, sizeof xt);
            std::memcpy(wt, w(r) + i, length - i);
            std::memcpy(xt, x(m) + i, length - i);
            acc[r][m] = S::dot_s8(acc[r][m], wt, xt);
          }
      }
      for (std::size_t r = 0; r < R; ++r)
        for (std::size_t m = 0; m < M; ++m) {
          const float sum = static_cast<float>(S::ireduce_add(acc[r][m]));
          exact[r][m] = rounded(exact[r][m] + rounded(sum * (t.scales[r] ? t.scales[r][span] : 1.0f)));
        }
    } else {
      const auto w = [&](std::size_t r) LOWBIT_INLINE_LAMBDA { return static_cast<const float*>(t.w[r]) + k; };
      const auto x = [&](std::size_t m) LOWBIT_INLINE_LAMBDA { return reinterpret_cast<const float*>(t.x + m * t.x_stride) + k; };
      V acc[R][M];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) acc[r][m] = S::zero();
      for (; i < length; i += S::lanes) {
        const std::size_t left = length - i;
        const auto load = [&](const float* p) LOWBIT_INLINE_LAMBDA { return left < S::lanes ? S::load_n(p, left) : S::load(p); };
        V wv[R];
        ask((k + i) * 4);
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) wv[r] = load(w(r) + i);
        LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) {
          const V xv = load(x(m) + i);
          LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r][m] = S::fma(wv[r], xv, acc[r][m]);
        }
      }
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const V scale = S::set1(t.scales[r] ? t.scales[r][span] : 1.0f);
        LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) total[r][m] = S::fma(acc[r][m], scale, total[r][m]);
      }
    }
    k += length;
  }
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m)
      t.out[m * CanonicalPlan::batch + r * CanonicalPlan::stream_rows] = Int8 ? exact[r][m] : S::reduce_add(total[r][m]);
}

template <bool Int8, std::size_t R>
inline void row_tiles(RowTile& t, std::size_t rows) {
  while (rows != 0) {
    const std::size_t m = rows >= max_x_rows ? max_x_rows : 1;
    m == 1 ? row_tile<Int8, R, 1>(t) : row_tile<Int8, R, max_x_rows>(t);
    t.x += m * t.x_stride;
    t.out += m * CanonicalPlan::batch;
    rows -= m;
  }
}

template <Compute C>
inline void gemm_rows(const CanonicalGemmArgs& a, const CanonicalPlan& plan) {
  constexpr bool int8 = C == Compute::int8;
  using P = CanonicalPlan;
  const CanonicalWeights& w = a.w;
  auto* result = reinterpret_cast<float*>(a.scratch + CanonicalPlan::table_bytes);
  std::uint8_t* decoded = a.scratch + CanonicalPlan::table_bytes + plan.result_bytes() + plan.scale_bytes();
  // rows whose blocks begin at the same k can be taken together
  const bool alike = w.block == 0 || w.k % w.block == 0 || w.block % (w.k == 0 ? 1 : w.k) == 0;
  for (std::size_t m = 0; m < a.m; m += plan.rows) {
    const std::size_t rows = a.m - m < plan.rows ? a.m - m : plan.rows;
    for_streams(a.row_begin, a.row_end, alike, [&](std::size_t n, std::size_t count, std::size_t stream_stride) {
      const std::size_t streams = stream_stride == 0 ? 1 : P::streams;
      for (std::size_t i = 0; i < count; ++i) {
        RowTile t;
        const bool in_place = int8 || (C == Compute::f32 && w.element == Element::f32);
        t.ahead = in_place && cpu_wants_prefetch() ? rows_ahead : 0;
        t.k = w.k;
        t.block = w.block;
        t.x = static_cast<const std::uint8_t*>(a.x.data) + m * a.x.stride_bytes;
        t.x_stride = a.x.stride_bytes;
        for (std::size_t r = 0; r < streams; ++r) {
          const std::size_t row = n + i + r * stream_stride;
          if constexpr (int8)
            t.w[r] = static_cast<const std::int8_t*>(w.codes) + row * w.k;
          else
            t.w[r] = decode_row(w, row, C == Compute::bf16, reinterpret_cast<float*>(decoded + r * plan.row_bytes));
          t.scales[r] = w.block == 0 ? nullptr : w.scales + row * w.k / w.block;
        }
        t.lead = w.block == 0 || alike ? 0 : (n + i) * w.k % w.block;
        t.out = result + i;
        if (streams == P::streams)
          row_tiles<int8, P::streams>(t, rows);
        else
          row_tiles<int8, 1>(t, rows);
      }
      for (std::size_t j = 0; j < rows * streams; ++j) {
        const std::size_t r = j / streams, row = m + r, s = j % streams, first = n + s * stream_stride;
        float extra[P::batch];
        const bool outliers = int8 && a.x.outliers && a.x.outliers[row].count != 0;
        if (outliers)
          for (std::size_t c = 0; c < count; ++c) {
            const std::size_t begin = (first + c) * w.k;
            const auto* codes = static_cast<const std::int8_t*>(w.codes) + begin;
            float sum = 0;
            for (std::size_t o = 0; o < a.x.outliers[row].count; ++o) {
              const std::size_t k = a.x.outliers[row].column[o];
              const float value = static_cast<float>(codes[k]) * (w.scales[(begin + k) / w.block] * w.scale_factor);
              sum = rounded(sum + rounded(a.x.outliers[row].value[o] * value));
            }
            extra[c] = sum;
          }
        finish_columns(a.epilogue, a.y + row * a.y_stride, row, first, count, result + r * P::batch + s * P::stream_rows,
                       int8 ? a.x.scale[row] * w.scale_factor : w.scale_factor, outliers ? extra : nullptr);
      }
    });
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
