// SPDX-License-Identifier: MIT
// How large the inputs of each linear layer of a GPT-2 are on a text: what an error of a weight costs, column by column.
#pragma once
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lowbit/parallel.hpp"

namespace quantize {

struct Calibration {
  std::size_t rows = 0, tokens = 0;                   // of the text, that the model was run over
  std::size_t cut_rows = 0, positions = 0;            // rows that were longer than the model's positions
  std::map<std::string, std::vector<float>> moments;  // by module, "h.0.attn.c_attn": mean squares of its input, [in]

  // Of a weight by its full name, whatever stands before "h."; empty for weights that are not in a block.
  const std::vector<float>& of(const std::string& weight) const;
};

// Runs the model of `folder`, in float32, over the first `rows` lines of a text that are not empty, each cut to the model's positions.
// Throws IoError and FormatError that name the file.
Calibration calibrate(const std::filesystem::path& folder, const std::filesystem::path& text, std::size_t rows,
                      lowbit::Executor& executor);

}  // namespace quantize
