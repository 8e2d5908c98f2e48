// SPDX-License-Identifier: MIT
// Training of a vocabulary: against a plain implementation that counts all pairs again before every merge, against merges worked
// out by hand, and against files that another implementation made of the same texts.
#include "lowbit/gpt2/tokenizer_training.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "lowbit/io/csv.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"

namespace tokenizer_training_test {

namespace {

namespace fs = std::filesystem;
using lowbit::InvalidArgument;
using lowbit::gpt2::Tokenizer;
using lowbit::gpt2::TokenizerFiles;
using lowbit::gpt2::TokenizerTrainer;
using lowbit_test::unsaid;
using Ids = std::vector<std::int32_t>;
using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
using Texts = std::vector<std::string>;

const fs::path mini_folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";

TokenizerFiles train(const Texts& texts, std::size_t vocab_size, std::uint64_t min_frequency = 2) {
  TokenizerTrainer trainer;
  for (const std::string& text : texts) trainer.add(text);
  return trainer.train(vocab_size, min_frequency);
}

Tokenizer load(const TokenizerFiles& files) { return Tokenizer::from_text(files.vocab_json, files.merges); }

// The lines of merges.txt after the first.
std::vector<std::string> merge_lines(const TokenizerFiles& files) {
  std::vector<std::string> lines;
  std::string_view rest = files.merges;
  const std::string_view version = "#version: 0.2\n";
  REQUIRE(rest.starts_with(version));
  for (rest.remove_prefix(version.size()); !rest.empty(); rest.remove_prefix(lines.back().size() + 1)) {
    REQUIRE(rest.find('\n') != rest.npos);
    lines.emplace_back(rest.substr(0, rest.find('\n')));
  }
  return lines;
}

// The merges as pairs of ids; the tokens that they make have the ids from 257 on.
Pairs merges(const TokenizerFiles& files) {
  const auto vocabulary = nlohmann::json::parse(files.vocab_json);
  Pairs pairs;
  for (const std::string& line : merge_lines(files)) {
    const std::string left = line.substr(0, line.find(' ')), right = line.substr(line.find(' ') + 1);
    REQUIRE(vocabulary.at(left + right) == 257 + pairs.size());
    pairs.emplace_back(vocabulary.at(left), vocabulary.at(right));
  }
  REQUIRE(vocabulary.size() == 257 + pairs.size());
  return pairs;
}

// The rule by its definition: all pairs are counted again before every merge.
struct PlainTraining {
  Pairs pairs;
  std::map<std::string, Ids> words;  // as they are in the end

  PlainTraining(const Texts& texts, std::size_t vocab_size, std::uint64_t min_frequency) {
    const Tokenizer bytes = load(TokenizerTrainer().train(257));  // without merges
    std::map<std::string, std::uint64_t> counts;
    for (std::string_view text : texts)
      while (!text.empty()) {
        const std::string word(text.substr(0, lowbit::gpt2::pre_token_length(text)));
        ++counts[word];
        words[word] = bytes.encode(word);
        text.remove_prefix(word.size());
      }
    while (257 + pairs.size() < vocab_size) {
      std::map<std::pair<std::int32_t, std::int32_t>, std::uint64_t> occurrences;
      for (const auto& [word, ids] : words)
        for (std::size_t i = 0; i + 1 < ids.size(); ++i) occurrences[{ids[i], ids[i + 1]}] += counts.at(word);
      auto best = occurrences.end();  // the map is in the order of ties
      for (auto it = occurrences.begin(); it != occurrences.end(); ++it)
        if (best == occurrences.end() || it->second > best->second) best = it;
      if (best == occurrences.end() || best->second < min_frequency) break;
      const auto joined = static_cast<std::int32_t>(257 + pairs.size());
      pairs.push_back(best->first);
      for (auto& [word, ids] : words) {
        Ids merged;
        for (std::size_t i = 0; i < ids.size(); ++i) {
          const bool here = i + 1 < ids.size() && std::pair(ids[i], ids[i + 1]) == best->first;
          merged.push_back(here ? joined : ids[i]);
          if (here) ++i;
        }
        ids = std::move(merged);
      }
    }
  }
};

// Texts of few letters, so that pairs overlap, tie and repeat.
Texts random_texts(std::mt19937& random) {
  static const std::string letters = "aaabbc \xF0\x9F\x98\x80\xFF";
  const std::size_t kinds = 1 + random() % letters.size();
  Texts texts(random() % 8);
  for (std::string& text : texts)
    for (std::size_t n = random() % 120; n > 0; --n) text += letters[random() % kinds];
  return texts;
}

}  // namespace

TEST_CASE("TokenizerTrainer: the same merges as a plain implementation, and words are encoded by them", "[tokenizer_training]") {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    const Texts texts = random_texts(random);
    const std::size_t vocab_size = 257 + random() % 60;
    const std::uint64_t min_frequency = 1 + random() % 4;
    CAPTURE(round, texts, vocab_size, min_frequency);
    const TokenizerFiles files = train(texts, vocab_size, min_frequency);
    const PlainTraining plain(texts, vocab_size, min_frequency);
    REQUIRE(merges(files) == plain.pairs);
    const Tokenizer tokenizer = load(files);
    for (const auto& [word, ids] : plain.words) REQUIRE(tokenizer.encode(word) == ids);
  }
}

TEST_CASE("TokenizerTrainer: the same merges as a plain implementation on prose", "[tokenizer_training]") {
  Texts texts;
  for (const auto& row : lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv"))
    texts.push_back(row.title + " " + row.description);
  texts.resize(100);
  const PlainTraining plain(texts, 500, 2);
  const TokenizerFiles files = train(texts, 500);
  CHECK(merges(files) == plain.pairs);
  const Tokenizer tokenizer = load(files);
  std::size_t wrong = 0;
  for (const auto& [word, ids] : plain.words) wrong += tokenizer.encode(word) != ids;
  CHECK(wrong == 0);
}

TEST_CASE("TokenizerTrainer: merges worked out by hand", "[tokenizer_training]") {
  using Lines = std::vector<std::string>;
  // Counts 5 (lo), 5 (ow), 2 (we), 2 (er): ties go to the smaller left id.  "Ġ" is the space.
  const Texts texts{"low low low lower lower"};
  CHECK(merge_lines(train(texts, 300)) == Lines{"l o", "lo w", "\u0120 low", "e r", "\u0120low er"});
  CHECK(merge_lines(train(texts, 259)) == Lines{"l o", "lo w"});
  CHECK(merge_lines(train(texts, 300, 3)) == Lines{"l o", "lo w", "\u0120 low"});
  CHECK(merge_lines(train(texts, 300, 6)).empty());
  // Neighbours are counted, joined from the left: aaaa has the pair "a a" three times and becomes two tokens.
  CHECK(merge_lines(train({"aaaa bb bb"}, 258)) == Lines{"a a"});
  CHECK(merge_lines(train({"aaaa"}, 300, 1)) == Lines{"a a", "aa aa"});
  CHECK(merge_lines(train({"aaa"}, 300, 1)) == Lines{"a a", "aa a"});
  // Equal counts: the smaller left id, then the smaller right one.
  CHECK(merge_lines(train({"ba", "ab", "ac"}, 300, 1)) == Lines{"a b", "a c", "b a"});
  // No merge crosses words, nor texts.
  CHECK(merge_lines(train({"a1a1", "b", "c", "b", "c"}, 300, 1)).empty());
}

TEST_CASE("TokenizerTrainer: the ids and spellings of the smallest vocabulary are those of the small model",
          "[tokenizer_training]") {
  const TokenizerFiles files = TokenizerTrainer().train(8192);
  CHECK(files.merges == "#version: 0.2\n");
  const auto vocabulary = nlohmann::json::parse(files.vocab_json),
             mini = nlohmann::json::parse(TokenizerFiles::read(mini_folder).vocab_json);
  CHECK(vocabulary.size() == 257);
  for (const auto& [token, id] : vocabulary.items()) {
    CAPTURE(token);
    CHECK(mini.at(token) == id);
  }
  CHECK(files.end_of_text() == TokenizerTrainer::end_of_text);
  CHECK(vocabulary.at("<|endoftext|>") == TokenizerTrainer::end_of_text);
}

TEST_CASE("TokenizerTrainer: the small model's files, from the texts they were made of", "[tokenizer_training]") {
  const fs::path packed = lowbit::testing::shared_dir() / "data/ag_news_train.csv.xz";
  const lowbit_test::Folder folder;
  const fs::path csv = folder / "train.csv";
  if (lowbit::testing::shared_dir().empty() || !fs::exists(packed) ||
      std::system(("xz -dc '" + packed.string() + "' > '" + csv.string() + "'").c_str()) != 0) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR, and install xz");
    return;
  }
  TokenizerTrainer trainer;
  for (const auto& row : lowbit::io::read_news(csv)) trainer.add(row.title + " " + row.description);
  const TokenizerFiles files = trainer.train(8192), expected = TokenizerFiles::read(mini_folder);
  CHECK((files.vocab_json == expected.vocab_json));
  CHECK((files.merges == expected.merges));
}

TEST_CASE("TokenizerTrainer: the order of the texts changes nothing", "[tokenizer_training]") {
  std::mt19937 random(11);
  Texts texts;
  for (int i = 0; i < 20; ++i)
    for (std::string& text : random_texts(random)) texts.push_back(std::move(text));
  const TokenizerFiles files = train(texts, 400);
  for (int i = 0; i < 5; ++i) {
    std::shuffle(texts.begin(), texts.end(), random);
    const TokenizerFiles again = train(texts, 400);
    CHECK(again.vocab_json == files.vocab_json);
    CHECK(again.merges == files.merges);
  }
  // One trainer, several vocabularies, in several threads; a smaller one is the beginning of a larger one.
  TokenizerTrainer trainer;
  for (const std::string& text : texts) trainer.add(text);
  std::vector<TokenizerFiles> results(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < results.size(); ++i)
    threads.emplace_back([&trainer, &results, i] { results[i] = trainer.train(270 + 10 * i); });
  for (std::thread& thread : threads) thread.join();
  for (const TokenizerFiles& result : results) CHECK(files.merges.starts_with(result.merges));
}

TEST_CASE("TokenizerTrainer: files that a Tokenizer loads, for any bytes", "[tokenizer_training]") {
  std::string every_byte;
  for (int b = 0; b < 256; ++b) every_byte.push_back(static_cast<char>(b));
  const Texts texts{"The \U0001F680 and the \U0001F680\U0001F680",
                    "na\u00EFve caf\u00E9 \u65E5\u672C\u8A9E \u65E5\u672C\u8A9E",
                    "\xFF\xFE\xFF\xFE \xC3\xC3 \"\\\"",
                    every_byte,
                    every_byte,
                    "<|endoftext|>",
                    "<|endoftext|>"};
  const TokenizerFiles files = train(texts, 2000);
  const lowbit_test::Folder folder;
  const fs::path path = folder / "a/new/folder";
  files.write(path);
  const Tokenizer tokenizer = Tokenizer::load(path);
  CHECK(tokenizer.vocab_size() == 257 + merge_lines(files).size());
  for (std::string text : texts) {
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    std::reverse(text.begin(), text.end());
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
  CHECK(tokenizer.encode(" \U0001F680").size() == 1);
  CHECK(tokenizer.decode(Ids{0}) == "<|endoftext|>");
  CHECK(tokenizer.encode("<|endoftext|>").size() == 3);  // no text makes the special token

  const TokenizerFiles read = TokenizerFiles::read(path);
  CHECK(read.vocab_json == files.vocab_json);
  CHECK(read.merges == files.merges);
  CHECK(lowbit_test::file_names(folder) == std::vector<std::string>{"a"});
  CHECK_THROWS_AS(TokenizerFiles::read(folder.path()), lowbit::IoError);
  CHECK(unsaid<lowbit::IoError>([&] { files.write(path / "vocab.json"); },
                                {(path / "vocab.json").string(), "cannot make the folder"}) == "");
  CHECK_FALSE(TokenizerFiles{"{\"a\":0}", ""}.end_of_text().has_value());
  CHECK_THROWS_AS((TokenizerFiles{"[]", ""}.end_of_text()), lowbit::FormatError);
}

TEST_CASE("TokenizerTrainer: arguments that make no vocabulary", "[tokenizer_training]") {
  TokenizerTrainer trainer;
  trainer.add("some text");
  for (const std::size_t size : {std::size_t{0}, std::size_t{256}, std::size_t{1} << 31})
    CHECK(unsaid<InvalidArgument>([&] { static_cast<void>(trainer.train(size)); },
                                  {"vocab_size: expected 257", "to 2147483647, found " + std::to_string(size)}) == "");
  CHECK(unsaid<InvalidArgument>([&] { static_cast<void>(trainer.train(300, 0)); }, {"min_frequency: expected at least 1"}) == "");
  CHECK(merges(trainer.train(257)).empty());
  // Early end, an empty text, an empty corpus.
  trainer.add("");
  CHECK(merges(trainer.train(2147483647, 1)).size() == 7);  // "some" and " text" become tokens
  CHECK(merges(TokenizerTrainer().train(300, 1)).empty());
}

TEST_CASE("TokenizerTrainer: a word of 200 kB takes no quadratic time", "[tokenizer_training]") {
  std::mt19937 random(5);
  std::string word;
  while (word.size() < 200'000) word.push_back(static_cast<char>('a' + random() % 8));
  for (const std::string& text : {word, std::string(200'000, 'x')}) {
    const auto start = std::chrono::steady_clock::now();
    const TokenizerFiles files = train({text}, 4000);
    // About 0.2 s optimised; looking at the whole word again for every merge would take a hundred times as long.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
    CHECK(load(files).decode(load(files).encode(text)) == text);
  }
}

}  // namespace tokenizer_training_test
