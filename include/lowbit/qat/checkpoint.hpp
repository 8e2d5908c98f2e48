// SPDX-License-Identifier: MIT
// A run's state in one safetensors file: every parameter with its moments, and the numbers that the run needs to go on.  What is
// random depends on the seed and on counters alone, so a resumed run has the losses of one that was never stopped.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/qat/adamw.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// What a checkpoint says that it is.
inline constexpr const char* checkpoint_kind = "lowbit training checkpoint, version 1";

// Writes "value.NAME", "first_moment.NAME" and "second_moment.NAME" for all parameters of `model`, the optimizer's step count and
// `notes`, the caller's own; whole or not at all.  Throws IoError.
template <class Model>
void save_checkpoint(const std::filesystem::path& path, Model& model, const AdamW& optimizer, const io::Metadata& notes) {
  std::vector<io::TensorToWrite> tensors;
  const auto add = [&](const char* part, const Parameter& p, const AlignedBuffer<float>& values) {
    if (!values.empty()) tensors.push_back({part + p.name, io::DType::F32, {p.rows, p.cols}, std::as_bytes(values.span())});
  };
  model.for_each_parameter([&](const Parameter& p) {
    add("value.", p, p.value);
    add("first_moment.", p, p.first_moment);
    add("second_moment.", p, p.second_moment);
  });
  io::Metadata metadata{{"kind", checkpoint_kind}, {"optimizer_steps", decimal(optimizer.steps)}};
  metadata.insert(metadata.end(), notes.begin(), notes.end());
  io::write_safetensors(path, tensors, metadata);
}

// Reads it back into a model of the same shape; returns the caller's notes.  Throws IoError, or FormatError that names the file,
// the tensor, what was expected and what was found; the model is then unchanged.
template <class Model>
io::Metadata load_checkpoint(const std::filesystem::path& path, Model& model, AdamW& optimizer) {
  const io::SafeTensors file = io::SafeTensors::open(path);
  io::Metadata notes;
  std::string kind, steps;
  for (const auto& [key, value] : file.metadata()) {
    if (key == "kind")
      kind = value;
    else if (key == "optimizer_steps")
      steps = value;
    else
      notes.emplace_back(key, value);
  }
  if (kind != checkpoint_kind)
    raise<FormatError>(path.string() + ": expected a " + checkpoint_kind + ", found " + io::in_quotes(kind));
  if (steps.empty() || steps.size() > 18 || steps.find_first_not_of("0123456789") != steps.npos)
    raise<FormatError>(path.string() + ": optimizer_steps: expected a number, found " + io::in_quotes(steps));
  model.for_each_parameter([&](const Parameter& p) {
    const bool has_moments =
        file.contains("first_moment." + p.name) || file.contains("second_moment." + p.name) || (steps != "0" && !p.frozen);
    for (const char* part : {"value.", "first_moment.", "second_moment."})
      if (has_moments || std::string(part) == "value.") {
        const io::TensorView& v = file.at(part + p.name);
        v.check_dtype(io::DType::F32);
        v.check_shape({p.rows, p.cols});
      }
  });
  model.for_each_parameter([&](Parameter& p) {
    io::read_floats(file.at("value." + p.name), p.value.span());
    for (const auto& [part, buffer] :
         {std::pair("first_moment.", &p.first_moment), std::pair("second_moment.", &p.second_moment)}) {
      *buffer = {};
      if (!file.contains(part + p.name)) continue;
      buffer->reset(p.size());
      io::read_floats(file.at(part + p.name), buffer->span());
    }
  });
  optimizer.steps = std::stoull(steps);
  return notes;
}

}  // namespace lowbit::qat::inline LOWBIT_ABI
