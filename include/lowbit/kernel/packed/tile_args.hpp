// SPDX-License-Identifier: MIT
// What products by tile instructions (level amx) take beside their arguments: the configuration of the tile registers, the cuts of
// rows and of k, and scratch.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/kernel/packed/args.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// As ldtilecfg reads it.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 0, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row, by register; at most 64
  std::uint8_t rows[16] = {};    // at most 16
};
static_assert(sizeof(TileConfiguration) == 64);

inline constexpr std::size_t tile_height = 16, tile_width = 16;      // rows and columns of sums
inline constexpr std::size_t tile_step_bytes = 16 * panel_cols * 4;  // 16 dwords of k of a panel
inline constexpr std::size_t tile_sums_bytes = tile_height * tile_width * 4;
constexpr std::size_t tile_step_k(Compute c) { return c == Compute::int8 ? 64 : 32; }  // of a dot instruction, at most

// Rows from which on tiles are used.  Measured on Emerald Rapids, GPT-2 small's shapes pooled, Gop/s by tiles and by vectors: int8
// 262 and 263 at four rows, 456 and 420 at eight (8 threads: 895 and 1095, 1724 and 1682); NF4 256 and 324 at eight, 291 and 255 at
// twelve (8 threads: 1007 and 1131, 1226 and 1208), when a panel was decoded whole.
inline constexpr std::size_t tile_rows_int8 = 6, tile_rows_four_bit = 12;
// Rows of a tile: as many in each as they come to when m rows are shared out evenly.  A dot instruction takes as many cycles as it has
// rows, from nine on, so 52 rows are four tiles of 13 rather than three of 16 and one more.
constexpr std::size_t tile_rows_of(std::size_t m) {
  const std::size_t tiles = (m + tile_height - 1) / tile_height;
  return (m + tiles - 1) / tiles;
}

// Whether sums run over all k, in tiles, before a scale is applied: bf16, where scales of several blocks are multiplied into the
// weights, and int8 of one block.
constexpr bool sums_in_tiles(const PackedWeights& w, Compute c) {
  return c == Compute::bf16 || (w.element != Element::four_bit && w.blocks() == 1);
}
// Whether a panel's weights are what the instructions read.
constexpr bool tiles_in_place(const PackedWeights& w, Compute c) {
  return sums_in_tiles(w, c) && w.element == (c == Compute::bf16 ? Element::bf16 : Element::int8);
}

// A run of k whose int32 sum is scaled: a chunk of a block.
struct TilePiece {
  std::size_t k = 0, steps = 0;  // where it begins; dot instructions
  std::size_t scale = 0;         // bytes from the panel's beginning to its 48 scales ...
  std::size_t codes = 0;         // ... and to its codes
  std::size_t groups = 0;        // of 8 k
};
// k of a dot instruction where sums do not run over all k: no more than a piece has.
constexpr std::size_t piece_step_k(const PackedWeights& w) {
  const std::size_t kc = w.kc(Compute::int8);
  return kc < tile_step_k(Compute::int8) ? kc : tile_step_k(Compute::int8);
}
// Calls visit(first k, k, record) for every chunk of every block.
template <class Visit>
constexpr void for_each_piece(const PackedWeights& w, const Visit& visit) {
  const std::size_t kc = w.kc(Compute::int8);
  for (std::size_t b = 0; b < w.blocks(); ++b)
    for (std::size_t k = w.block_begin(b), end = w.block_begin(b + 1); k < end; k += kc) visit(k, end - k < kc ? end - k : kc, b);
}

// The pieces of some weights, listed at `pieces`.
struct TilePieces {
  std::size_t step, count = 0;
  std::size_t tail;  // the first k of the first step that reads beyond the last k, which is where the tail of x begins

  TilePieces(const PackedWeights& w, TilePiece* pieces) : step(piece_step_k(w)), tail(w.k) {
    for_each_piece(w, [&](std::size_t k, std::size_t n, std::size_t b) {
      TilePiece& piece = pieces[count++];
      piece.k = k;
      piece.steps = (n + step - 1) / step;
      piece.scale = w.record_begin(b);
      piece.codes = w.record_begin(b) + w.head_bytes() + (k - w.block_begin(b)) / group_k * group_bytes(w.element);
      piece.groups = n / group_k;
      for (std::size_t s = 0; s < piece.steps && tail == w.k; ++s)
        if (k + (s + 1) * step > w.k) tail = k + s * step;
    });
  }
};

// Row tiles at most that share what is decoded of 16 columns, and k of it: 12 KB in blocks of 64, which stay in L1 beside x.
inline constexpr std::size_t tile_block = 4, tile_chunk_k = 768;

// Scratch of one thread: what a block of rows takes, the pieces, and what is decoded.
struct TileScratch {
  static constexpr std::size_t total_bytes = tile_block * tile_height * panel_cols * 4, sums_bytes = 6 * tile_sums_bytes,
                               x_stride = 128, x_bytes = 2 * tile_height * x_stride, codes_bytes = 64,
                               fixed_bytes = total_bytes + sums_bytes + x_bytes + tile_step_bytes + codes_bytes;
  std::uint8_t* begin;

  float* total() const { return reinterpret_cast<float*>(begin); }           // [tile_block * tile_height][panel_cols]
  std::uint8_t* sums() const { return begin + total_bytes; }                 // [2][3][tile_height][tile_width] dwords
  std::uint8_t* x_tail() const { return begin + total_bytes + sums_bytes; }  // [32][x_stride], zeros behind the last k
  std::uint8_t* w_tail() const { return x_tail() + x_bytes; }                // a step, likewise
  std::uint8_t* codes() const { return w_tail() + tile_step_bytes; }         // the codebook, four times
  TilePiece* pieces() const { return reinterpret_cast<TilePiece*>(begin + fixed_bytes); }
  // Behind `count` pieces.
  std::uint8_t* decoded(std::size_t count) const { return begin + fixed_bytes + pieces_bytes(count); }
  static constexpr std::size_t pieces_bytes(std::size_t count) { return (count * sizeof(TilePiece) + 63) / 64 * 64; }
};
// Of rows in block-offset classes: enough for each of them.
inline std::size_t tile_scratch_bytes(const PackedWeights& w, Compute c) {
  constexpr std::size_t fixed = TileScratch::fixed_bytes;
  if (!w.block_offsets && tiles_in_place(w, c)) return fixed;
  if (c == Compute::bf16) return fixed + (w.k + tile_step_k(c) - 1) / tile_step_k(c) * tile_step_bytes;
  const std::size_t step = piece_step_k(w);
  std::size_t pieces = 0, padded = 0;
  if (w.block_offsets) {
    pieces = w.k / w.block + 2 + w.k / w.kc(c);  // every block's last chunk may be a short one
    padded = w.k + pieces * step;
  } else {
    for_each_piece(w, [&](std::size_t, std::size_t k, std::size_t) {
      ++pieces;
      padded += (k + step - 1) / step * step;
    });
  }
  return fixed + TileScratch::pieces_bytes(pieces) + padded * panel_cols;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
