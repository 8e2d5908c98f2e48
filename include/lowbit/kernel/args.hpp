// SPDX-License-Identifier: MIT
// What kernels are called with: plain structs of pointers and sizes, the two weight layouts, and the table of entry points.
// No tensor class and no vector type appears here; shapes were checked by the caller.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lowbit/base/half.hpp"
#include "lowbit/kernel/level.hpp"
#include "lowbit/kernel/stagger.hpp"

namespace lowbit {

// The arithmetic of a product.  f32: exact decode, float sums.  bf16: weights and activations rounded to bfloat16 (nearest even),
// products summed in float.  int8: activations quantized per row, exact integer sums.
enum class Compute { f32, bf16, int8 };
constexpr const char* compute_name(Compute c) { return c == Compute::f32 ? "f32" : c == Compute::bf16 ? "bf16" : "int8"; }

// What follows the product: gelu_tanh is GPT-2's gelu_new, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
enum class Activation { none, gelu_tanh };
inline constexpr Activation gelu_tanh = Activation::gelu_tanh;

namespace detail {

// How one weight is stored.
enum class Element : std::uint8_t { f32, f16, bf16, int8, four_bit };

// ---- the packed layout ----------------------------------------------------------------------------------------------
// Panels of 48 output columns: 3, 6 or 12 registers of 16, 8 or 4 floats, and a divisor of 768, 2304 and 3072.  A panel is one
// stream of records, one per block of `block` k: the 48 fp32 scales (where the format has block scales), then groups of 8 k:
//
//   f32        8 x [48 floats]                                           one k after the other
//   f16        8 x [48 halves]
//   bf16       4 x [48 dwords]      a dword holds k = 2i (low half) and 2i + 1
//   int8       2 x [48 dwords]      a dword holds 4 k in the order int8_k, each code + 128
//   four_bit   1 x [48 dwords]      a dword holds 8 k: nibble i holds k = four_bit_k(i)
//
// Nibble 4h+i of a dword holds k = 2i+h, so one layout serves all computes: dword >> 4i indexes a table of floats, word >> 4i a
// table of bf16 pairs in natural order, byte >> 4t a table of bytes in the order int8_k.  Codes are unsigned for the u8 x s8 dot
// instructions: the correction is -128 * sum(x), one number per row and block, known when the row is quantized.
inline constexpr std::size_t panel_cols = 48;
inline constexpr std::size_t group_k = 8;
constexpr int four_bit_k(int i) { return 2 * (i & 3) + (i >> 2); }                                     // k of nibble i
constexpr int int8_k(int t, int j) { return 4 * (j & 1) + 2 * t + (j >> 1); }                          // k of byte j of dword t
constexpr std::size_t int8_place(std::size_t k) { return (k >> 1 & 1) * 4 + (k & 1) * 2 + (k >> 2); }  // and its inverse: 4 t + j
// Float sums are carried to a second level after this many k: a single running sum loses digits at K = 3072.
inline constexpr std::size_t sum_k = 512;
// Integer sums of 4-bit codes, likewise: |sum| <= 256 * 128 * 127 < 2^22, which a float holds beside 1.5 * 2^23.
inline constexpr std::size_t short_sum_k = 256;

constexpr std::size_t group_bytes(Element e) {
  switch (e) {
    case Element::f32: return panel_cols * 32;
    case Element::f16:
    case Element::bf16: return panel_cols * 16;
    case Element::int8: return panel_cols * 8;
    case Element::four_bit: return panel_cols * 4;
  }
  return 0;
}
// Where the int8 code of element k of a panel's first column stands: bytes from the panel's first group on.  The other columns
// follow in dwords, so the last two bits say which byte of its dword it is.
constexpr std::size_t int8_byte(std::size_t k) {
  const std::size_t place = int8_place(k % group_k);
  return k / group_k * group_bytes(Element::int8) + place / 4 * panel_cols * 4 + place % 4;
}

// The 16 values of a 4-bit format in the forms that kernels look up.
struct alignas(64) CodebookTables {
  std::array<float, 16> f32;            // the values
  std::array<float, 16> bf16;           // rounded to bfloat16, as floats
  std::array<std::uint16_t, 32> pairs;  // rounded to bfloat16, as bits, twice
  std::array<std::uint8_t, 64> bytes;   // round(value * 127 / largest) + 128, four times
  float byte_scale;                     // largest / 127: value = (byte - 128) * byte_scale
};
// The values of two codes, for levels without look-ups in registers.
struct CodePair {
  float low, high;
};
inline CodebookTables make_codebook_tables(const float* values) {
  CodebookTables t{};
  float largest = 0;
  for (int i = 0; i < 16; ++i) largest = std::fabs(values[i]) > largest ? std::fabs(values[i]) : largest;
  t.byte_scale = largest / 127.0f;
  for (std::size_t i = 0; i < 16; ++i) {
    t.f32[i] = values[i];
    t.bf16[i] = to_float(to_bfloat16(values[i]));
    t.pairs[i] = t.pairs[i + 16] = to_bfloat16(values[i]).bits;
    const float v = largest > 0 ? values[i] * (127.0f / largest) : 0.0f;
    for (std::size_t r = 0; r < 4; ++r)
      t.bytes[16 * r + i] = static_cast<std::uint8_t>(128 + static_cast<int>(v < 0 ? v - 0.5f : v + 0.5f));
  }
  return t;
}

// For float kernels that compute as bfloat16 ones do: their codebook is the rounded one.
inline CodebookTables rounded_codebook(const CodebookTables& codebook) {
  CodebookTables t = codebook;
  t.f32 = t.bf16;
  return t;
}

// Rows n of the weights that have the same n % phase_count, see Stagger.
struct PackedPhase {
  std::size_t n = 0, k = 0, lead = 0;  // as in PackedWeights
  std::size_t begin = 0;               // in bytes of the packed data
  std::size_t copy = 0;                // of x that belongs to them
};

struct PackedWeights {
  const std::uint8_t* data = nullptr;
  std::size_t n = 0, k = 0;  // output columns; depth, a multiple of 8 (padded with zeros)
  std::size_t block = 0;     // k of a record; of the first one `lead` less, of the last one what is left
  std::size_t lead = 0;      // a multiple of 8
  Element element = Element::f32;
  bool scaled = false;                       // records start with 48 scales
  float scale_factor = 1;                    // multiplies every scale (LLM.int8() stores absmax, not absmax / 127)
  const CodebookTables* codebook = nullptr;  // four_bit
  // Rows in phases: n and k then describe all of them, and a kernel gets one phase at a time.
  Stagger stagger;
  const PackedPhase* phases = nullptr;
  std::size_t phase_count = 1;  // a multiple of stagger.phases

  constexpr std::size_t head_bytes() const { return scaled ? panel_cols * 4 : 0; }  // the scales of a record
  constexpr std::size_t blocks() const { return (lead + k + block - 1) / block; }
  // The first k of block b, and one past the last of block b - 1.
  constexpr std::size_t block_begin(std::size_t b) const {
    const std::size_t begin = b == 0 ? 0 : b * block - lead;
    return begin < k ? begin : k;
  }
  constexpr std::size_t block_k(std::size_t b) const { return block_begin(b + 1) - block_begin(b); }
  constexpr std::size_t record_begin(std::size_t b) const {  // in bytes
    return b * head_bytes() + block_begin(b) / group_k * group_bytes(element);
  }
  constexpr std::size_t panel_bytes() const { return record_begin(blocks()); }
  constexpr std::size_t panels() const { return (n + panel_cols - 1) / panel_cols; }
  // k after which a sum is carried to the totals; a block's last chunk may be shorter.
  constexpr std::size_t chunk(Compute c) const {
    const std::size_t most = c != Compute::int8 ? sum_k : element == Element::four_bit ? short_sum_k : block;
    return block < most ? block : most;
  }
  // The rows n with n % phase_count == i, as a kernel takes them.
  PackedWeights phase(std::size_t i) const {
    PackedWeights w = *this;
    w.n = phases[i].n;
    w.k = phases[i].k;
    w.lead = phases[i].lead;
    w.data = data + phases[i].begin;
    w.stagger = {};
    return w;
  }
};

// ---- the canonical layout -------------------------------------------------------------------------------------------
// Row-major elements (4-bit: high nibble first) with scales over flat blocks that ignore rows.
struct CanonicalWeights {
  const void* codes = nullptr;
  std::size_t n = 0, k = 0;
  Element element = Element::f32;
  std::size_t block = 0;                      // elements that share a scale; 0: no scales
  const float* scales = nullptr;              // [ceil(n*k / block)], or null where double-quantized:
  const std::uint8_t* scale_codes = nullptr;  // scale i = round(map[code i] * nested[i / nested_block]) + offset
  const float* nested = nullptr;
  const float* map = nullptr;
  std::size_t nested_block = 0;
  float offset = 0;
  float scale_factor = 1;  // as in PackedWeights
  const CodebookTables* codebook = nullptr;
};

// ---- activations and epilogue ---------------------------------------------------------------------------------------
// What is taken out of the int8 codes of a row and multiplied in float.
struct OutlierRow {
  const std::uint32_t* column = nullptr;  // packed: int8_byte() of it
  const float* value = nullptr;
  std::size_t count = 0;
};
// Converted rows of x.  packed layout: depth padded to k with zeros; int8 codes permuted in eights (int8_k order), or as 16-bit
// words in order where the level has no byte dot instruction (Kernels::int8_words).
struct Activations {
  const void* data = nullptr;  // float, bfloat16 bits or int8 codes
  std::size_t stride_bytes = 0;
  const float* scale = nullptr;          // int8: value = code * scale, per row
  const std::int32_t* offset = nullptr;  // int8, packed: -128 * sum of the codes, per row and chunk
  std::size_t offset_stride = 0;
  const OutlierRow* outliers = nullptr;  // [m], or null
};

// y = activation(product + bias) + residual.
// y may be float, or bfloat16 bits for a product that reads them, or both.
struct EpilogueArgs {
  const float* bias = nullptr;      // [n]
  const float* residual = nullptr;  // (m, n)
  std::size_t residual_stride = 0;
  Activation activation = Activation::none;
  std::uint16_t* bf16 = nullptr;  // (m, n) with this stride in elements
  std::size_t bf16_stride = 0;
};

struct PackedGemmArgs {
  PackedWeights w;
  Activations x;
  std::size_t m = 0;
  float* y = nullptr;  // null where only epilogue.bf16 is wanted
  std::size_t y_stride = 0;
  EpilogueArgs epilogue;
  float* sums = nullptr;                       // instead of results: (panels, m, panel_cols), not yet times result_scale()
  std::size_t panel_begin = 0, panel_end = 0;  // the unit of parallel work
  std::uint8_t* scratch = nullptr;             // packed_scratch_bytes(), 64-byte aligned, one per thread
};
// What the sums of row `row` are multiplied by.
inline float result_scale(const PackedWeights& w, const Activations& x, Compute c, std::size_t row) {
  const bool int8 = c == Compute::int8;
  const float code_scale = w.scale_factor * (int8 && w.element == Element::four_bit ? w.codebook->byte_scale : 1.0f);
  return int8 ? x.scale[row] * code_scale : code_scale;
}
inline constexpr std::size_t row_block = 128;  // rows that share one decode: 128 x 768 floats are 384 KiB of a 1 MiB L2
inline constexpr std::size_t any_rows = ~std::size_t{0};

// Panels that a kernel takes at a time for m rows, at most: parts of parallel work are best cut there.
constexpr std::size_t panels_together(std::size_t m) { return m == 1 ? 4 : m == 2 ? 2 : 1; }

// k of a panel that are decoded at a time: whole chunks, together 24 KiB of floats, bfloat16 or bytes where chunks are short enough
// (48 KiB of 16-bit codes).
constexpr std::size_t decoded_k(const PackedWeights& w, Compute c) {
  const std::size_t most = c == Compute::f32 ? 128 : c == Compute::bf16 ? 256 : 512;
  const std::size_t chunk = w.chunk(c) < w.k ? w.chunk(c) : w.k;
  return chunk < most && chunk != 0 ? most / chunk * chunk : chunk;
}
// Totals of a row block, then the decoded part of one panel: 4 bytes a weight at most (f32 compute).
inline std::size_t packed_scratch_bytes(const PackedWeights& w, Compute c) {
  return (row_block + decoded_k(w, c)) * panel_cols * 4;
}

struct CanonicalGemmArgs {
  CanonicalWeights w;
  Activations x;  // natural order, no padding; bf16: bits for 4-bit weights, else floats that were rounded to bfloat16
  std::size_t m = 0;
  float* y = nullptr;
  std::size_t y_stride = 0;
  EpilogueArgs epilogue;
  std::size_t row_begin = 0, row_end = 0;  // rows of w = columns of y
  std::uint8_t* scratch = nullptr;         // canonical_scratch_bytes(), 64-byte aligned, one per thread
};

// How a thread cuts its part of a canonical product, and the scratch that this takes: tables, results, scales, rows.
struct CanonicalPlan {
  static constexpr std::size_t batch = 16;   // rows of w whose results are finished together
  static constexpr std::size_t streams = 4;  // rows that are read at a time
  static constexpr std::size_t stream_rows = batch / streams;
  static constexpr std::size_t group = 32;  // 4-bit elements that surely share a scale, and begin at a byte
  static constexpr std::size_t table_bytes = 2048;
  std::size_t rows = 0;         // of x that are held at a time
  std::size_t row_bytes = 0;    // of a row of x, or of a decoded row of w
  std::size_t phases = 1;       // 4-bit: the places in a group where a row can begin; x is held for each
  std::size_t scale_slots = 0;  // 4-bit: floats for the scales of a row
  std::size_t held_bytes = 0;   // rows of x, or decoded rows of w

  CanonicalPlan(const CanonicalWeights& w, std::size_t m) {
    const std::size_t padded = (w.k + group - 1 + 127) / 128 * 128;
    row_bytes = padded * 4;
    rows = m < 32 ? m : 32;
    held_bytes = 4 * row_bytes;
    if (w.element != Element::four_bit) return;
    while (w.k * phases % group != 0) phases *= 2;
    const std::size_t fit = (std::size_t{1} << 19) / (phases * row_bytes + 1);  // half of an L2 cache
    rows = fit == 0 ? 1 : fit < rows ? fit : rows;
    scale_slots = padded / group + 4;
    held_bytes = rows * phases * row_bytes;
  }
  std::size_t result_bytes() const { return rows * batch * 4; }
  std::size_t scale_bytes() const { return ((batch + 4) * scale_slots + 144 + 15) / 16 * 64; }
  std::size_t scratch_bytes() const { return table_bytes + result_bytes() + scale_bytes() + held_bytes; }
};
inline std::size_t canonical_scratch_bytes(const CanonicalWeights& w, std::size_t m) { return CanonicalPlan(w, m).scratch_bytes(); }

// ---- conversion of activations --------------------------------------------------------------------------------------
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
  std::size_t chunk = 0;                            // k of an offset; the last of a row may have fewer
  float threshold = 0;                              // llm_int8: |x| >= threshold is an outlier; 0: none
  const std::uint8_t* column_is_outlier = nullptr;  // [k], bitsandbytes' rule over a whole call, or null: per row
  void* codes = nullptr;                            // (m, k_padded), int8_t or int16_t
  float* scale = nullptr;                           // [m]
  std::int32_t* offset = nullptr;                   // (m, ceil(k_padded / chunk)): -128 * sum of the codes; or null
};
struct Bf16RowsArgs {
  const float* x = nullptr;
  std::size_t m = 0, k = 0, x_stride = 0, k_padded = 0;
  std::uint16_t* out = nullptr;  // (m, k_padded) bits
};

// ---- the rest of a transformer --------------------------------------------------------------------------------------
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

// ---- training -------------------------------------------------------------------------------------------------------
// The gradient of layer normalization, whose statistics are computed again from x.  dx (rows, n) is written (or added to, where
// `add` says so); dgain and dshift [n] are added to.
struct LayerNormBackwardArgs {
  const float* x = nullptr;
  const float* dy = nullptr;
  const float* gain = nullptr;
  float* dx = nullptr;
  float* dgain = nullptr;
  float* dshift = nullptr;
  std::size_t rows = 0, n = 0;
  float epsilon = 0;
  bool add = false;
};
// The gradient of AttentionArgs' function for one head: dq, dk and dv are written, with the stride of q, k and v.
struct AttentionBackwardArgs {
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;
  std::size_t stride = 0;
  const float* dout = nullptr;
  std::size_t out_stride = 0;
  std::size_t positions = 0, depth = 0;
  float scale = 1;
  float* scratch = nullptr;  // attention_backward_scratch_floats()
};
constexpr std::size_t attention_backward_scratch_floats(std::size_t positions, std::size_t depth) {
  const std::size_t p = (positions + 15) / 16 * 16, d = (depth + 15) / 16 * 16;
  return 5 * p * d + 2 * d * p + 2 * p * p;
}
// One step of AdamW with decoupled weight decay on n parameters: w -= decay w + rate m / (sqrt(v) v_scale + epsilon).  The moments
// start at zero; what corrects them for it is in `rate` and `v_scale`.
struct AdamWArgs {
  float* w = nullptr;
  const float* gradient = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  std::size_t n = 0;
  float gradient_scale = 1;      // of clipping
  float beta1 = 0, beta2 = 0;    // of the moments
  float rate = 0, v_scale = 1;   // learning rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  float epsilon = 0, decay = 0;  // decay: learning rate * weight decay
};

// The entry points of one level for products.
struct Kernels {
  Level level = Level::base;
  // By whether the elements are of 4 bits, and by Compute.
  void (*gemm_packed[2][3])(const PackedGemmArgs&) = {};
  void (*gemm_canonical[2][3])(const CanonicalGemmArgs&) = {};
  // The one for the weights of `a`.
  void packed(Compute c, const PackedGemmArgs& a) const { gemm_packed[a.w.element == Element::four_bit][static_cast<int>(c)](a); }
  void canonical(Compute c, const CanonicalGemmArgs& a) const {
    gemm_canonical[a.w.element == Element::four_bit][static_cast<int>(c)](a);
  }
  void (*quantize_rows)(const QuantizeRowsArgs&) = nullptr;
  // Lists the columns with |x| >= threshold (> 0), ascending: column must hold k; returns how many there are.
  std::size_t (*find_outliers)(const float* x, std::size_t k, float threshold, std::uint32_t* column) = nullptr;
  void (*bf16_rows)(const Bf16RowsArgs&) = nullptr;
  // y [n] = activation(sum + bias) + residual, for row number `row` of the epilogue's matrices; y may be sum, or the residual.
  void (*finish_row)(const EpilogueArgs&, std::size_t row, const float* sum, std::size_t n, float* y) = nullptr;
  // to (cols, rows) = from (rows, cols) * factor, transposed.
  void (*transpose)(const float* from, std::size_t rows, std::size_t cols, std::size_t stride, float* to, std::size_t to_stride,
                    float factor) = nullptr;
  bool native_bf16 = false;  // the level has a bf16 dot instruction
  bool int8_words = false;   // gemm_packed wants int8 activations as 16-bit words
};

// What the rest of a transformer needs.  A table of its own: who only multiplies does not compile it.
struct TransformerKernels {
  void (*embed_rows)(const EmbedRowsArgs&) = nullptr;
  void (*layer_norm)(const LayerNormArgs&) = nullptr;
  void (*attention)(const AttentionArgs&) = nullptr;
};

// What training adds.
struct TrainingKernels {
  void (*gelu)(const float* x, float* out, std::size_t n) = nullptr;
  void (*exp2)(const float* x, float* out, std::size_t n) = nullptr;
  // out [n] = codes [n] * scale.
  void (*decode_codes)(const std::int8_t* codes, float scale, float* out, std::size_t n) = nullptr;
  // sums [n] += the sum of the rows of x (rows, n).
  void (*add_rows)(const float* x, std::size_t rows, std::size_t n, std::size_t stride, float* sums) = nullptr;
  void (*layer_norm_backward)(const LayerNormBackwardArgs&) = nullptr;
  void (*attention_backward)(const AttentionBackwardArgs&) = nullptr;
  // dx [n] = dy * gelu'(x); dx may be dy.
  void (*gelu_backward)(const float* x, const float* dy, float* dx, std::size_t n) = nullptr;
  // Cross-entropy of one row of logits: returns log(sum of exponentials) - the target's logit, and leaves the gradient, (softmax -
  // target) * factor, in the logits' place.  smoothing: this much of the target is spread evenly over all n.
  float (*cross_entropy)(float* logits, std::size_t n, std::size_t target, float smoothing, float factor) = nullptr;
  void (*adamw)(const AdamWArgs&) = nullptr;
};

}  // namespace detail
}  // namespace lowbit
