// SPDX-License-Identifier: MIT
// The two files of a tokenizer as text: what training makes, what a model's folder is given, and what Tokenizer::from_text() reads.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/file.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {
inline constexpr const char* end_of_text_token = "<|endoftext|>";

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI

namespace lowbit::gpt2::inline LOWBIT_ABI {

// A tokenizer as files: what Tokenizer::from_text() takes.
struct TokenizerFiles {
  std::string vocab_json, merges;  // the contents of vocab.json and merges.txt

  // As `folder` holds them, unchanged and unchecked; where it has a tokenizer.json alone, made of that.  Throws IoError if a file
  // cannot be read, FormatError as Tokenizer::from_tokenizer_json() does.
  static TokenizerFiles read(const std::filesystem::path& folder) {
    const std::filesystem::path whole = folder / "tokenizer.json";
    std::error_code ignored;
    if (!std::filesystem::exists(folder / "vocab.json", ignored) && std::filesystem::exists(whole, ignored)) {
      detail::TokenizerJson parts = detail::read_tokenizer_json(io::read_text(whole), whole.string());
      io::Json vocabulary = io::parse_json(parts.vocab_json, whole.string());
      std::unordered_set<std::string> known;  // Json's own look-up is linear
      for (const auto& [token, id] : vocabulary.items()) known.insert(token);
      for (const auto& [content, id] : parts.added)
        if (known.insert(content).second)
          vocabulary.get_ref<io::Json::object_t&>().std::vector<io::Json::object_t::value_type>::emplace_back(content, id);
      return {vocabulary.dump(), "#version: 0.2\n" + parts.merges};
    }
    return {io::read_text(folder / "vocab.json"), io::read_text(folder / "merges.txt")};
  }

  // Writes both into `folder`, which is made if it is missing; the two are replaced together (io::write_folder_atomically), and the
  // other files of the folder stay.  Throws IoError that names the path.
  void write(const std::filesystem::path& folder) const {
    io::write_folder_atomically(folder, [&](const std::filesystem::path& fresh) { write_into(fresh); });
  }
  // The same into a folder that is there, one file after the other: for a folder that nobody reads yet.
  void write_into(const std::filesystem::path& folder) const {
    io::write_atomically(folder / "vocab.json", std::string_view(vocab_json));
    io::write_atomically(folder / "merges.txt", std::string_view(merges));
  }

  // The id of "<|endoftext|>", which ends a text; none if the vocabulary has no such token.  Throws FormatError if vocab_json is
  // not an object of tokens and ids.
  std::optional<std::int32_t> end_of_text() const {
    const detail::Vocabulary vocabulary = detail::read_vocabulary(vocab_json, "vocab.json");
    const auto found = vocabulary.find(detail::end_of_text_token);
    return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
  }
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
