// SPDX-License-Identifier: MIT
// The command line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models.hpp"

namespace four_models {

inline constexpr int exit_failure = 1, exit_usage = 2;

struct Options {
  std::filesystem::path model, qat_model, data, out;  // qat_model and out may be empty
  std::vector<const ModelKind*> kinds;
  std::size_t limit = 0;  // 0: all rows
  std::size_t threads = 0;
  std::size_t max_tokens = 160;
  std::uint64_t seed = 1;
  Tuning tuning;
  bool synthetic = false;
  std::vector<std::string> notes;
  std::string measure_resident;  // an id, or "synthetic:" and an id: the process that another one started to weigh a model
};

// Reads the command line into `options`.  A value means that the program ends with that exit code, and has said why.
std::optional<int> read_options(int argc, const char* const* argv, Options& options);

}  // namespace four_models
