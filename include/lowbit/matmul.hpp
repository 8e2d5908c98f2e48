// SPDX-License-Identifier: MIT
// The product: y = activation(x w^T + bias) + residual, for every format and compute type, on canonical or packed weights.
// Shapes are checked here, once; what runs is decided here, and reported.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/prepared_input.hpp"
#include "lowbit/tensor/packed_tensor.hpp"

namespace lowbit {

struct MatmulOptions {
  std::span<const float> bias = {};       // [out], or empty
  MatrixView<const float> residual = {};  // (m, out), or without data; added last, may be y itself
  Activation activation = Activation::none;
  std::optional<Compute> compute = std::nullopt;  // default: f32; int8 for LLM.int8() weights
  float outlier_threshold = 6.0f;                 // LLM.int8(): |x| from which on an activation is an outlier; 0: none
  Outliers outliers = Outliers::per_row;
  bool round_activations_to_fp16 = false;  // LLM.int8(): quantize fp16(x), as bitsandbytes does on fp16 models
  Executor* executor = nullptr;            // default: default_executor()
  PreparedInput* next = nullptr;           // receives the result as the input of a later product, see input_for()
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
  InputBuffer input;
  std::uint64_t input_of = 0;      // the call that it was converted for, if only for this thread
  AlignedBuffer<float> result;     // of a product that only its successor reads
  AlignedBuffer<float> sums, row;  // of staggered weights: by phase, and in order
  AlignedBuffer<std::uint8_t> gemm;
};
using ThreadWorkspace = PerThread<Workspace>;

// One product, whatever the layout of its weights.
struct Product {
  MatrixView<const float> x;           // without data where the input is prepared
  const InputBuffer* input = nullptr;  // prepared
  MatrixView<float> y;                 // may lack data where only options->next is wanted
  std::size_t rows = 0, cols = 0;      // of the weights
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
  plan.native_bf16 = (plan.packed || element_bits(p.format) == 4) && k.native_bf16;
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
  require(p.input || p.x.rows == 0 || p.x.cols == 0 || p.x.data != nullptr, [&] { return "matmul: x is null" + shapes(); });
  require(o.next || p.y.rows == 0 || p.y.cols == 0 || p.y.data != nullptr, [&] { return "matmul: y is null" + shapes(); });
  require(!o.next || o.next->cols() == p.rows,
          [&] { return "matmul: next was made for weights of " + std::to_string(o.next->cols()) + " columns" + shapes(); });
}

// Sums of int8 products: depth * 128 * 127 must stay below 2^31.  128, because the packed layout adds 128 to its codes and takes it
// off the sum again, and because a file may hold the code -128.
inline constexpr std::size_t largest_int8_depth = 0x7FFFFFFFu / (128 * 127);

// How the rows of x must stand for `p`.
inline InputForm form_of(const Product& p, const MatmulPlan& plan) {
  InputForm f;
  f.compute = plan.compute;
  f.packed = plan.packed;
  f.bf16_floats = !kernels_of(plan.level)->native_bf16 || (!plan.packed && element_bits(p.format) != 4);
  f.k = p.cols;
  f.k_padded = plan.packed ? p.packed->k : p.cols;
  if (plan.packed && p.packed->stagger) {
    f.stagger = p.packed->stagger;
    f.k_padded = f.stagger.copy_k();
  }
  if (plan.compute == Compute::int8) {
    const MatmulOptions& o = *p.options;
    f.words = plan.packed && kernels_of(plan.level)->int8_words;
    f.chunk = plan.packed ? p.packed->chunk(Compute::int8) : 0;
    f.llm_int8 = p.format == Format::llm_int8;
    if (f.llm_int8) {
      f.fp16 = o.round_activations_to_fp16;
      f.outliers = o.outliers;
      f.threshold = std::max(0.0f, f.fp16 ? to_float(to_float16(o.outlier_threshold)) : o.outlier_threshold);  // as bitsandbytes
    }
  }
  return f;
}

// Panels (packed) or rows (canonical) of the weights are split among threads.  Several parts per thread even out what a shared
// machine takes away; a part must be worth a thread: a few microseconds of multiplying, or for few rows of reading weights.
template <class Part>
void run_parts(Executor& executor, std::size_t units, std::size_t worth, const Part& part) {
  const std::size_t parts =
      executor.concurrency() == 1 ? 1 : std::max<std::size_t>(1, std::min({units, executor.concurrency() * 4, worth}));
  executor.run(parts, [&](std::size_t i) { part(units * i / parts, units * (i + 1) / parts); });
}

// How many threads `panels` panels are worth, with this many multiplications per column and bytes per panel.
inline std::size_t product_worth(std::size_t panels, std::size_t per_column, std::size_t panel_bytes) {
  return panels * (per_column * panel_cols) / (1u << 20) + panels * panel_bytes / (1u << 17);
}

// The activations of a call: prepared before, or converted by the call's threads together, or, where they are few, by every thread
// for itself when its first part asks for them.  A line that another core has just written is waited for as long as the conversion
// of 500 activations takes: up to own_rows rows in int8 are 0 to 5 % faster on two threads of Zen 4 (20 % where these share no
// cache), and 5 to 25 % on 2 to 16 threads of Sapphire Rapids; more rows gain nothing or lose.  Where all rows must be looked
// through first (LLM.int8()'s outliers per call), that is done once.
class CallInput {
 public:
  // caller: of the thread that makes the call.
  CallInput(const Product& p, const InputForm& form, const Kernels& kernel, Executor& executor, Workspace& caller)
      : form_(form), x_(p.x), kernel_(kernel), shared_(p.input) {
    if (shared_) return;
    if (executor.concurrency() > 1 && p.x.rows <= own_rows && !form.needs_all_rows()) {
      static std::atomic<std::uint64_t> calls = 0;
      call_ = 1 + calls.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    caller.input_of = 0;
    fill_input(caller.input, form, p.x, kernel, executor);
    shared_ = &caller.input;
  }
  // For the thread that asks, in whose workspace they may stand.
  Activations activations(Workspace& own) const { return activations_of(shared_ ? *shared_ : converted(own)); }

 private:
  static constexpr std::size_t own_rows = 16;

  const InputBuffer& converted(Workspace& ws) const {
    if (ws.input_of != call_) {
      ws.input_of = 0;  // until it is converted
      SerialExecutor here;
      fill_input(ws.input, form_, x_, kernel_, here);
      ws.input_of = call_;
    }
    return ws.input;
  }

  const InputForm& form_;
  MatrixView<const float> x_;
  const Kernels& kernel_;
  const InputBuffer* shared_;
  std::uint64_t call_ = 0;
};

// The product with weights whose rows stand in phases (PackedWeights::stagger): sums (phases, panels, rows, panel_cols), which are
// then put in order row by row.  y may be the residual.
inline void run_staggered(const Product& p, Compute compute, const InputForm& form, const CallInput& input, MatrixView<float> y,
                          const EpilogueArgs& epilogue, const Kernels& kernel, Executor& executor, Workspace& caller) {
  const PackedWeights& w = *p.packed;
  const std::size_t phases = w.phase_count, panels = w.phase(0).panels(), m = p.x.rows;
  const std::size_t filled = (p.rows + phases - 1) / phases;  // columns of a phase
  const std::size_t slots = compute == Compute::int8 ? w.stagger.chunk_slots(form.chunk) : 0;
  const bool plain = !epilogue.bias && !epilogue.residual && epilogue.activation == Activation::none && filled * phases == p.rows;
  constexpr std::size_t row_block = 32;  // their sums are still in L2 when they are put in order
  constexpr std::size_t line = 16;       // between phases, so that what is read together is not held in the same place of a cache
  AlignedBuffer<float>& sums = caller.sums;
  sums.grow(checked_mul(phases, checked_mul(panels * panel_cols, std::min(m, row_block), "result") + line, "result"));
  for (std::size_t first = 0; first < m; first += row_block) {
    const std::size_t rows = std::min(row_block, m - first), apart = panels * rows * panel_cols + line;
    const std::size_t worth = product_worth(phases * panels, rows * p.cols, w.phase(0).panel_bytes());
    run_parts(executor, phases * panels, worth, [&](std::size_t begin, std::size_t end) {
      const ThreadWorkspace ws;
      ws->gemm.grow(packed_scratch_bytes(w, compute));
      const Activations x = input.activations(*ws);
      PackedGemmArgs g;
      g.x.stride_bytes = x.stride_bytes;
      g.x.offset_stride = x.offset_stride;
      g.x.scale = x.scale ? x.scale + first : nullptr;
      g.m = rows;
      g.scratch = ws->gemm.data();
      for (std::size_t phase = begin / panels; phase * panels < end; ++phase) {
        g.w = w.phase(phase);
        g.panel_begin = std::max(begin, phase * panels) - phase * panels;
        g.panel_end = std::min(end - phase * panels, g.w.panels());
        if (g.panel_begin >= g.panel_end) continue;
        g.x.data = static_cast<const std::uint8_t*>(x.data) + first * x.stride_bytes + w.phases[phase].copy * form.copy_bytes();
        g.x.offset = x.offset ? x.offset + first * x.offset_stride + phase % w.stagger.phases * slots : nullptr;
        g.sums = sums.data() + phase * apart;
        kernel.packed(compute, g);
      }
    });
    run_parts(executor, rows, rows * p.rows / (1u << 14), [&](std::size_t begin, std::size_t end) {
      const ThreadWorkspace ws;
      AlignedBuffer<float>& row = ws->row;
      row.grow(filled * phases);
      const Activations x = compute == Compute::int8 ? input.activations(*ws) : Activations{};  // for the scales of its rows
      for (std::size_t r = begin; r < end; ++r) {
        float* out = y.row(first + r);
        const float scale = result_scale(w, x, compute, first + r);
        for (std::size_t panel = 0; panel < panels; ++panel)
          kernel.transpose(sums.data() + (panel * rows + r) * panel_cols, phases, std::min(panel_cols, filled - panel * panel_cols),
                           apart, (plain ? out : row.data()) + panel * panel_cols * phases, phases, scale);
        if (!plain) kernel.finish_row(epilogue, first + r, row.data(), p.rows, out);
      }
    });
  }
}

inline MatmulPlan run(const Product& p) {
  const DefaultFloatEnvironment environment;
  check(p);
  const MatmulPlan plan = plan_of(p);
  const std::size_t m = p.x.rows;
  const MatmulOptions& o = *p.options;
  const Kernels& kernel = *kernels_of(plan.level);
  Executor& executor = o.executor ? *o.executor : default_executor();
  const ThreadWorkspace caller;
  // how far an integer sum goes; canonical 4-bit weights are summed as integers over a few elements only
  const std::size_t depth = plan.packed                   ? std::min(p.packed->chunk(plan.compute), p.packed->k)
                            : p.canonical->block == 0     ? p.cols
                            : element_bits(p.format) == 4 ? 0
                                                          : std::min(p.cols, p.canonical->block);
  require(plan.compute != Compute::int8 || depth <= largest_int8_depth, [&] {
    return "matmul: int8 sums over a depth of " + std::to_string(depth) + " could overflow; at most " +
           std::to_string(largest_int8_depth);
  });
  const InputForm form = form_of(p, plan);
  require(!p.input || p.input->form == form, [&] {
    return std::string("matmul: the input was prepared for another product (") + compute_name(p.input->form.compute) +
           " compute; this one is " + to_string(plan) + ")";
  });
  if (m == 0 || p.rows == 0) {
    if (o.next) o.next->buffer().rows = m;  // not those of a product before
    return plan;
  }

  EpilogueArgs epilogue;
  epilogue.bias = o.bias.empty() ? nullptr : o.bias.data();
  epilogue.residual = o.residual.data;
  epilogue.residual_stride = o.residual.stride;
  epilogue.activation = o.activation;
  MatrixView<float> y = p.y;
  InputBuffer* next = o.next ? &o.next->buffer() : nullptr;
  // bfloat16 comes straight from the epilogue; int8 needs a row's largest value, so rows are quantized when they are complete.
  const bool staggered = plan.packed && p.packed->stagger, one_copy = next && next->form.stagger.copies() == 1;
  const bool bf16_next =
      plan.packed && !staggered && one_copy && next->form.packed && next->form.compute == Compute::bf16 && !next->form.bf16_floats;
  if (bf16_next) {
    start_rows<std::uint16_t>(*next, m);
    epilogue.bf16 = reinterpret_cast<std::uint16_t*>(next->data.data());
    epilogue.bf16_stride = next->form.k_padded;
  } else if (next && !y.data) {
    if (next->form.compute == Compute::f32 && one_copy) {
      start_rows<float>(*next, m);
      y = {reinterpret_cast<float*>(next->data.data()), m, p.rows, next->form.k_padded};
    } else {
      caller->result.grow(checked_mul(m, p.rows, "result"));
      y = {caller->result.data(), m, p.rows};
    }
  }

  const CallInput input(p, form, kernel, executor, *caller);
  if (staggered) {
    run_staggered(p, plan.compute, form, input, y, epilogue, kernel, executor, *caller);
  } else if (plan.packed) {
    const std::size_t panels = p.packed->panels();
    std::size_t together = panels_together(m);
    while (together > 1 && panels < together * executor.concurrency()) together /= 2;
    const std::size_t units = (panels + together - 1) / together;
    const std::size_t worth = product_worth(panels, m * p.cols, p.packed->panel_bytes());
    run_parts(executor, units, worth, [&](std::size_t begin, std::size_t end) {
      const ThreadWorkspace ws;
      PackedGemmArgs g;
      g.w = *p.packed;
      g.x = input.activations(*ws);
      g.m = m;
      g.y = y.data;
      g.y_stride = y.stride;
      g.epilogue = epilogue;
      g.panel_begin = begin * together;
      g.panel_end = std::min(panels, end * together);
      ws->gemm.grow(packed_scratch_bytes(g.w, plan.compute));
      g.scratch = ws->gemm.data();
      kernel.packed(plan.compute, g);
    });
  } else {
    const std::size_t worth = m * p.rows * p.cols / (1u << 18) + p.rows * p.cols * element_bits(p.format) / (1u << 20);
    run_parts(executor, p.rows, worth, [&](std::size_t begin, std::size_t end) {
      const ThreadWorkspace ws;
      CanonicalGemmArgs g;
      g.w = *p.canonical;
      g.x = input.activations(*ws);
      g.m = m;
      g.y = y.data;
      g.y_stride = y.stride;
      g.epilogue = epilogue;
      g.row_begin = begin;
      g.row_end = end;
      ws->gemm.grow(canonical_scratch_bytes(g.w, m));
      g.scratch = ws->gemm.data();
      kernel.canonical(plan.compute, g);
    });
  }
  if (next && !bf16_next && y.data != reinterpret_cast<float*>(next->data.data()))
    fill_input(*next, next->form, y, kernel, executor);
  return plan;
}

// use(product): a product with `w`, without x and y.
template <class Use>
auto with_weights(const Tensor& w, const MatmulOptions& options, const Use& use) {
  const CanonicalWeights view = w.canonical();
  Product p;
  p.rows = w.rows();
  p.cols = w.cols();
  p.format = w.format();
  p.options = &options;
  p.canonical = &view;
  return use(p);
}
template <class Use>
auto with_weights(const PackedTensor& w, const MatmulOptions& options, const Use& use) {
  const PackedWeights view = w.view();
  Product p;
  p.rows = w.rows();
  p.cols = w.cols();
  p.format = w.format();
  p.options = &options;
  p.packed = &view;
  return use(p);
}
template <class Weights>
MatmulPlan multiply(MatrixView<const float> x, const Weights& w, MatrixView<float> y, const MatmulOptions& options) {
  return with_weights(w, options, [&](Product& p) {
    p.x = x;
    p.y = y.data || !options.next ? y : MatrixView<float>(nullptr, x.rows, w.rows());
    return run(p);
  });
}

}  // namespace LOWBIT_ABI
}  // namespace detail

inline namespace LOWBIT_ABI {

// y = activation(x w^T + bias) + residual.  x (m, in) and y (m, out) row-major, strides in elements, not overlapping; w (out, in).
// Order of summation: by format, compute, level and layout alone; batches and threads change no bit.  In f32 compute NaN and
// infinity follow float arithmetic; in int8 compute a row of x that holds one gives a row of NaN.
// Returns what ran.  Throws InvalidArgument if shapes do not match or the format has no such compute type.
// Thread safe; uses options.executor, or the default pool.
inline MatmulPlan matmul(MatrixView<const float> x, const Tensor& w, MatrixView<float> y, const MatmulOptions& options = {}) {
  return detail::multiply(x, w, y, options);
}
inline MatmulPlan matmul(MatrixView<const float> x, const PackedTensor& w, MatrixView<float> y, const MatmulOptions& options = {}) {
  return detail::multiply(x, w, y, options);
}
// The same on input that was prepared before: what prepare_input() or MatmulOptions::next left.  Throws InvalidArgument if it was
// prepared for another kind of product (compute type, level, layout, depth or block size).
template <class Weights>
requires(std::is_base_of_v<Tensor, Weights> || std::is_same_v<Weights, PackedTensor>) inline MatmulPlan
    matmul(const PreparedInput& x, const Weights& w, MatrixView<float> y, const MatmulOptions& options = {}) {
  return detail::with_weights(w, options, [&](detail::Product& p) {
    p.x = {nullptr, x.rows(), x.cols()};
    p.input = &x.buffer();
    p.y = y.data ? y : MatrixView<float>(nullptr, x.rows(), w.rows());
    return detail::run(p);
  });
}
// Gives `input` the form that products with `w` read under these options; prepare_input() or MatmulOptions::next fill it.  Weights
// of the same format, depth, block size and layout share it.  Its memory is kept, its rows are not.
template <class Weights>
inline void shape_input(PreparedInput& input, const Weights& w, const MatmulOptions& options = {}) {
  input.buffer().form = detail::with_weights(w, options, [](detail::Product& p) { return detail::form_of(p, detail::plan_of(p)); });
  input.buffer().rows = 0;
}
// A new one.
template <class Weights>
inline PreparedInput input_for(const Weights& w, const MatmulOptions& options = {}) {
  PreparedInput input;
  shape_input(input, w, options);
  return input;
}
// Fills `input` with the rows of x (m, in), converted once for all products that read it.  In f32 compute it may refer to x, which
// must then outlive its use.  Throws InvalidArgument if the depth differs or x is null.
inline void prepare_input(MatrixView<const float> x, PreparedInput& input, Executor& executor = default_executor()) {
  require(x.cols == input.cols() && x.stride >= x.cols, [&] {
    return "prepare_input: x is " + shape_string(x.rows, x.cols) + ", the input was made for a depth of " +
           std::to_string(input.cols());
  });
  require(x.rows == 0 || x.cols == 0 || x.data != nullptr,
          [&] { return "prepare_input: x " + shape_string(x.rows, x.cols) + " is null"; });
  const detail::DefaultFloatEnvironment environment;
  detail::fill_input(input.buffer(), input.buffer().form, x, detail::kernels(), executor);
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
  return detail::with_weights(w, options, [](detail::Product& p) { return detail::plan_of(p); });
}

}  // namespace LOWBIT_ABI
}  // namespace lowbit
