// SPDX-License-Identifier: MIT
// What the losses of a run depend on, as a checkpoint records it, and how it differs from what is asked for now.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "examples/common/dataset.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer_files.hpp"
#include "lowbit/io/json.hpp"
#include "examples/train_classifier/options.hpp"

namespace train_classifier {

// An entry per option.
lowbit::io::Json recipe_of(const Options& o);
// Adds what was read: the model's shape and the rows.
void add_inputs(lowbit::io::Json& recipe, const lowbit::gpt2::Config& config, const examples::Dataset& train,
                const examples::Dataset& test);

// What a checkpoint says about its run, beside the parameters.
struct Recorded {
  lowbit::io::Json recipe;
  std::optional<lowbit::gpt2::TokenizerFiles> tokenizer;  // of a model from random weights
  bool overwrite = false;                                 // the run was started with --overwrite
};
// Throws IoError, or FormatError where the file is no checkpoint of this program.
Recorded read_recorded(const std::filesystem::path& checkpoint);

// Throws FormatError that lists the entries of `recipe` that the checkpoint records otherwise, if there are any.
void require_same_run(const std::filesystem::path& checkpoint, const lowbit::io::Json& recorded, const lowbit::io::Json& recipe,
                      const Options& o);

}  // namespace train_classifier
