// SPDX-License-Identifier: MIT
// Where the time of a training run went, and how near its products came to the library's own float product.
#pragma once
#include <cstddef>

#include "lowbit/qat/operator_times.hpp"

namespace train_classifier {

// The speed of a large f32 product (1024 x 1536 x 768) on `threads` threads, measured now, in FLOP/s: the best of several.
double product_limit(std::size_t threads);
// A table by operator: share of the time, GFLOP/s, share of that limit.
void print_profile(const lowbit::qat::OperatorTimes& times, std::size_t threads);

}  // namespace train_classifier
