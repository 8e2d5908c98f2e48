// SPDX-License-Identifier: MIT
// Which cases there are, in groups: the members of a group are timed in turn, so that ratios inside it mean something.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "products.hpp"

namespace bench {

using Group = std::vector<Case>;

struct SuiteOptions {
  std::vector<std::size_t> threads = {1, 2};
  bool quick = false;              // few sizes, and only what the main tables need
  std::string openblas_core = "";  // goes into OpenBLAS' name where it was forced
};

std::vector<Group> suite(const SuiteOptions& options);

}  // namespace bench
