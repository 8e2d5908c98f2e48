// SPDX-License-Identifier: MIT
// The two files of a tokenizer as text: what training makes, what a model's folder is given, and what Tokenizer::from_text() reads.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/gpt2/tokenizer_json.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {
inline constexpr const char* end_of_text_token = "<|endoftext|>";

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A tokenizer as files: what Tokenizer::from_text() takes, and the tokens that were added.
struct TokenizerFiles {
  std::string vocab_json, merges;      // the contents of vocab.json and merges.txt
  std::vector<AddedToken> added = {};  // each id once

  // As `folder` holds them, unchanged and unchecked; where it has a tokenizer.json alone, made of that.  Throws IoError if a file
  // cannot be read, FormatError as Tokenizer::load() does for the files of added tokens.
  static TokenizerFiles read(const std::filesystem::path& folder) {
    const std::filesystem::path whole = folder / "tokenizer.json";
    TokenizerFiles files;
    if (detail::has_tokenizer_json_alone(folder)) {
      detail::TokenizerJson parts = detail::read_tokenizer_json(io::read_text(whole), whole.string());
      files = {std::move(parts.vocab_json), "#version: 0.2\n" + parts.merges, std::move(parts.added)};
    } else {
      files = {io::read_text(folder / "vocab.json"), io::read_text(folder / "merges.txt")};
    }
    // A token that several files list is special if one of them says so.
    std::map<std::pair<std::int32_t, std::string>, bool> special;
    const auto take = [&](const AddedToken& token) { special[{token.id, token.content}] |= token.special; };
    for (const AddedToken& token : files.added) take(token);
    detail::read_added_tokens(folder, [&](const AddedToken& token, const std::string&) { take(token); });
    files.added.clear();
    for (const auto& [token, is_special] : special) files.added.push_back({token.second, token.first, is_special});
    return files;
  }

  // The tokenizer itself; `name` opens every message.  Throws FormatError as Tokenizer::from_text() and add_tokens() do.
  Tokenizer tokenizer(const std::string& name) const {
    Tokenizer result = Tokenizer::from_text(vocab_json, merges, name + ": vocab.json", name + ": merges.txt");
    result.add_tokens(added, name);
    return result;
  }

  // Writes them into `folder`, which is made if it is missing, tokens beyond vocab.json as added_tokens.json; all are replaced together
  // (io::write_folder_atomically), and the other files of the folder stay.  Throws IoError that names the path.
  void write(const std::filesystem::path& folder) const {
    io::write_folder_atomically(folder, [&](const std::filesystem::path& fresh) { write_into(fresh); });
  }
  // The same into a folder that is there, one file after the other: for a folder that nobody reads yet.
  void write_into(const std::filesystem::path& folder) const {
    io::write_atomically(folder / "vocab.json", std::string_view(vocab_json));
    io::write_atomically(folder / "merges.txt", std::string_view(merges));
    if (added.empty()) return;
    const detail::Vocabulary vocabulary = detail::read_vocabulary(vocab_json, "vocab.json");
    std::string list;
    for (const AddedToken& token : added)
      if (!vocabulary.contains(token.content))
        list += (list.empty() ? "{" : ", ") + io::json_string(token.content, "added token") + ": " + decimal(token.id);
    if (!list.empty()) io::write_atomically(folder / "added_tokens.json", std::string_view(list + "}\n"));
  }

  // The id of "<|endoftext|>", which ends a text; none if there is no such token.  Throws FormatError if vocab_json is not an object of
  // tokens and ids.
  std::optional<std::int32_t> end_of_text() const {
    for (const AddedToken& token : added)
      if (token.content == detail::end_of_text_token) return token.id;
    const detail::Vocabulary vocabulary = detail::read_vocabulary(vocab_json, "vocab.json");
    const auto found = vocabulary.find(detail::end_of_text_token);
    return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
  }
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
