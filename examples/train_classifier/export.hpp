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

// Writes the model to o.out, with --qat also its twin to o.out/int8.  tokenizer: the folder that has vocab.json and merges.txt.
void export_model(const Options& o, lowbit::qat::Transformer& model, const std::filesystem::path& tokenizer);

// A model that was written, loaded again and run on the test rows.
struct Measured {
  std::filesystem::path folder;
  std::string compute;  // what its linear layers ran as
  std::size_t right = 0;
};
std::vector<Measured> measure_exported(const Options& o, const four_models::Dataset& test);

void write_summary(const Options& o, const lowbit::gpt2::Config& config, const Trainer& trainer, const four_models::Dataset& train,
                   const four_models::Dataset& test, const std::vector<Measured>& measured);

}  // namespace train_classifier
