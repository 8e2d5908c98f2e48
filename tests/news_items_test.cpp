// SPDX-License-Identifier: MIT
// The labelled news items of examples/assets are what their description says: 400, 100 of each class, none a variant of another.
#include <array>
#include <cctype>
#include <map>
#include <string>
#include <vector>

#include "lowbit/io/csv.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace news_items_test {

namespace {

// Lower-cased, split at everything that is no letter or digit of ASCII.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte))
      words.back() += static_cast<char>(std::tolower(byte));
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// The first item that shares a run of `length` words with an earlier one, as "i, j: words"; empty if there is none.
std::string shared_run(const std::vector<std::string>& texts, std::size_t length) {
  std::map<std::string, std::size_t> item_of;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::vector<std::string> words = words_of(texts[i]);
    for (std::size_t first = 0; first + length <= words.size(); ++first) {
      std::string run;
      for (std::size_t w = first; w < first + length; ++w) run += words[w] + ' ';
      const auto [place, is_new] = item_of.emplace(run, i);
      if (!is_new && place->second != i) return std::to_string(place->second) + ", " + std::to_string(i) + ": " + run;
    }
  }
  return "";
}

}  // namespace

TEST_CASE("news items: 400, 100 of each class, all with title and description") {
  const auto rows = lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv");
  REQUIRE(rows.size() == 400);
  std::array<int, 4> count{};
  for (const auto& row : rows) {
    ++count.at(static_cast<std::size_t>(row.label));
    CHECK(!row.title.empty());
    CHECK(!row.description.empty());
  }
  CHECK(count == std::array<int, 4>{100, 100, 100, 100});
}

TEST_CASE("news items: no two share a run of eight words") {
  const auto rows = lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv");
  std::vector<std::string> texts;
  for (const auto& row : rows) texts.push_back(row.title + " " + row.description);
  CHECK(shared_run(texts, 8) == "");
  // That it would be found.
  texts.push_back("Elsewhere: " + texts[7]);
  CHECK(shared_run(texts, 8) != "");
  CHECK(shared_run({"one two, THREE four", "zero one-two three"}, 3) == "0, 1: one two three ");
  CHECK(shared_run({"one two three four", "zero one two four"}, 3) == "");
}

}  // namespace news_items_test
