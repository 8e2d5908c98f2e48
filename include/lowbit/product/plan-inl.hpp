// SPDX-License-Identifier: MIT
// How compute type, level, format and layout decide what runs.
#pragma once
#include <algorithm>

#include "lowbit/product/plan.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// The rule of Compute::automatic.
inline Compute automatic_compute(Format format, Level level) {
  if (element_bits(format) == 8) return Compute::int8;
  const bool fast_bf16 = level >= Level::avx512bf16 && cpu_has_fast_bf16();
  if (element_bits(format) == 4) return fast_bf16 ? Compute::bf16 : Compute::int8;
  return format == Format::bf16 && (fast_bf16 || level == Level::amx) ? Compute::bf16 : Compute::f32;
}

// How far an integer sum goes; canonical 4-bit weights are summed as integers over a few elements only.
inline std::size_t int8_depth(const Weights& w) {
  if (w.is_packed()) return (std::min)(w.packed().kc(Compute::int8), w.packed().k);
  if (element_bits(w.format()) == 4) return 0;
  return (std::min)(w.cols(), w.canonical().block);
}

inline InputForm form_of(const Weights& w, Compute compute, const ComputeOptions& o, const Kernels& kernel) {
  InputForm f;
  f.compute = compute;
  f.packed = w.is_packed();
  f.bf16_floats = !kernel.native_bf16 || (!f.packed && element_bits(w.format()) != 4);
  f.k = f.k_padded = w.cols();
  if (f.packed) {
    const PackedWeights& view = w.packed();
    f.block_offsets = view.block_offsets;
    f.k_padded = f.block_offsets ? f.block_offsets.copy_k() : view.k;
    if (compute == Compute::int8) f.kc = view.kc(Compute::int8);
  }
  if (compute != Compute::int8) return f;
  f.words = f.packed && kernel.int8_words;
  f.llm_int8 = w.format() == Format::llm_int8;
  if (!f.llm_int8) return f;
  f.fp16 = o.round_activations_to_fp16;
  f.outliers = o.outliers;
  f.threshold = (std::max)(0.0f, f.fp16 ? to_float(to_float16(o.outlier_threshold)) : o.outlier_threshold);  // as bitsandbytes
  return f;
}

LOWBIT_FUNCTION ProductPlan make_plan(const Weights& w, const ComputeOptions& options) {
  const DefaultFloatEnvironment environment;
  ProductPlan plan;
  plan.kernel = &kernels();
  MatmulPlan& p = plan.runs_as;
  p.format = w.format();
  p.level = plan.kernel->level;
  if (w.kernels()) plan.gemm = w.kernels()(p.level);
  // A tensor of a type may hold another format, where one was assigned to its base.
  require(w.rows() == 0 || plan.gemm->four_bit == (element_bits(p.format) == 4), [&] {
    return std::string("matmul: the type of the weights stands for another format than ") + format_name(p.format) +
           ", which they hold";
  });
  p.compute = options.compute == Compute::automatic ? automatic_compute(p.format, p.level) : options.compute;
  p.packed = w.is_packed();
  p.native_bf16 = (p.packed || element_bits(p.format) == 4) && plan.kernel->native_bf16;
  if (p.compute == Compute::int8) {
    require(element_bits(p.format) <= 8,
            [&] { return std::string("matmul: int8 compute needs int8 or 4-bit weights, found ") + format_name(p.format); });
    const std::size_t depth = int8_depth(w);
    require(depth <= largest_int8_depth, [&] {
      return "matmul: int8 sums over a depth of " + decimal(depth) + " could overflow; at most " + decimal(largest_int8_depth);
    });
  }
  plan.form = form_of(w, p.compute, options, *plan.kernel);
  return plan;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

LOWBIT_FUNCTION Compute automatic_compute(Format format) { return detail::automatic_compute(format, active_level()); }
LOWBIT_FUNCTION std::string to_string(const MatmulPlan& p) {
  return std::string(format_name(p.format)) + " weights (" + (p.packed ? "packed" : "canonical") + "), " + compute_name(p.compute) +
         " compute, " + level_name(p.level) + (p.compute == Compute::bf16 && !p.native_bf16 ? " (bf16 widened to f32)" : "");
}

}  // namespace lowbit::inline LOWBIT_ABI
