// SPDX-License-Identifier: MIT
// The labelled texts, as token ids.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/gpt2/tokenizer.hpp"

namespace examples {

struct Item {
  std::size_t label = 0;  // from 0
  std::vector<std::int32_t> ids;
  std::size_t row = 0;  // its place in the file, from 0; rows that were skipped count
  bool cut = false;     // the text was longer
};
struct Dataset {
  std::string path;
  std::vector<std::string> class_names;
  std::vector<Item> items;
  std::size_t max_tokens = 0;   // what the texts were cut to
  std::size_t cut_texts = 0;    // how many were longer
  std::size_t empty_texts = 0;  // rows without a text, which are skipped
  std::size_t blank_lines = 0;  // lines without a row, which are skipped too

  double mean_tokens() const;
};

// Reads a CSV of class, title, description, and encodes title + " " + description, without special tokens, cut to max_tokens and to
// the model's positions.  Rows without a text are skipped.  csv: a file, or a pipe, which is read to its end.
// tokenizer_folder: vocab.json and merges.txt.  limit: how many rows with a text to take, 0 for all.
// Throws IoError, FormatError or InvalidArgument that name the file and line.
Dataset read_dataset(const std::filesystem::path& csv, const std::filesystem::path& tokenizer_folder,
                     const lowbit::gpt2::Config& config, std::size_t max_tokens, std::size_t limit);
// The same with a tokenizer at hand, which fits the model (Tokenizer::require_fits).
Dataset read_dataset(const std::filesystem::path& csv, const lowbit::gpt2::Tokenizer& tokenizer, const lowbit::gpt2::Config& config,
                     std::size_t max_tokens, std::size_t limit);
// The same of the text of a CSV; `name` stands for it in messages.
Dataset parse_dataset(std::string_view text, const std::string& name, const lowbit::gpt2::Tokenizer& tokenizer,
                      const lowbit::gpt2::Config& config, std::size_t max_tokens, std::size_t limit);

// Leaves `count` of the rows, drawn without replacement by `seed`, in their order.  All of them if there are no more.
void keep_sample(Dataset& data, std::size_t count, std::uint64_t seed);

}  // namespace examples
