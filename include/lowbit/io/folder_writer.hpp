// SPDX-License-Identifier: MIT
// Folders that are written: each takes the old one's place as a whole, or leaves it as it was.
#pragma once
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/system_file.hpp"

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
