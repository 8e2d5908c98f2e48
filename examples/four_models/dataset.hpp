// SPDX-License-Identifier: MIT
// The labelled texts, as token ids.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer.hpp"

namespace four_models {

struct Item {
  std::size_t label = 0;  // from 0
  std::vector<std::int32_t> ids;
};
struct Dataset {
  std::string path;
  std::vector<std::string> class_names;
  std::vector<Item> items;
  std::size_t max_tokens = 0;  // what the texts were cut to

  double mean_tokens() const;
};

// Reads a CSV of class, title, description, and encodes title + " " + description, without special tokens, cut to max_tokens and to
// the model's positions.  tokenizer_folder: vocab.json and merges.txt.  limit: how many rows to take, 0 for all.
// Throws IoError, FormatError or InvalidArgument that name the file and line or row.
Dataset read_dataset(const std::filesystem::path& csv, const std::filesystem::path& tokenizer_folder,
                     const lowbit::gpt2::Config& config, std::size_t max_tokens, std::size_t limit);
// The same with a tokenizer at hand, which fits the model (Tokenizer::require_fits).
Dataset read_dataset(const std::filesystem::path& csv, const lowbit::gpt2::Tokenizer& tokenizer, const lowbit::gpt2::Config& config,
                     std::size_t max_tokens, std::size_t limit);

}  // namespace four_models
