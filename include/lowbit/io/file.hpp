// SPDX-License-Identifier: MIT
// Files: a read-only view of a whole file without a copy, and a write that either replaces the file completely or leaves the old
// one as it was.  On POSIX files are mapped; elsewhere they are read into memory (that path is untested on real systems).
#pragma once
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lowbit/base/error.hpp"

#if defined(__unix__) || defined(__APPLE__)
#define LOWBIT_POSIX 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define LOWBIT_POSIX 0
#include "lowbit/base/aligned_buffer.hpp"
#endif

namespace lowbit::io {

namespace detail {
inline namespace LOWBIT_ABI {
// Throws IoError "path: cannot <action>: <what the system says about `code`>".
[[noreturn]] inline void raise_io(const std::filesystem::path& path, const std::string& action, int code) {
  raise<IoError>(path.string() + ": cannot " + action + ": " + std::generic_category().message(code));
}
}  // namespace LOWBIT_ABI
}  // namespace detail

inline namespace LOWBIT_ABI {

// The bytes of a regular file, read-only, for as long as the object lives.  Move-only; moving does not move the bytes, which start
// at a multiple of 64.  Throws IoError that names the path and the system's reason (missing, a folder, no permission).
// Reading from several threads is safe.  The file must not be made shorter while it is open: a mapped page that is gone ends the
// program (SIGBUS).  Files written by write_atomically() never shrink in place.
class MappedFile {
 public:
  MappedFile() = default;
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
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  void swap(MappedFile& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
#if !LOWBIT_POSIX
    std::swap(memory_, other.memory_);
#endif
  }

#if LOWBIT_POSIX
  void open(const std::filesystem::path& path) {
    // Without O_NONBLOCK, opening a pipe would wait for a writer instead of being refused below.
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) detail::raise_io(path, "open", errno);
    struct ::stat status {};
    void* address = nullptr;
    int code = ::fstat(file, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
    if (code == 0 && !S_ISREG(status.st_mode)) {
      ::close(file);
      raise<IoError>(path.string() + ": cannot read: expected a regular file, found a pipe or a device");
    }
    if (code == 0 && status.st_size > 0) {  // mapping nothing is an error to the system, but an empty file is a file
      address = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
      if (address == MAP_FAILED) code = errno;
    }
    ::close(file);
    if (code != 0) detail::raise_io(path, "read", code);
    data_ = static_cast<const std::byte*>(address);
    size_ = static_cast<std::size_t>(status.st_size);
  }
  void close() noexcept {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }
#else
  void open(const std::filesystem::path& path) {
    std::error_code failure;
    const auto size = std::filesystem::file_size(path, failure);
    if (failure) detail::raise_io(path, "open", failure.default_error_condition().value());
    memory_.reset(static_cast<std::size_t>(size));
    std::FILE* file = std::fopen(path.string().c_str(), "rb");
    if (file == nullptr) detail::raise_io(path, "open", errno);
    const std::size_t got = memory_.empty() ? 0 : std::fread(memory_.data(), 1, memory_.size(), file);
    std::fclose(file);
    if (got != memory_.size()) detail::raise_io(path, "read", EIO);
    data_ = memory_.data();
    size_ = memory_.size();
  }
  void close() noexcept {}
  AlignedBuffer<std::byte> memory_;
#endif
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
  std::FILE* file = std::fopen(path.string().c_str(), "rb");
  if (file == nullptr) detail::raise_io(path, "open", errno);
  std::string text;
  int code = 0;
  std::array<char, 1 << 16> part;
  for (std::size_t n = part.size(); n == part.size();) {
    n = std::fread(part.data(), 1, part.size(), file);
    if (n < part.size() && std::ferror(file) != 0) code = errno;
    text.append(part.data(), n);
  }
  std::fclose(file);
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
      temporary_ += ".part" + std::to_string(i);
      file_ = std::fopen(temporary_.string().c_str(), "wbx");
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
#if LOWBIT_POSIX
    if (::fsync(::fileno(file_)) != 0) detail::raise_io(path_, "write", errno);
#endif
    std::FILE* file = std::exchange(file_, nullptr);
    std::error_code failure;
    if (std::fclose(file) != 0)
      failure.assign(errno, std::generic_category());
    else
      std::filesystem::rename(temporary_, path_, failure);
    if (!failure) return;
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    detail::raise_io(path_, "replace", failure.default_error_condition().value());
  }
  void drop() noexcept {
    if (file_ == nullptr) return;
    std::fclose(std::exchange(file_, nullptr));
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

}  // namespace LOWBIT_ABI
}  // namespace lowbit::io
