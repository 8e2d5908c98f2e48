// SPDX-License-Identifier: MIT
// The machine that numbers were measured on, and what else it was doing.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

namespace examples {

struct Machine {
  std::string cpu, level, compiler, date;  // date: ISO 8601, UTC
  std::size_t processors = 0, threads = 0;
  // Programs that ran or waited for a processor, on average over a minute, before the first model was loaded and after the last
  // row; nothing where the system does not say.
  std::optional<double> load_before, load_after;
};

Machine this_machine(std::size_t threads);

// The system's load of the last minute.
std::optional<double> load_average();

}  // namespace examples
