// SPDX-License-Identifier: MIT
// What linear.hpp promises, by way of product/.
#pragma once
#include <algorithm>
#include <string>

#include "lowbit/linear.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

LOWBIT_FUNCTION void set_up(LinearState& layer, const Bias& bias, bool pack) {
  const Weights given = layer.weights();
  require(bias.size() == 0 || bias.size() == given.rows(), [&] {
    return "linear layer: bias has " + decimal(bias.size()) + " elements, the weights are " +
           shape_string(given.rows(), given.cols());
  });
  if (bias.data() != nullptr) {
    layer.bias.reset(given.rows());
    std::copy_n(bias.data(), given.rows(), layer.bias.data());
  }
  if (pack && !layer.is_packed() && given.rows() != 0 && PackedTensor::packable(layer.canonical)) {
    layer.packed = PackedTensor::pack(layer.canonical);
    layer.canonical = {};
  }
  layer.plan = make_plan(layer.weights(), layer.options);
}
LOWBIT_FUNCTION ProductPlan plan_of(const LinearState& layer) {
  return layer.plan.kernel == &kernels() ? layer.plan : make_plan(layer.weights(), layer.options);
}
LOWBIT_FUNCTION MatmulPlan forward(const LinearState& layer, const Input& x, const Output& y, const Epilogue& epilogue,
                                   const CallOptions& call) {
  const Bias bias(layer.bias.data());
  if (layer.plan.kernel == &kernels()) {
    run(layer.plan, layer.weights(), x, y, bias, epilogue, call);
    return layer.plan.runs_as;
  }
  const ProductPlan plan = plan_of(layer);
  run(plan, layer.weights(), x, y, bias, epilogue, call);
  return plan.runs_as;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI
