// SPDX-License-Identifier: MIT
// Byte-pair encoding of a word: how tokens spell bytes, and the merges that join them, earliest line of merges.txt first.
#pragma once
#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/tokenizer_json.hpp"
#include "lowbit/gpt2/unicode.hpp"
#include "lowbit/io/in_quotes.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// The files spell tokens in printable characters, one per byte: a byte that is a visible Latin-1 character stands for itself, and
// the 68 others are, in order, U+0100 and what follows.
inline constexpr std::array<std::uint16_t, 256> byte_symbols = [] {
  std::array<std::uint16_t, 256> symbols{};
  std::uint16_t next = 0x100;
  for (std::uint16_t b = 0; b < 256; ++b) {
    const bool visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
    symbols[b] = visible ? b : next++;
  }
  return symbols;
}();

// The same as text in UTF-8.
inline std::string byte_symbol(std::size_t byte) {
  std::array<utf8proc_uint8_t, 4> utf8{};
  const auto size = utf8proc_encode_char(byte_symbols[byte], utf8.data());
  return {utf8.begin(), utf8.begin() + size};
}

// Two ids, neither negative, as one number; the order of the numbers is that of the pairs.
constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

// The bytes that a token of the vocabulary stands for.  One with a character that stands for no byte was added by hand, such as
// a marker in another alphabet; it stands for its own text.
inline std::string token_bytes(std::string_view token) {
  static constexpr auto bytes_of_symbol = [] {
    std::array<std::int16_t, 0x100 + 68> bytes{};
    bytes.fill(-1);
    for (std::int16_t b = 0; b < 256; ++b) bytes[byte_symbols[static_cast<std::size_t>(b)]] = b;
    return bytes;
  }();
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const Character c = first_character(rest);
    rest.remove_prefix(c.bytes);
    const auto symbol = static_cast<std::size_t>(c.code_point);
    if (c.code_point < 0 || symbol >= bytes_of_symbol.size() || bytes_of_symbol[symbol] < 0) return std::string(token);
    bytes.push_back(static_cast<char>(bytes_of_symbol[symbol]));
  }
  return bytes;
}

// Merges, and the tokens of single bytes.  `name` opens every message.
class BytePairs {
  static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();
  // One token of a word that is being merged; the tokens form a list.
  struct Symbol {
    std::int32_t id;  // -1: became part of its left neighbour
    std::size_t previous, next;
  };
  // A merge that applies to the symbol at `position` and its right neighbour, or did when it was noted.
  struct Candidate {
    std::size_t rank, position;
    friend auto operator<=>(const Candidate&, const Candidate&) = default;
  };

 public:
  // Kept from word to word for its memory.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  };

  // Throws FormatError if a single byte has no token.
  void take_bytes(const Vocabulary& vocabulary, const std::string& name) {
    for (std::size_t b = 0; b < 256; ++b) {
      const std::string symbol = byte_symbol(b);
      const auto found = vocabulary.find(symbol);
      if (found == vocabulary.end())
        raise<FormatError>(name + ": no token for the single byte " + decimal(b) + ", expected " + io::in_quotes(symbol));
      byte_ids_[b] = found->second;
    }
  }

  // Lines "left right".  Throws FormatError that names the line.
  void take_merges(const Vocabulary& vocabulary, std::string_view text, const std::string& name) {
    std::vector<std::size_t> line_of_merge;
    for (std::size_t line_number = 1; !text.empty(); ++line_number) {
      std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix((std::min)(text.size(), line.size() + 1));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;

      const auto fail = [&](const std::string& what) {
        raise<FormatError>(name + ": line " + decimal(line_number) + ": " + what + ": " + io::in_quotes(line));
      };
      const std::size_t space = line.find(' ');
      if (space == std::string_view::npos || space == 0 || space + 1 == line.size() || line.find(' ', space + 1) != line.npos)
        fail("expected two tokens with one space between them, found");
      const std::string left(line.substr(0, space)), right(line.substr(space + 1));
      const auto id_of = [&](const std::string& token) {
        const auto found = vocabulary.find(token);
        if (found == vocabulary.end()) fail(io::in_quotes(token) + " is not in the vocabulary, but is named or made by the merge");
        return found->second;
      };
      const Merge merge{id_of(left), id_of(right), id_of(left + right)};
      const auto [known, is_new] = rank_of_.emplace(pair_key(merge.left, merge.right), merges_.size());
      if (!is_new) fail("this merge is in line " + decimal(line_of_merge[known->second]) + " too");
      merges_.push_back(merge);
      line_of_merge.push_back(line_number);
    }
  }

  // The tokens that it gives: single bytes, and what merges make.
  void add_tokens_to(std::unordered_set<std::int32_t>& ids) const {
    ids.insert(byte_ids_.begin(), byte_ids_.end());
    for (const Merge& merge : merges_) ids.insert(merge.joined);
  }

  // Appends the tokens of `word`.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const {
    std::vector<Symbol>& symbols = scratch.symbols;
    auto& candidates = scratch.candidates;
    const auto note = [&](std::size_t position, std::size_t next) {
      const auto found = rank_of_.find(pair_key(symbols[position].id, symbols[next].id));
      if (found != rank_of_.end()) candidates.push({found->second, position});
    };

    symbols.clear();
    for (std::size_t i = 0; i < word.size(); ++i)
      symbols.push_back(
          {byte_ids_[static_cast<unsigned char>(word[i])], i == 0 ? none : i - 1, i + 1 == word.size() ? none : i + 1});
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) note(i, i + 1);

    while (!candidates.empty()) {
      const auto [rank, position] = candidates.top();
      candidates.pop();
      const Merge& merge = merges_[rank];
      Symbol& symbol = symbols[position];
      // An earlier merge may have taken either of the two; a pair has one rank, so equal ids mean that the note still holds.
      if (symbol.id != merge.left || symbol.next == none || symbols[symbol.next].id != merge.right) continue;
      Symbol& taken = symbols[symbol.next];
      symbol.id = merge.joined;
      symbol.next = taken.next;
      taken.id = -1;
      if (symbol.next != none) {
        symbols[symbol.next].previous = position;
        note(position, symbol.next);
      }
      if (symbol.previous != none) note(symbol.previous, position);
    }
    for (const Symbol& symbol : symbols)
      if (symbol.id >= 0) ids.push_back(symbol.id);
  }

 private:
  struct Merge {
    std::int32_t left, right, joined;
  };
  std::array<std::int32_t, 256> byte_ids_{};
  std::vector<Merge> merges_;                               // by rank
  std::unordered_map<std::uint64_t, std::size_t> rank_of_;  // of a pair_key
};

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI
