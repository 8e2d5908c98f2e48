// SPDX-License-Identifier: MIT
// What the system says that this process holds.
#pragma once
#include <cstddef>
#include <optional>

#if defined(__linux__)
#include <fstream>
#include <malloc.h>
#include <string>
#include <utility>
#endif

namespace examples {

// Has large buffers come straight from the system, so that those which are freed are gone and not kept for later.
inline void return_freed_buffers() {
#if defined(__linux__)
  ::mallopt(M_MMAP_THRESHOLD, 1 << 17);
#endif
}

// Bytes of anonymous memory (not files, not code) that are resident, without what was freed.  Nothing where the system does not say.
inline std::optional<std::size_t> anonymous_bytes() {
#if defined(__linux__)
  ::malloc_trim(0);
  for (const auto& [path, key] : {std::pair("/proc/self/smaps_rollup", "Anonymous:"), std::pair("/proc/self/status", "RssAnon:")}) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(key)) return std::stoull(line.substr(std::string(key).size())) * 1024;
  }
#endif
  return std::nullopt;
}

}  // namespace examples
