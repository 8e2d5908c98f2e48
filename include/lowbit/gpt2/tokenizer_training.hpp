// SPDX-License-Identifier: MIT
// Training of a byte-level byte-pair encoding: from texts to the vocab.json and merges.txt that a Tokenizer reads.  The counts of
// the pairs are kept up to date from merge to merge, so that a merge costs as much as it changes.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/byte_pairs.hpp"
#include "lowbit/gpt2/pre_tokenizer.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_files.hpp"
#include "lowbit/io/json.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// The words of a corpus as lists of tokens, and how often which token stands beside which.  Words are added, then best() and join()
// take turns.
//
// Only join() makes pairs that were not there, and all of them hold the new token.  So a pair's count can only fall after the join
// that made it, a pair that is too rare then can be forgotten, and a queue of counts that may be too high finds the best one.
class PairCounts {
 public:
  struct Pair {
    std::int32_t left, right;
  };

  // Pairs that occur less than `least` times, which is at least 1, are never the best.
  explicit PairCounts(std::uint64_t least) : least_(least) {}

  // A word of the corpus, which occurs `count` times; every word is added once.
  void add(std::string_view word, std::uint64_t count, const std::array<std::int32_t, 256>& byte_ids) {
    const std::size_t begin = places_.size(), end = begin + word.size();
    require(end < none, [] { return std::string("TokenizerTrainer: more than 4 GiB of different words"); });
    for (std::size_t i = begin; i < end; ++i)
      places_.push_back({byte_ids[static_cast<unsigned char>(word[i - begin])], i == begin ? none : static_cast<Index>(i - 1),
                         i + 1 == end ? none : static_cast<Index>(i + 1), static_cast<Index>(counts_.size())});
    counts_.push_back(count);
    for (std::size_t i = begin; i + 1 < end; ++i) note(static_cast<Index>(i));
  }

  // The pair that occurs most often, of several the one with the smallest left and then right id; none if all are too rare.  A pair
  // is given once: join it.
  std::optional<Pair> best() {
    queue_new_pairs();
    while (!queue_.empty()) {
      const auto [count, key] = queue_.top();
      queue_.pop();
      const std::uint64_t now = pairs_.find(key)->second.count;
      if (now == count) return Pair{static_cast<std::int32_t>(key >> 32), static_cast<std::int32_t>(key & 0xFFFFFFFFu)};
      if (now >= least_) queue_.push({now, key});
    }
    return std::nullopt;
  }

  // Makes one token of every such pair, in each word from left to right: of three equal tokens in a row the first two.
  void join(Pair pair, std::int32_t joined) {
    const auto found = pairs_.find(pair_key(pair.left, pair.right));
    const std::vector<Index> places = std::move(found->second.places);
    pairs_.erase(found);
    // In ascending order: those of the words are, and by induction those that are noted here.
    for (const Index position : places) {
      Place& place = places_[position];
      if (place.id != pair.left || place.next == none || places_[place.next].id != pair.right) continue;  // not there any more
      Place& taken = places_[place.next];
      const std::uint64_t count = counts_[place.word];
      if (place.previous != none) forget(places_[place.previous].id, pair.left, count);
      if (taken.next != none) forget(pair.right, places_[taken.next].id, count);
      place.id = joined;
      place.next = taken.next;
      taken.id = -1;
      if (place.next != none) {
        places_[place.next].previous = position;
        note(position);
      }
      if (place.previous != none) note(place.previous);
    }
  }

 private:
  using Index = std::uint32_t;  // half the memory of a size_t, for tens of millions of them
  static constexpr Index none = (std::numeric_limits<Index>::max)();

  // A byte of a word, and the token that begins there.
  struct Place {
    std::int32_t id;  // -1: inside a token
    Index previous, next, word;
  };
  struct Occurrences {
    std::uint64_t count = 0;
    std::vector<Index> places;  // of left tokens; some may have gone
  };
  struct Queued {
    std::uint64_t count, key;
    bool operator<(const Queued& other) const { return count != other.count ? count < other.count : key > other.key; }
  };

  void note(Index position) {
    const Place& place = places_[position];
    const std::uint64_t key = pair_key(place.id, places_[place.next].id);
    const auto [pair, is_new] = pairs_.try_emplace(key);
    if (is_new) new_pairs_.push_back(key);
    pair->second.count += counts_[place.word];
    pair->second.places.push_back(position);
  }
  void forget(std::int32_t left, std::int32_t right, std::uint64_t count) {
    const auto pair = pairs_.find(pair_key(left, right));
    if (pair != pairs_.end()) pair->second.count -= count;  // else it is the pair that is being joined
  }
  void queue_new_pairs() {
    for (const std::uint64_t key : new_pairs_) {
      const auto pair = pairs_.find(key);
      if (pair->second.count >= least_)
        queue_.push({pair->second.count, key});
      else
        pair->second.places = {};  // its count cannot rise again
    }
    new_pairs_.clear();
  }

  std::uint64_t least_;
  std::vector<Place> places_;
  std::vector<std::uint64_t> counts_;  // of the words
  std::unordered_map<std::uint64_t, Occurrences> pairs_;
  std::vector<std::uint64_t> new_pairs_;  // not in the queue yet
  std::priority_queue<Queued> queue_;     // every other pair once, with a count that is at least its own
};

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// Learns a vocabulary from texts: add() them, then train().  The texts are cut into words as Tokenizer cuts them
// (gpt2/pre_tokenizer.hpp), equal words are counted, and then the pair of neighbouring tokens that occurs most often is made a
// token, again and again.  A pair is counted wherever two tokens stand side by side in a word (three equal ones in a row are two
// pairs); of several that are as frequent, the one with the smallest left id is taken, of these the one with the smallest right id.
// The same texts give the same files, in whatever order they were added and on every machine.  Rule: Sennrich et al. 2016
// (arXiv:1508.07909), in the form, order of ids and order of ties of Hugging Face's ByteLevelBPETokenizer.
//
// Memory: the different words of the texts, about 50 bytes for each of their bytes while training.  Not thread safe to add();
// several threads may train() at once.
class TokenizerTrainer {
 public:
  // Ids: 0 is "<|endoftext|>", 1 to 256 are the single bytes in the order of the characters that spell them, the merges follow.
  static constexpr std::int32_t end_of_text = 0;           // its id
  static constexpr std::size_t smallest_vocabulary = 257;  // "<|endoftext|>" and the bytes

  // Counts the words of a text, any bytes.
  void add(std::string_view text) {
    while (!text.empty()) {
      const std::string_view word = text.substr(0, pre_token_length(text));
      const auto known = words_.find(word);
      if (known != words_.end())
        ++known->second;
      else
        words_.emplace(word, 1);
      text.remove_prefix(word.size());
    }
  }

  // A vocabulary of `vocab_size` tokens; of fewer if no pair occurs min_frequency times any more.  vocab_size: from 257 to 2^31 -
  // 1; min_frequency: at least 1.  Throws InvalidArgument if not, and for more than 4 GiB of different words.
  TokenizerFiles train(std::size_t vocab_size, std::uint64_t min_frequency = 2) const {
    constexpr std::size_t largest = (std::numeric_limits<std::int32_t>::max)();
    require(vocab_size >= smallest_vocabulary && vocab_size <= largest, [&] {
      return "TokenizerTrainer: vocab_size: expected " + decimal(smallest_vocabulary) + " (all bytes and " +
             detail::end_of_text_token + ") to " + decimal(largest) + ", found " + decimal(vocab_size);
    });
    require(min_frequency >= 1, [] { return std::string("TokenizerTrainer: min_frequency: expected at least 1, found 0"); });

    std::array<std::size_t, 256> order{};
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [](std::size_t a, std::size_t b) { return detail::byte_symbols[a] < detail::byte_symbols[b]; });
    std::vector<std::string> tokens{detail::end_of_text_token};  // by id
    std::array<std::int32_t, 256> byte_ids{};
    for (const std::size_t byte : order) {
      byte_ids[byte] = static_cast<std::int32_t>(tokens.size());
      tokens.push_back(detail::byte_symbol(byte));
    }

    detail::PairCounts pairs(min_frequency);
    for (const auto& [word, count] : words_) pairs.add(word, count, byte_ids);

    // Every join makes a token that was not there: between two given bounds of tokens, the same bytes were always joined in the
    // same way, so the first join that makes these bytes makes them everywhere.
    TokenizerFiles files{"{", "#version: 0.2\n"};
    while (tokens.size() < vocab_size) {
      const auto pair = pairs.best();
      if (!pair) break;
      const std::string &left = tokens[static_cast<std::size_t>(pair->left)],
                        &right = tokens[static_cast<std::size_t>(pair->right)];
      files.merges += left + " " + right + "\n";
      std::string joined = left + right;
      pairs.join(*pair, static_cast<std::int32_t>(tokens.size()));
      tokens.push_back(std::move(joined));
    }
    for (std::size_t id = 0; id < tokens.size(); ++id)
      files.vocab_json += (id == 0 ? "" : ",") + io::json_string(tokens[id], "token") + ":" + decimal(id);
    files.vocab_json += "}";
    return files;
  }

 private:
  struct Hash {
    using is_transparent = void;  // look-ups by views make no strings
    std::size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
  };
  std::unordered_map<std::string, std::uint64_t, Hash, std::equal_to<>> words_;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
