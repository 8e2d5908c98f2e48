// SPDX-License-Identifier: MIT
// What the process holds in memory at the moment, by /proc.
#pragma once
#include <cstdint>
#include <fstream>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <unistd.h>

namespace lowbit_test {

// Resident bytes.  Differences may be negative: memory that was freed before goes back to the system when its allocator likes, and is
// given back here first as far as it can be told to.
inline std::int64_t resident_bytes() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
  std::int64_t size = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> size >> pages;
  return pages * static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace lowbit_test
