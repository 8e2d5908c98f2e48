// SPDX-License-Identifier: MIT
// What a run leaves: the Hugging Face folder, its INT8 twin, their accuracy as models that are loaded again, and training.json.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "examples/common/dataset.hpp"
#include "examples/train_classifier/options.hpp"
#include "examples/train_classifier/trainer.hpp"

namespace train_classifier {

// Throws IoError if `out` is missing because a program ended between the two steps of replacing it; says where it is.
void require_not_moved_aside(const std::filesystem::path& out);
// Throws IoError if o.out cannot be written, or holds what this run must not replace, with what to do about it: a model or a
// checkpoint, unless `overwrite` says so.  own: the recipe of the run whose checkpoint is there, and whose model may be; null if
// there is none yet.  Changes nothing.
void require_free_output(const Options& o, bool overwrite, const lowbit::io::Json* own);

// Puts the model into o.out, which until then is as it was: config.json, model.safetensors, the tokenizer, with --qat int8 also its
// twin in int8/, and what write(folder) adds; whole, and in the place of an old model as a whole.  Other files in o.out stay.
// write: is called with the folder in which the model lies while it is made.
void export_model(const Options& o, lowbit::qat::Transformer& model, const lowbit::gpt2::TokenizerFiles& tokenizer,
                  const std::function<void(const std::filesystem::path&)>& write);

// A model that was loaded from its folder and run on the test rows.
struct Measured {
  std::string name;  // "float", "int8 after training", "int8 in the loop"; of the model before, "before: ..."
  std::filesystem::path folder;
  std::string compute;  // what its linear layers ran as
  std::vector<std::size_t> predicted;
  std::size_t right = 0;
};
// The exported models in `made`, to be called o.out, the one that was asked for last; before them, where training went on from a
// folder, that model as it was and quantized after training. Throws Error where a model computes NaN or infinity.
std::vector<Measured> measure_models(const Options& o, const std::filesystem::path& made, const examples::Dataset& test);
// A table: accuracies with their intervals, and the last model against each of the others, on the same rows.
void print_models(const std::vector<Measured>& models, const examples::Dataset& test);

// training.json in `made`.
void write_summary(const Options& o, const std::filesystem::path& made, const lowbit::io::Json& recipe,
                   const lowbit::gpt2::Config& config, const Trainer& trainer, const examples::Dataset& train,
                   const examples::Dataset& test, const std::vector<Measured>& measured);

}  // namespace train_classifier
