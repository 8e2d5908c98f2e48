// SPDX-License-Identifier: MIT
// Files: a read-only view of a whole file without a copy, and writes that either replace a file, or a folder, completely or leave
// the old one as it was.  On POSIX systems and on Windows (there tested under Wine alone), where names are those of
// std::filesystem::path, whatever the code page.
#pragma once
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

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
#error "lowbit/io/file.hpp: expected a POSIX system or Windows"
#endif

namespace lowbit::io::detail::inline LOWBIT_ABI {
// Throws IoError "path: cannot <action>: <what the system says about `code`>".
[[noreturn]] inline void raise_io(const std::filesystem::path& path, const std::string& action, int code) {
  raise<IoError>(path.string() + ": cannot " + action + ": " + std::generic_category().message(code));
}

// What the systems call differently.
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

namespace lowbit::io::inline LOWBIT_ABI {

// The bytes of a regular file, read-only, for as long as the object lives.  Move-only; moving does not move the bytes, which start
// at a multiple of 64.  Throws IoError that names the path and the system's reason (missing, a folder, no permission).
// Reading from several threads is safe.  The file must not be made shorter while it is open: a mapped page that is gone ends the
// program (SIGBUS).  Files written by write_atomically() never shrink in place.  Windows refuses to shorten, replace or remove a file
// that is mapped.
class MappedFile {
 public:
  MappedFile() = default;
  // Opens and maps the file.
  explicit MappedFile(const std::filesystem::path& path) { open(path); }
  ~MappedFile() { close(); }
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    MappedFile taken(std::move(other));
    swap(taken);
    return *this;
  }

  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }  // all of them

 private:
  void swap(MappedFile& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void open(const std::filesystem::path& path) {
    const int file = detail::open_to_read(path);
    if (file < 0) detail::raise_io(path, "open", errno);
    detail::FileStatus status{};
    const std::byte* data = nullptr;
    const auto is = [&](unsigned kind) {
      const unsigned mode = status.st_mode;
      return (mode & unsigned{S_IFMT}) == kind;
    };
    int code = detail::status_of(file, status) != 0 ? errno : is(unsigned{S_IFDIR}) ? EISDIR : 0;
    if (code == 0 && !is(unsigned{S_IFREG})) {
      detail::close_file(file);
      raise<IoError>(path.string() + ": cannot read: expected a regular file, found a pipe or a device");
    }
    if (code == 0 && static_cast<std::uintmax_t>(status.st_size) > SIZE_MAX) code = EFBIG;
    if (code == 0 && status.st_size > 0) {  // mapping nothing is an error to the system, but an empty file is a file
      data = detail::map_file(file, static_cast<std::size_t>(status.st_size));
      if (data == nullptr) code = errno;
    }
    detail::close_file(file);
    if (code != 0) detail::raise_io(path, "read", code);
    data_ = data;
    size_ = static_cast<std::size_t>(status.st_size);
  }
  void close() noexcept {
    if (data_ != nullptr) detail::unmap_file(data_, size_);
  }
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The whole file as text, unchanged.  Throws IoError as MappedFile does.
inline std::string read_text(const std::filesystem::path& path) {
  const MappedFile file(path);
  return file.size() == 0 ? std::string() : std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

// The same from anything that can be read once from its beginning to its end: a file, a pipe, /dev/stdin.  Waits for a pipe's
// writer.  Throws IoError that names the path and the system's reason.
inline std::string read_stream(const std::filesystem::path& path) {
  std::FILE* file = detail::open_stream(path);
  if (file == nullptr) detail::raise_io(path, "open", errno);
  std::string text;
  int code = 0;
  std::array<char, 1 << 16> part;
  for (std::size_t n = part.size(); n == part.size();) {
    n = std::fread(part.data(), 1, part.size(), file);
    if (n < part.size() && std::ferror(file) != 0) code = errno;
    text.append(part.data(), n);
  }
  static_cast<void>(std::fclose(file));
  if (code != 0) detail::raise_io(path, "read", code);
  return text;
}

// What write_atomically() hands to its callback.  Not thread safe.
class FileWriter {
 public:
  FileWriter(FileWriter&&) = delete;
  ~FileWriter() { drop(); }

  // Appends.  Throws IoError that names the path and the system's reason.
  void write(std::span<const std::byte> bytes) {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size())
      detail::raise_io(path_, "write", errno);
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

 private:
  template <class Callback>
  requires std::invocable<Callback&, FileWriter&>
  friend void write_atomically(const std::filesystem::path& path, Callback&& callback);

  explicit FileWriter(const std::filesystem::path& path) : path_(path) {
    // The name is ours only if the exclusive open says so; a file left behind by a crash just makes us take the next number.
    for (int i = 0; file_ == nullptr; ++i) {
      temporary_ = path;
      temporary_ += ".part" + decimal(i);
      file_ = detail::create_stream(temporary_);
      if (file_ == nullptr && (errno != EEXIST || i == 999)) detail::raise_io(path, "create " + temporary_.string(), errno);
    }
#if LOWBIT_POSIX
    // Whoever could not read the old file must not be able to read the new one.
    struct ::stat old {};
    if (::stat(path.c_str(), &old) == 0 && S_ISREG(old.st_mode) && ::fchmod(::fileno(file_), old.st_mode & 07777u) != 0) {
      const int code = errno;
      drop();
      detail::raise_io(path, "set the permissions of " + temporary_.string(), code);
    }
#endif
  }
  void commit() {
    if (std::fflush(file_) != 0) detail::raise_io(path_, "write", errno);
    if (const int code = detail::write_to_disk(file_); code != 0) detail::raise_io(path_, "write", code);
    std::FILE* file = std::exchange(file_, nullptr);
    const int code = std::fclose(file) != 0 ? errno : detail::replace_file(temporary_, path_);
    if (code == 0) return;
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    detail::raise_io(path_, "replace", code);
  }
  void drop() noexcept {
    if (file_ == nullptr) return;
    static_cast<void>(std::fclose(std::exchange(file_, nullptr)));
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }

  std::filesystem::path path_, temporary_;
  std::FILE* file_ = nullptr;
};

// Calls callback(writer) to fill a new temporary file in the folder of `path`, brings it to the disk, and renames it to `path`:
// a reader sees the old file or the new one, never a mixture.  An existing file passes on its permissions; a symbolic link is
// replaced, not followed.  Throws IoError that names `path`, or whatever the callback throws; then the old file is untouched and
// the temporary is gone.  Threads and processes may write the same path at once: the last rename wins.
template <class Callback>
requires std::invocable<Callback&, FileWriter&>
inline void write_atomically(const std::filesystem::path& path, Callback&& callback) {
  FileWriter writer(path);
  callback(writer);
  writer.commit();
}
// The same, with the content at hand.
inline void write_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  write_atomically(path, [&](FileWriter& writer) { writer.write(bytes); });
}
inline void write_atomically(const std::filesystem::path& path, std::string_view text) {
  write_atomically(path, [&](FileWriter& writer) { writer.write(text); });
}

// Makes the folder `path`, and those above it, unless they are there.  Throws IoError that names the path and the system's reason.
inline void make_folder(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  std::error_code ignored;
  // Some systems say nothing where a file has the name.
  if (!failure && !std::filesystem::is_directory(path, ignored)) failure = std::make_error_code(std::errc::not_a_directory);
  if (failure) detail::raise_io(path, "make the folder", failure.default_error_condition().value());
}

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {

// Where the folder really is: links are followed, and "out/" is "out".
inline std::filesystem::path resolved_folder(const std::filesystem::path& path) {
  std::error_code failure;
  // Absolute first: of a relative path whose first part does not exist, libstdc++ leaves a relative one, without a parent.
  std::filesystem::path result = std::filesystem::absolute(path, failure);
  if (!failure) result = std::filesystem::weakly_canonical(result, failure);
  if (failure) raise_io(path, "find", failure.default_error_condition().value());
  if (!result.has_filename()) result = result.parent_path();
  return result;
}

// Whether another file system, or another part of this one, is mounted here; the system will not rename such a folder.
inline bool is_mount_point([[maybe_unused]] const std::filesystem::path& folder) {
#if LOWBIT_POSIX
  struct ::stat inside {
  }, outside{};
  if (::stat(folder.c_str(), &inside) == 0 && ::stat((folder / "..").c_str(), &outside) == 0 && inside.st_dev != outside.st_dev)
    return true;
#if defined(STATX_ATTR_MOUNT_ROOT)
  struct ::statx more {};
  if (::statx(AT_FDCWD, folder.c_str(), 0, STATX_TYPE, &more) == 0) return (more.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
#endif
#endif
  return false;
}

// Throws IoError if the program may not make, rename and remove files in `folder`.  Windows tells whoever tries.
inline void require_writable(const std::filesystem::path& folder, [[maybe_unused]] const std::filesystem::path& for_path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) raise_io(for_path, "make the folder", ENOTDIR);
#if LOWBIT_POSIX
  if (::access(folder.c_str(), W_OK | X_OK) != 0) raise_io(for_path, "write in " + folder.string(), errno);
#endif
}

inline void sync_folder([[maybe_unused]] const std::filesystem::path& folder) noexcept {
#if LOWBIT_POSIX
  // A file system that cannot do this is no reason to fail: every file in it was synced by itself.
  const int file = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (file < 0) return;
  static_cast<void>(::fsync(file));
  ::close(file);
#endif
}

// Exchanges two folders, in one step where the system can.  Where it cannot (or exchange is false), `target` is moved aside first:
// who dies between the two renames leaves the old folder whole as target.old0, the new one whole as `fresh`, and no target.
inline void exchange_folders(const std::filesystem::path& fresh, const std::filesystem::path& target,
                             [[maybe_unused]] bool exchange = true) {
  const auto fail = [&](int code) { raise_io(target, "replace", code); };
#if defined(RENAME_EXCHANGE)
  if (exchange) {
    if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) fail(errno);
  }
#endif
  std::error_code failure, ignored;
  std::filesystem::path aside;
  for (int i = 0; i == 0 || (std::filesystem::exists(aside, ignored) && i < 1000); ++i) {
    aside = target;
    aside += ".old" + decimal(i);
  }
  std::filesystem::rename(target, aside, failure);
  if (failure) fail(failure.default_error_condition().value());
  std::filesystem::rename(fresh, target, failure);
  if (failure) {
    std::filesystem::rename(aside, target, ignored);
    fail(failure.default_error_condition().value());
  }
  std::filesystem::rename(aside, fresh, ignored);
}

// A folder on its way to the place of another; gone with its contents unless it is committed.
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& path) : path_(path), target_(resolved_folder(path)) {
    std::error_code failure;
    std::filesystem::create_directories(target_.parent_path(), failure);
    if (failure) raise_io(path, "make the folder", failure.default_error_condition().value());
    for (int i = 0; folder_.empty(); ++i) {
      std::filesystem::path name = target_;
      name += ".part" + decimal(i);
      if (std::filesystem::create_directory(name, failure))
        folder_ = name;
      else if (i == 999 || (failure && failure != std::errc::file_exists))
        raise_io(path, "make the folder " + name.string(), failure ? failure.default_error_condition().value() : EEXIST);
    }
    // Nobody else reads it before it has the permissions of the folder that it replaces.
    permissions_ = std::filesystem::status(folder_, failure).permissions();
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all, failure);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  // Empties the folder that was replaced, or the one that was never finished.
  ~NewFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  const std::filesystem::path& folder() const { return folder_; }

  template <class Keep>
  void commit(const Keep& keep) {
    std::error_code failure;
    const bool is_new = !std::filesystem::exists(target_, failure);
    if (!is_new) {
      carry(keep, {});
      permissions_ = std::filesystem::status(target_, failure).permissions();
    }
    std::filesystem::permissions(folder_, permissions_, failure);
    if (failure) raise_io(path_, "set the permissions of " + folder_.string(), failure.default_error_condition().value());
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_, failure))
      if (entry.is_directory(failure) && !entry.is_symlink(failure)) sync_folder(entry.path());
    sync_folder(folder_);
    if (is_new)
      std::filesystem::rename(folder_, target_, failure);
    else
      exchange_folders(folder_, target_);
    if (is_new && failure) raise_io(path_, "replace", failure.default_error_condition().value());
    sync_folder(target_.parent_path());
  }

 private:
  // Takes over what is kept and was not written anew; what was written anew gets the permissions of what it replaces.
  template <class Keep>
  void carry(const Keep& keep, const std::filesystem::path& below) {
    namespace fs = std::filesystem;
    std::error_code failure;
    fs::path at;
    const auto check = [&] {
      if (failure) raise_io(target_ / at, "keep", failure.default_error_condition().value());
    };
    std::vector<fs::path> names;
    for (auto entry = fs::directory_iterator(target_ / below, failure); !failure && entry != fs::directory_iterator();
         entry.increment(failure))
      names.push_back(entry->path().filename());
    at = below;
    check();
    for (const fs::path& name : names) {
      at = below / name;
      const fs::path from = target_ / at, to = folder_ / at;
      const fs::file_status old = fs::symlink_status(from, failure), written = fs::symlink_status(to, failure);
      failure.clear();
      const bool is_folder = fs::is_directory(old);
      if (fs::exists(written)) {
        if (is_folder != fs::is_directory(written)) raise_io(path_ / at, "replace", is_folder ? EISDIR : ENOTDIR);
        if (is_folder) carry(keep, at);
        if (!fs::is_symlink(old)) fs::permissions(to, old.permissions(), failure);
      } else if (is_folder) {
        fs::create_directory(to, from, failure);
        check();
        carry(keep, at);
        if (fs::is_empty(to, failure) && !fs::is_empty(from, failure)) fs::remove(to, failure);
      } else if (keep(static_cast<const fs::path&>(at))) {
        if (fs::is_symlink(old)) {
          fs::copy_symlink(from, to, failure);
        } else {
          fs::create_hard_link(from, to, failure);
          if (failure) fs::copy_file(from, to, failure);  // not every file system has links
        }
      }
      check();
    }
  }

  std::filesystem::path path_, target_, folder_;  // as it was given, where it is, and the new one
  std::filesystem::perms permissions_{};
};

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// Throws IoError, which names the path and the reason, where write_folder_atomically() could not replace or make the folder `path`:
// a file has the name, the folder above cannot be written, something is mounted there, or the program runs in it.  Changes nothing.
inline void require_replaceable_folder(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path target = detail::resolved_folder(path);
  fs::path above = target.parent_path();
  if (fs::exists(target, ignored)) {
    detail::require_writable(target, path);
    const fs::path here = fs::current_path(ignored).lexically_relative(target);
    if (!here.empty() && *here.begin() != "..")
      raise<IoError>(path.string() +
                     ": cannot replace the folder in which the program runs; name one below it, or start it elsewhere");
    if (detail::is_mount_point(target))
      raise<IoError>(path.string() + ": cannot replace a folder on which something is mounted; name one below it");
  } else {
    while (!fs::exists(above, ignored) && above.has_relative_path()) above = above.parent_path();
  }
  detail::require_writable(above, path);
}

// Calls fill(folder) to fill a new, empty folder beside `path`, and puts that into the place of `path`: a reader who comes, or a
// program that dies, finds the old folder or the new one, whole.  Folders above are made.  What the old folder has and the new one
// has not stays, where keep(name relative to the folder) says so; files pass on their permissions to those that replace them.
// A link to a folder is followed.  Throws IoError as require_replaceable_folder() does and where the system refuses, or whatever
// fill throws; then the old folder is untouched and the new one gone.  One call at a time for a path.
//
// Where the system cannot exchange two folders in one step (Linux can), the old one is out of the way for a moment; a program that
// dies then leaves it as PATH.old0, whole, to be renamed back.  One that dies at another time may leave a PATH.part0, which is in
// nobody's way.
template <class Fill, class Keep>
requires std::invocable<Fill&, const std::filesystem::path&> && std::predicate<const Keep&, const std::filesystem::path&>
inline void write_folder_atomically(const std::filesystem::path& path, Fill&& fill, const Keep& keep) {
  require_replaceable_folder(path);
  detail::NewFolder folder(path);
  fill(folder.folder());
  folder.commit(keep);
}
// The same; everything else in the old folder stays.
template <class Fill>
requires std::invocable<Fill&, const std::filesystem::path&>
inline void write_folder_atomically(const std::filesystem::path& path, Fill&& fill) {
  write_folder_atomically(path, fill, [](const std::filesystem::path&) { return true; });
}

}  // namespace lowbit::io::inline LOWBIT_ABI
