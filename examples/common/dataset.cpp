// SPDX-License-Identifier: MIT
#include "examples/common/dataset.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <system_error>
#include <utility>

#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"

namespace examples {

namespace {

// A pipe, or standard input.
bool is_stream(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_fifo(path, ignored) || std::filesystem::is_character_file(path, ignored);
}

}  // namespace

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
  if (is_stream(csv)) return parse_dataset(lowbit::io::read_stream(csv), csv.string(), tokenizer, config, max_tokens, limit);
  const lowbit::io::MappedFile file(csv);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  return parse_dataset(text, csv.string(), tokenizer, config, max_tokens, limit);
}

Dataset parse_dataset(std::string_view text, const std::string& name, const lowbit::gpt2::Tokenizer& tokenizer,
                      const lowbit::gpt2::Config& config, std::size_t max_tokens, std::size_t limit) {
  Dataset data;
  data.path = name;
  data.class_names = config.class_names;
  data.max_tokens = std::min(max_tokens, config.positions);
  const int classes = static_cast<int>(config.classes);
  const std::vector<lowbit::io::NewsRow> rows = lowbit::io::parse_news(text, name, classes, &data.blank_lines);
  for (std::size_t r = 0; r < rows.size() && (limit == 0 || data.items.size() < limit); ++r) {
    const lowbit::io::NewsRow& row = rows[r];
    // An empty text would still have the blank between its halves, and one blank is nothing to classify.
    if (lowbit::io::is_blank(row.title) && lowbit::io::is_blank(row.description)) {
      ++data.empty_texts;
      continue;
    }
    Item item{static_cast<std::size_t>(row.label), tokenizer.encode(row.title + " " + row.description), r};
    if (item.ids.size() > data.max_tokens) {
      item.ids.resize(data.max_tokens);
      item.cut = true;
      ++data.cut_texts;
    }
    data.items.push_back(std::move(item));
  }
  if (data.items.empty())
    lowbit::raise<lowbit::FormatError>(data.path + ": expected labelled rows with a text, found none" +
                                       (data.empty_texts == 0 ? "" : " in " + std::to_string(data.empty_texts) + " rows"));
  return data;
}

void keep_sample(Dataset& data, std::size_t count, std::uint64_t seed) {
  if (count >= data.items.size()) return;
  std::vector<std::size_t> rows(data.items.size());
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  std::mt19937_64 random(seed);  // whose numbers the standard fixes, unlike those of std::shuffle
  for (std::size_t i = 0; i < count; ++i) std::swap(rows[i], rows[i + random() % (rows.size() - i)]);
  rows.resize(count);
  std::sort(rows.begin(), rows.end());
  std::vector<Item> kept;
  data.cut_texts = 0;
  for (const std::size_t row : rows) {
    kept.push_back(std::move(data.items[row]));
    data.cut_texts += kept.back().cut;
  }
  data.items = std::move(kept);
}

}  // namespace examples
