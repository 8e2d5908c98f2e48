// SPDX-License-Identifier: MIT
// What the conversions of activations, and the rest of a transformer beside its products, are called with.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lowbit/layout/element.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

enum class QuantizeRule : std::uint8_t {
  absmax,    // scale = absmax / 127, code = round(x / scale)
  llm_int8,  // stat = absmax, code = round(x * (127 * (1 / stat))); scale = stat / 127
};
struct QuantizeRowsArgs {
  const float* x = nullptr;
  std::size_t m = 0, k = 0, x_stride = 0;
  QuantizeRule rule = QuantizeRule::absmax;
  bool permute = false;                             // int8_k order inside eights, for the packed layout
  bool words = false;                               // 16-bit codes, in order (Kernels::int8_words)
  std::size_t k_padded = 0;                         // codes written per row; the rest is zero
  std::size_t kc = 0;                               // k of an offset; the last of a row may have fewer
  float threshold = 0;                              // llm_int8: |x| >= threshold is an outlier; 0: none
  const std::uint8_t* column_is_outlier = nullptr;  // [k], bitsandbytes' rule over a whole call, or null: per row
  void* codes = nullptr;                            // (m, k_padded), int8_t or int16_t
  float* scale = nullptr;                           // [m]
  std::int32_t* offset = nullptr;                   // (m, ceil(k_padded / kc)): -128 * sum of the codes; or null
};
struct Bf16RowsArgs {
  const float* x = nullptr;
  std::size_t m = 0, k = 0, x_stride = 0, k_padded = 0;
  std::uint16_t* out = nullptr;  // (m, k_padded) bits
};

// out (rows, n) = rows of a dense table (f32, f16 or bf16), or += where `add` says so.
struct EmbedRowsArgs {
  const void* table = nullptr;  // rows of n
  Element element = Element::f32;
  const std::int32_t* ids = nullptr;  // [rows], or null: the first ones in order
  std::size_t rows = 0, n = 0;
  float* out = nullptr;
  bool add = false;
};
// out = (x - mean) / sqrt(variance + epsilon) * gain + shift over rows of n.
struct LayerNormArgs {
  const float* x = nullptr;
  float* out = nullptr;
  const float* gain = nullptr;
  const float* shift = nullptr;
  std::size_t rows = 0, n = 0;
  float epsilon = 0;
};
// Causal attention of one head over one sequence: out_t = sum over s <= t of softmax(q_t . k_s * scale) v_s.
struct AttentionArgs {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  std::size_t stride = 0;  // floats from one position to the next in q, k and v
  float* out = nullptr;
  std::size_t out_stride = 0;
  std::size_t positions = 0, depth = 0;
  std::size_t first_query = 0;  // queries [first_query, positions): earlier results are not wanted
  float scale = 1;
  float* scratch = nullptr;  // attention_scratch_floats()
};
// Rows of keys and values that the kernel lays out: whole tiles of 8, and the 3 behind the last query that a tile of 4 may touch.
constexpr std::size_t attention_rows(std::size_t positions) { return (positions + 3 + 7) / 8 * 8; }
// Enough for registers of up to 16 floats.
constexpr std::size_t attention_scratch_floats(std::size_t positions, std::size_t depth) {
  const std::size_t padded = (depth + 15) / 16 * 16;
  return attention_rows(positions) * (2 * padded + 16) + 32 * padded + 16;
}

// One head's keys and values of the positions so far, as a cache keeps them, in f32, bf16 or int8 (code x scale of its position).
// Keys stand in tiles, so that scores of one query have a position per lane: (tiles, depth, kv_tile).  Values stand in rows:
// (positions, kv_padded(depth)), zero behind the depth.  Memory behind the last position is readable and finite up to whole tiles.
inline constexpr std::size_t kv_tile = 16;  // registers of 4, 8 or 16 floats fill it
constexpr std::size_t kv_padded(std::size_t n) { return (n + kv_tile - 1) / kv_tile * kv_tile; }
struct KvHead {
  Element element = Element::f32;
  std::size_t depth = 0;
  void* keys = nullptr;
  void* values = nullptr;
  float* key_scales = nullptr;  // int8: [positions, to whole tiles]
  float* value_scales = nullptr;
};
// Appends k and v (count, depth), rows `stride` floats apart, to a head as positions first, first + 1, ...
struct AppendKvArgs {
  KvHead head;
  const float* k = nullptr;
  const float* v = nullptr;
  std::size_t stride = 0, first = 0, count = 0;
  void* scratch = nullptr;  // append_kv_scratch_bytes()
};
constexpr std::size_t append_kv_scratch_bytes(std::size_t count, std::size_t depth) {
  return count * kv_padded(depth) * sizeof(std::uint16_t);
}
// attention() of keys and values in a cache, to the bit in f32.  queries: q and out begin with the query first_query, k and v are
// not read.
struct CachedAttentionArgs {
  AttentionArgs queries;
  KvHead head;
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
