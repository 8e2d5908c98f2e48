// SPDX-License-Identifier: MIT
// Files that are read: a read-only view of a whole file without a copy, and what can be read once.
#pragma once
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "lowbit/base/error.hpp"
#include "lowbit/base/stream.hpp"
#include "lowbit/io/system_file.hpp"

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
  const lowbit::detail::Stream file(detail::open_stream(path));
  if (file == nullptr) detail::raise_io(path, "open", errno);
  std::string text;
  int code = 0;
  std::array<char, 1 << 16> part;
  for (std::size_t n = part.size(); n == part.size();) {
    n = std::fread(part.data(), 1, part.size(), file.get());
    if (n < part.size() && std::ferror(file.get()) != 0) code = errno;
    text.append(part.data(), n);
  }
  if (code != 0) detail::raise_io(path, "read", code);
  return text;
}

}  // namespace lowbit::io::inline LOWBIT_ABI
