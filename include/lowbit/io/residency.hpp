// SPDX-License-Identifier: MIT
// Mapped memory that a program is done with: given back to the system before the file is closed, so that going through a file of any
// size takes the memory of the part at hand.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "lowbit/io/system_file.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// Lets the system take back the whole pages inside `bytes`, a part of a MappedFile.  They are read from the file again when they are
// touched again.  Elsewhere than on POSIX nothing happens.  Thread safe.
inline void release_pages([[maybe_unused]] std::span<const std::byte> bytes) noexcept {
#if LOWBIT_POSIX
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data()), end = begin + bytes.size();
  const std::uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) static_cast<void>(::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED));
#endif
}

}  // namespace lowbit::io::inline LOWBIT_ABI
