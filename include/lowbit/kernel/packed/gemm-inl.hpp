// SPDX-License-Identifier: MIT
// The product on packed weights, written once: decode prologue x micro-kernel x epilogue, for every element and compute type.
// Included once per instruction set, by targets.hpp.
//
// Order of summation of one output: blocks of k in order; inside a block chunks (PackedWeights::kc) in order; inside a chunk k
// after k, by fma, in the order in which the level reads the layout (int8: an exact integer sum).  A chunk's sum times its scale is
// added to the total.  Nothing in this depends on m, on the other rows, or on the number of threads.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// What stays the same over a call.
inline MicroArgs micro_args(const PackedGemmArgs& a, std::size_t kc) {
  MicroArgs micro{};
  micro.codebook = a.w.codebook;
  micro.head = micro.gap = a.w.head_bytes();
  micro.group = group_bytes(a.w.element);
  micro.blocks = a.w.blocks();
  micro.panel_bytes = a.w.record_begin(micro.blocks);
  micro.block = a.w.block;
  micro.first_block = a.w.block_k(0);
  micro.last_block = a.w.block_k(micro.blocks - 1);
  micro.kc = kc;
  micro.x_stride = a.x.stride_bytes;
  micro.offset_stride = a.x.offset_stride;
  return micro;
}
template <class C>
LOWBIT_INLINE void set_rows(MicroArgs& micro, const PackedGemmArgs& a, std::size_t row, std::size_t k, std::size_t chunk) {
  micro.x = static_cast<const std::uint8_t*>(a.x.data) + row * a.x.stride_bytes + k / group_k * C::x_bytes;
  if constexpr (C::compute == Compute::int8) micro.offset = a.x.offset + row * a.x.offset_stride + chunk;
}
// Where the totals of rows from `row` on stand over panel number `panel`.
inline float* totals_of(const PackedGemmArgs& a, std::size_t panel, std::size_t row) {
  return a.sums ? a.sums + (panel * a.m + row) * panel_cols : reinterpret_cast<float*>(a.scratch);
}
// Has a tile of `panels` panels, `stride` from one to the next, and of `rows` rows leave results itself where it can: in whole
// panels, with nothing but scale, bias and residual.  Returns whether it will.
template <class C>
LOWBIT_NOINLINE bool set_output(MicroArgs& micro, const PackedGemmArgs& a, std::size_t panel, std::size_t panels,
                                std::size_t stride, std::size_t row, std::size_t rows) {
  MicroOutput& o = micro.out;
  o.y = nullptr;
  const EpilogueArgs& e = a.epilogue;
  const std::size_t column = panel * panel_cols;
  if (!a.y || e.bf16 || e.activation != Activation::none) return false;
  for (std::size_t r = 0; a.x.outliers && r < rows; ++r)
    if (a.x.outliers[row + r].count != 0) return false;
  if (column + ((panels - 1) * stride + 1) * panel_cols > a.w.n) return false;
  o.y = a.y + row * a.y_stride + column;
  o.y_stride = a.y_stride;
  o.panel_stride = stride * panel_cols;
  o.bias = e.bias ? e.bias + column : nothing_to_add.data();
  o.bias_stride = e.bias ? o.panel_stride : 0;
  o.residual = e.residual ? e.residual + row * e.residual_stride + column : nothing_to_add.data();
  o.residual_stride = e.residual ? e.residual_stride : 0;
  o.residual_panel_stride = e.residual ? o.panel_stride : 0;
  for (std::size_t r = 0; r < rows; ++r) o.scale[r] = result_scale(a.w, a.x, C::compute, row + r);
  return true;
}
// Rows in tiles of the heights that micro_rows() has, 1 to 4 and 8 (1 and 4 at a minimal level): every height
// of every source is a kernel to compile.  Up to 4, and up to 4 at most, in nearly equal parts: 7 rows are 4 + 3, 9 are 8 + 1.
template <class Visit>
LOWBIT_INLINE void for_tiles(std::size_t rows, std::size_t most, const Visit& visit) {
  const std::size_t tiles = (rows + most - 1) / most;
  for (std::size_t i = 0, r = 0; r < rows; ++i) {
    const std::size_t left = rows - r;
    std::size_t height;
    if (simd::minimal)
      height = left >= most ? most : 1;
    else if (most > 4)
      height = left >= most ? most : left > 4 ? (left + 1) / 2 : left;
    else
      height = rows / tiles + (i < rows % tiles);
    visit(r, height);
    r += height;
  }
}

// One or two rows over `nr_unroll` panels at a time, then what is left over fewer; returns the first panel that is left alone.
// Panels that are taken together stand far apart, so that each begins where one before it has ended: memory is read in a few long
// streams, which the hardware follows (on Zen 4 neighbours give 16 GB/s where this gives 25).
template <class C, class Source, std::size_t R, std::size_t nr_unroll = tile_registers<C, Source, R> / panel_registers>
LOWBIT_INLINE std::size_t run_wide(const PackedGemmArgs& a, MicroArgs& micro, std::size_t prefetch, std::size_t p) {
  if constexpr (nr_unroll > 1) {
    micro.prefetch = prefetch / nr_unroll;
    const std::size_t tiles = (a.panel_end - p) / nr_unroll;
    micro.panel_stride = tiles * micro.panel_bytes;
    for (std::size_t tile = 0; tile < tiles; ++tile, ++p) {
      const std::uint8_t* panel = a.w.data + p * micro.panel_bytes;
      micro.w = panel + a.w.head_bytes();
      micro.scale = a.w.scaled ? panel : nullptr;
      micro.total = totals_of(a, p, 0);
      micro.total_stride = (a.sums ? tiles : 1) * R * panel_cols;
      const bool finished = set_output<C>(micro, a, p, nr_unroll, tiles, 0, R);
      micro_kernel<C, Source, R, nr_unroll * panel_registers>(micro);
      for (std::size_t i = 0; !finished && i < nr_unroll; ++i)
        finish_rows<C::compute == Compute::int8>(a, panel + i * micro.panel_stride, p + i * tiles, 0, R,
                                                 micro.total + i * micro.total_stride);
    }
    p += (nr_unroll - 1) * tiles;
    return run_wide<C, Source, R, nr_unroll / 2>(a, micro, prefetch, p);
  }
  micro.prefetch = prefetch;
  return p;
}

// Weights that stand in the panel as the micro-kernel can read them.
template <class C, class Source>
inline void run_in_place(const PackedGemmArgs& a) {
  MicroArgs micro = micro_args(a, a.w.kc(C::compute));
  micro.first = true;
  // A few rows read 4-bit weights as fast as memory gives them: ask for them early.  Measured on Zen 5 with neighbouring panels, of
  // 45 GB/s: without 28, 2 KiB ahead 32, 8 KiB 38, 16 KiB 35; in f32 compute without 19, 8 KiB 29, 12 KiB 31, 16 KiB 28.  f32,
  // which computes longest, gains on Zen 4 too (15 to 16.7).  Wider elements are longer sequential reads, which the hardware
  // follows.
  const bool few = Source::bytes == panel_cols * 4 && a.m <= 8 && (C::compute == Compute::f32 || cpu_wants_prefetch());
  std::size_t begin = a.panel_begin;
  const std::size_t prefetch = !few ? 0 : C::compute == Compute::f32 ? 12288 : 8192;
  micro.prefetch = prefetch;
  set_rows<C>(micro, a, 0, 0, 0);
  if (a.m == 1) begin = run_wide<C, Source, 1>(a, micro, prefetch, begin);
  if (a.m == 2) begin = run_wide<C, Source, 2>(a, micro, prefetch, begin);
  if (begin == a.panel_end) return;
  for (std::size_t row = 0; row < a.m; row += row_block) {
    const std::size_t rows = a.m - row < row_block ? a.m - row : row_block;
    for (std::size_t p = begin; p < a.panel_end; ++p) {
      const std::uint8_t* panel = a.w.data + p * micro.panel_bytes;
      micro.w = panel + a.w.head_bytes();
      micro.scale = a.w.scaled ? panel : nullptr;
      // The first tile of a panel waits for memory, the others find it in L2: they ask for the next panel meanwhile.  On Emerald
      // Rapids 5 to 25 % at M = 32 to 512; for 4-bit codes, whose panels are small, it loses.
      const std::size_t tiles = (rows + tile_rows<C, Source>() - 1) / tile_rows<C, Source>();
      const std::size_t share = micro.panel_bytes / tiles;
      micro.next_step = 0;
      if (!Source::decodes && tiles > 2 && p + 1 < a.panel_end) {
        micro.next = panel + micro.panel_bytes;
        micro.next_step = share / (a.w.k / group_k) + 1;
        if (micro.next_step > 64) micro.next_step = (micro.next_step + 63) / 64 * 64;
      }
      for_tiles(rows, tile_rows<C, Source>(), [&](std::size_t r, std::size_t height) LOWBIT_INLINE_LAMBDA {
        set_rows<C>(micro, a, row + r, 0, 0);
        micro.total = totals_of(a, p, row + r);
        // At many rows y comes from far: ask for its lines before the k loop.
        for (std::size_t i = 0; a.y && i < height; ++i)
          for (std::size_t c = 0; c < panel_cols; c += 16)
            simd::prefetch_write(a.y + (row + r + i) * a.y_stride + p * panel_cols + c);
        const bool finished = set_output<C>(micro, a, p, 1, 0, row + r, height);
        micro_rows<C, Source>(height, micro);
        if (micro.next_step != 0) micro.next += share;
        if (!finished) finish_rows<C::compute == Compute::int8>(a, panel, p, row + r, height, micro.total);
      });
    }
  }
}

// Weights that are decoded into memory first, up to decoded_k of one panel at a time, for up to row_block rows: several short
// blocks together, a long one in parts.
template <class C, class Source>
LOWBIT_NOINLINE void run_decoded(const PackedGemmArgs& a, bool round_to_bf16 = false) {
  const PackedWeights& w = a.w;
  std::uint8_t* decoded = a.scratch + row_block * panel_cols * 4;
  MicroArgs micro = micro_args(a, w.kc(C::compute));
  const std::size_t most = decoded_k(w, C::compute), blocks_at_once = w.block < most ? most / w.block : 1;
  micro.gap = 0;
  micro.w = decoded;
  const ByteTable<C> table(w.element, w.codebook);
  // Decodes `k` of block b from k0 on; returns where the next ones go.
  const auto decode = [&](const std::uint8_t* panel, std::size_t b, std::size_t k0, std::size_t k, std::uint8_t* out) {
    const std::uint8_t* from = panel + w.record_begin(b) + w.head_bytes() + k0 / group_k * group_bytes(w.element);
    decode_chunk<C>(w.element, w.codebook, table, from, k, out, round_to_bf16);
    return out + k / group_k * Source::bytes;
  };
  for (std::size_t row = 0; row < a.m; row += row_block) {
    const std::size_t rows = a.m - row < row_block ? a.m - row : row_block;
    for (std::size_t p = a.panel_begin; p < a.panel_end; ++p) {
      const std::uint8_t* panel = w.data + p * w.panel_bytes();
      float* total = totals_of(a, p, row);
      std::size_t chunk = 0;
      const auto multiply = [&](std::size_t b, std::size_t k0) {
        micro.scale = w.scaled ? panel + w.record_begin(b) : nullptr;
        micro.first = chunk == 0;
        for_tiles(rows, tile_rows<C, Source>(), [&](std::size_t r, std::size_t height) LOWBIT_INLINE_LAMBDA {
          set_rows<C>(micro, a, row + r, w.block_begin(b) + k0, chunk);
          micro.total = total + r * panel_cols;
          micro_rows<C, Source>(height, micro);
        });
      };
      for (std::size_t b = 0; b < w.blocks(); b += blocks_at_once) {
        micro.blocks = w.blocks() - b < blocks_at_once ? w.blocks() - b : blocks_at_once;
        if (blocks_at_once > 1) {
          micro.first_block = w.block_k(b);
          micro.last_block = w.block_k(b + micro.blocks - 1);
          std::uint8_t* out = decoded;
          for (std::size_t i = 0; i < micro.blocks; ++i) out = decode(panel, b + i, 0, w.block_k(b + i), out);
          multiply(b, 0);
          for (std::size_t i = 0; i < micro.blocks; ++i) chunk += (w.block_k(b + i) + micro.kc - 1) / micro.kc;
          continue;
        }
        for (std::size_t k = w.block_k(b), k0 = 0; k0 < k; k0 += most) {
          micro.last_block = k - k0 < most ? k - k0 : most;
          decode(panel, b, k0, micro.last_block, decoded);
          multiply(b, k0);
          chunk += (micro.last_block + micro.kc - 1) / micro.kc;
        }
      }
      finish_rows<C::compute == Compute::int8>(a, panel, p, row, rows, total);
    }
  }
}

// In place for as many rows as the source is worth using, decoded into memory for more.
template <class C, class Source, class Weights = Direct<C>>
inline void run_packed(const PackedGemmArgs& a) {
  if constexpr (Source::rows != 0) {
    if (a.m <= Source::rows) return run_in_place<C, Source>(a);
  }
  if constexpr (Source::rows != any_rows) run_decoded<C, Weights>(a);
}

template <Compute T>
inline void gemm_packed_four_bit(const PackedGemmArgs& a) {
  if constexpr (T == Compute::bf16 && !simd::native_bf16) {
    const CodebookTables codebook = rounded_codebook(*a.w.codebook);
    PackedGemmArgs rounded = a;
    rounded.w.codebook = &codebook;
    gemm_packed_four_bit<Compute::f32>(rounded);
  } else {
    using C = std::conditional_t<T == Compute::f32, ComputeF32, std::conditional_t<T == Compute::bf16, ComputeBf16, ComputeInt8>>;
    run_packed<C, Nibbles<C>, Decoded<C>>(a);
  }
}
inline void gemm_packed_f32(const PackedGemmArgs& a) {
  using C = ComputeF32;
  switch (a.w.element) {
    case Element::f32: return run_packed<C, Direct<C>>(a);
    case Element::f16: return run_packed<C, Halves>(a);
    case Element::bf16: return run_packed<C, WidenedBf16>(a);
    default: return run_decoded<C, Direct<C>>(a);
  }
}
// Without the instruction: in float, on x and weights that were rounded to bfloat16.
template <class S>
inline void gemm_packed_bf16(const PackedGemmArgs& a) {
  if constexpr (S::native_bf16) {
    using C = ComputeBf16;
    a.w.element == Element::bf16 ? run_packed<C, Direct<C>>(a) : run_decoded<C, Direct<C>>(a);
  } else if (a.w.element == Element::bf16) {
    gemm_packed_f32(a);
  } else {
    run_decoded<ComputeF32, Direct<ComputeF32>>(a, true);
  }
}
inline void gemm_packed_int8(const PackedGemmArgs& a) {
  using C = ComputeInt8;
  run_packed<C, std::conditional_t<C::words, Widened, Direct<C>>>(a);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
