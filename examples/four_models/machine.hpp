// SPDX-License-Identifier: MIT
// The machine that numbers were measured on.
#pragma once
#include <cstddef>
#include <string>

namespace examples {

struct Machine {
  std::string cpu, level, compiler, date;  // date: ISO 8601, UTC
  std::size_t processors = 0, threads = 0;
};

Machine this_machine(std::size_t threads);

}  // namespace examples
