// SPDX-License-Identifier: MIT
// GPT-2's tokenizer: byte-level byte-pair encoding with the two files that Hugging Face folders hold, vocab.json and merges.txt.
// Any byte string can be encoded, and decoding gives it back byte for byte.
#pragma once
#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/pre_tokenizer.hpp"
#include "lowbit/gpt2/unicode.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/utf8.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A token that stands for its own text and comes from no merge: "<|endoftext|>", "<pad>".
struct AddedToken {
  std::string content;   // its text
  std::int32_t id = 0;   // beyond the vocabulary, or that of the same text there
  bool special = false;  // it controls the model; else it is a word that somebody added
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

using Vocabulary = std::unordered_map<std::string, std::int32_t>;

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

// What a tokenizer.json holds, in the forms of the older files.
struct TokenizerJson {
  std::string vocab_json, merges;
  std::vector<AddedToken> added;
};

inline constexpr std::int32_t largest_token_id = (std::numeric_limits<std::int32_t>::max)();

// Reads the file that Hugging Face's tokenizers library writes.  Throws FormatError that names the file and the key, for everything
// but a byte-level BPE that cuts texts as GPT-2 does.
inline TokenizerJson read_tokenizer_json(std::string_view text, const std::string& name) {
  const io::Json document = io::parse_json(text, name);
  const auto fail = [&](const std::string& key, const std::string& expected) {
    raise<FormatError>(name + ": " + key + ": expected " + expected);
  };
  const auto member = [](const io::Json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return object.is_object() && found != object.end() && !found->is_null() ? &*found : nullptr;
  };
  const auto is = [&](const io::Json& object, const char* key, const io::Json& value, bool if_missing) {
    const io::Json* found = member(object, key);
    return found == nullptr ? if_missing : *found == value;
  };
  const io::Json* model = member(document, "model");
  if (model == nullptr || !is(*model, "type", "BPE", true)) fail("model", "a BPE, as GPT-2's is");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!is(*model, key, "", true)) fail(std::string("model: ") + key, "none, as GPT-2 has");
  for (const char* key : {"byte_fallback", "ignore_merges"})
    if (!is(*model, key, false, true)) fail(std::string("model: ") + key, "false, as GPT-2 has");
  if (member(document, "normalizer") != nullptr) fail("normalizer", "none, as GPT-2 has");
  const io::Json* cut = member(document, "pre_tokenizer");
  if (cut != nullptr && is(*cut, "type", "Sequence", false)) {
    const io::Json* parts = member(*cut, "pretokenizers");
    cut = parts != nullptr && parts->is_array() && parts->size() == 1 ? &(*parts)[0] : nullptr;
  }
  if (cut == nullptr || !is(*cut, "type", "ByteLevel", false) || !is(*cut, "add_prefix_space", false, false) ||
      !is(*cut, "use_regex", true, true))
    fail("pre_tokenizer", "ByteLevel without add_prefix_space, which cuts texts as GPT-2 does");

  TokenizerJson result;
  const io::Json *vocabulary = member(*model, "vocab"), *merges = member(*model, "merges");
  if (vocabulary == nullptr || !vocabulary->is_object()) fail("model: vocab", "an object of token: id");
  if (merges == nullptr || !merges->is_array()) fail("model: merges", "an array");
  result.vocab_json = vocabulary->dump();
  for (const io::Json& merge : *merges) {
    if (merge.is_string()) {
      result.merges += merge.get_ref<const std::string&>();
    } else {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string())
        fail("model: merges", "strings \"left right\" or pairs of strings");
      result.merges += merge[0].get_ref<const std::string&>() + ' ' + merge[1].get_ref<const std::string&>();
    }
    result.merges += '\n';
  }
  if (const io::Json* added = member(document, "added_tokens")) {
    if (!added->is_array()) fail("added_tokens", "an array");
    for (const io::Json& token : *added) {
      const io::Json *content = member(token, "content"), *id = member(token, "id");
      if (content == nullptr || !content->is_string() || id == nullptr || !id->is_number_unsigned() ||
          id->get<std::uint64_t>() > std::uint64_t{largest_token_id})
        fail("added_tokens", "objects with content and id");
      result.added.push_back({content->get<std::string>(), id->get<std::int32_t>(), is(token, "special", true, false)});
    }
  }
  return result;
}

// The ids by token.  `name` opens every message.
inline Vocabulary read_vocabulary(std::string_view json, const std::string& name) {
  const io::Json document = io::parse_json(json, name);
  if (!document.is_object()) raise<FormatError>(name + ": expected an object of token: id, found " + document.type_name());
  constexpr std::int32_t largest = (std::numeric_limits<std::int32_t>::max)();
  Vocabulary vocabulary;
  vocabulary.reserve(document.size());
  for (const auto& [token, id] : document.items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::uint64_t{largest})
      raise<FormatError>(name + ": the id of token " + io::in_quotes(token) + ": expected a number from 0 to " + decimal(largest) +
                         ", found " + io::in_quotes(id.dump()));
    vocabulary.emplace(token, id.get<std::int32_t>());
  }
  return vocabulary;
}

// The tokens in added_tokens_decoder of a tokenizer_config.json, {"id": {"content": text, "special": true or false}}; none where it has no
// such key.
inline std::vector<AddedToken> read_added_tokens_decoder(std::string_view json, const std::string& name) {
  const io::Json document = io::parse_json(json, name);
  std::vector<AddedToken> added;
  const auto found = document.is_object() ? document.find("added_tokens_decoder") : document.end();
  if (!document.is_object() || found == document.end() || found->is_null()) return added;
  const std::string what = name + ": added_tokens_decoder";
  if (!found->is_object()) raise<FormatError>(what + ": expected an object, found " + found->type_name());
  for (const auto& [key, token] : found->items()) {
    std::int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const auto content = token.is_object() ? token.find("content") : token.end();
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || !token.is_object() || content == token.end() ||
        !content->is_string())
      raise<FormatError>(what + ": " + io::in_quotes(key) + ": expected an id of an object with content");
    const auto special = token.find("special");
    added.push_back({content->get<std::string>(), id, special != token.end() && *special == true});
  }
  return added;
}

// Gives `take` every token that added_tokens.json and tokenizer_config.json of the folder add, and the file that says so.
inline void read_added_tokens(const std::filesystem::path& folder,
                              const std::function<void(const AddedToken&, const std::string&)>& take) {
  const std::filesystem::path list = folder / "added_tokens.json", config = folder / "tokenizer_config.json";
  std::error_code ignored;
  if (std::filesystem::exists(list, ignored))
    for (const auto& [content, id] : read_vocabulary(io::read_text(list), list.string())) take({content, id}, list.string());
  if (std::filesystem::exists(config, ignored))
    for (const AddedToken& token : read_added_tokens_decoder(io::read_text(config), config.string())) take(token, config.string());
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A vocabulary and its merges.  Immutable once made: all const members are thread safe.
//
// encode() cuts the text into pre-tokens (gpt2/pre_tokenizer.hpp), starts from one token per byte, and joins neighbours by the
// earliest line of merges.txt that applies, the leftmost such pair first, until none applies.  It takes O(n log n) time, whatever
// the length of a word.  This is Hugging Face's rule; OpenAI's encoder joins all equal pairs at once, which gives the same for
// every merges.txt that training can make.  No token is special to encode(): "<|endoftext|>" in a text is 13 characters.
//
// Bytes that are not well-formed UTF-8 are kept: for the cutting, each counts as one character that is neither space nor letter
// nor number.  So decode(encode(s)) == s for every byte string s.
class Tokenizer {
 public:
  // Reads vocab.json and merges.txt of `folder`, or tokenizer.json where there is no vocab.json; and where there are such files, the
  // tokens of added_tokens.json and of tokenizer_config.json's added_tokens_decoder.  Throws IoError if a file cannot be read, and what
  // from_text(), from_tokenizer_json() and add_tokens() throw.
  static Tokenizer load(const std::filesystem::path& folder) {
    const std::filesystem::path vocabulary = folder / "vocab.json", merges = folder / "merges.txt",
                                whole = folder / "tokenizer.json";
    std::error_code ignored;
    const bool only_whole = !std::filesystem::exists(vocabulary, ignored) && std::filesystem::exists(whole, ignored);
    Tokenizer tokenizer = only_whole
                              ? from_tokenizer_json(io::read_text(whole), whole.string())
                              : from_text(io::read_text(vocabulary), io::read_text(merges), vocabulary.string(), merges.string());
    detail::read_added_tokens(
        folder, [&](const AddedToken& token, const std::string& file) { tokenizer.add_token(token.content, token.id, file); });
    return tokenizer;
  }

  // The same from the contents of a tokenizer.json of a byte-level BPE; the name is for messages.  Throws FormatError as from_text()
  // does, and for a tokenizer of another kind.
  static Tokenizer from_tokenizer_json(std::string_view text, const std::string& name = "tokenizer.json") {
    const detail::TokenizerJson parts = detail::read_tokenizer_json(text, name);
    Tokenizer tokenizer = from_text(parts.vocab_json, parts.merges, name + ": vocab", name + ": merges");
    tokenizer.add_tokens(parts.added, name);
    return tokenizer;
  }

  // The same from the contents of the two files; the names are for messages.
  //   vocab_json: one object {"token": id, ...}.  Ids are unique and in [0, 2^31), holes are allowed; the tokens of the 256 single
  //     bytes must be there, so that every text can be encoded.
  //   merges: lines "left right", best first, lines end in \n or \r\n.  A first line that starts with "#version" and empty lines
  //     are skipped.  left, right and their concatenation must be tokens, and a pair may come once.
  // Throws FormatError that names the file, and the line or the token.
  static Tokenizer from_text(std::string_view vocab_json, std::string_view merges, const std::string& vocab_name = "vocab.json",
                             const std::string& merges_name = "merges.txt") {
    Tokenizer tokenizer;
    const detail::Vocabulary vocabulary = detail::read_vocabulary(vocab_json, vocab_name);
    tokenizer.take_vocabulary(vocabulary, vocab_name);
    io::require_utf8(merges, merges_name);
    if (const std::string found = io::mistaken_for(merges); !found.empty())
      raise<FormatError>(merges_name + ": expected lines of two tokens, found " + found);
    tokenizer.take_merges(vocabulary, merges.starts_with("\xEF\xBB\xBF") ? merges.substr(3) : merges, merges_name);
    if (const auto end = vocabulary.find("<|endoftext|>"); end != vocabulary.end())
      tokenizer.add_token(end->first, end->second, vocab_name);
    return tokenizer;
  }

  // Takes tokens that stand for their own text; or those of an added_tokens.json, {"text": id, ...}.  Throw FormatError that names the
  // file and the token where an id is another token's.
  void add_tokens(std::span<const AddedToken> tokens, const std::string& name) {
    for (const AddedToken& token : tokens) add_token(token.content, token.id, name);
  }
  void add_tokens(std::string_view json, const std::string& name = "added_tokens.json") {
    for (const auto& [content, id] : detail::read_vocabulary(json, name)) add_token(content, id, name);
  }

  // Token ids of `text`, in order; none for an empty text.
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    encode(text, ids);
    return ids;
  }

  // The same, appended to `ids`: for many texts in one array.
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const {
    Scratch scratch;
    while (!text.empty()) {
      const std::size_t bytes = pre_token_length(text);
      encode_word(text.substr(0, bytes), scratch, ids);
      text.remove_prefix(bytes);
    }
  }

  // The same, where tokens that were added, and "<|endoftext|>", are found in the text and become their ids; of several that begin at
  // a place the longest.  For texts that a program puts together; whoever writes a text of his own can write such tokens too.
  std::vector<std::int32_t> encode_with_added(std::string_view text) const {
    std::vector<std::int32_t> ids;
    std::size_t plain = 0;  // begin of the text before the next one
    for (std::size_t at = 0; at < text.size();) {
      const std::pair<std::string, std::int32_t>* found = nullptr;
      for (const auto& token : added_)
        if (text.substr(at).starts_with(token.first) && (found == nullptr || token.first.size() > found->first.size()))
          found = &token;
      if (found == nullptr) {
        ++at;
        continue;
      }
      encode(text.substr(plain, at - plain), ids);
      ids.push_back(found->second);
      plain = at += found->first.size();
    }
    encode(text.substr(plain), ids);
    return ids;
  }

  // The bytes that `ids` stand for, one after another.  Ids that encode() never gives are fine ("<|endoftext|>" becomes its name).
  // A part of what encode() gave may begin or end inside a character.  Throws InvalidArgument if an id has no token.
  std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const std::int32_t id : ids) {
      const auto token = bytes_of_.find(id);
      if (token == bytes_of_.end())
        raise<InvalidArgument>("Tokenizer::decode: no token has id " + decimal(id) + " (ids are below " + decimal(vocab_size_) +
                               ")");
      text += token->second;
    }
    return text;
  }

  // One more than the largest id: the rows that an embedding table needs.
  std::size_t vocab_size() const noexcept { return vocab_size_; }

  // Throws FormatError, which starts with `name` (a folder), if this cannot be the tokenizer of a model of `vocab` embeddings: an
  // id has none, too many have no token, or no merge makes too many of the tokens (merges.txt was cut short, or is another model's).
  // Real models have some of those: padding to a multiple of 64 or 128 (51,200 for 50,295 is the most that is common), and special
  // tokens.  So a sixteenth of them may be unused, or 127 if that is more.  Call it wherever a model and a tokenizer come together:
  // another model's tokenizer computes nonsense without a word.
  void require_fits(std::size_t vocab, const std::string& name) const {
    const auto fail = [&](const std::string& what) {
      raise<FormatError>(name + ": the tokenizer does not fit the model: " + what);
    };
    if (vocab_size_ > vocab)
      fail("expected token ids below " + decimal(vocab) + ", the model's vocabulary, found " + decimal(vocab_size_ - 1));
    const std::size_t unused = vocab - bytes_of_.size(), most = (std::max)(vocab / 16, std::size_t{127});
    if (unused > most)
      fail("expected at least " + decimal(vocab - most) + " tokens for the model's vocabulary of " + decimal(vocab) + ", found " +
           decimal(bytes_of_.size()));
    std::unordered_set<std::int32_t> made = added_ids_;
    made.insert(byte_ids_.begin(), byte_ids_.end());
    for (const Merge& merge : merges_) made.insert(merge.joined);
    const std::size_t never_made = bytes_of_.size() - made.size();
    if (never_made > most)
      fail("expected merges that make its " + decimal(bytes_of_.size()) + " tokens, found none for " + decimal(never_made) +
           " of them; were the merges cut short?");
  }

 private:
  static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

  struct Merge {
    std::int32_t left, right, joined;
  };
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
  // Kept from word to word for its memory.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  };

  Tokenizer() = default;

  void add_token(const std::string& content, std::int32_t id, const std::string& name) {
    if (content.empty()) raise<FormatError>(name + ": the empty string cannot be a token (id " + decimal(id) + ")");
    const auto [known, is_new] = bytes_of_.emplace(id, content);
    if (!is_new && known->second != content)
      raise<FormatError>(name + ": id " + decimal(id) + " is given to two tokens, one of them " + io::in_quotes(content));
    vocab_size_ = (std::max)(vocab_size_, static_cast<std::size_t>(id) + 1);
    if (added_ids_.insert(id).second) added_.emplace_back(content, id);
  }

  void take_vocabulary(const detail::Vocabulary& vocabulary, const std::string& name) {
    bytes_of_.reserve(vocabulary.size());
    for (const auto& [token, id] : vocabulary) {
      std::string bytes = detail::token_bytes(token);
      if (bytes.empty()) raise<FormatError>(name + ": the empty string cannot be a token (id " + decimal(id) + ")");
      if (!bytes_of_.emplace(id, std::move(bytes)).second)
        raise<FormatError>(name + ": id " + decimal(id) + " is given to two tokens, one of them " + io::in_quotes(token));
      vocab_size_ = (std::max)(vocab_size_, static_cast<std::size_t>(id) + 1);
    }
    for (std::size_t b = 0; b < 256; ++b) {
      const std::string symbol = detail::byte_symbol(b);
      const auto found = vocabulary.find(symbol);
      if (found == vocabulary.end())
        raise<FormatError>(name + ": no token for the single byte " + decimal(b) + ", expected " + io::in_quotes(symbol));
      byte_ids_[b] = found->second;
    }
  }

  void take_merges(const detail::Vocabulary& vocabulary, std::string_view text, const std::string& name) {
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
      const auto [known, is_new] = rank_of_.emplace(detail::pair_key(merge.left, merge.right), merges_.size());
      if (!is_new) fail("this merge is in line " + decimal(line_of_merge[known->second]) + " too");
      merges_.push_back(merge);
      line_of_merge.push_back(line_number);
    }
  }

  void encode_word(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const {
    std::vector<Symbol>& symbols = scratch.symbols;
    auto& candidates = scratch.candidates;
    const auto note = [&](std::size_t position, std::size_t next) {
      const auto found = rank_of_.find(detail::pair_key(symbols[position].id, symbols[next].id));
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

  std::array<std::int32_t, 256> byte_ids_{};
  std::vector<std::pair<std::string, std::int32_t>> added_;
  std::unordered_set<std::int32_t> added_ids_;
  std::unordered_map<std::int32_t, std::string> bytes_of_;  // not a vector: ids may be far apart
  std::size_t vocab_size_ = 0;
  std::vector<Merge> merges_;                               // by rank
  std::unordered_map<std::uint64_t, std::size_t> rank_of_;  // of a detail::pair_key
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
