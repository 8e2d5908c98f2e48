// SPDX-License-Identifier: MIT
// The command line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "lowbit/io/json.hpp"
#include "examples/common/models.hpp"

namespace examples {

inline constexpr int exit_failure = 1, exit_usage = 2;
inline constexpr std::size_t usual_max_tokens = 160;

// An option that does not go with the files that others name.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Options {
  std::filesystem::path model, qat_model, data, out;  // qat_model and out may be empty
  std::vector<std::filesystem::path> checkpoints;     // quantized folders of the same model
  std::vector<const ModelKind*> kinds;
  std::size_t limit = 0;   // 0: all rows
  std::size_t sample = 0;  // of those, drawn by `seed`; 0: all
  std::size_t repeat = 1;
  std::size_t threads = 0;
  std::optional<std::size_t> max_tokens;  // empty: usual_max_tokens, or the model's positions where those are fewer
  std::uint64_t seed = 1;
  Tuning tuning;
  bool synthetic = false;
  std::filesystem::path report;  // the folder of an earlier run, whose report is made again; empty: a run
  bool data_given = false;       // by --data
  bool paper = false;            // print the paper's claims, too
  bool texts = true;             // show the rows on which models disagree
  std::vector<std::string> notes;
  std::string measure_resident;  // an id, or "synthetic:" and an id: the process that another one started to weigh a model
};

// Reads the command line into `options`.  A value means that the program ends with that exit code, and has said why.
std::optional<int> read_options(int argc, const char* const* argv, Options& options);

// Everything in it that decides a number, defaults included.
lowbit::io::Json recorded(const Options& options);
// The same as a command that asks for it.
std::string as_command(const Options& options);

}  // namespace examples
