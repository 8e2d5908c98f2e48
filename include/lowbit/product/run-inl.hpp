// SPDX-License-Identifier: MIT
// A product: checks what the call brings, has x converted, cuts the weights into parts of parallel work, and calls the kernels.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <thread>

#include "lowbit/product/run.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// ---- checks ------------------------------------------------------------------------------------------------------------------
inline void check_call(const ProductPlan& plan, const Weights& w, const Input& x, const Output& y, const Bias& bias,
                       const Epilogue& epilogue) {
  const MatrixView<const float>& residual = epilogue.residual;
  const auto shapes = [&] {
    return " (x " + shape_string(x.rows, x.cols) + ", weights " + shape_string(w.rows(), w.cols()) + ", y " +
           shape_string(y.rows, y.cols) + ")";
  };
  require(x.cols == w.cols(),
          [&] { return "matmul: x has " + decimal(x.cols) + " columns, the weights have " + decimal(w.cols()) + shapes(); });
  require(y.rows == x.rows && y.cols == w.rows(), [&] { return "matmul: y must be (rows of x, rows of the weights)" + shapes(); });
  require(x.stride >= x.cols && y.stride >= y.cols, [&] { return "matmul: a stride is smaller than its row" + shapes(); });
  require(bias.size() == 0 || bias.size() == w.rows(),
          [&] { return "matmul: bias has " + decimal(bias.size()) + " elements" + shapes(); });
  require(residual.data == nullptr || (residual.rows == y.rows && residual.cols == y.cols && residual.stride >= residual.cols),
          [&] { return "matmul: residual is " + shape_string(residual.rows, residual.cols) + shapes(); });
  require(x.prepared || x.rows == 0 || x.cols == 0 || x.data != nullptr, [&] { return "matmul: x is null" + shapes(); });
  require(epilogue.next || y.rows == 0 || y.cols == 0 || y.data != nullptr, [&] { return "matmul: y is null" + shapes(); });
  require(!epilogue.next || epilogue.next->cols() == w.rows(),
          [&] { return "matmul: next was made for weights of " + decimal(epilogue.next->cols()) + " columns" + shapes(); });
  require(!epilogue.next || x.prepared != &epilogue.next->rows_in_memory(),
          [&] { return "matmul: next is the input itself" + shapes(); });
  require(!x.prepared || x.prepared->form == plan.form, [&] {
    return std::string("matmul: the input was prepared for another product (") + compute_name(x.prepared->form.compute) +
           " compute; this one is " + to_string(plan.runs_as) + ")";
  });
}

// ---- parallel work -----------------------------------------------------------------------------------------------------------
// `units` panels or rows are split among threads.  Several parts per thread even out what a shared machine takes away; a part must
// be worth a thread, a few microseconds of multiplying, or for few rows of reading weights: there are at most max_parts.
template <class Part>
void run_parts(Executor& executor, std::size_t units, std::size_t max_parts, const Part& part) {
  const std::size_t threads = executor.concurrency();
  const std::size_t parts = threads == 1 ? 1 : (std::max<std::size_t>)(1, (std::min)({units, threads * 4, max_parts}));
  executor.run(parts, [&](std::size_t i) { part(units * i / parts, units * (i + 1) / parts); });
}
// What `panels` panels are worth, with this many multiplications per column and bytes per panel.
inline std::size_t panels_max_parts(std::size_t panels, std::size_t per_column, std::size_t panel_bytes) {
  return panels * (per_column * panel_cols) / (1u << 20) + panels * panel_bytes / (1u << 17);
}

// The slot that this thread had last: it takes the same one again, whose memory is in its cache.
inline constinit thread_local std::size_t last_slot = 0;

// A slot of the workspace while a task runs.
class TaskSlot {
 public:
  explicit TaskSlot(WorkspaceState& state) : slot_(take(state)) {}
  ~TaskSlot() { slot_.taken.store(false, std::memory_order_release); }
  TaskSlot(const TaskSlot&) = delete;
  TaskSlot& operator=(const TaskSlot&) = delete;
  WorkspaceSlot& operator*() const { return slot_; }
  WorkspaceSlot* operator->() const { return &slot_; }

 private:
  static WorkspaceSlot& take(WorkspaceState& state) {
    for (std::size_t i = last_slot;; ++i) {
      WorkspaceSlot& slot = state.slots[i % state.slot_count];
      if (!slot.taken.exchange(true, std::memory_order_acquire)) {
        last_slot = i % state.slot_count;
        return slot;
      }
      if (i - last_slot >= state.slot_count) std::this_thread::yield();  // more tasks at a time than the executor said
    }
  }
  WorkspaceSlot& slot_;
};

// The workspace of a call, which nobody else works in meanwhile.
class WorkspaceUse {
 public:
  explicit WorkspaceUse(Workspace* given) : workspace_(given ? given : &*of_thread_) {
    if (!workspace_->state().in_use.value.exchange(true, std::memory_order_acquire)) return;
    require(given == nullptr, [] { return std::string("matmul: another call works in this workspace"); });
    workspace_ = &own_;
  }
  ~WorkspaceUse() { workspace_->state().in_use.value.store(false, std::memory_order_release); }
  WorkspaceUse(const WorkspaceUse&) = delete;
  WorkspaceUse& operator=(const WorkspaceUse&) = delete;
  WorkspaceState& state() const { return workspace_->state(); }

 private:
  ThreadWorkspace of_thread_;
  Workspace own_;
  Workspace* workspace_;
};

inline void make_slots(WorkspaceState& state, std::size_t count) {
  if (state.slot_count >= count) return;
  state.slots = std::make_unique<WorkspaceSlot[]>(count);
  state.slot_count = count;
}

// ---- the input of a call -----------------------------------------------------------------------------------------------------
// Fills `to` with the rows of x, whatever their numbers.
inline void fill_from(InputRows& to, const InputForm& form, const Input& x, const Kernels& kernel, Executor& executor) {
  if (x.element == Element::f32)
    return fill_rows(to, form, {static_cast<const float*>(x.data), x.rows, x.cols, x.stride}, kernel, executor);
  make_rows(to, form, x.rows, kernel, executor, [&](std::size_t begin, std::size_t count, float* out) {
    for (std::size_t r = begin; r < begin + count; ++r)
      for (std::size_t c = 0; c < x.cols; ++c) {
        const std::size_t i = r * x.stride + c;
        *out++ = x.element == Element::f16 ? to_float(static_cast<const Float16*>(x.data)[i])
                                           : to_float(static_cast<const BFloat16*>(x.data)[i]);
      }
  });
}

// One call, as its parts see it.
struct Call {
  const ProductPlan& plan;
  const Input& x;
  WorkspaceState& workspace;
  Executor& executor;
  MatrixView<float> y;
  EpilogueArgs epilogue;
  const InputRows* input = nullptr;  // null: every slot converts x for itself

  const Kernels& kernel() const { return *plan.kernel; }
  const GemmKernels& gemm() const { return *plan.gemm; }
  std::size_t m() const { return x.rows; }
  // What a part reads, in whose slot it may stand.
  Activations activations(WorkspaceSlot& slot) const {
    if (input) return activations_of(*input);
    if (slot.input_of != workspace.calls) {
      slot.input_of = 0;  // until it is converted
      SerialExecutor here;
      fill_from(slot.input, plan.form, x, kernel(), here);
      slot.input_of = workspace.calls;
    }
    return activations_of(slot.input);
  }
};

// The activations of a call: prepared before, or converted by the call's threads together, or, where they are few, by every thread
// for itself when its first part asks for them.  A line that another core has just written is waited for as long as the conversion
// of 500 activations takes: up to own_rows rows in int8 are 0 to 5 % faster on two threads of Zen 4 (20 % where these share no
// cache), and 5 to 25 % on 2 to 16 threads of Emerald Rapids; more rows gain nothing or lose.  Where all rows must be looked
// through first (LLM.int8()'s outliers per call), that is done once.
inline void take_input(Call& call) {
  constexpr std::size_t own_rows = 16;
  ++call.workspace.calls;
  if (call.x.prepared) {
    call.input = call.x.prepared;
    return;
  }
  const InputForm& form = call.plan.form;
  if (call.executor.concurrency() > 1 && call.m() <= own_rows && !form.needs_all_rows()) return;
  fill_from(call.workspace.input, form, call.x, call.kernel(), call.executor);
  call.input = &call.workspace.input;
}

// ---- the three ways ----------------------------------------------------------------------------------------------------------
// What both layouts' kernels are called with, for all rows of x.
template <class Args, class WeightsLayout>
Args args_of(const Call& call, const WeightsLayout& w, WorkspaceSlot& slot, std::size_t scratch_bytes) {
  Args g;
  g.w = w;
  g.x = call.activations(slot);
  g.m = call.m();
  g.y = call.y.data;
  g.y_stride = call.y.stride;
  g.epilogue = call.epilogue;
  slot.gemm.grow(scratch_bytes);
  g.scratch = slot.gemm.data();
  return g;
}

// Rows of x that a part has, where tile instructions multiply: beside the cut in panels, as a thread with all rows would read all of x.
// With `blocks` of them it reads m / blocks rows of x and n * blocks / threads of the weights, of as many bytes each: least where these
// are equal.  And what it reads for every panel must stay in L2.  Emerald Rapids, 512 rows: bf16 14 % faster on 8 threads and 12 % on
// 16, int8 6 and 19 %.
inline std::size_t rows_at_once(const Call& call, const PackedWeights& w, std::size_t row_bytes) {
  constexpr std::size_t l2_bytes = 768 << 10, fewest = 64;
  const std::size_t m = call.m();
  if (!call.kernel().tiles || call.plan.form.compute == Compute::f32 || m < 2 * fewest) return m;
  const double rows = static_cast<double>(m), threads = static_cast<double>(call.executor.concurrency());
  const double wanted = (std::max)(std::sqrt(rows * threads / static_cast<double>(w.n)),
                                   rows * static_cast<double>(row_bytes) / static_cast<double>(l2_bytes));
  const std::size_t blocks =
      wanted < 1.5 ? 1 : (std::min)(static_cast<std::size_t>(std::lround((std::min)(wanted, rows))), m / fewest);
  return (m + blocks - 1) / blocks;
}

inline void run_packed(const Call& call, const PackedWeights& w) {
  const Compute compute = call.plan.form.compute;
  const std::size_t panels = w.panels(), m = call.m();
  std::size_t nr_unroll = nr_unroll_of(m);
  while (nr_unroll > 1 && panels < nr_unroll * call.executor.concurrency()) nr_unroll /= 2;
  const std::size_t units = (panels + nr_unroll - 1) / nr_unroll, rows = rows_at_once(call, w, call.plan.form.row_bytes()),
                    blocks = (m + rows - 1) / rows;
  run_parts(call.executor, blocks * units, panels_max_parts(panels, m * call.x.cols, w.panel_bytes()),
            [&](std::size_t begin, std::size_t end) {
              const TaskSlot slot(call.workspace);
              auto all = args_of<PackedGemmArgs>(call, w, *slot, call.kernel().packed_scratch_bytes(w, compute));
              all.threads = call.executor.concurrency();
              for (std::size_t block = begin / units; block * units < end; ++block) {
                PackedGemmArgs g = all.of_rows(block * rows, (std::min)(rows, m - block * rows));
                g.panel_begin = ((std::max)(begin, block * units) - block * units) * nr_unroll;
                g.panel_end = (std::min)(panels, (std::min)(end - block * units, units) * nr_unroll);
                call.gemm().packed(compute, g);
              }
            });
}

inline void run_canonical(const Call& call, const CanonicalWeights& w, std::size_t bits) {
  const std::size_t m = call.m();
  const std::size_t max_parts = m * w.n * w.k / (1u << 18) + w.n * w.k * bits / (1u << 20);
  run_parts(call.executor, w.n, max_parts, [&](std::size_t begin, std::size_t end) {
    const TaskSlot slot(call.workspace);
    auto g = args_of<CanonicalGemmArgs>(call, w, *slot, canonical_scratch_bytes(w, m));
    g.row_begin = begin;
    g.row_end = end;
    call.gemm().canonical(call.plan.form.compute, g);
  });
}

// Weights whose rows stand in classes (PackedWeights::block_offsets), for some rows of x at a time: sums (classes, panels, rows,
// panel_cols), which are then put in order row by row.
struct BlockOffsetRows {
  const Call& call;
  const PackedWeights& w;
  std::size_t first, rows;                                                 // of x
  std::size_t panels;                                                      // of a class
  std::size_t stride;                                                      // floats from the sums of one class to the next
  std::size_t filled = (call.y.cols + w.class_count - 1) / w.class_count;  // columns of a class

  Compute compute() const { return call.plan.form.compute; }
  float* sums() const { return call.workspace.sums.data(); }

  void multiply() const {
    const std::size_t units = w.class_count * panels;
    run_parts(call.executor, units, panels_max_parts(units, rows * call.x.cols, w.offset_class(0).panel_bytes()),
              [&](std::size_t begin, std::size_t end) { multiply(begin, end); });
  }
  void multiply(std::size_t begin, std::size_t end) const {
    const InputForm& form = call.plan.form;
    const std::size_t slots = compute() == Compute::int8 ? w.block_offsets.chunk_slots(form.kc) : 0;
    const TaskSlot slot(call.workspace);
    slot->gemm.grow(call.kernel().packed_scratch_bytes(w, compute()));
    const Activations x = call.activations(*slot);
    PackedGemmArgs g;
    g.x.stride_bytes = x.stride_bytes;
    g.x.offset_stride = x.offset_stride;
    g.x.scale = x.scale ? x.scale + first : nullptr;
    g.m = rows;
    g.scratch = slot->gemm.data();
    g.threads = call.executor.concurrency();
    for (std::size_t offset_class = begin / panels; offset_class * panels < end; ++offset_class) {
      g.w = w.offset_class(offset_class);
      g.panel_begin = (std::max)(begin, offset_class * panels) - offset_class * panels;
      g.panel_end = (std::min)(end - offset_class * panels, g.w.panels());
      if (g.panel_begin >= g.panel_end) continue;
      g.x.data =
          static_cast<const std::uint8_t*>(x.data) + first * x.stride_bytes + w.classes[offset_class].copy * form.copy_bytes();
      g.x.offset = x.offset ? x.offset + first * x.offset_stride + offset_class % w.block_offsets.classes * slots : nullptr;
      g.sums = sums() + offset_class * stride;
      call.gemm().packed(compute(), g);
    }
  }

  void put_in_order() const {
    run_parts(call.executor, rows, rows * call.y.cols / (1u << 14), [&](std::size_t begin, std::size_t end) {
      const TaskSlot slot(call.workspace);
      slot->row.grow(filled * w.class_count);
      const Activations x = compute() == Compute::int8 ? call.activations(*slot) : Activations{};  // for the scales of its rows
      for (std::size_t r = begin; r < end; ++r) put_in_order(r, x, slot->row.data());
    });
  }
  void put_in_order(std::size_t r, const Activations& x, float* row) const {
    const EpilogueArgs& e = call.epilogue;
    const std::size_t classes = w.class_count;
    const bool plain = !e.bias && !e.residual && e.activation == Activation::none && filled * classes == call.y.cols;
    float* out = call.y.row(first + r);
    const float scale = result_scale(w, x, compute(), first + r);
    for (std::size_t panel = 0; panel < panels; ++panel)
      call.kernel().transpose(sums() + (panel * rows + r) * panel_cols, classes,
                              (std::min)(panel_cols, filled - panel * panel_cols), stride,
                              (plain ? out : row) + panel * panel_cols * classes, classes, scale);
    if (!plain) call.kernel().finish_row(e, first + r, row, call.y.cols, out);
  }
};
inline void run_block_offsets(const Call& call, const PackedWeights& w) {
  constexpr std::size_t most = 32;  // rows whose sums are still in L2 when they are put in order
  constexpr std::size_t line = 16;  // between classes, so that what is read together is not held in the same place of a cache
  const std::size_t panels = w.offset_class(0).panels(), m = call.m();
  call.workspace.sums.grow(
      checked_mul(w.class_count, checked_mul(panels * panel_cols, (std::min)(m, most), "result") + line, "result"));
  for (std::size_t first = 0; first < m; first += most) {
    const std::size_t rows = (std::min)(most, m - first);
    const BlockOffsetRows part{call, w, first, rows, panels, panels * rows * panel_cols + line};
    part.multiply();
    part.put_in_order();
  }
}

// ---- the result --------------------------------------------------------------------------------------------------------------
// Has the kernels write where y or the next product wants it, as far as they can: bfloat16 comes straight from the epilogue, int8
// needs a row's largest value, so its rows are quantized when they are complete.  Returns whether `next` is filled by that.
inline bool choose_target(Call& call, const Output& y, InputRows* next, std::size_t cols, bool epilogue_runs) {
  const std::size_t m = call.m();
  if (y.data != nullptr && y.element == Element::f32) call.y = {static_cast<float*>(y.data), m, cols, y.stride};
  const bool one_copy = next && next->form.block_offsets.copies() == 1;
  const bool floats_wanted = y.data != nullptr && y.element != Element::f32;
  if (epilogue_runs && one_copy && !floats_wanted && next->form.packed && next->form.compute == Compute::bf16 &&
      !next->form.bf16_floats) {
    start_rows<std::uint16_t>(*next, m);
    call.epilogue.bf16 = reinterpret_cast<std::uint16_t*>(next->data.data());
    call.epilogue.bf16_stride = next->form.k_padded;
    if (!call.y.data) call.y = {nullptr, m, cols};
    return true;
  }
  if (call.y.data) return false;
  if (next && next->form.compute == Compute::f32 && one_copy) {
    start_rows<float>(*next, m);
    call.y = {reinterpret_cast<float*>(next->data.data()), m, cols, next->form.k_padded};
    return true;
  }
  call.workspace.result.grow(checked_mul(m, cols, "result"));
  call.y = {call.workspace.result.data(), m, cols};
  return false;
}

// y = floats, rounded.
inline void round_rows(MatrixView<const float> floats, const Output& y, Executor& executor) {
  for_row_parts(y.rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      for (std::size_t c = 0; c < y.cols; ++c) {
        const float v = floats(r, c);
        if (y.element == Element::f16)
          static_cast<Float16*>(y.data)[r * y.stride + c] = to_float16(v);
        else
          static_cast<BFloat16*>(y.data)[r * y.stride + c] = to_bfloat16(v);
      }
  });
}

LOWBIT_FUNCTION void run(const ProductPlan& plan, const Weights& w, const Input& x, const Output& given_y, const Bias& bias,
                         const Epilogue& epilogue, const CallOptions& options) {
  const DefaultFloatEnvironment environment;
  const Output no_y(MatrixView<float>(nullptr, x.rows, w.rows()));
  const Output& y = given_y.data == nullptr && (epilogue.next || x.prepared) ? no_y : given_y;
  check_call(plan, w, x, y, bias, epilogue);
  InputRows* next = epilogue.next ? &epilogue.next->rows_in_memory() : nullptr;
  if (x.rows == 0 || w.rows() == 0) {
    if (next) next->rows = x.rows;  // not those of a product before
    return;
  }
  const WorkspaceUse workspace(options.workspace);
  Executor& executor = options.executor ? *options.executor : default_executor();
  Call call{plan, x, workspace.state(), executor, {}, {}};
  make_slots(call.workspace, executor.concurrency());
  call.epilogue.bias = bias.data();
  call.epilogue.residual = epilogue.residual.data;
  call.epilogue.residual_stride = epilogue.residual.stride;
  call.epilogue.activation = epilogue.activation;

  const bool in_classes = w.is_packed() && w.packed().block_offsets;
  const bool next_is_filled = choose_target(call, y, next, w.rows(), w.is_packed() && !in_classes);
  take_input(call);
  if (!w.is_packed())
    run_canonical(call, w.canonical(), element_bits(w.format()));
  else if (in_classes)
    run_block_offsets(call, w.packed());
  else
    run_packed(call, w.packed());
  if (y.data != nullptr && y.element != Element::f32) round_rows(call.y, y, executor);
  if (next && !next_is_filled) fill_rows(*next, next->form, call.y, call.kernel(), executor);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
