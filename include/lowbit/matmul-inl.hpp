// SPDX-License-Identifier: MIT
// What matmul.hpp promises, by way of product/.
#pragma once
#include <string>

#include "lowbit/matmul.hpp"

namespace lowbit::inline LOWBIT_ABI {

LOWBIT_FUNCTION MatmulPlan matmul(const Input& x, const Weights& w, const Output& y, const MatmulOptions& options) {
  const detail::ProductPlan plan = detail::make_plan(w, options);
  detail::run(plan, w, x, y, options.bias, options, options);
  return plan.runs_as;
}
LOWBIT_FUNCTION MatmulPlan matmul(const float* x, std::size_t m, const Weights& w, float* y, const MatmulOptions& options) {
  return matmul(MatrixView<const float>(x, m, w.cols()), w, MatrixView<float>(y, m, w.rows()), options);
}
LOWBIT_FUNCTION MatmulPlan matmul(std::span<const float> x, const Weights& w, std::span<float> y, const MatmulOptions& options) {
  const std::size_t m = w.cols() == 0 ? 0 : x.size() / w.cols();
  require(x.size() == m * w.cols() && y.size() == m * w.rows(), [&] {
    return "matmul: spans of " + decimal(x.size()) + " and " + decimal(y.size()) + " floats do not hold rows of " +
           decimal(w.cols()) + " and " + decimal(w.rows());
  });
  return matmul(x.data(), m, w, y.data(), options);
}
LOWBIT_FUNCTION MatmulPlan plan_matmul(const Weights& w, const ComputeOptions& options) {
  return detail::make_plan(w, options).runs_as;
}

LOWBIT_FUNCTION void shape_input(PreparedInput& input, const Weights& w, const ComputeOptions& options) {
  input.rows_in_memory().form = detail::make_plan(w, options).form;
  input.rows_in_memory().rows = 0;
}
LOWBIT_FUNCTION PreparedInput input_for(const Weights& w, const ComputeOptions& options) {
  PreparedInput input;
  shape_input(input, w, options);
  return input;
}
LOWBIT_FUNCTION void prepare_input(const Input& x, PreparedInput& input, Executor& executor) {
  require(x.cols == input.cols() && x.stride >= x.cols && !x.prepared, [&] {
    return "prepare_input: x is " + shape_string(x.rows, x.cols) + ", the input was made for a depth of " + decimal(input.cols());
  });
  require(x.rows == 0 || x.cols == 0 || x.data != nullptr,
          [&] { return "prepare_input: x " + shape_string(x.rows, x.cols) + " is null"; });
  const detail::DefaultFloatEnvironment environment;
  detail::InputRows& rows = input.rows_in_memory();
  detail::fill_from(rows, rows.form, x, detail::kernels(), executor);
}
LOWBIT_FUNCTION void produce_input(std::size_t rows, MakeRows make, PreparedInput& input, Executor& executor) {
  const detail::DefaultFloatEnvironment environment;
  detail::InputRows& to = input.rows_in_memory();
  detail::make_rows(to, to.form, rows, detail::kernels(), executor, make);
}

}  // namespace lowbit::inline LOWBIT_ABI
