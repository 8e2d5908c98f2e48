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
  return attention_rows(positions) * (2 * padded + 16) + 2 * 16 * padded + 16;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
