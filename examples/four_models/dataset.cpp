// SPDX-License-Identifier: MIT
#include "dataset.hpp"

#include <algorithm>
#include <utility>

#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"

namespace four_models {

double Dataset::mean_tokens() const {
  std::size_t sum = 0;
  for (const Item& item : items) sum += item.ids.size();
  return items.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(items.size());
}

Dataset read_dataset(const std::filesystem::path& csv, const std::filesystem::path& tokenizer_folder,
                     const lowbit::gpt2::Config& config, std::size_t max_tokens, std::size_t limit) {
  const auto tokenizer = lowbit::gpt2::Tokenizer::load(tokenizer_folder);
  tokenizer.require_fits(config.vocab, tokenizer_folder.string());
  return read_dataset(csv, tokenizer, config, max_tokens, limit);
}

Dataset read_dataset(const std::filesystem::path& csv, const lowbit::gpt2::Tokenizer& tokenizer, const lowbit::gpt2::Config& config,
                     std::size_t max_tokens, std::size_t limit) {
  Dataset data;
  data.path = csv.string();
  data.class_names = config.class_names;
  data.max_tokens = std::min(max_tokens, config.positions);
  std::vector<lowbit::io::NewsRow> rows = lowbit::io::read_news(csv, static_cast<int>(config.classes));
  if (rows.empty()) lowbit::raise<lowbit::FormatError>(data.path + ": expected labelled rows, found none");
  if (limit != 0 && limit < rows.size()) rows.resize(limit);
  for (const auto& row : rows) {
    const auto where = [&] { return data.path + ": row " + std::to_string(data.items.size() + 1) + ": "; };
    // An empty text would still have the blank between its halves, and one blank is nothing to classify.
    if (row.title.empty() && row.description.empty())
      lowbit::raise<lowbit::FormatError>(where() + "expected a title or a description, found neither");
    Item item{static_cast<std::size_t>(row.label), tokenizer.encode(row.title + " " + row.description)};
    if (item.ids.size() > data.max_tokens) item.ids.resize(data.max_tokens);
    if (item.ids.empty()) lowbit::raise<lowbit::FormatError>(where() + "expected a text, found no token in it");
    data.items.push_back(std::move(item));
  }
  return data;
}

}  // namespace four_models
