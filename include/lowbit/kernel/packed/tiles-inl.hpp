// SPDX-License-Identifier: MIT
// Products on packed weights by tile instructions: level amx.  A group of int8 weights, or of bfloat16 ones, is their right operand
// as it stands, with a stride of a panel's row.  Included once, by targets.hpp.
//
// Order of summation: int8 sums are exact over a chunk (PackedWeights::kc), which a total takes as the other levels' do, so the
// results are theirs to the bit and few rows may go to their kernels.  bf16 sums run over all k in steps of 32 from k = 0 on: an
// instruction sums the even and the odd k of a step in two chains of fused multiply-adds, adds these, and adds that to the sum.
// That is no other level's order, so every number of rows is multiplied by tiles.  Rounding of weights in bf16: to bfloat16 as
// everywhere, but of formats with several blocks in a row it is code times scale that is rounded, not the code alone.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// The dots: k of a step, x's bytes of one k, and the float of a sum whose dwords stand at c.
struct TileBf16 {
  static constexpr Compute compute = Compute::bf16;
  static constexpr std::size_t x_bytes = 2;
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot() {
    tiles::dot_bf16<C, X, W>();
  }
  static LOWBIT_INLINE simd::vf sum(const std::uint8_t* c, std::int32_t) { return simd::load(reinterpret_cast<const float*>(c)); }
};
struct TileUnsigned {  // codes + 128, as they are packed
  static constexpr Compute compute = Compute::int8;
  static constexpr std::size_t x_bytes = 1;
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot() {
    tiles::dot_signed_unsigned<C, X, W>();
  }
  static LOWBIT_INLINE simd::vf sum(const std::uint8_t* c, std::int32_t offset) {
    return simd::to_float(simd::iadd(simd::iload(c), simd::iset1(offset)));
  }
};
struct TileSigned {  // looked up without the 128
  static constexpr Compute compute = Compute::int8;
  static constexpr std::size_t x_bytes = 1;
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot() {
    tiles::dot_signed<C, X, W>();
  }
  static LOWBIT_INLINE simd::vf sum(const std::uint8_t* c, std::int32_t) { return simd::to_float(simd::iload(c)); }
};

// This thread's tile registers, configured for one call: 0 to 5 are sums, 6 is x, 7 is weights.  Whoever else computes with tiles on
// this thread finds the configuration as it was (tiles themselves are nobody's across a call), and a thread that had none holds none.
class TileRegisters {
 public:
  // rows: of x, of a tile; dwords: of k, of a step.
  TileRegisters(std::size_t rows, std::size_t dwords) {
    tiles::store_configuration(before_);
    TileConfiguration c;
    c.palette = 1;
    for (std::size_t t = 0; t < 8; ++t) {
      c.rows[t] = static_cast<std::uint8_t>(t == 7 ? dwords : rows);
      c.bytes[t] = static_cast<std::uint16_t>(t == 6 ? 4 * dwords : 4 * tile_width);
    }
    tiles::configure(c);
  }
  ~TileRegisters() { before_.palette == 0 ? tiles::release() : tiles::configure(before_); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  TileConfiguration before_;
};

// The rows of x in one or two tiles.  Where the last rows do not fill a tile it begins earlier: rows that it has in common with the
// one before come out alike, and no row is padded.
struct TileRows {
  std::size_t row, count;  // rows whose results are wanted
  std::size_t first[2];    // of each tile
  bool two;
  std::size_t height;  // of a tile

  // tiles: at most.
  TileRows(std::size_t m, std::size_t begin, std::size_t tiles) {
    height = tile_rows_of(m);
    row = begin;
    count = m - begin < tiles * height ? m - begin : tiles * height;
    two = count > height;
    const std::size_t last = m - height;
    first[0] = begin < last ? begin : last;
    first[1] = begin + height < last ? begin + height : last;
  }
  // Which tile's row is result `r` of them.
  LOWBIT_INLINE std::size_t tile(std::size_t r) const { return r < height ? 0 : 1; }
  LOWBIT_INLINE std::size_t row_of_tile(std::size_t r) const { return row + r - first[tile(r)]; }
};

// x's tiles from `k` on, the first k where an instruction would read beyond the last one, which belongs to somebody else: with
// zeros behind them.
template <class D>
inline void copy_x_tail(const PackedGemmArgs& a, const TileRows& rows, std::size_t k, std::uint8_t* tail) {
  std::memset(tail, 0, TileScratch::x_bytes);
  for (std::size_t t = 0; t < (rows.two ? 2u : 1u); ++t)
    for (std::size_t r = 0; r < rows.height; ++r)
      std::memcpy(tail + (t * tile_height + r) * TileScratch::x_stride,
                  static_cast<const std::uint8_t*>(a.x.data) + (rows.first[t] + r) * a.x.stride_bytes + k * D::x_bytes,
                  (a.w.k - k) * D::x_bytes);
}

// One step of R row tiles by C column tiles, w at the first of these: one by three, two by one, or two by three, seven loads for six
// products.
template <class D, std::size_t R, std::size_t C>
LOWBIT_INLINE void tile_step(const std::uint8_t* x0, const std::uint8_t* x1, std::size_t x_stride, const std::uint8_t* w) {
  constexpr std::size_t w_stride = panel_cols * 4;
  tiles::load<7>(w, w_stride);
  tiles::load<6>(x0, x_stride);
  D::template dot<0, 6, 7>();
  if constexpr (R == 1) {
    tiles::load<7>(w + 64, w_stride);
    D::template dot<1, 6, 7>();
    tiles::load<7>(w + 128, w_stride);
    D::template dot<2, 6, 7>();
  } else {
    tiles::load<6>(x1, x_stride);
    D::template dot<3, 6, 7>();
  }
  if constexpr (R == 2 && C == 3) {
    tiles::load<7>(w + 64, w_stride);
    D::template dot<4, 6, 7>();
    tiles::load<6>(x0, x_stride);
    D::template dot<1, 6, 7>();
    tiles::load<7>(w + 128, w_stride);
    D::template dot<2, 6, 7>();
    tiles::load<6>(x1, x_stride);
    D::template dot<5, 6, 7>();
  }
}

// A panel's weights as steps: `steps` whole ones at w, and what is left of k, padded with zeros, at `tail`.
struct TileWeights {
  const std::uint8_t* w;
  std::size_t steps;
  const std::uint8_t* tail;  // null: nothing left
  const std::uint8_t* next;  // to be asked for meanwhile, next_step bytes a step
  std::size_t next_step;
};
// The sums of R row tiles and C column tiles from number `column` on, over all k, to the scratch's sums.
template <class D, std::size_t R, std::size_t C>
LOWBIT_NOINLINE void tile_sums(const PackedGemmArgs& a, const TileRows& rows, TileWeights& w, std::size_t column) {
  const TileScratch scratch{a.scratch};
  const std::size_t stride = a.x.stride_bytes, next_step = w.next_step;
  const std::uint8_t* x0 = static_cast<const std::uint8_t*>(a.x.data) + rows.first[0] * stride;
  const std::uint8_t* x1 = static_cast<const std::uint8_t*>(a.x.data) + rows.first[1] * stride;
  const std::uint8_t *weights = w.w + column * 64, *next = w.next;
  tiles::zero<0>();
  if constexpr (C > 1) tiles::zero<1>();
  if constexpr (C > 1) tiles::zero<2>();
  if constexpr (R > 1) tiles::zero<3>();
  if constexpr (R > 1 && C > 1) tiles::zero<4>();
  if constexpr (R > 1 && C > 1) tiles::zero<5>();
  LOWBIT_NO_UNROLL for (std::size_t s = w.steps; s != 0; --s) {
    tile_step<D, R, C>(x0, x1, stride, weights);
    x0 += 64;
    x1 += 64;
    weights += tile_step_bytes;
    LOWBIT_NO_UNROLL for (std::size_t line = 0; line < next_step; line += 64) simd::prefetch_far(next + line);
    next += next_step;
  }
  w.next = next;
  if (w.tail)
    tile_step<D, R, C>(scratch.x_tail(), scratch.x_tail() + tile_height * TileScratch::x_stride, TileScratch::x_stride,
                       w.tail + column * 64);
  std::uint8_t* c = scratch.sums() + column * tile_sums_bytes;
  tiles::store<0>(c, 64);
  if constexpr (C > 1) tiles::store<1>(c + tile_sums_bytes, 64);
  if constexpr (C > 1) tiles::store<2>(c + 2 * tile_sums_bytes, 64);
  if constexpr (R > 1) tiles::store<3>(c + 3 * tile_sums_bytes, 64);
  if constexpr (R > 1 && C > 1) tiles::store<4>(c + 4 * tile_sums_bytes, 64);
  if constexpr (R > 1 && C > 1) tiles::store<5>(c + 5 * tile_sums_bytes, 64);
}

// Row tiles that are multiplied at a time, and column tiles by which two of them are.  It seems that tile registers are renamed
// while a core has others left, and that the two threads of a core share these: where both work, fewer registers are faster, and
// where one rests, fewer loads.  Emerald Rapids, ns for a product of 16 rows, weights in L2, the other thread resting and working:
// int8 in blocks of 2 x 3 tiles 15 and 42, 1 x 3 13 and 26, 2 x 1 10 and 19; bf16, whose rows are twice as long, 2 x 3 10 and 37, 1
// x 3 13 and 22, 2 x 1 16 and 23 (2 x 2 11 and 23, but for a panel's third column).  The threads of a call are taken to share
// cores.
template <class D>
constexpr std::size_t tiles_at_once(std::size_t threads) {
  return D::compute == Compute::int8 || threads == 1 ? 2 : 1;
}
template <class D>
inline constexpr std::size_t columns_at_once = D::compute == Compute::int8 ? 1 : 3;
template <class D>
LOWBIT_INLINE void panel_sums(const PackedGemmArgs& a, const TileRows& rows, TileWeights& w) {
  if (!rows.two) return tile_sums<D, 1, 3>(a, rows, w, 0);
  for (std::size_t c = 0; c < 3; c += columns_at_once<D>) tile_sums<D, 2, columns_at_once<D>>(a, rows, w, c);
}

// Results, or totals, of the sums of a block of rows; scale: 48 of them, or null.
template <class D>
LOWBIT_NOINLINE void finish_tiles(const PackedGemmArgs& a, MicroArgs& micro, const std::uint8_t* panel, std::size_t p,
                                  const TileRows& rows, const float* scale) {
  using S = simd;
  constexpr bool int8 = D::compute == Compute::int8;
  const TileScratch scratch{a.scratch};
  for (std::size_t begin = 0, count = 0; begin < rows.count; begin += count) {
    count = rows.count - begin < S::rows ? rows.count - begin : S::rows;
    const std::size_t row = rows.row + begin;
    float* total = totals_of(a, p, row);
    const bool results = set_output<D>(micro, a, p, 1, 0, row, count);
    const MicroOutput& o = micro.out;
    LOWBIT_NO_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const std::uint8_t* sums =
          scratch.sums() + rows.tile(begin + r) * 3 * tile_sums_bytes + rows.row_of_tile(begin + r) * tile_width * 4;
      const std::int32_t offset = int8 ? a.x.offset[(row + r) * a.x.offset_stride] : 0;
      const typename S::vf row_scale = S::set1(results ? o.scale[r] : 1.0f);
      LOWBIT_UNROLL for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
        const std::uint8_t* at = sums + c / tile_width * tile_sums_bytes + c % tile_width * 4;
        typename S::vf t = D::sum(at, offset);
        if (scale) t = S::fma(t, S::load(scale + c), S::zero());
        if (results)
          S::store(o.y + r * o.y_stride + c,
                   finished(t, row_scale, S::load(o.bias + c), S::load(o.residual + r * o.residual_stride + c)));
        else
          S::store(total + r * panel_cols + c, t);
      }
    }
    if (!results) finish_rows<int8>(a, panel, p, row, count, total);
  }
}

// `k` weights of 4 bits or 8, times their scales, as pairs of bfloat16.
template <class S = simd>
LOWBIT_NOINLINE void decode_scaled(const PackedWeights& w, const std::uint8_t* from, const float* scale, std::size_t k,
                                   std::uint8_t* out) {
  using V = typename S::vf;
  const typename S::floats16 table = S::load_floats16(w.element == Element::four_bit ? w.codebook->f32.data() : scale);
  for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
    const V factor = S::load(scale + c);
    LOWBIT_NO_UNROLL for (std::size_t g = 0; g < k / group_k; ++g) {
      const std::uint8_t* group = from + g * group_bytes(w.element) + c * 4;
      std::uint8_t* pairs = out + g * 4 * panel_cols * 4 + c * 4;
      const typename S::vi word = S::iload(group);
      V value[group_k];  // k in order
      if (w.element == Element::four_bit) {
        if constexpr (S::scales_pairs) {
          S::store_scaled_pairs(pairs, panel_cols * 4, table, word, factor);
          continue;
        }
        for (std::size_t i = 0; i < group_k; ++i)
          value[static_cast<std::size_t>(four_bit_k(static_cast<int>(i)))] =
              S::lookup(table, S::shift_right(word, static_cast<int>(4 * i)));
      } else {
        const typename S::vi other = S::iload(group + panel_cols * 4), byte = S::iset1(255), bias = S::iset1(128);
        for (std::size_t j = 0; j < group_k; ++j)
          value[static_cast<std::size_t>(int8_k(static_cast<int>(j / 4), static_cast<int>(j % 4)))] =
              S::to_float(S::isub(S::iand(S::shift_right(j < 4 ? word : other, static_cast<int>(8 * (j % 4))), byte), bias));
      }
      for (std::size_t i = 0; i < group_k / 2; ++i)
        S::istore(pairs + i * panel_cols * 4,
                  S::ior(bf16_bits(S::keep(S::mul(value[2 * i], factor))),
                         S::template shift_left<16>(bf16_bits(S::keep(S::mul(value[2 * i + 1], factor))))));
    }
  }
}
// A panel as pairs of bfloat16, whole steps of them, zeros behind the last k.
inline void decode_panel_bf16(const PackedWeights& w, const std::uint8_t* panel, bool scaled, std::uint8_t* out) {
  constexpr std::size_t group = group_bytes(Element::bf16);
  const ByteTable<ComputeBf16> table(w.element, w.codebook);
  for (std::size_t b = 0; b < w.blocks(); ++b) {
    const std::uint8_t* record = panel + w.record_begin(b);
    std::uint8_t* to = out + w.block_begin(b) / group_k * group;
    if (scaled)
      decode_scaled(w, record + w.head_bytes(), reinterpret_cast<const float*>(record), w.block_k(b), to);
    else
      decode_chunk<ComputeBf16>(w.element, w.codebook, table, record + w.head_bytes(), w.block_k(b), to, false);
  }
  const std::size_t groups = w.k / group_k;
  std::memset(out + groups * group, 0, (groups + 3) / 4 * tile_step_bytes - groups * group);
}

// Sums over all k in tiles.
template <class D>
inline void run_tiles(const PackedGemmArgs& a) {
  constexpr std::size_t step = tile_step_k(D::compute);
  const PackedWeights& w = a.w;
  const TileScratch scratch{a.scratch};
  const bool in_place = tiles_in_place(w, D::compute), folded = w.scaled && w.blocks() > 1;
  const std::size_t panel_bytes = w.panel_bytes(), left = w.k % step, height = tile_rows_of(a.m),
                    tiles = (a.m + height - 1) / height, at_once = tiles_at_once<D>(a.threads),
                    passes = tiles / at_once * (at_once == 2 ? 3 / columns_at_once<D> : 1) + tiles % at_once;
  MicroArgs micro{};
  TileWeights weights{};
  weights.steps = w.k / step;
  const TileRegisters registers(height, 16);
  for (std::size_t p = a.panel_begin; p < a.panel_end; ++p) {
    const std::uint8_t* panel = w.data + p * panel_bytes;
    if (in_place) {
      weights.w = panel + w.head_bytes();
      if (left != 0) {
        const std::size_t bytes = left / group_k * group_bytes(w.element);
        std::memcpy(scratch.w_tail(), weights.w + weights.steps * tile_step_bytes, bytes);
        std::memset(scratch.w_tail() + bytes, 0, tile_step_bytes - bytes);
        weights.tail = scratch.w_tail();
      }
    } else {
      decode_panel_bf16(w, panel, folded, scratch.decoded(0));
      weights.w = scratch.decoded(0);
      if (left != 0) weights.tail = weights.w + weights.steps * tile_step_bytes;
    }
    // The next panel is asked for meanwhile.  Emerald Rapids, weights from L3: 30 to 40 % at 8 to 32 rows, 20 to 30 % up to 96; from
    // L2 up to 6 % slower at 8 and 16.
    weights.next_step = p + 1 < a.panel_end ? (panel_bytes / (passes * (weights.steps + 1)) + 63) / 64 * 64 : 0;
    weights.next = panel + (weights.next_step != 0 ? panel_bytes : 0);
    const float* scale = w.scaled && !folded ? reinterpret_cast<const float*>(panel) : nullptr;
    for (std::size_t row = 0; row < a.m; row += at_once * height) {
      const TileRows rows(a.m, row, at_once);
      if (left != 0) copy_x_tail<D>(a, rows, w.k - left, scratch.x_tail());
      panel_sums<D>(a, rows, weights);
      finish_tiles<D>(a, micro, panel, p, rows, scale);
    }
  }
}

// 16 columns of some pieces of a panel, in rows of 16 dwords that follow each other, as the dot instructions read them.  Few enough to
// stay in L1 while rows of x pass (docs/limits.md has the figures).
template <class D>
LOWBIT_NOINLINE void decode_column(const TileScratch& scratch, std::size_t begin, std::size_t end, std::size_t step,
                                   const std::uint8_t* panel, std::uint8_t* out) {
  using S = simd;
  constexpr bool four_bit = std::is_same_v<D, TileSigned>;
  constexpr std::size_t row = tile_width * 4;
  const auto table = S::load_bytes16(scratch.codes());
  for (std::size_t i = begin; i < end; ++i) {
    const TilePiece& piece = scratch.pieces()[i];
    const std::uint8_t* from = panel + piece.codes;
    LOWBIT_NO_UNROLL for (std::size_t g = piece.groups; g != 0; --g) {
      LOWBIT_UNROLL for (std::size_t c = 0; c < row; c += S::lanes * 4) {
        const typename S::vi first = S::iload(from + c);
        if constexpr (four_bit) {
          S::istore(out + c, S::lookup_bytes(table, first));
          S::istore(out + row + c, S::lookup_bytes(table, S::template shift_right<4>(first)));
        } else {
          S::istore(out + c, first);
          S::istore(out + row + c, S::iload(from + panel_cols * 4 + c));
        }
      }
      from += group_bytes(four_bit ? Element::four_bit : Element::int8);
      out += 2 * row;
    }
    const std::size_t missing = piece.steps * step / 4 - 2 * piece.groups;
    std::memset(out, 0, missing * row);
    out += missing * row;
  }
}

// One row tile and one column tile over all pieces: R rows' totals stay in registers, a piece's sums are read two pieces after they
// were stored.
struct TileColumn {
  const PackedGemmArgs& a;
  const TileRows& rows;
  std::size_t begin, end;         // pieces
  std::size_t step, tail;         // tail: where copy_x_tail() begins
  const std::uint8_t *w, *panel;  // decoded, and at the column
  float* total;                   // [wanted rows][panel_cols]; of the pieces before
  const MicroOutput* out;         // of row 0, for results instead of totals; or null
  std::size_t column;             // of the panel
  const std::uint8_t* next;       // to be asked for meanwhile, next_step bytes a piece
  std::size_t next_step;
};
template <class D, std::size_t R>
LOWBIT_NOINLINE void tile_pieces(const TileColumn& t) {
  using S = simd;
  constexpr std::size_t V = tile_width / S::lanes;
  const TileScratch scratch{t.a.scratch};
  const TilePiece* pieces = scratch.pieces();
  std::uint8_t* ring = scratch.sums();  // of four
  const std::size_t stride = t.a.x.stride_bytes, step = t.step, unwanted = t.rows.row - t.rows.first[0];
  const std::uint8_t *x = static_cast<const std::uint8_t*>(t.a.x.data) + t.rows.first[0] * stride, *w = t.w;
  const std::int32_t* offset = std::is_same_v<D, TileUnsigned> ? t.a.x.offset + t.rows.first[0] * t.a.x.offset_stride : nullptr;
  typename S::rf total[R][V];
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
    LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
      total[r][v] = S::zero();
      if (t.begin != 0 && r >= unwanted && r < t.rows.height)
        total[r][v] = S::load(t.total + (r - unwanted) * panel_cols + t.column + v * S::lanes);
    }
  }
  const auto add = [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
    const std::uint8_t* c = ring + i % 4 * tile_sums_bytes;
    const float* scale = reinterpret_cast<const float*>(t.panel + pieces[i].scale);
    LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
      const typename S::vf s = S::load(scale + v * S::lanes);
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const std::int32_t o = offset && r < t.rows.height ? offset[r * t.a.x.offset_stride + i] : 0;
        total[r][v] = S::fma(D::sum(c + (r * tile_width + v * S::lanes) * 4, o), s, total[r][v]);
      }
    }
  };
  const auto multiply = [&]<int C>(std::size_t i, std::integral_constant<int, C>) LOWBIT_INLINE_LAMBDA {
    tiles::zero<C>();
    std::size_t k = pieces[i].k;
    LOWBIT_NO_UNROLL for (std::size_t s = pieces[i].steps; s != 0; --s, k += step, w += step * tile_width) {
      k < t.tail ? tiles::load<6>(x + k, stride) : tiles::load<6>(scratch.x_tail() + (k - t.tail), TileScratch::x_stride);
      tiles::load<7>(w, tile_width * 4);
      D::template dot<C, 6, 7>();
    }
    tiles::store<C>(ring + i % 4 * tile_sums_bytes, 64);
    const std::uint8_t* next = t.next + (i - t.begin) * t.next_step;
    LOWBIT_NO_UNROLL for (std::size_t line = 0; line < t.next_step; line += 64) simd::prefetch_far(next + line);
  };
  LOWBIT_NO_UNROLL for (std::size_t i = t.begin; i < t.end; ++i) {
    i % 2 == 0 ? multiply(i, std::integral_constant<int, 0>()) : multiply(i, std::integral_constant<int, 1>());
    if (i >= t.begin + 2) add(i - 2);
  }
  if (t.end - t.begin >= 2) add(t.end - 2);
  add(t.end - 1);
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
    if (r < unwanted || r >= t.rows.height) continue;
    const std::size_t row = t.rows.first[0] + r;
    LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
      const std::size_t c = t.column + v * S::lanes;
      if (!t.out) {
        S::store(t.total + (r - unwanted) * panel_cols + c, total[r][v]);
      } else {
        const MicroOutput& o = *t.out;
        S::store(o.y + row * o.y_stride + c, finished(total[r][v], S::set1(result_scale(t.a.w, t.a.x, Compute::int8, row)),
                                                      S::load(o.bias + c), S::load(o.residual + row * o.residual_stride + c)));
      }
    }
  }
}
template <class D>
LOWBIT_INLINE void tile_pieces(const TileColumn& t) {
  if (std::is_same_v<D, TileUnsigned> && t.rows.height <= 8)  // weights of 4 bits come with more rows
    tile_pieces<D, 8>(t);
  else if (t.rows.height <= 13)
    tile_pieces<D, 13>(t);
  else
    tile_pieces<D, tile_height>(t);
}

// Sums over pieces, each scaled: weights of 4 bits, and of 8 with several blocks in a row.  Some row tiles at a time take some k of a
// panel, column after column.
template <class D>
inline void run_tile_pieces(const PackedGemmArgs& a) {
  const PackedWeights& w = a.w;
  const TileScratch scratch{a.scratch};
  const TilePiece* pieces = scratch.pieces();
  const TilePieces all(w, scratch.pieces());
  for (std::size_t i = 0; w.codebook && i < TileScratch::codes_bytes; ++i)
    scratch.codes()[i] = w.codebook->bytes[i] ^ 0x80;  // signed
  const std::size_t height = tile_rows_of(a.m), tiles = (a.m + height - 1) / height, blocks = (tiles + tile_block - 1) / tile_block,
                    block = (tiles + blocks - 1) / blocks * height,
                    at_once = (std::max)(std::size_t{1}, tile_chunk_k / w.kc(Compute::int8)),
                    visits = tiles * (panel_cols / tile_width) * all.count;
  const TileRegisters registers(height, all.step / 4);
  MicroArgs micro{};
  for (std::size_t p = a.panel_begin; p < a.panel_end; ++p) {
    const std::uint8_t* panel = w.data + p * w.panel_bytes();
    const bool results = !a.x.outliers && set_output<D>(micro, a, p, 1, 0, 0, 0);
    const std::size_t next_step = p + 1 < a.panel_end ? (w.panel_bytes() / visits + 63) / 64 * 64 : 0;
    const std::uint8_t* next = panel + (next_step != 0 ? w.panel_bytes() : 0);
    for (std::size_t begin = 0; begin < a.m; begin += block) {
      const std::size_t rows_end = a.m - begin < block ? a.m : begin + block;
      float* total = totals_of(a, p, begin);
      std::uint8_t* decoded = scratch.decoded(all.count);
      for (std::size_t first = 0, end = 0; first < all.count; first = end) {
        end = all.count - first < at_once ? all.count : first + at_once;
        std::size_t bytes = 0;
        for (std::size_t i = first; i < end; ++i) bytes += pieces[i].steps * all.step * tile_width;
        const bool reads_tail = pieces[end - 1].k + pieces[end - 1].steps * all.step > all.tail;
        for (std::size_t c = 0; c < panel_cols; c += tile_width) {
          if (begin == 0) decode_column<D>(scratch, first, end, all.step, panel + c * 4, decoded);
          for (std::size_t row = begin; row < rows_end; row += height) {
            const TileRows rows(a.m, row, 1);
            if (reads_tail) copy_x_tail<D>(a, rows, all.tail, scratch.x_tail());
            tile_pieces<D>({a, rows, first, end, all.step, all.tail, decoded, panel + c * 4, total + (row - begin) * panel_cols,
                            results && end == all.count ? &micro.out : nullptr, c, next, next_step});
            next += next_step * (end - first);
          }
          if (blocks > 1) decoded += bytes;  // for the other blocks
        }
      }
      if (!results) finish_rows<true>(a, panel, p, begin, rows_end - begin, total);
    }
  }
}

// Vectors: the kernel of the level's vector part, which few rows go to.
template <auto Vectors>
inline void gemm_tiles_four_bit_int8(const PackedGemmArgs& a) {
  if (a.m < tile_rows_four_bit) return Vectors(a);
  run_tile_pieces<TileSigned>(a);
}
template <auto Vectors>
inline void gemm_tiles_int8(const PackedGemmArgs& a) {
  if (a.m < tile_rows_int8) return Vectors(a);
  sums_in_tiles(a.w, Compute::int8) ? run_tiles<TileUnsigned>(a) : run_tile_pieces<TileUnsigned>(a);
}
inline void gemm_tiles_bf16(const PackedGemmArgs& a) { run_tiles<TileBf16>(a); }

// `vectors`: the kernels of the level's vector part.
template <class Table, const Table& vectors>
constexpr Table tile_kernels() {
  constexpr int int8 = static_cast<int>(Compute::int8), bf16 = static_cast<int>(Compute::bf16);
  Table k = vectors;
  if constexpr (std::is_same_v<Table, Kernels>) {
    k.tiles = true;
  } else {
    if constexpr (std::is_same_v<Table, GemmKernelsFor<true>>)
      k.gemm_packed[int8] = &gemm_tiles_four_bit_int8<vectors.gemm_packed[int8]>;
    else
      k.gemm_packed[int8] = &gemm_tiles_int8<vectors.gemm_packed[int8]>;
    k.gemm_packed[bf16] = &gemm_tiles_bf16;
  }
  return k;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
