// SPDX-License-Identifier: MIT
// The micro-kernel of packed products: a tile of R rows and V registers of columns, over all k of a panel or a chunk of it.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// Registers of columns of a tile with R rows: enough sums in flight hide the latency of the dot instruction, so one or two rows
// take several panels at a time.  No more than needed, as memory is faster the fewer streams there are.  An output's own sum is the
// same, however many stand beside it.
template <class C, class Source, std::size_t R>
inline constexpr std::size_t tile_registers = [] {
  std::size_t sums = simd::sums;
  if (Source::decodes && simd::vector_registers == 16) sums = 6;
  // One row: cold, two panels instead of four are 10 to 15 % faster on Zen 4 (25 instead of 17 GB/s in f32 on Zen 5), and as fast
  // hot; but looked-up bfloat16 pairs wait long for their dots.
  if (R == 1 && simd::vector_registers == 32 && !(Source::decodes && C::compute == Compute::bf16)) sums = 6;
  return R <= 2 ? sums / R : 3;
}();
inline constexpr std::size_t panel_registers = panel_cols / simd::lanes;

// Rows of the largest tile.  Less than the sums would allow where a product needs a register of its own (16-bit words); and for
// 4-bit codes in int8 and bf16: with 4 rows the totals stay in registers too, and 8 rows that store them lose more than they gain
// by decoding half as often (int8 on Zen 5 800 instead of 860 Gop/s, bf16 on Zen 4 211 instead of 216 GFLOP/s; f32, whose blocks
// take twice as many dots, is faster with 8).  Where dots take x by element, 8 rows gain: look-ups take the pipes of the dots, loads of
// totals do not.
template <class C, class Source>
constexpr std::size_t tile_rows() {
  std::size_t rows = simd::rows;
  if (C::compute == Compute::int8 && simd::vector_registers == 16 && !simd::dots_bytes) rows = 3;
  if (Source::decodes && (Source::magic_bias || C::compute == Compute::bf16) && simd::vector_registers == 32 && !by_element<simd>)
    rows = 4;
  return Source::rows < rows ? Source::rows : rows;
}

// Where a tile leaves results itself, without a second pass over its totals: y = total * scale + bias + residual for the tile's
// rows, `panel_stride` floats from one of its panels to the next.
struct MicroOutput {
  float* y = nullptr;  // null: the tile leaves totals
  std::size_t y_stride = 0, panel_stride = 0;
  const float* bias = nullptr;
  std::size_t bias_stride = 0;
  const float* residual = nullptr;
  std::size_t residual_stride = 0, residual_panel_stride = 0;
  float scale[simd::rows] = {};  // of every row
};
// The one order in which a result is made of its total.  Outliers, which finish_tile knows, come before the bias.
LOWBIT_INLINE simd::vf finished(simd::vf total, simd::vf scale, simd::vf bias, simd::vf residual) {
  using S = simd;
  return S::add(S::keep(S::add(S::keep(S::mul(total, scale)), bias)), residual);
}

struct MicroArgs {
  const std::uint8_t* w;                // first weights of the tile's columns
  const std::uint8_t* scale;            // first scales of the tile's columns, or null
  std::size_t head;                     // bytes of the scales of a block: from them its groups follow in the packed stream ...
  std::size_t group;                    // ... of so many bytes each, and then the next block's scales
  std::size_t gap;                      // bytes between the weights of two blocks: head, or 0 if they were decoded
  std::size_t panel_bytes;              // of one panel
  std::size_t panel_stride;             // bytes from one panel of the tile to the next
  std::size_t blocks, block;            // block: k of a block ...
  std::size_t first_block, last_block;  // ... of the first and of the last one, which may have fewer
  std::size_t kc;                       // k after which a sum is carried to the totals
  const std::uint8_t* x;                // first row of the tile at the first k
  std::size_t x_stride;
  const std::int32_t* offset;  // int8: of the first row at the first chunk
  std::size_t offset_stride;
  float* total;              // [R][panel_cols] ...
  std::size_t total_stride;  // ... and so many floats from one panel of the tile to the next
  MicroOutput out;           // instead of totals
  bool first;                // start the totals instead of adding to them
  std::size_t prefetch;      // weights to ask for ahead of time: bytes ahead, 0 for none
  // Where there are many rows: this tile's share of the next panel, to be asked for at `next_step` bytes a group, 0 for none.
  const std::uint8_t* next;
  std::size_t next_step;
  const CodebookTables* codebook;
};

// A group where an instruction multiplies pairs of rows and columns: of rows r and r + 1, acc[r] has the sums of the first half of a
// register's columns and acc[r + 1] those of the second.
template <class C, class Source, std::size_t R, std::size_t V>
LOWBIT_INLINE void multiply_pairs(typename C::acc (&acc)[R][V], const std::uint8_t* w, const typename Source::Table& table,
                                  const std::uint8_t* x, std::size_t x_stride) {
  using S = typename C::S;
  typename S::vi xv[R / 2];
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; r += 2) xv[r / 2] = S::load_pair(x + r * x_stride, x + (r + 1) * x_stride);
  LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
    typename S::vi wv[2];
    if constexpr (is_paired<Source>) {
      LOWBIT_UNROLL for (std::size_t half = 0; half < 2; ++half) wv[half] = Source::pair(w, half, v * S::lanes);
    } else {
      const typename S::vi first = Source::get(w, 0, v * S::lanes, table), second = Source::get(w, 1, v * S::lanes, table);
      wv[0] = S::zip_low(first, second);
      wv[1] = S::zip_high(first, second);
    }
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r][v] = C::dot_pairs(acc[r][v], wv[r % 2], xv[r / 2]);
  }
}
// From sums of rows, each with the same number in all of its columns.
template <class S, std::size_t R, std::size_t V>
LOWBIT_INLINE void join_pairs(typename S::ri (&acc)[R][V]) {
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; r += 2) {
    LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = acc[r + 1][v] = S::zip_low(acc[r][v], acc[r + 1][v]);
  }
}
// Totals of two rows as such sums stand, their scales, and totals as rows again.  F: a member of an array of registers.
template <class S, class F>
LOWBIT_INLINE void join_totals(F& a, F& b) {
  const typename S::vi first = S::as_int(a), second = S::as_int(b);
  a = S::as_float(S::zip_low(first, second));
  b = S::as_float(S::zip_high(first, second));
}
template <class S>
LOWBIT_INLINE typename S::vf pair_scale(typename S::vf scale, std::size_t half) {
  const typename S::vi s = S::as_int(scale);
  return S::as_float(half == 0 ? S::zip_low(s, s) : S::zip_high(s, s));
}
template <class S, class F>
LOWBIT_INLINE void separate_totals(F& a, F& b) {
  const typename S::vi first = S::as_int(a), second = S::as_int(b);
  a = S::as_float(S::even(first, second));
  b = S::as_float(S::odd(first, second));
}

template <class C, class Source, std::size_t R, std::size_t V>
LOWBIT_NOINLINE void micro_kernel(const MicroArgs& a) {
  using S = typename C::S;
  constexpr std::size_t panels = (V + panel_registers - 1) / panel_registers;
  // Totals stay in registers where there is room beside the sums: a store of a whole register costs as much as two dots.
  constexpr bool keep = 2 * R * V + (std::min)(R, V) + 3 <= S::vector_registers;
  constexpr bool int8 = C::compute == Compute::int8;
  constexpr bool pairs = int8 && multiplies_pairs<S> && R >= 4;
  constexpr bool signed_codes = Source::magic_bias && signs_tables<S>;
  using D = std::conditional_t<signed_codes, ComputeSignedCodes<S>, C>;
  // Where few registers are left beside the totals, g++ 12 spills unless it is told (12 % with looked-up floats at four rows, and
  // with bfloat16 at two; twice the time with bytes at two where look-ups take no masks).
  constexpr bool pins = S::pins_sums || (keep && (R > 2 ? Source::decodes && C::compute == Compute::f32
                                                        : R == 2 && (C::compute == Compute::bf16 || (Source::decodes && int8))));
  const auto at = [&](std::size_t v)
                      LOWBIT_INLINE_LAMBDA { return v / panel_registers * a.total_stride + v % panel_registers * S::lanes; };
  const auto table = Source::table(a.codebook);
  const std::uint8_t* x = a.x;
  const std::int32_t* offset = a.offset;
  const std::uint8_t* next = a.next;
  bool first = a.first;
  typename S::rf total[keep ? R : 1][keep ? V : 1];
  if constexpr (keep) {
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) { LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) total[r][v] = S::zero(); }
    if (!first) {
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) total[r][v] = S::load(a.total + at(v) + r * panel_cols);
      }
    }
  }
  if constexpr (pairs) {  // totals stand as sums do until the end
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; r += 2) {
      LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
        if constexpr (keep) {
          join_totals<S>(total[r][v], total[r + 1][v]);
        } else if (!first) {
          float* const t = a.total + at(v) + r * panel_cols;
          typename S::vf one = S::load(t), two = S::load(t + panel_cols);
          join_totals<S>(one, two);
          S::store(t, one);
          S::store(t + panel_cols, two);
        }
      }
    }
  }
  const auto finish = [&](std::size_t r, std::size_t v, const typename S::vf& t) LOWBIT_INLINE_LAMBDA {
    const MicroOutput& o = a.out;
    const std::size_t panel = v / panel_registers, c = v % panel_registers * S::lanes;
    const typename S::vf scale = S::set1(o.scale[r]);
    S::store(o.y + r * o.y_stride + panel * o.panel_stride + c,
             finished(t, scale, S::load(o.bias + panel * o.bias_stride + c),
                      S::load(o.residual + r * o.residual_stride + panel * o.residual_panel_stride + c)));
  };
  // Has totals(use) call use(r, v, total) for every sum of the tile: to leave results, or the totals.
  const auto leave = [&](bool results, const auto& totals) LOWBIT_INLINE_LAMBDA {
    if (!results)
      totals([&](std::size_t r, std::size_t v, typename S::vf t)
                 LOWBIT_INLINE_LAMBDA { S::store(a.total + at(v) + r * panel_cols, t); });
    else
      totals([&](std::size_t r, std::size_t v, typename S::vf t) LOWBIT_INLINE_LAMBDA { finish(r, v, t); });
  };
  const std::uint8_t* scales = a.scale;
  const std::uint8_t* weights_of_block = a.w;
  for (std::size_t b = 0; b < a.blocks; ++b) {
    const std::uint8_t* w[panels];
    LOWBIT_UNROLL for (std::size_t p = 0; p < panels; ++p) w[p] = weights_of_block + p * a.panel_stride;
    const std::size_t block = b + 1 == a.blocks ? a.last_block : b == 0 ? a.first_block : a.block;
    if (a.prefetch != 0 && a.scale) {  // groups ask for groups; between two of them stand the scales of a block
      LOWBIT_UNROLL for (std::size_t p = 0; p < panels; ++p) {
        LOWBIT_UNROLL for (std::size_t line = 0; line < panel_cols * 4; line += 64)
            S::prefetch(w[p] + a.prefetch + line - panel_cols * 4);
      }
    }
    for (std::size_t done = 0; done < block; done += a.kc) {
      const std::size_t groups = (block - done < a.kc ? block - done : a.kc) / group_k;
      typename C::acc acc[R][V];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        std::int32_t start = 0;
        if constexpr (int8) start = (D::offsets ? offset[r * a.offset_stride] : 0) + (Source::magic_bias ? magic_bias_bits : 0);
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = D::start(start);
      }
      if constexpr (pairs && !signed_codes) join_pairs<S>(acc);
      LOWBIT_NO_UNROLL for (std::size_t g = 0; g < groups; ++g) {
        if (a.prefetch != 0) {
          LOWBIT_UNROLL for (std::size_t p = 0; p < panels; ++p) {
            LOWBIT_UNROLL for (std::size_t line = 0; line < Source::bytes; line += 64) S::prefetch(w[p] + a.prefetch + line);
          }
        }
        if constexpr (!Source::decodes && R > 2) {
          LOWBIT_NO_UNROLL for (std::size_t line = 0; line < a.next_step; line += 64) S::prefetch_far(next + line);
          next += a.next_step;
        }
        if constexpr (pairs) multiply_pairs<D, Source>(acc, w[0], table, x, a.x_stride);
        LOWBIT_UNROLL for (std::size_t step = 0; step < (pairs ? 0 : C::steps); ++step) {
          const auto weights = [&](std::size_t v) LOWBIT_INLINE_LAMBDA {
            return Source::get(w[v / panel_registers], step, v % panel_registers * S::lanes, table);
          };
          const auto activation = [&](std::size_t r) LOWBIT_INLINE_LAMBDA { return C::broadcast(x + r * a.x_stride + 4 * step); };
          if constexpr (R < V) {
            typename C::operand xv[R];
            LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) xv[r] = activation(r);
            LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
              const typename C::operand wv = weights(v);
              LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r][v] = D::dot(acc[r][v], wv, xv[r]);
            }
          } else {
            typename C::operand wv[V];
            LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) wv[v] = weights(v);
            LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
              const typename C::operand xv = activation(r);
              LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = D::dot(acc[r][v], wv[v], xv);
            }
          }
          if constexpr (pins) {
            LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
              LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) LOWBIT_PIN(acc[r][v]);
            }
          }
        }
        LOWBIT_UNROLL for (std::size_t p = 0; p < panels; ++p) w[p] += Source::bytes;
        x += C::x_bytes;
      }
      // visit(r, v, sum, scale) for every sum of the chunk.
      const auto for_sums = [&](const auto& visit) LOWBIT_INLINE_LAMBDA {
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
          const float* scale = scales ? reinterpret_cast<const float*>(scales + v / panel_registers * a.panel_stride) +
                                            v % panel_registers * S::lanes
                                      : nullptr;
          const typename S::vf sv = scale ? S::load(scale) : S::set1(1.0f);
          if constexpr (pairs) {
            const auto bias = D::bias();
            LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) visit(r, v, D::to_float(acc[r][v], bias), pair_scale<S>(sv, r % 2));
            continue;
          }
          LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
            if constexpr (Source::magic_bias)
              visit(r, v, S::sub(S::as_float(acc[r][v]), S::set1(std::bit_cast<float>(magic_bias_bits))), sv);
            else
              visit(r, v, C::to_float(acc[r][v]), sv);
          }
        }
      };
      if constexpr (keep) {
        for_sums([&](std::size_t r, std::size_t v, typename S::vf sum, const typename S::vf& scale)
                     LOWBIT_INLINE_LAMBDA { total[r][v] = S::fma(sum, scale, total[r][v]); });
      } else {
        const bool last = !pairs && b + 1 == a.blocks && done + a.kc >= block;
        leave(a.out.y && last, [&](const auto& use) LOWBIT_INLINE_LAMBDA {
          for_sums([&](std::size_t r, std::size_t v, typename S::vf sum, const typename S::vf& scale) LOWBIT_INLINE_LAMBDA {
            use(r, v, S::fma(sum, scale, first ? S::zero() : S::load(a.total + at(v) + r * panel_cols)));
          });
        });
      }
      first = false;
      if constexpr (int8) ++offset;
    }
    weights_of_block = w[0] + a.gap;
    if (scales) scales += a.head + block / group_k * a.group;
  }
  if constexpr (pairs) {
    leave(a.out.y, [&](const auto& use) LOWBIT_INLINE_LAMBDA {
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; r += 2) {
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
          typename S::vf t[2];
          LOWBIT_UNROLL for (std::size_t i = 0; i < 2; ++i) {
            if constexpr (keep)
              t[i] = total[r + i][v];
            else
              t[i] = S::load(a.total + at(v) + (r + i) * panel_cols);
          }
          separate_totals<S>(t[0], t[1]);
          LOWBIT_UNROLL for (std::size_t i = 0; i < 2; ++i) use(r + i, v, t[i]);
        }
      }
    });
  } else if constexpr (keep) {
    leave(a.out.y, [&](const auto& use) LOWBIT_INLINE_LAMBDA {
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) use(r, v, total[r][v]);
      }
    });
  }
}

// A tile of `rows` rows over one panel.
template <class C, class Source, std::size_t R>
LOWBIT_INLINE void micro_panel(const MicroArgs& a) {
  constexpr std::size_t V = tile_registers<C, Source, R> < panel_registers ? tile_registers<C, Source, R> : panel_registers;
  micro_kernel<C, Source, R, V>(a);
  if constexpr (V < panel_registers) {  // only here a copy: it waits for what was just stored in it
    MicroArgs next = a;
    for (std::size_t c = V * simd::lanes; c < panel_cols; c += V * simd::lanes) {
      next.w += V * simd::lanes * Source::column_bytes;
      if (next.scale) next.scale += V * simd::lanes * 4;
      next.total += V * simd::lanes;
      if (next.out.y) {
        next.out.y += V * simd::lanes;
        next.out.bias += V * simd::lanes;
        next.out.residual += V * simd::lanes;
      }
      next.prefetch = next.next_step = 0;
      micro_kernel<C, Source, R, V>(next);
    }
  }
}
template <class C, class Source>
inline void micro_rows(std::size_t rows, const MicroArgs& a) {
  constexpr std::size_t most = tile_rows<C, Source>();
  if (rows == 1) return micro_panel<C, Source, 1>(a);
  if (most == 2 || (!simd::minimal && rows == 2)) return micro_panel<C, Source, 2>(a);
  if constexpr (most > 2) {
    if (most == 3 || (!simd::minimal && rows == 3)) return micro_panel<C, Source, 3>(a);
  }
  if constexpr (most > 3) {
    if (most == 4 || rows == 4) return micro_panel<C, Source, 4>(a);
  }
  if constexpr (most > 4) return micro_panel<C, Source, 8>(a);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
