// SPDX-License-Identifier: MIT
// Help for tests of files: a folder that cleans up after itself, images of safetensors files made by hand, and what an error says.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace lowbit_test {

// An empty folder below the current one; gone, with all in it, at the end of its life.
class Folder {
 public:
  Folder() {
    for (int i = 0; !std::filesystem::create_directory(path_ = "io_test_files" + std::to_string(i)); ++i) {
    }
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  friend std::filesystem::path operator/(const Folder& folder, const std::string& name) { return folder.path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::vector<std::string> file_names(const Folder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Writes a file, and makes its folder.
inline void put_file(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

inline std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// A safetensors file: the length of the header, the header, the data.
inline std::string image(const std::string& header, const std::string& data) {
  std::string result;
  for (int i = 0; i < 8; ++i) result += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i) & 0xFFu);
  return result + header + data;
}

// Runs `action`, which must throw exactly an E whose message holds all the words.  Empty if so; else what is wrong, for CHECK.
template <class E, class Action>
std::string unsaid(Action&& action, std::initializer_list<std::string_view> words) {
  try {
    action();
  } catch (const E& error) {
    const std::string message = error.what();
    for (const std::string_view word : words)
      if (message.find(word) == message.npos) return "'" + std::string(word) + "' is not in: " + message;
    return "";
  } catch (const std::exception& error) {
    return std::string("another type of error: ") + error.what();
  }
  return "nothing thrown";
}

}  // namespace lowbit_test
