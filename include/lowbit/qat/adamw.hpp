// SPDX-License-Identifier: MIT
// AdamW (Loshchilov and Hutter: weight decay apart from the gradient), clipping by the gradient's norm, and the learning rate's
// schedule: linear up, linear down.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/qat/operators.hpp"
#include "lowbit/qat/parameter.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// The rate of step `step` (from 0) of `total`: rises linearly to `peak` over the first `warmup` steps, then falls linearly to
// `last` * peak at the end.
inline double scheduled_rate(std::uint64_t step, std::uint64_t warmup, std::uint64_t total, double peak, double last = 0) {
  const lowbit::detail::DefaultFloatEnvironment environment;
  const auto at = static_cast<double>(step);
  if (step < warmup) return peak * (at + 1) / static_cast<double>(warmup);
  if (total <= warmup) return peak;
  const double left = (std::max)(0.0, 1 - (at - static_cast<double>(warmup)) / static_cast<double>(total - warmup));
  return peak * (last + (1 - last) * left);
}

// The optimizer: Adam with decoupled weight decay (Loshchilov and Hutter).
struct AdamW {
  float beta1 = 0.9f, beta2 = 0.98f, epsilon = 1e-8f;  // of the moments; added to the root
  float weight_decay = 0.01f;                          // of matrices; biases and norms do not decay
  float clip = 1;                                      // largest norm of the gradient over all parameters; 0: none
  std::uint64_t steps = 0;                             // taken

  // One step on all parameters of `model` that are not frozen, with their gradients as they are.  Returns the gradient's norm
  // before clipping; where it is not finite, nothing is changed.
  template <class Model>
  double step(Model& model, double rate, Executor& executor) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    std::vector<Parameter*> parameters;
    model.for_each_parameter([&](Parameter& p) {
      if (!p.frozen) parameters.push_back(&p);
    });
    double squares = 0;
    for (const Parameter* p : parameters) squares += sum_of_squares(*p, executor);
    const double norm = std::sqrt(squares);
    if (!std::isfinite(norm)) return norm;
    ++steps;
    const auto t = static_cast<double>(steps);
    lowbit::detail::AdamWArgs a;
    a.gradient_scale = clip > 0 && norm > static_cast<double>(clip) ? static_cast<float>(static_cast<double>(clip) / norm) : 1.0f;
    a.beta1 = beta1;
    a.beta2 = beta2;
    a.rate = static_cast<float>(rate / (1 - std::pow(static_cast<double>(beta1), t)));
    a.v_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(beta2), t)));
    a.epsilon = epsilon;
    for (Parameter* p : parameters) {
      if (p->first_moment.empty()) p->first_moment.reset(p->size());
      if (p->second_moment.empty()) p->second_moment.reset(p->size());
      a.decay = p->decays ? static_cast<float>(rate * static_cast<double>(weight_decay)) : 0.0f;
      detail::for_runs(p->size(), detail::float_grain, executor, [&](std::size_t begin, std::size_t end) {
        lowbit::detail::AdamWArgs part = a;
        part.w = p->value.data() + begin;
        part.gradient = p->gradient.data() + begin;
        part.m = p->first_moment.data() + begin;
        part.v = p->second_moment.data() + begin;
        part.n = end - begin;
        lowbit::detail::training_kernels().adamw(part);
      });
    }
    return norm;
  }

 private:
  static double sum_of_squares(const Parameter& p, Executor& executor) {
    std::vector<double> sums(ceil_div(p.size(), detail::float_grain));
    detail::for_runs(p.size(), detail::float_grain, executor, [&](std::size_t begin, std::size_t end) {
      double lane[8] = {};  // eight sums hide the additions' latency
      for (std::size_t i = begin; i < end; ++i)
        lane[i % 8] += static_cast<double>(p.gradient[i]) * static_cast<double>(p.gradient[i]);
      for (const double l : lane) sums[begin / detail::float_grain] += l;
    });
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
  }
};

}  // namespace lowbit::qat::inline LOWBIT_ABI
