// SPDX-License-Identifier: MIT
// The tables of entry points that a level fills.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lowbit/compute.hpp"
#include "lowbit/kernel/canonical/args.hpp"
#include "lowbit/kernel/dispatch/level.hpp"
#include "lowbit/kernel/ops/args.hpp"
#include "lowbit/kernel/packed/args.hpp"
#include "lowbit/kernel/packed/tile_args.hpp"
#include "lowbit/kernel/training/args.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The products of one level with weights of one kind, by Compute.
struct GemmKernels {
  bool four_bit = false;  // for weights of 4-bit elements
  void (*gemm_packed[3])(const PackedGemmArgs&) = {};
  void (*gemm_canonical[3])(const CanonicalGemmArgs&) = {};
  void packed(Compute c, const PackedGemmArgs& a) const { gemm_packed[static_cast<int>(c)](a); }
  void canonical(Compute c, const CanonicalGemmArgs& a) const { gemm_canonical[static_cast<int>(c)](a); }
};
// A table for 4-bit elements and one for the others: who multiplies by NF4 alone does not compile what dense weights and int8 need.
template <bool FourBit>
struct GemmKernelsFor : GemmKernels {
  constexpr GemmKernelsFor() { four_bit = FourBit; }
};

// What products need besides, at one level.
struct Kernels {
  Level level = Level::base;
  void (*quantize_rows)(const QuantizeRowsArgs&) = nullptr;
  // Lists the columns with |x| >= threshold (> 0), ascending: column must hold k; returns how many there are.
  std::size_t (*find_outliers)(const float* x, std::size_t k, float threshold, std::uint32_t* column) = nullptr;
  void (*bf16_rows)(const Bf16RowsArgs&) = nullptr;
  // y [n] = activation(sum + bias) + residual, for row number `row` of the epilogue's matrices; y may be sum, or the residual.
  void (*finish_row)(const EpilogueArgs&, std::size_t row, const float* sum, std::size_t n, float* y) = nullptr;
  // to (cols, rows) = from (rows, cols) * factor, transposed.
  void (*transpose)(const float* from, std::size_t rows, std::size_t cols, std::size_t stride, float* to, std::size_t to_stride,
                    float factor) = nullptr;
  // Bytes of scratch, one per thread, that a packed product takes.
  std::size_t packed_scratch_bytes(const PackedWeights& w, Compute c) const {
    const std::size_t vectors = detail::packed_scratch_bytes(w, c);
    return tiles && c != Compute::f32 ? (std::max)(vectors, tile_scratch_bytes(w, c)) : vectors;
  }
  bool tiles = false;        // int8 and bf16 products by tile instructions
  bool native_bf16 = false;  // the level has a bf16 dot instruction
  bool int8_words = false;   // gemm_packed wants int8 activations as 16-bit words
};

// What the rest of a transformer needs.  A table of its own: who only multiplies does not compile it.
struct TransformerKernels {
  void (*embed_rows)(const EmbedRowsArgs&) = nullptr;
  void (*layer_norm)(const LayerNormArgs&) = nullptr;
  void (*attention)(const AttentionArgs&) = nullptr;
  void (*append_kv)(const AppendKvArgs&) = nullptr;
  void (*cached_attention)(const CachedAttentionArgs&) = nullptr;
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

}  // namespace lowbit::detail::inline LOWBIT_ABI
