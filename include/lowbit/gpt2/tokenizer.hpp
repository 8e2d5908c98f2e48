// SPDX-License-Identifier: MIT
// GPT-2's tokenizer: byte-level byte-pair encoding with the two files that Hugging Face folders hold, vocab.json and merges.txt.
// Any byte string can be encoded, and decoding gives it back byte for byte.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/byte_pairs.hpp"
#include "lowbit/gpt2/pre_tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_json.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/utf8.hpp"

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
  // tokens of added_tokens.json and of tokenizer_config.json's added_tokens_decoder, or else of tokenizer.json's added_tokens.  Throws IoError
  // if a file cannot be read, and what from_text(), from_tokenizer_json() and add_tokens() throw.
  static Tokenizer load(const std::filesystem::path& folder) {
    const std::filesystem::path vocabulary = folder / "vocab.json", merges = folder / "merges.txt",
                                whole = folder / "tokenizer.json";
    Tokenizer tokenizer = detail::has_tokenizer_json_alone(folder)
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
    tokenizer.pairs_.take_merges(vocabulary, merges.starts_with("\xEF\xBB\xBF") ? merges.substr(3) : merges, merges_name);
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
    detail::BytePairs::Scratch scratch;
    while (!text.empty()) {
      const std::size_t bytes = pre_token_length(text);
      pairs_.encode_word(text.substr(0, bytes), scratch, ids);
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
    pairs_.add_tokens_to(made);
    const std::size_t never_made = bytes_of_.size() - made.size();
    if (never_made > most)
      fail("expected merges that make its " + decimal(bytes_of_.size()) + " tokens, found none for " + decimal(never_made) +
           " of them; were the merges cut short?");
  }

 private:
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
    pairs_.take_bytes(vocabulary, name);
  }

  detail::BytePairs pairs_;
  std::vector<std::pair<std::string, std::int32_t>> added_;
  std::unordered_set<std::int32_t> added_ids_;
  std::unordered_map<std::int32_t, std::string> bytes_of_;  // not a vector: ids may be far apart
  std::size_t vocab_size_ = 0;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
