// SPDX-License-Identifier: MIT
// What a killed program leaves beside its output: io::write_atomically() and write_folder_atomically() work in PATH.part0 and so on.
// Nobody removes it unasked, as another run may be writing there, or the name may be a user's; whoever writes to PATH next names it.
#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "examples/common/standard_streams.hpp"
#include "examples/common/text.hpp"

namespace examples {

// What stands beside `path` and is called as it is, with `suffix` and a number behind; also OUT.part0.part0, where a folder on its way
// was given a part of its own.
inline std::vector<std::filesystem::path> numbered_beside(const std::filesystem::path& path, const std::string& suffix) {
  namespace fs = std::filesystem;
  std::vector<fs::path> result;
  std::error_code failure;
  const fs::path above = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string prefix = path.filename().string() + suffix;
  for (fs::directory_iterator entry(above, failure); !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.find_first_of("0123456789", prefix.size()) == prefix.size() &&
        name.find_first_not_of(".part0123456789", prefix.size()) == name.npos)
      result.push_back(entry->path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

inline void note_left_behind(const char* program, const std::filesystem::path& left) {
  complain(program, "note: " + printable(left.string()) +
                        ": left by a run that was killed; remove it, unless it is yours or a run is writing just now");
}

// Names what a killed run has left beside `out`, a file or a folder that this one is about to write.
inline void note_left_beside(const char* program, std::filesystem::path out) {
  std::error_code ignored;
  if (!out.has_filename()) out = out.parent_path();
  if (std::filesystem::is_directory(out, ignored)) out = std::filesystem::weakly_canonical(out, ignored);  // links are followed
  for (const std::filesystem::path& left : numbered_beside(out, ".part")) note_left_behind(program, left);
}

}  // namespace examples
