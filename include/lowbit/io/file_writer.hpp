// SPDX-License-Identifier: MIT
// Files that are written: each replaces the old one completely or leaves it as it was.
#pragma once
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "lowbit/base/error.hpp"
#include "lowbit/io/system_file.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

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
