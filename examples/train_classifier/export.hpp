// SPDX-License-Identifier: MIT
// What a run leaves: the Hugging Face folder, its INT8 twin, their accuracy as models that are loaded again, and training.json.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "../four_models/dataset.hpp"
#include "options.hpp"
#include "trainer.hpp"

namespace train_classifier {

// Writes the model to o.out, with --qat int8 also its twin to o.out/int8.  tokenizer: the folder that has vocab.json and
// merges.txt.
void export_model(const Options& o, lowbit::qat::Transformer& model, const std::filesystem::path& tokenizer);

// A model that was loaded from its folder and run on the test rows.
struct Measured {
  std::string name;  // "float", "int8 after training", "int8 in the loop"; of the model before, "before: ..."
  std::filesystem::path folder;
  std::string compute;  // what its linear layers ran as
  std::vector<std::size_t> predicted;
  std::size_t right = 0;
};
// The exported models, the one that was asked for last; before them, where training went on from a folder, that model as it was and
// quantized after training.
std::vector<Measured> measure_models(const Options& o, const four_models::Dataset& test);
// A table: accuracies with their intervals, and the last model against each of the others, on the same rows.
void print_models(const std::vector<Measured>& models, const four_models::Dataset& test);

void write_summary(const Options& o, const lowbit::gpt2::Config& config, const Trainer& trainer, const four_models::Dataset& train,
                   const four_models::Dataset& test, const std::vector<Measured>& measured);

}  // namespace train_classifier
