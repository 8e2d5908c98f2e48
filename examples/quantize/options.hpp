// SPDX-License-Identifier: MIT
// The command line of lowbit-quantize.
#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lowbit/format/format.hpp"
#include "lowbit/io/gguf_writer.hpp"
#include "lowbit/io/tensor_view.hpp"

namespace quantize {

inline constexpr int exit_failed = 1, exit_usage = 2, exit_differs = 3;

enum class Command { quantize, dequantize, inspect, verify, gguf };
enum class Scales { absmax, search };

struct Options {
  Command command = Command::quantize;
  std::filesystem::path in, out;     // verify: the two that are compared
  std::filesystem::path against;     // inspect: the model before quantization
  std::filesystem::path offsets_of;  // a checkpoint whose offsets of double quantization are taken
  lowbit::Format format = lowbit::Format::nf4;
  lowbit::io::GgufType gguf_type = lowbit::io::GgufType::q8_0;
  std::size_t block = 64;
  bool double_quantized = true;
  Scales scales = Scales::absmax;
  std::filesystem::path calibration;  // a text; empty: no weighting
  std::size_t calibration_rows = 128;
  std::optional<lowbit::io::DType> rest;  // of everything that is not quantized; empty: as it is
  lowbit::io::DType storage = lowbit::io::DType::U8;
  std::string compute = "float32";
  std::vector<std::string> skip, only;  // patterns of module names
  std::size_t shard_bytes = 0;
  std::size_t threads = 1;
  bool overwrite = false;
  bool json = false;
};

// Reads the command line.  Returns the exit code where the program is to end at once: after --help, or wrong usage.
std::optional<int> read_options(int argc, const char* const* argv, Options& options);

}  // namespace quantize
