// SPDX-License-Identifier: MIT
// The tokenizer against token ids that two other implementations agree on, against a plain implementation of the merges, and
// against pre-tokens cut by hand.
#include "lowbit/gpt2/byte_pairs.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_files.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "lowbit/io/csv.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/sizes.hpp"

namespace tokenizer_test {

namespace {

namespace fs = std::filesystem;
using lowbit::gpt2::Tokenizer;
using Ids = std::vector<std::int32_t>;

const fs::path mini_folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";

const Tokenizer& mini() {
  static const Tokenizer tokenizer = Tokenizer::load(mini_folder);
  return tokenizer;
}

std::vector<std::string> pre_tokens(std::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const std::size_t bytes = lowbit::gpt2::pre_token_length(text);
    REQUIRE(bytes > 0);
    REQUIRE(bytes <= text.size());
    pieces.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return pieces;
}

// By arithmetic, not by the library that the tokenizer uses.
std::string utf8(std::uint32_t c) {
  const auto tail = [c](unsigned shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
}

// The merges as OpenAI's encoder does them: all pairs of the lowest rank at once, on strings.
class PlainMerges {
 public:
  PlainMerges() : ids_(nlohmann::json::parse(lowbit_test::read_bytes((mini_folder / "vocab.json").string()))) {
    std::ifstream file(mini_folder / "merges.txt");
    std::string left, right;
    std::getline(file, left);
    for (std::size_t rank = 0; file >> left >> right; ++rank) ranks_[{left, right}] = rank;
    REQUIRE(ranks_.size() == 7935);
  }

  // `word`: one pre-token of visible ASCII characters, which stand for themselves in the files.
  Ids encode(const std::string& word) const {
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    for (;;) {
      auto best = ranks_.end();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks_.find({parts[i], parts[i + 1]});
        if (found != ranks_.end() && (best == ranks_.end() || found->second < best->second)) best = found;
      }
      if (best == ranks_.end()) break;
      std::vector<std::string> joined;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        const bool here = i + 1 < parts.size() && parts[i] == best->first.first && parts[i + 1] == best->first.second;
        joined.push_back(here ? parts[i] + parts[i + 1] : parts[i]);
        if (here) ++i;
      }
      parts = std::move(joined);
    }
    Ids ids;
    for (const std::string& part : parts) ids.push_back(ids_.at(part).get<std::int32_t>());
    return ids;
  }

 private:
  nlohmann::json ids_;
  std::map<std::pair<std::string, std::string>, std::size_t> ranks_;
};

std::string random_word(std::mt19937& random, std::size_t size) {
  // Vowels often, so that long merges happen.
  static constexpr char letters[] = "aeioutnshrdlcumwfgypbvkAEIOSTN";
  std::string word;
  while (word.size() < size) word.push_back(letters[random() % (sizeof letters - 1)]);
  return word;
}

// A vocabulary of the 256 single bytes, in their order, and of `more` with the ids that follow.
nlohmann::json bytes_vocabulary(std::initializer_list<const char*> more = {}) {
  nlohmann::json vocabulary = nlohmann::json::object();
  std::uint32_t next = 0x100;
  for (std::uint32_t b = 0; b < 256; ++b) {
    const bool hidden = b <= 0x20 || (b >= 0x7F && b <= 0xA0) || b == 0xAD;
    vocabulary[utf8(hidden ? next++ : b)] = b;
  }
  for (const char* token : more) vocabulary[token] = vocabulary.size();
  return vocabulary;
}

template <class E>
std::string message_of(std::string_view vocabulary, std::string_view merges) {
  try {
    Tokenizer::from_text(vocabulary, merges, "v.json", "m.txt");
  } catch (const E& e) {
    return e.what();
  }
  return "no error";
}

void check_cases(const Tokenizer& tokenizer, const nlohmann::json& cases, const char* ids) {
  REQUIRE(cases.size() == 201);
  for (const auto& entry : cases) {
    const auto text = entry.at("text").get<std::string>();
    CAPTURE(text);
    CHECK(tokenizer.encode(text) == entry.at(ids).get<Ids>());
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

nlohmann::json read_json(const fs::path& path) { return nlohmann::json::parse(lowbit_test::read_bytes(path.string())); }

// title + " " + description of every row, under LOWBIT_SHARED_DIR, against ids and offsets of the whole file.
void check_ag_news(const Tokenizer& tokenizer, const std::string& name) {
  const auto rows = lowbit::io::read_news(lowbit::testing::shared_dir() / "data/ag_news_test.csv");
  const lowbit_test::GoldenFile golden((lowbit::testing::shared_dir() / "golden/ag_news_test_tokens.safetensors").string());
  REQUIRE(rows.size() == 7600);
  Ids ids;
  std::vector<std::int64_t> offsets{0};
  std::string all;
  for (const auto& row : rows) {
    const std::string text = row.title + " " + row.description;
    tokenizer.encode(text, ids);
    offsets.push_back(static_cast<std::int64_t>(ids.size()));
    all += text;
  }
  CHECK((ids == golden.get<std::int32_t>(name + ".ids", "I32")));
  CHECK((offsets == golden.get<std::int64_t>(name + ".offsets", "I64")));
  CHECK((tokenizer.decode(ids) == all));
}

}  // namespace

TEST_CASE("Tokenizer: the golden cases with the small vocabulary", "[tokenizer]") {
  CHECK(mini().vocab_size() == 8192);
  check_cases(mini(), read_json(lowbit::testing::data_dir() / "tokenizer_cases_mini.json"), "mini_ids");
}

TEST_CASE("Tokenizer: all rows of AG News with the small vocabulary", "[tokenizer]") {
  if (lowbit::testing::shared_dir().empty()) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR");
    return;
  }
  check_cases(mini(), read_json(lowbit::testing::shared_dir() / "golden/tokenizer_cases.json"), "mini_ids");
  check_ag_news(mini(), "mini");
}

TEST_CASE("Tokenizer: the golden cases and all rows of AG News with GPT-2's vocabulary", "[tokenizer][.full]") {
  if (lowbit::testing::shared_dir().empty() || lowbit::testing::models_dir().empty()) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
    return;
  }
  const Tokenizer gpt2 = Tokenizer::load(lowbit::testing::models_dir() / "gpt2-small-ag-news");
  CHECK(gpt2.vocab_size() == 50257);
  check_cases(gpt2, read_json(lowbit::testing::shared_dir() / "golden/tokenizer_cases.json"), "ids");
  check_ag_news(gpt2, "gpt2");
}

TEST_CASE("Pre-tokens: words, numbers, contractions", "[tokenizer]") {
  using Pieces = std::vector<std::string>;
  CHECK(pre_tokens("").empty());
  CHECK(pre_tokens("Hello, world!") == Pieces{"Hello", ",", " world", "!"});
  CHECK(pre_tokens("abc123 4.5x") == Pieces{"abc", "123", " 4", ".", "5", "x"});
  CHECK(pre_tokens("don't we've I'm you'll he'd she's they're") ==
        Pieces{"don", "'t", " we", "'ve", " I", "'m", " you", "'ll", " he", "'d", " she", "'s", " they", "'re"});
  // Only lower case, only after nothing that takes the apostrophe first, and without a look at what follows.
  CHECK(pre_tokens("DON'T I'M") == Pieces{"DON", "'", "T", " I", "'", "M"});
  CHECK(pre_tokens("'tis 's '' !'s") == Pieces{"'t", "is", " '", "s", " ''", " !'", "s"});
  CHECK(pre_tokens("'") == Pieces{"'"});
  CHECK(pre_tokens("'r'v'l") == Pieces{"'", "r", "'", "v", "'", "l"});
  CHECK(pre_tokens("it\u2019s") == Pieces{"it", "\u2019", "s"});
  CHECK(pre_tokens("a_b -- <|endoftext|>") == Pieces{"a", "_", "b", " --", " <|", "endoftext", "|>"});
}

TEST_CASE("Pre-tokens: white space", "[tokenizer]") {
  using Pieces = std::vector<std::string>;
  CHECK(pre_tokens(" ") == Pieces{" "});
  CHECK(pre_tokens("  ") == Pieces{"  "});
  const std::vector<char> blank{' '};  // no NUL behind it: a sanitizer sees a look beyond the end
  CHECK(pre_tokens({blank.data(), 1}) == Pieces{" "});
  CHECK(pre_tokens("a ") == Pieces{"a", " "});
  CHECK(pre_tokens("a   b") == Pieces{"a", "  ", " b"});
  CHECK(pre_tokens("a \n b") == Pieces{"a", " \n", " b"});
  CHECK(pre_tokens("a\n\nb") == Pieces{"a", "\n", "\n", "b"});
  CHECK(pre_tokens("a\nb\r\n") == Pieces{"a", "\n", "b", "\r\n"});
  CHECK(pre_tokens("\u00A0\u00A0x") == Pieces{"\u00A0", "\u00A0", "x"});
  CHECK(pre_tokens(" \u3000x \u3000") == Pieces{" ", "\u3000", "x", " \u3000"});

  // Between two letters, a white-space character other than ' ' is a piece of its own, and anything else that is neither letter
  // nor number is too; the class decides only how it goes together with '!'.
  for (const std::uint32_t c :
       {0x09U,   0x0AU,   0x0BU,   0x0CU,   0x0DU,   0x85U,   0xA0U,   0x1680U, 0x2000U, 0x2001U, 0x2002U, 0x2003U,
        0x2004U, 0x2005U, 0x2006U, 0x2007U, 0x2008U, 0x2009U, 0x200AU, 0x2028U, 0x2029U, 0x202FU, 0x205FU, 0x3000U}) {
    CAPTURE(c);
    CHECK(pre_tokens("!" + utf8(c) + "!") == Pieces{"!", utf8(c), "!"});
  }
  for (const std::uint32_t c : {0x00U, 0x08U, 0x0EU, 0x1CU, 0x1DU, 0x1EU, 0x1FU, 0x7FU, 0xADU, 0x180EU, 0x200BU, 0x200CU, 0x200DU,
                                0x200EU, 0x2060U, 0x2800U, 0xFEFFU}) {
    CAPTURE(c);
    CHECK(pre_tokens("!" + utf8(c) + "!") == Pieces{"!" + utf8(c) + "!"});
  }
}

TEST_CASE("Pre-tokens: categories of Unicode", "[tokenizer]") {
  using lowbit::gpt2::character_class;
  using lowbit::gpt2::CharacterClass;
  // Lu, Ll, Lt, Lm, Lo, in several planes.
  for (const std::int32_t c : {0xC9, 0xE9, 0x1C5, 0x2B0, 0xAA, 0x5D0, 0x915, 0x4E00, 0xAC00, 0x10348, 0x1D49C, 0x2070E}) {
    CAPTURE(c);
    CHECK(character_class(c) == CharacterClass::letter);
  }
  // Nd, Nl, No.
  for (const std::int32_t c : {0x661, 0xFF11, 0x1D7CE, 0x2167, 0x3007, 0xB2, 0xBD, 0x2460, 0x10107}) {
    CAPTURE(c);
    CHECK(character_class(c) == CharacterClass::number);
  }
  // Mn, Mc, Me, Pc, Sm, So, Cf, Co, Cn (for good), and what is no character.
  for (const std::int32_t c : {0x301, 0x903, 0x20E3, 0x203F, 0xD7, 0x1F600, 0x200D, 0xE000, 0xFDD0, 0x10FFFF, -1}) {
    CAPTURE(c);
    CHECK(character_class(c) == CharacterClass::other);
  }
  using Pieces = std::vector<std::string>;
  // A combining mark ends a word.
  CHECK(pre_tokens("e\u0301a") == Pieces{"e", "\u0301", "a"});
  CHECK(pre_tokens(" \U0001F468\u200D\U0001F469 1\uFE0F\u20E3") == Pieces{" \U0001F468\u200D\U0001F469", " 1", "\uFE0F\u20E3"});
}

TEST_CASE("Pre-tokens: ill-formed UTF-8 goes with the punctuation, byte by byte", "[tokenizer]") {
  using Pieces = std::vector<std::string>;
  CHECK(pre_tokens("a\xFF"
                   "b") == Pieces{"a", "\xFF", "b"});
  CHECK(pre_tokens(" \xFF\xFE! x") == Pieces{" \xFF\xFE!", " x"});
  CHECK(pre_tokens("  \x80") == Pieces{" ", " \x80"});
  // Cut short: by the end, by ASCII (which keeps its meaning), by another sequence.
  CHECK(pre_tokens("a\xE2\x82") == Pieces{"a", "\xE2\x82"});
  CHECK(pre_tokens("\xE2\x82z") == Pieces{"\xE2\x82", "z"});
  CHECK(pre_tokens("\xF0\x9F\x98 ") == Pieces{"\xF0\x9F\x98", " "});
  CHECK(pre_tokens("\xC3\xC3\xA9") == Pieces{"\xC3", "\u00E9"});
  // Overlong spaces and letters, surrogates, beyond the last plane: not what they would stand for.
  CHECK(pre_tokens("!\xC0\xA0!") == Pieces{"!\xC0\xA0!"});
  CHECK(pre_tokens("!\xE0\x81\xA1!") == Pieces{"!\xE0\x81\xA1!"});
  CHECK(pre_tokens("!\xED\xA0\x80!") == Pieces{"!\xED\xA0\x80!"});
  CHECK(pre_tokens("!\xF4\x90\x80\x80!") == Pieces{"!\xF4\x90\x80\x80!"});
  CHECK(pre_tokens("!\xF8\x88\x80\x80\x80!") == Pieces{"!\xF8\x88\x80\x80\x80!"});
}

TEST_CASE("Tokenizer: decode undoes encode for every byte string", "[tokenizer]") {
  std::mt19937 random(20240);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  const std::vector<std::string> snippets = {" ",      "  ",     "\n",     "\r\n", "\t",   "\u00A0", "\u3000", "\u2028", "\u200D",
                                             "\uFE0F", "'s",     "'LL",    "'re",  "'",    "a",      "The",    "42",     "!",
                                             "\u00E9", "\u0301", "\u4E2D", "\xFF", "\xE2", "\x80",   "\xF0"};
  std::size_t failures = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (std::uint32_t n = below(30); n > 0; --n) {
      switch (below(4)) {
        case 0: {
          std::uint32_t c = below(0x110000 - 0x800);
          if (c >= 0xD800) c += 0x800;
          text += utf8(c);
          break;
        }
        case 1: text += utf8(0x1F300 + below(0x400)); break;
        case 2: text += static_cast<char>(below(256)); break;
        default: text += snippets[below(static_cast<std::uint32_t>(snippets.size()))];
      }
    }
    const Ids ids = mini().encode(text);
    if (mini().decode(ids) != text) ++failures;
    for (const std::int32_t id : ids) failures += id < 0 || id >= 8192;
  }
  CHECK(failures == 0);

  std::string all_bytes;
  for (int b = 0; b < 256; ++b) all_bytes.push_back(static_cast<char>(b));
  CHECK(mini().decode(mini().encode(all_bytes)) == all_bytes);
}

TEST_CASE("Tokenizer: merges agree with a plain implementation", "[tokenizer]") {
  const PlainMerges plain;
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    const std::string word = random_word(random, 1 + random() % 40);
    CAPTURE(word);
    REQUIRE(mini().encode(word) == plain.encode(word));
  }
  // Pairs that overlap, and words of many symbols.
  for (const std::size_t n : {1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 257U})
    for (const char c : {'e', 'o', '0', '.'}) REQUIRE(mini().encode(std::string(n, c)) == plain.encode(std::string(n, c)));
  const std::string word = random_word(random, 1000);
  REQUIRE(mini().encode(word) == plain.encode(word));
}

TEST_CASE("Tokenizer: a word of 200 kB takes no quadratic time", "[tokenizer]") {
  std::mt19937 random(5);
  for (const std::string& word : {random_word(random, 200'000), std::string(200'000, '.'), std::string(200'000, ' ')}) {
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = mini().encode(word);
    // About 0.1 s optimised and 1 s with sanitizers; two nested loops over the word would take minutes.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
    CHECK(ids.size() < word.size());
    CHECK((mini().decode(ids) == word));
  }
}

TEST_CASE("Tokenizer: one tokenizer serves many threads", "[tokenizer]") {
  const std::string text = "The Race is On: Second Private Team Sets Launch Date for Human Spaceflight \u2014 \u65E5\u672C\u8A9E";
  const Ids expected = mini().encode(text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&count, &expected, &text] {
      for (int i = 0; i < 200; ++i) count += mini().encode(text) != expected || mini().decode(expected) != text;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("Tokenizer: encode appends, decode takes any known id", "[tokenizer]") {
  Ids ids{7};
  mini().encode("a", ids);
  CHECK(ids == Ids{7, 65});
  mini().encode("", ids);
  CHECK(ids.size() == 2);
  CHECK(mini().decode(Ids{}).empty());
  CHECK(mini().decode(Ids{0}) == "<|endoftext|>");
  CHECK_THROWS_AS(mini().decode(Ids{8192}), lowbit::InvalidArgument);
  CHECK_THROWS_AS(mini().decode(Ids{-1}), lowbit::InvalidArgument);
}

TEST_CASE("Tokenizer: what the two files may hold", "[tokenizer]") {
  auto vocabulary = bytes_vocabulary({"ab", "abc", "\u0120a"});
  // The order of the lines decides: "b c" first leaves no "ab" to join.
  const auto encode = [&](std::string_view merges) { return Tokenizer::from_text(vocabulary.dump(), merges).encode("abc"); };
  CHECK(encode("") == Ids{'a', 'b', 'c'});
  CHECK(encode("a b\nab c\n") == Ids{257});
  CHECK(encode("#version: 0.2\r\na b\r\n\r\nab c") == Ids{257});
  vocabulary["bc"] = 300;
  CHECK(encode("b c\na b\nab c") == Ids{'a', 300});

  // Holes in the ids, the largest id, a token that stands for no bytes but its own text.
  vocabulary["\u2581x"] = 0x7FFFFFFF;
  const Tokenizer sparse = Tokenizer::from_text(vocabulary.dump(), "\u0120 a\nb c\n");
  CHECK(sparse.vocab_size() == 0x80000000U);
  CHECK(sparse.encode(" a bc") == Ids{258, ' ', 300});
  CHECK(sparse.decode(Ids{0x7FFFFFFF, 300}) == "\u2581xbc");
  CHECK_THROWS_AS(sparse.decode(Ids{299}), lowbit::InvalidArgument);
}

TEST_CASE("Tokenizer: what is wrong with a file is said", "[tokenizer]") {
  using Catch::Matchers::StartsWith;
  using lowbit::FormatError;
  const std::string good = bytes_vocabulary({"ab"}).dump();
  // `good` with one more entry.
  const auto with = [&](const std::string& entry) { return good.substr(0, good.size() - 1) + "," + entry + "}"; };
  const auto vocabulary_error = [&](const std::string& json) { return message_of<FormatError>(json, ""); };
  const auto merges_error = [&](const std::string& merges) { return message_of<FormatError>(good, merges); };
  REQUIRE(merges_error("a b\n") == "no error");

  for (const std::string& json : {std::string(), good.substr(0, 1000), good + "x", std::string("{\"\xFF\": 1}")})
    CHECK_THAT(vocabulary_error(json), StartsWith("v.json: not JSON: "));
  for (const char* json : {"[]", "3", "-3", "1.5", "null", "true", "\"a\""})
    CHECK_THAT(vocabulary_error(json), StartsWith("v.json: expected an object of token: id, found "));
  for (const std::string id : {"-1", "2147483648", "18446744073709551616", "1.5", "[257]", "{\"x\":257}", "null", "true"}) {
    CAPTURE(id);
    CHECK_THAT(vocabulary_error(with("\"zz\": " + id)),
               StartsWith("v.json: the id of token \"zz\": expected a number from 0 to 2147483647, found \"" + id.substr(0, 1)));
  }
  CHECK(vocabulary_error(with("\"ab\": 300")) == "v.json: the key \"ab\" occurs twice");
  CHECK(vocabulary_error(with("\"\": 257")) == "v.json: the empty string cannot be a token (id 257)");
  CHECK_THAT(vocabulary_error(with("\"zz\": 256")), StartsWith("v.json: id 256 is given to two tokens, one of them \""));
  auto no_space = bytes_vocabulary();
  no_space.erase("\u0120");
  CHECK(vocabulary_error(no_space.dump()) == "v.json: no token for the single byte 32, expected \"\u0120\"");

  const std::string form = "expected two tokens with one space between them, found: ";
  CHECK(merges_error("#version: 0.2\na b\nab\n") == "m.txt: line 3: " + form + "\"ab\"");
  CHECK(merges_error("#version: 0.2\n#version: 0.2 \n") == "m.txt: line 2: " + form + "\"#version: 0.2 \"");
  CHECK(merges_error(std::string("\xFF\xFE#\0", 4)).starts_with("m.txt: expected UTF-8, found little-endian UTF-16"));
  CHECK(merges_error("a b c\n") == "m.txt: line 1: " + form + "\"a b c\"");
  CHECK(merges_error("a  b\n") == "m.txt: line 1: " + form + "\"a  b\"");
  CHECK(merges_error(" b") == "m.txt: line 1: " + form + "\" b\"");
  CHECK(merges_error("a ") == "m.txt: line 1: " + form + "\"a \"");
  const std::string unknown = " is not in the vocabulary, but is named or made by the merge: ";
  CHECK(merges_error("a b\nxy b") == "m.txt: line 2: \"xy\"" + unknown + "\"xy b\"");
  CHECK(merges_error("a b\nb xy") == "m.txt: line 2: \"xy\"" + unknown + "\"b xy\"");
  CHECK(merges_error("a b\nb a") == "m.txt: line 2: \"ba\"" + unknown + "\"b a\"");
  CHECK(merges_error("\na b\n\na b\n") == "m.txt: line 4: this merge is in line 2 too: \"a b\"");
}

TEST_CASE("Tokenizer: whether it fits a model", "[tokenizer]") {
  const Tokenizer tokenizer = Tokenizer::load(mini_folder);  // 8192 tokens
  const auto wrong = [&](std::size_t vocab) {
    try {
      tokenizer.require_fits(vocab, "folder");
      return std::string();
    } catch (const lowbit::FormatError& error) {
      return std::string(error.what());
    }
  };
  // As many as the model has, padded to 128, to 1024, and to a sixteenth.
  for (const std::size_t vocab : lowbit_test::Sizes{8192, 8192 + 64, 8192 + 128, 8192 + 512, 8738}) CHECK(wrong(vocab) == "");
  const std::string start = "folder: the tokenizer does not fit the model: ";
  CHECK(wrong(8191) == start + "expected token ids below 8191, the model's vocabulary, found 8191");
  CHECK(wrong(8740) == start + "expected at least 8194 tokens for the model's vocabulary of 8740, found 8192");
  CHECK(wrong(50257) != "");
  CHECK(wrong(0) != "");
  // One id far away does not make up for the tokens that are missing.
  std::string json = "{";
  for (std::size_t b = 0; b < 256; ++b)
    json += lowbit::io::json_string(lowbit::gpt2::detail::byte_symbol(b), "token") + ":" + std::to_string(b) + ",";
  const Tokenizer bytes = Tokenizer::from_text(json + "\"far\":8191}", "");
  CHECK_THROWS_AS(bytes.require_fits(8192, "folder"), lowbit::FormatError);
  CHECK_NOTHROW(Tokenizer::from_text(json + "\"near\":256}", "").require_fits(384, "folder"));

  // merges.txt by itself: cut short at the end of a line it is well-formed.
  const std::string vocabulary = lowbit::io::read_text(mini_folder / "vocab.json"),
                    merges = lowbit::io::read_text(mini_folder / "merges.txt");
  const auto with_merges = [&](std::size_t length) {
    try {
      Tokenizer::from_text(vocabulary, merges.substr(0, length)).require_fits(8192, "folder");
      return std::string();
    } catch (const lowbit::FormatError& error) {
      return std::string(error.what());
    }
  };
  const std::string end = " of them; were the merges cut short?";
  CHECK(with_merges(0) == start + "expected merges that make its 8192 tokens, found none for 7935" + end);
  CHECK(with_merges(merges.find('\n', merges.size() / 2) + 1).ends_with(end));
  CHECK(with_merges(merges.find('\n', merges.size() - 1000) + 1) == "");
}

TEST_CASE("Tokenizer: tokenizer.json, added tokens, a byte order mark", "[tokenizer]") {
  using lowbit::FormatError;
  using lowbit::gpt2::TokenizerFiles;
  using lowbit::io::Json;
  const Tokenizer expected = Tokenizer::load(mini_folder);
  const TokenizerFiles files = TokenizerFiles::read(mini_folder);
  Json merges = Json::array(), pairs = Json::array();
  std::istringstream lines(files.merges);
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && !line.starts_with("#version")) {
      merges.push_back(line);
      pairs.push_back({line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1)});
    }
  const Json good = {
      {"version", "1.0"},
      {"added_tokens", {{{"id", 0}, {"content", "<|endoftext|>"}, {"special", true}}, {{"id", 8192}, {"content", "<p\u00e9d>"}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", Json::parse(files.vocab_json)}, {"merges", merges}}}};
  const fs::path folder = fs::temp_directory_path() / ("lowbit-tokenizer-" + std::to_string(std::random_device{}()));
  fs::create_directories(folder);
  for (const bool files_too : {false, true})
    CHECK(lowbit_test::unsaid<lowbit::IoError>(
              [&] { files_too ? void(TokenizerFiles::read(folder)) : void(Tokenizer::load(folder)); },
              {folder.string(), "vocab.json and merges.txt or tokenizer.json, found neither"}) == "");
  const std::string text =
      "Oil prices fell 3.5% on <|endoftext|>Friday <p\xC3\xA9"
      "d>";
  for (const Json& list : {merges, pairs}) {
    Json document = good;
    document["model"]["merges"] = list;
    if (list == pairs) document["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({good["pre_tokenizer"]})}};
    std::ofstream(folder / "tokenizer.json") << document.dump();
    const Tokenizer found = Tokenizer::load(folder);
    CHECK(found.encode(text) == expected.encode(text));
    CHECK(found.vocab_size() == 8193);
    const TokenizerFiles made = TokenizerFiles::read(folder);
    CHECK(Tokenizer::from_text(made.vocab_json, made.merges).encode(text) == expected.encode(text));
    // Added tokens in a text, where that is wanted.
    std::vector<std::int32_t> ids = expected.encode("Oil prices fell 3.5% on ");
    ids.push_back(0);
    expected.encode("Friday ", ids);
    ids.push_back(8192);
    CHECK(found.encode_with_added(text) == ids);
    CHECK(found.decode(ids) == text);
    CHECK(found.encode_with_added("") == std::vector<std::int32_t>{});
  }
  const auto refuses = [&](const char* pointer, const Json& value, const char* word) {
    Json document = good;
    document[Json::json_pointer(pointer)] = value;
    try {
      Tokenizer::from_tokenizer_json(document.dump());
      return std::string("nothing thrown");
    } catch (const FormatError& error) {
      return std::string(error.what()).find(word) != std::string::npos ? std::string() : std::string(error.what());
    }
  };
  CHECK(refuses("/model/type", "Unigram", "model") == "");
  CHECK(refuses("/model/merges/0", 7, "merges") == "");
  CHECK(refuses("/model/vocab", Json::array(), "vocab") == "");
  CHECK(refuses("/model/byte_fallback", true, "byte_fallback") == "");
  CHECK(refuses("/normalizer", {{"type", "NFC"}}, "normalizer") == "");
  CHECK(refuses("/pre_tokenizer/add_prefix_space", true, "pre_tokenizer") == "");
  CHECK(refuses("/pre_tokenizer", nullptr, "pre_tokenizer") == "");
  CHECK(refuses("/added_tokens/0/id", -1, "added_tokens") == "");
  CHECK(refuses("/added_tokens/1/id", 5, "id 5 is given to two tokens") == "");

  // The older files, with a byte order mark each and a file of added tokens.
  fs::remove(folder / "tokenizer.json");
  std::ofstream(folder / "vocab.json") << "\xEF\xBB\xBF" << files.vocab_json;
  std::ofstream(folder / "merges.txt") << "\xEF\xBB\xBF" << files.merges;
  std::ofstream(folder / "added_tokens.json") << R"({"<pad>": 8192, "<pad>>": 8193})";
  const Tokenizer older = Tokenizer::load(folder);
  CHECK(older.encode(text) == expected.encode(text));
  CHECK(older.vocab_size() == 8194);
  CHECK(older.encode_with_added("<pad>>") == std::vector<std::int32_t>{8193});
  std::ofstream(folder / "added_tokens.json") << R"({"<pad>": 7})";
  CHECK_THROWS_AS(Tokenizer::load(folder), FormatError);

  // Beside the older files a tokenizer.json still says which tokens were added.
  fs::remove(folder / "added_tokens.json");
  std::ofstream(folder / "tokenizer.json") << good.dump();
  CHECK(Tokenizer::load(folder).encode_with_added("<p\xC3\xA9"
                                                  "d>") == std::vector<std::int32_t>{8192});
  CHECK(TokenizerFiles::read(folder).added.size() == 2);
  std::ofstream(folder / "tokenizer.json") << R"({"added_tokens": [{"id": 7, "content": "<pad>"}]})";
  CHECK(lowbit_test::unsaid<FormatError>([&] { Tokenizer::load(folder); }, {"tokenizer.json: id 7 is given to two tokens"}) == "");
  fs::remove(folder / "tokenizer.json");

  // A download that went wrong says what it is.
  for (const auto& [content, word] :
       {std::pair<const char*, const char*>{"version https://git-lfs.github.com/spec/v1\n", "git-LFS"},
        {"<!DOCTYPE html>\n<html>", "HTML page"}}) {
    std::ofstream(folder / "merges.txt") << content;
    CHECK(lowbit_test::unsaid<FormatError>([&] { Tokenizer::load(folder); }, {"merges.txt: expected lines of two tokens", word}) ==
          "");
  }
  fs::remove_all(folder);
}

TEST_CASE("Tokenizer: files that cannot be read", "[tokenizer]") {
  CHECK_THROWS_AS(Tokenizer::load(lowbit::testing::data_dir() / "no-such-folder"), lowbit::IoError);
  // A folder where the file should be.
  const fs::path folder = fs::temp_directory_path() / ("lowbit-tokenizer-" + std::to_string(std::random_device{}()));
  fs::create_directories(folder / "vocab.json");
  CHECK_THROWS_AS(Tokenizer::load(folder), lowbit::IoError);
  fs::remove(folder / "vocab.json");
  fs::copy_file(mini_folder / "vocab.json", folder / "vocab.json");
  CHECK_THROWS_AS(Tokenizer::load(folder), lowbit::IoError);
  std::ofstream(folder / "merges.txt") << "a\n";
  CHECK_THROWS_AS(Tokenizer::load(folder), lowbit::FormatError);
  fs::remove_all(folder);
}

}  // namespace tokenizer_test
