// SPDX-License-Identifier: MIT
// What POSIX systems and Windows (there tested under Wine alone) call differently: opening, mapping and replacing files, whose names are
// those of std::filesystem::path, whatever the code page.
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "lowbit/base/error.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#if defined(__unix__) || defined(__APPLE__)
#define LOWBIT_POSIX 1
#include <sys/mman.h>
#include <unistd.h>
#elif defined(_WIN32)
#define LOWBIT_POSIX 0
#include <io.h>
// As windows.h declares them; that file itself would bring its macros along.
extern "C" {
__declspec(dllimport) void* __stdcall CreateFileMappingW(void* file, struct _SECURITY_ATTRIBUTES*, unsigned long protection,
                                                         unsigned long size_high, unsigned long size_low, const wchar_t* name);
__declspec(dllimport) void* __stdcall MapViewOfFile(void* mapping, unsigned long access, unsigned long offset_high,
                                                    unsigned long offset_low, std::size_t bytes);
__declspec(dllimport) int __stdcall UnmapViewOfFile(const void* address);
__declspec(dllimport) int __stdcall CloseHandle(void* handle);
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t* from, const wchar_t* to, unsigned long flags);
__declspec(dllimport) unsigned long __stdcall GetLastError();
}
#else
#error "lowbit/io/system_file.hpp: expected a POSIX system or Windows"
#endif

namespace lowbit::io::detail::inline LOWBIT_ABI {
// Throws IoError "path: cannot <action>: <what the system says about `code`>".
[[noreturn]] inline void raise_io(const std::filesystem::path& path, const std::string& action, int code) {
  raise<IoError>(path.string() + ": cannot " + action + ": " + std::generic_category().message(code));
}

#if LOWBIT_POSIX
using FileStatus = struct ::stat;
// Without O_NONBLOCK, opening a pipe would wait for a writer instead of being refused later.
inline int open_to_read(const std::filesystem::path& path) { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }
inline int close_file(int file) { return ::close(file); }
inline int status_of(int file, FileStatus& status) { return ::fstat(file, &status); }
inline std::FILE* open_stream(const std::filesystem::path& path) { return std::fopen(path.c_str(), "rb"); }
// A new file; fails with EEXIST if there is one of that name.
inline std::FILE* create_stream(const std::filesystem::path& path) { return std::fopen(path.c_str(), "wbx"); }
// Both return 0, or the reason, as errno says it.
inline int write_to_disk(std::FILE* file) { return ::fsync(::fileno(file)) == 0 ? 0 : errno; }
inline int replace_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}
// The first `size` > 0 bytes of a file; null, and errno, if the system refuses.
inline const std::byte* map_file(int file, std::size_t size) {
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  return address == MAP_FAILED ? nullptr : static_cast<const std::byte*>(address);
}
inline void unmap_file(const std::byte* data, std::size_t size) noexcept { ::munmap(const_cast<std::byte*>(data), size); }
#else
using FileStatus = struct ::_stat64;
inline int open_to_read(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return ::_wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT);
  errno = EISDIR;
  return -1;
}
inline int close_file(int file) { return ::_close(file); }
inline int status_of(int file, FileStatus& status) { return ::_fstat64(file, &status); }
inline std::FILE* open_stream(const std::filesystem::path& path) { return ::_wfopen(path.c_str(), L"rb"); }
inline std::FILE* create_stream(const std::filesystem::path& path) {
  const int file = ::_wopen(path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT, _S_IREAD | _S_IWRITE);
  return file < 0 ? nullptr : ::_fdopen(file, "wb");
}
// The system's reason for what failed last, as errno says it.
inline int last_error() {
  switch (::GetLastError()) {
    case 2:
    case 3: return ENOENT;
    case 5:     // access denied
    case 32:    // in use by another process
    case 33:    // locked
    case 1224:  // mapped
      return EACCES;
    case 8: return ENOMEM;
    case 17: return EXDEV;
    case 39:
    case 112: return ENOSPC;
    case 80:
    case 183: return EEXIST;
    default: return EIO;
  }
}
inline int write_to_disk(std::FILE* file) { return ::_commit(::_fileno(file)) == 0 ? 0 : errno; }
inline int replace_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  constexpr unsigned long replace_existing = 1, write_through = 8;
  return ::MoveFileExW(from.c_str(), to.c_str(), replace_existing | write_through) != 0 ? 0 : last_error();
}
inline const std::byte* map_file(int file, std::size_t size) {
  constexpr unsigned long page_readonly = 2, file_map_read = 4;
  void* const mapping =
      ::CreateFileMappingW(reinterpret_cast<void*>(::_get_osfhandle(file)), nullptr, page_readonly, 0, 0, nullptr);
  if (mapping == nullptr) {
    errno = last_error();
    return nullptr;
  }
  const void* const address = ::MapViewOfFile(mapping, file_map_read, 0, 0, size);
  if (address == nullptr) errno = last_error();
  ::CloseHandle(mapping);  // the view keeps it
  return static_cast<const std::byte*>(address);
}
inline void unmap_file(const std::byte* data, std::size_t) noexcept { ::UnmapViewOfFile(data); }
#endif

}  // namespace lowbit::io::detail::inline LOWBIT_ABI
