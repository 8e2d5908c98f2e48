// SPDX-License-Identifier: MIT
// The product: y = activation(x w^T + bias) + residual, for every format and compute type, on canonical or packed weights.
#pragma once
#include <cstddef>
#include <span>

#include "lowbit/product/run.hpp"

namespace lowbit::inline LOWBIT_ABI {

// y = activation(x w^T + bias) + residual.
// x (m, in) and y (m, out) row-major, as MatrixView of float, Float16 or BFloat16, strides in elements, not overlapping; w (out, in).
// y may be without data where only options.next is wanted.
// Order of summation: by format, compute, level and layout alone; batches and threads change no bit.  In f32 compute NaN and
// infinity follow float arithmetic; in int8 compute a row of x that holds one gives a row of NaN.
// Returns what ran.  Throws InvalidArgument if shapes do not match or the format has no such compute type.
// Thread safe; uses options.executor, or the default pool.
LOWBIT_FUNCTION MatmulPlan matmul(const Input& x, const Weights& w, const Output& y, const MatmulOptions& options = {});

// The same on contiguous floats: x holds m rows of `in`, y receives m rows of `out`.
LOWBIT_FUNCTION MatmulPlan matmul(const float* x, std::size_t m, const Weights& w, float* y, const MatmulOptions& options = {});
// The same on spans; m is x.size() / in.
LOWBIT_FUNCTION MatmulPlan matmul(std::span<const float> x, const Weights& w, std::span<float> y,
                                  const MatmulOptions& options = {});

// What matmul would run, without running it.  Throws as matmul does for a compute type that the format lacks.
LOWBIT_FUNCTION MatmulPlan plan_matmul(const Weights& w, const ComputeOptions& options = {});

// ---- input that several products read ---------------------------------------------------------------------------------------
// matmul converts its x by itself.  Who multiplies the same rows with several weights (queries, keys, values) prepares them once,
// and a product can leave its result prepared for the next one (Epilogue::next).  A matmul throws InvalidArgument if its input was
// prepared for another kind of product (compute type, level, layout, depth or block size).

// A new input in the form that products with `w` read under these options.  Weights of the same format, depth, block size and
// layout share it.
LOWBIT_FUNCTION PreparedInput input_for(const Weights& w, const ComputeOptions& options = {});
// Gives `input` that form.  Its memory is kept, its rows are not.
LOWBIT_FUNCTION void shape_input(PreparedInput& input, const Weights& w, const ComputeOptions& options = {});
// Fills `input` with the rows of x (m, in).  In f32 compute it may refer to x, which must then outlive its use.
// Throws InvalidArgument if the depth differs or x is null.
LOWBIT_FUNCTION void prepare_input(const Input& x, PreparedInput& input, Executor& executor = default_executor());
// Fills `input` with `rows` rows that make(begin, count, out) makes, out (count, in) row-major: they are converted while they are in
// cache.  make is called by several threads, in the default floating-point environment.
LOWBIT_FUNCTION void produce_input(std::size_t rows, MakeRows make, PreparedInput& input, Executor& executor = default_executor());

}  // namespace lowbit::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/matmul-inl.hpp"
#endif
