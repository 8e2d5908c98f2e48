// SPDX-License-Identifier: MIT
// --checkpoint: folders that were quantized elsewhere, and which models are made of them instead of the float model.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "examples/common/models.hpp"

namespace examples {

// A folder for each format that has one.
using Checkpoints = std::map<lowbit::Format, std::filesystem::path>;

// Looks into each folder for the format of its weights: NF4, FP4, LLM.int8() or int8 per row.
// Throws IoError and FormatError that name the file; InvalidArgument, which names the folder, if it holds floats alone, if an earlier
// one has the same format, or if none of `kinds` takes it.
Checkpoints find_checkpoints(const std::vector<std::filesystem::path>& folders, const std::vector<const ModelKind*>& kinds);

// The folder that a model of this kind is made of; null: the float model's.  int8_scratch has a folder of its own, --qat-model.
const std::filesystem::path* checkpoint_of(const Checkpoints& checkpoints, const ModelKind& kind);

}  // namespace examples
