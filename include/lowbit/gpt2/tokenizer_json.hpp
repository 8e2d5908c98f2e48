// SPDX-License-Identifier: MIT
// The JSON files of a tokenizer, read and checked: vocab.json, tokenizer.json, and those that list added tokens.
#pragma once
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"

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

// What a tokenizer.json holds, in the forms of the older files.
struct TokenizerJson {
  std::string vocab_json, merges;
  std::vector<AddedToken> added;
};

inline constexpr std::int32_t largest_token_id = (std::numeric_limits<std::int32_t>::max)();

// added_tokens of a tokenizer.json, [{"id": id, "content": text, "special": true or false}]; none where it has no such key.
inline std::vector<AddedToken> added_tokens_of(const io::Json& document, const std::string& name) {
  std::vector<AddedToken> added;
  const auto found = document.is_object() ? document.find("added_tokens") : document.end();
  if (!document.is_object() || found == document.end() || found->is_null()) return added;
  if (!found->is_array()) raise<FormatError>(name + ": added_tokens: expected an array, found " + io::found_text(*found));
  for (std::size_t i = 0; i < found->size(); ++i) {
    const io::Json& token = (*found)[i];
    const auto member = [&](const char* key) { return token.is_object() && token.contains(key) ? &token[key] : nullptr; };
    const io::Json *content = member("content"), *id = member("id"), *special = member("special");
    if (content == nullptr || !content->is_string() || id == nullptr || !id->is_number_unsigned() ||
        id->get<std::uint64_t>() > std::uint64_t{largest_token_id})
      raise<FormatError>(name + ": added_tokens: entry " + decimal(i) + ": expected an object with content and id, found " +
                         io::found_text(token));
    added.push_back({content->get<std::string>(), id->get<std::int32_t>(), special != nullptr && *special == true});
  }
  return added;
}

// Reads the file that Hugging Face's tokenizers library writes.  Throws FormatError that names the file and the key, for everything
// but a byte-level BPE that cuts texts as GPT-2 does.
inline TokenizerJson read_tokenizer_json(std::string_view text, const std::string& name) {
  const io::JsonDocument parsed(io::parse_json(text, name));
  const io::Json& document = *parsed;
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
  result.added = added_tokens_of(document, name);
  return result;
}

// The ids by token.  `name` opens every message.
inline Vocabulary read_vocabulary(std::string_view json, const std::string& name) {
  const io::JsonDocument parsed(io::parse_json(json, name));
  const io::Json& document = *parsed;
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

// Whether `folder` has its tokenizer as tokenizer.json alone; else it is vocab.json and merges.txt.  Throws IoError if it has neither.
inline bool has_tokenizer_json_alone(const std::filesystem::path& folder) {
  std::error_code failure, ignored;
  if (std::filesystem::exists(folder / "vocab.json", failure) || failure) return false;  // reading it says what is wrong
  if (std::filesystem::exists(folder / "tokenizer.json", failure) || failure) return true;
  if (std::filesystem::is_directory(folder, ignored))
    raise<IoError>(folder.string() + ": expected a tokenizer, vocab.json and merges.txt or tokenizer.json, found neither");
  return false;
}

// The tokens in added_tokens_decoder of a tokenizer_config.json, {"id": {"content": text, "special": true or false}}; none where it has no
// such key.
inline std::vector<AddedToken> read_added_tokens_decoder(std::string_view json, const std::string& name) {
  const io::JsonDocument parsed(io::parse_json(json, name));
  const io::Json& document = *parsed;
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

// Gives `take` every token that added_tokens.json and tokenizer_config.json of the folder add, or else, beside a vocab.json, its
// tokenizer.json; and the file that says so.
inline void read_added_tokens(const std::filesystem::path& folder,
                              const std::function<void(const AddedToken&, const std::string&)>& take) {
  const std::filesystem::path list = folder / "added_tokens.json", config = folder / "tokenizer_config.json",
                              whole = folder / "tokenizer.json";
  std::error_code ignored;
  const auto exists = [&](const std::filesystem::path& path) { return std::filesystem::exists(path, ignored); };
  bool any = false;
  const auto give = [&](const AddedToken& token, const std::string& file) {
    any = true;
    take(token, file);
  };
  if (exists(list))
    for (const auto& [content, id] : read_vocabulary(io::read_text(list), list.string())) give({content, id}, list.string());
  if (exists(config))
    for (const AddedToken& token : read_added_tokens_decoder(io::read_text(config), config.string())) give(token, config.string());
  if (!any && exists(folder / "vocab.json") && exists(whole)) {
    const io::JsonDocument document(io::parse_json(io::read_text(whole), whole.string()));
    for (const AddedToken& token : added_tokens_of(*document, whole.string())) take(token, whole.string());
  }
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI
