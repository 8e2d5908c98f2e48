// SPDX-License-Identifier: MIT
// A folder for targets whose reader opens files: in memory where the system has such a place, and gone with the process.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "fuzz/fuzz.hpp"

namespace lowbit_fuzz {

class Scratch {
 public:
  Scratch() {
    const std::filesystem::path memory = "/dev/shm";
    std::string name =
        ((std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path()) / "lowbit.XXXXXX");
    expect(::mkdtemp(name.data()) != nullptr, "a folder for scratch files");
    folder_ = name;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  // Writes a file of this name.
  std::filesystem::path put(const char* name, std::string_view content) const {
    std::filesystem::path path = folder_ / name;
    std::FILE* file = std::fopen(path.c_str(), "wb");
    expect(file != nullptr, "a scratch file");
    expect(std::fwrite(content.data(), 1, content.size(), file) == content.size() && std::fclose(file) == 0,
           "room for scratch files");
    return path;
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace lowbit_fuzz
