// SPDX-License-Identifier: MIT
// The product: y = activation(x w^T + bias) + residual, for every format and compute type, on canonical or packed weights.
// Shapes are checked here, once; what runs is decided here, and reported.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lowbit/kernel/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/tensor/packed_tensor.hpp"

namespace lowbit {

// Which columns LLM.int8() takes out of the integer product.  per_row: where this row has an outlier, so that a row's result does
// not depend on its neighbours.  per_call: where any row of the call has one, as bitsandbytes does.
enum class Outliers { per_row, per_call };

struct MatmulOptions {
  std::span<const float> bias = {};       // [out], or empty
  MatrixView<const float> residual = {};  // (m, out), or without data; added last, may be y itself
  Activation activation = Activation::none;
  std::optional<Compute> compute = std::nullopt;  // default: f32; int8 for LLM.int8() weights
  float outlier_threshold = 6.0f;                 // LLM.int8(): |x| from which on an activation is an outlier; 0: none
  Outliers outliers = Outliers::per_row;
  bool round_activations_to_fp16 = false;  // LLM.int8(): quantize fp16(x), as bitsandbytes does on fp16 models
  Executor* executor = nullptr;            // default: default_executor()
};

// What a product ran as.
struct MatmulPlan {
  Format format = Format::f32;
  Compute compute = Compute::f32;
  Level level = Level::base;
  bool packed = false;       // layout of the weights
  bool native_bf16 = false;  // bf16 compute by the instruction, not widened to float
};
inline std::string to_string(const MatmulPlan& p) {
  return std::string(format_name(p.format)) + " weights (" + (p.packed ? "packed" : "canonical") + "), " + compute_name(p.compute) +
         " compute, " + level_name(p.level) + (p.compute == Compute::bf16 && !p.native_bf16 ? " (bf16 widened to f32)" : "");
}

namespace detail {
inline namespace LOWBIT_ABI {

// Scratch that a thread keeps between calls.
struct Workspace {
  AlignedBuffer<std::uint8_t> activations, gemm;
  AlignedBuffer<float> rounded, scale;
  AlignedBuffer<std::int32_t> offset;
  std::vector<std::size_t> outlier_begin;
  std::vector<std::uint32_t> outlier_column;
  std::vector<float> outlier_value;
  std::vector<std::uint8_t> column_is_outlier;
};
inline Workspace& thread_workspace() {
  thread_local Workspace w;
  return w;
}

// One product, whatever the layout of its weights.
struct Product {
  MatrixView<const float> x;
  MatrixView<float> y;
  std::size_t rows = 0, cols = 0;  // of the weights
  Format format = Format::f32;
  const PackedWeights* packed = nullptr;
  const CanonicalWeights* canonical = nullptr;
  const MatmulOptions* options = nullptr;
};

inline MatmulPlan plan_of(const Product& p) {
  MatmulPlan plan;
  plan.format = p.format;
  plan.compute = p.options->compute.value_or(p.format == Format::llm_int8 ? Compute::int8 : Compute::f32);
  const Kernels& k = kernels();
  plan.level = k.level;
  plan.packed = p.packed != nullptr;
  plan.native_bf16 = (plan.packed || element_bits(p.format) == 4) && k.bf16_is_native();
  require(plan.compute != Compute::int8 || element_bits(p.format) <= 8,
          [&] { return std::string("matmul: int8 compute needs int8 or 4-bit weights, found ") + format_name(p.format); });
  return plan;
}

inline void check(const Product& p) {
  const MatmulOptions& o = *p.options;
  const auto shapes = [&] {
    return " (x " + shape_string(p.x.rows, p.x.cols) + ", weights " + shape_string(p.rows, p.cols) + ", y " +
           shape_string(p.y.rows, p.y.cols) + ")";
  };
  require(p.x.cols == p.cols, [&] {
    return "matmul: x has " + std::to_string(p.x.cols) + " columns, the weights have " + std::to_string(p.cols) + shapes();
  });
  require(p.y.rows == p.x.rows && p.y.cols == p.rows,
          [&] { return "matmul: y must be (rows of x, rows of the weights)" + shapes(); });
  require(p.x.stride >= p.x.cols && p.y.stride >= p.y.cols, [&] { return "matmul: a stride is smaller than its row" + shapes(); });
  require(o.bias.empty() || o.bias.size() == p.rows,
          [&] { return "matmul: bias has " + std::to_string(o.bias.size()) + " elements" + shapes(); });
  require(o.residual.data == nullptr ||
              (o.residual.rows == p.y.rows && o.residual.cols == p.y.cols && o.residual.stride >= o.residual.cols),
          [&] { return "matmul: residual is " + shape_string(o.residual.rows, o.residual.cols) + shapes(); });
  require(p.x.rows == 0 || p.x.cols == 0 || p.x.data != nullptr, [&] { return "matmul: x is null" + shapes(); });
  require(p.y.rows == 0 || p.y.cols == 0 || p.y.data != nullptr, [&] { return "matmul: y is null" + shapes(); });
}

// Sums of int8 products: depth * 128 * 127 must stay below 2^31.  128, because the packed layout adds 128 to its codes and takes it
// off the sum again, and because a file may hold the code -128.
inline constexpr std::size_t largest_int8_depth = 0x7FFFFFFFu / (128 * 127);

// LLM.int8(): lists the elements that the codes leave out, row by row.  per_call: whole columns.
inline void find_outliers(const float* x, std::size_t m, std::size_t k, std::size_t stride, float threshold, Outliers rule,
                          Workspace& ws) {
  ws.outlier_begin.assign(1, 0);
  ws.outlier_column.clear();
  ws.outlier_value.clear();
  // Outliers are few: runs of 64 elements without one are passed over by a loop that compilers turn into vector code.
  const std::int32_t least = std::bit_cast<std::int32_t>(threshold);
  const auto for_each = [&](const float* row, const auto& visit) {
    for (std::size_t c = 0; c < k; c += 64) {
      const std::size_t n = std::min<std::size_t>(64, k - c);
      std::int32_t any = n < 64;
      if (n == 64)
        for (std::size_t i = 0; i < 64; ++i) any |= (std::bit_cast<std::int32_t>(row[c + i]) & 0x7FFFFFFF) >= least;
      if (any != 0)
        for (std::size_t i = c; i < c + n; ++i)
          if (std::fabs(row[i]) >= threshold) visit(i);
    }
  };
  if (rule == Outliers::per_call) {
    ws.column_is_outlier.assign(k, 0);
    for (std::size_t r = 0; r < m; ++r) for_each(x + r * stride, [&](std::size_t c) { ws.column_is_outlier[c] = 1; });
  }
  for (std::size_t r = 0; r < m; ++r) {
    const auto take = [&](std::size_t c) {
      ws.outlier_column.push_back(static_cast<std::uint32_t>(c));
      ws.outlier_value.push_back(x[r * stride + c]);
    };
    if (rule == Outliers::per_row) {
      for_each(x + r * stride, take);
    } else {
      for (std::size_t c = 0; c < k; ++c)
        if (ws.column_is_outlier[c] != 0) take(c);
    }
    ws.outlier_begin.push_back(ws.outlier_column.size());
  }
}

// The rows of x in the form that the kernel of `plan` reads.  `padded` and `block` describe the packed layout (canonical: cols, 0).
inline Activations convert_activations(const Product& p, const MatmulPlan& plan, Executor& executor, Workspace& ws) {
  const Kernels& kernel = *kernels_of(plan.level);
  const bool packed = plan.packed;
  const std::size_t m = p.x.rows, k = p.cols, padded = packed ? p.packed->k : k;
  const float* x = p.x.data;
  std::size_t stride = p.x.stride;
  Activations a;
  // Rows in about as many parts as there are threads; a part of fewer than 8 rows is not worth a thread.
  const std::size_t parts = std::max<std::size_t>(1, std::min(executor.concurrency(), m / 8));
  const auto for_rows = [&](const auto& convert) {
    executor.run(parts, [&](std::size_t i) {
      const std::size_t begin = m * i / parts, end = m * (i + 1) / parts;
      if (begin != end) convert(begin, end - begin);
    });
  };
  switch (plan.compute) {
    case Compute::f32:
      if (padded != k) {
        ws.rounded.grow(checked_mul(m, padded, "activations"));
        for (std::size_t r = 0; r < m; ++r) {
          std::copy_n(x + r * stride, k, ws.rounded.data() + r * padded);
          std::fill_n(ws.rounded.data() + r * padded + k, padded - k, 0.0f);
        }
        x = ws.rounded.data();
        stride = padded;
      }
      a.data = x;
      a.stride_bytes = stride * sizeof(float);
      return a;
    case Compute::bf16: {
      ws.activations.grow(checked_mul(checked_mul(m, padded, "activations"), 2, "activations"));
      auto* bits = reinterpret_cast<std::uint16_t*>(ws.activations.data());
      for_rows([&](std::size_t r, std::size_t rows) {
        Bf16RowsArgs c;
        c.x = x + r * stride;
        c.m = rows;
        c.k = k;
        c.x_stride = stride;
        c.k_padded = padded;
        c.out = bits + r * padded;
        kernel.bf16_rows(c);
      });
      a.data = bits;
      a.stride_bytes = padded * 2;
      if (!packed && element_of(p.format) != Element::four_bit) {  // the canonical kernel reads floats
        ws.rounded.grow(m * k);
        for (std::size_t i = 0; i < m * k; ++i) ws.rounded[i] = to_float(BFloat16{bits[i]});
        a.data = ws.rounded.data();
        a.stride_bytes = k * sizeof(float);
      }
      return a;
    }
    case Compute::int8: {
      const MatmulOptions& o = *p.options;
      const bool llm = p.format == Format::llm_int8;
      const std::size_t block = packed ? p.packed->block : 0, blocks = packed ? padded / block : 0;
      if (llm && o.round_activations_to_fp16) {
        ws.rounded.grow(checked_mul(m, k, "activations"));
        for (std::size_t r = 0; r < m; ++r)
          for (std::size_t c = 0; c < k; ++c) ws.rounded[r * k + c] = to_float(to_float16(x[r * stride + c]));
        x = ws.rounded.data();
        stride = k;
      }
      float threshold = llm ? o.outlier_threshold : 0.0f;
      if (o.round_activations_to_fp16) threshold = to_float(to_float16(threshold));  // bitsandbytes compares in fp16
      if (threshold > 0) find_outliers(x, m, k, stride, threshold, o.outliers, ws);
      ws.activations.grow(checked_mul(m, padded, "activations"));
      ws.scale.grow(m);
      ws.offset.grow(checked_mul(m, blocks, "activations"));
      for_rows([&](std::size_t r, std::size_t rows) {
        QuantizeRowsArgs q;
        q.x = x + r * stride;
        q.m = rows;
        q.k = k;
        q.x_stride = stride;
        q.rule = llm ? QuantizeRule::llm_int8 : QuantizeRule::absmax;
        q.permute = packed;
        q.k_padded = padded;
        q.block = block;
        q.threshold = threshold;
        q.column_is_outlier = threshold > 0 && o.outliers == Outliers::per_call ? ws.column_is_outlier.data() : nullptr;
        q.codes = reinterpret_cast<std::int8_t*>(ws.activations.data()) + r * padded;
        q.scale = ws.scale.data() + r;
        q.offset = packed ? ws.offset.data() + r * blocks : nullptr;
        kernel.quantize_rows(q);
      });
      a.data = ws.activations.data();
      a.stride_bytes = padded;
      a.scale = ws.scale.data();
      a.offset = ws.offset.data();
      a.offset_stride = blocks;
      if (threshold > 0) {
        a.outlier_begin = ws.outlier_begin.data();
        a.outlier_column = ws.outlier_column.data();
        a.outlier_value = ws.outlier_value.data();
      }
      return a;
    }
  }
  return a;
}

inline MatmulPlan run(const Product& p) {
  check(p);
  const MatmulPlan plan = plan_of(p);
  const std::size_t m = p.x.rows;
  if (m == 0 || p.rows == 0) return plan;
  const MatmulOptions& o = *p.options;
  Executor& executor = o.executor ? *o.executor : default_executor();
  const Kernels& kernel = *kernels_of(plan.level);
  EpilogueArgs epilogue;
  epilogue.bias = o.bias.empty() ? nullptr : o.bias.data();
  epilogue.residual = o.residual.data;
  epilogue.residual_stride = o.residual.stride;
  epilogue.activation = o.activation;
  const int compute = static_cast<int>(plan.compute);

  if (plan.packed) {
    require(plan.compute != Compute::int8 || p.packed->block <= largest_int8_depth, [&] {
      return "matmul: int8 sums over a depth of " + std::to_string(p.packed->block) + " could overflow; at most " +
             std::to_string(largest_int8_depth);
    });
    Workspace& caller = thread_workspace();
    const Activations a = convert_activations(p, plan, executor, caller);
    const std::size_t panels = p.packed->panels();
    // Several parts per thread even out what a shared machine takes away; a part of less than about 2 M operations is not worth
    // one.
    const std::size_t work = m * p.cols * panel_cols, worth = std::max<std::size_t>(1, panels * work / (1u << 20));
    const std::size_t parts = executor.concurrency() == 1 ? 1 : std::min({panels, executor.concurrency() * 4, worth});
    executor.run(parts, [&](std::size_t i) {
      PackedGemmArgs g;
      g.w = *p.packed;
      g.x = a;
      g.m = m;
      g.y = p.y.data;
      g.y_stride = p.y.stride;
      g.epilogue = epilogue;
      g.panel_begin = panels * i / parts;
      g.panel_end = panels * (i + 1) / parts;
      Workspace& ws = thread_workspace();
      ws.gemm.grow(packed_scratch_bytes(g.w, plan.compute));
      g.scratch = ws.gemm.data();
      kernel.gemm_packed[compute](g);
    });
  } else {
    // 4-bit weights are summed as integers over 8 elements only
    const std::size_t block = p.canonical->block, depth = block == 0 ? p.cols : std::min(p.cols, block);
    require(plan.compute != Compute::int8 || element_bits(p.format) == 4 || depth <= largest_int8_depth, [&] {
      return "matmul: int8 sums over a depth of " + std::to_string(depth) + " could overflow; at most " +
             std::to_string(largest_int8_depth);
    });
    Workspace& caller = thread_workspace();
    const Activations a = convert_activations(p, plan, executor, caller);
    const std::size_t worth = std::max<std::size_t>(1, m * p.rows * p.cols / (1u << 18));
    const std::size_t parts = executor.concurrency() == 1 ? 1 : std::min({p.rows, executor.concurrency() * 4, worth});
    executor.run(parts, [&](std::size_t i) {
      CanonicalGemmArgs g;
      g.w = *p.canonical;
      g.x = a;
      g.m = m;
      g.y = p.y.data;
      g.y_stride = p.y.stride;
      g.epilogue = epilogue;
      g.row_begin = p.rows * i / parts;
      g.row_end = p.rows * (i + 1) / parts;
      Workspace& ws = thread_workspace();
      ws.gemm.grow(canonical_scratch_bytes(g.w, m));
      g.scratch = ws.gemm.data();
      kernel.gemm_canonical[compute](g);
    });
  }
  return plan;
}

template <class Weights>
Product product_of(MatrixView<const float> x, const Weights& w, MatrixView<float> y, const MatmulOptions& options) {
  Product p;
  p.x = x;
  p.y = y;
  p.rows = w.rows();
  p.cols = w.cols();
  p.format = w.format();
  p.options = &options;
  return p;
}

}  // namespace LOWBIT_ABI
}  // namespace detail

inline namespace LOWBIT_ABI {

// y = activation(x w^T + bias) + residual.  x (m, in) and y (m, out) row-major, strides in elements; w (out, in).
// Order of summation: by format, compute, level and layout alone; batches and threads change no bit.  In f32 compute NaN and
// infinity follow float arithmetic; in int8 compute a row of x that holds one gives a row of NaN.
// Returns what ran.  Throws InvalidArgument if shapes do not match or the format has no such compute type.
// Thread safe; uses options.executor, or the default pool.
inline MatmulPlan matmul(MatrixView<const float> x, const Tensor& w, MatrixView<float> y, const MatmulOptions& options = {}) {
  detail::Product p = detail::product_of(x, w, y, options);
  const detail::CanonicalWeights c = w.canonical();
  p.canonical = &c;
  return detail::run(p);
}
inline MatmulPlan matmul(MatrixView<const float> x, const PackedTensor& w, MatrixView<float> y, const MatmulOptions& options = {}) {
  detail::Product p = detail::product_of(x, w, y, options);
  const detail::PackedWeights v = w.view();
  p.packed = &v;
  return detail::run(p);
}
// The same on contiguous memory: x holds m rows of `in`, y receives m rows of `out`.
template <class Weights>
requires(std::is_base_of_v<Tensor, Weights> || std::is_same_v<Weights, PackedTensor>) inline MatmulPlan
    matmul(const float* x, std::size_t m, const Weights& w, float* y, const MatmulOptions& options = {}) {
  return matmul(MatrixView<const float>(x, m, w.cols()), w, MatrixView<float>(y, m, w.rows()), options);
}
// The same on spans; m is x.size() / in.
template <class Weights>
requires(std::is_base_of_v<Tensor, Weights> || std::is_same_v<Weights, PackedTensor>) inline MatmulPlan
    matmul(std::span<const float> x, const Weights& w, std::span<float> y, const MatmulOptions& options = {}) {
  const std::size_t m = w.cols() == 0 ? 0 : x.size() / w.cols();
  require(x.size() == m * w.cols() && y.size() == m * w.rows(), [&] {
    return "matmul: spans of " + std::to_string(x.size()) + " and " + std::to_string(y.size()) + " floats do not hold rows of " +
           std::to_string(w.cols()) + " and " + std::to_string(w.rows());
  });
  return matmul(x.data(), m, w, y.data(), options);
}

// What matmul would run, without running it.  Throws as matmul does for a compute type that the format lacks.
template <class Weights>
inline MatmulPlan plan_matmul(const Weights& w, const MatmulOptions& options = {}) {
  detail::Product p = detail::product_of({}, w, {}, options);
  const detail::PackedWeights none;
  if constexpr (std::is_same_v<Weights, PackedTensor>) p.packed = &none;
  return detail::plan_of(p);
}

}  // namespace LOWBIT_ABI
}  // namespace lowbit
