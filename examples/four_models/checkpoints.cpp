// SPDX-License-Identifier: MIT
#include "examples/four_models/checkpoints.hpp"

#include <algorithm>

#include "lowbit/io/stored_weights.hpp"
#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

namespace io = lowbit::io;
using Kind = io::StoredWeight::Kind;

// Of the first weight that is quantized.  One of another format, further on, is refused when the model is made.
lowbit::Format format_of(const std::filesystem::path& folder) {
  const io::ModelFiles files = io::ModelFiles::open(folder);
  for (const io::StoredWeight& weight : io::stored_weights(files)) {
    if (weight.kind == Kind::four_bit) return io::read_four_bit(files, weight.name).tensor.format();
    if (weight.kind == Kind::llm_int8) return lowbit::Format::llm_int8;
    if (weight.kind == Kind::int8) return lowbit::Format::int8;
  }
  lowbit::raise<lowbit::InvalidArgument>(files.location() +
                                         ": --checkpoint: expected NF4, FP4, LLM.int8() or int8 weights, found floats alone");
}

}  // namespace

Checkpoints find_checkpoints(const std::vector<std::filesystem::path>& folders, const std::vector<const ModelKind*>& kinds) {
  Checkpoints found;
  for (const std::filesystem::path& folder : folders) {
    const lowbit::Format format = format_of(folder);
    const std::string what = folder.string() + ": --checkpoint: holds " + lowbit::format_name(format) + " weights, ";
    const auto [place, first] = found.emplace(format, folder);
    if (!first) lowbit::raise<lowbit::InvalidArgument>(what + "as does " + place->second.string() + "; expected one of a format");
    const std::filesystem::path* const held = &place->second;
    if (std::none_of(kinds.begin(), kinds.end(), [&](const ModelKind* k) { return checkpoint_of(found, *k) == held; }))
      lowbit::raise<lowbit::InvalidArgument>(what + "which none of the models takes; --models " + ids_that_take(format) + " does");
  }
  return found;
}

const std::filesystem::path* checkpoint_of(const Checkpoints& checkpoints, const ModelKind& kind) {
  if (kind.id == "int8_scratch") return nullptr;
  const auto found = checkpoints.find(kind.format);
  return found == checkpoints.end() ? nullptr : &found->second;
}

}  // namespace examples
