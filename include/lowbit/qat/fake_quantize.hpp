// SPDX-License-Identifier: MIT
// Fake quantization: values are rounded to the ones that codes stand for, and stay floats.
//
//   int8   scale = absmax / 127 of the row (a weight's output row, a token's activations), code = round(x / scale), half to even,
//          x' = code * scale
//   nf4    weights alone: what NF4Tensor<>, block 64 and double-quantized, decodes to
//
// Gradient (straight-through): dx = dx', and scales are held constant.  Nothing is clipped, because the absmax is the row's
// (or the block's) own, so no gradient is masked.  Rows are those that Int8Tensor and int8 compute make, code for code: the same
// kernel makes them.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lowbit/base/per_thread.hpp"
#include "lowbit/format/int8.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// What a model's linear layers are trained for.
enum class Quantization { none, int8, nf4 };
// "none", "int8" or "nf4".
constexpr const char* quantization_name(Quantization q) {
  return q == Quantization::int8 ? "int8" : q == Quantization::nf4 ? "nf4" : "none";
}

// Of one thread: the codes of a row.
struct FakeQuantizeScratch {
  AlignedBuffer<std::int8_t> codes;  // [n]
};

// out (rows, n) = fake-quantized x (rows, n); out may be x.  A row that holds NaN or infinity gives a row of NaN.
inline void fake_quantize_rows(const float* x, std::size_t rows, std::size_t n, float* out, Executor& executor) {
  lowbit::detail::for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
    const lowbit::detail::Kernels& kernel = lowbit::detail::kernels();
    const lowbit::detail::TrainingKernels& training = lowbit::detail::training_kernels();
    const lowbit::detail::PerThread<FakeQuantizeScratch> scratch;
    scratch->codes.grow(n);
    std::int8_t* const codes = scratch->codes.data();
    for (std::size_t r = begin; r < end; ++r) {
      float scale = 0;
      lowbit::detail::QuantizeRowsArgs q;
      q.x = x + r * n;
      q.m = 1;
      q.k = q.x_stride = q.k_padded = q.kc = n;
      q.codes = codes;
      q.scale = &scale;
      kernel.quantize_rows(q);
      training.decode_codes(codes, scale, out + r * n, n);
    }
  });
}

// out (rows, n) = the weights w (rows, n) as their exported form holds them; none: as they are.  Throws InvalidArgument if w is not
// finite (nf4).
inline void fake_quantize_weights(Quantization quantization, const float* w, std::size_t rows, std::size_t n, float* out,
                                  Executor& executor) {
  switch (quantization) {
    case Quantization::none: std::copy_n(w, rows * n, out); return;
    case Quantization::int8: fake_quantize_rows(w, rows, n, out, executor); return;
    case Quantization::nf4: NF4Tensor<>::quantize(w, rows, n).dequantize(out); return;
  }
}

}  // namespace lowbit::qat::inline LOWBIT_ABI
