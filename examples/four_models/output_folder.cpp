// SPDX-License-Identifier: MIT
#include "examples/four_models/output_folder.hpp"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "examples/common/left_behind.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/json.hpp"

namespace examples {

namespace {

namespace fs = std::filesystem;

constexpr const char* part = ".four_models.part";  // and a number: on its way in or out
// The whole earlier run, while the files of the next one are moved one by one; never a half of it.
constexpr const char* set_aside = ".four_models.old";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool is_output(const fs::path& name) {
  return std::find(output_names.begin(), output_names.end(), name.generic_string()) != output_names.end();
}

bool written_by_us(const fs::path& results) {
  try {
    const lowbit::io::Json json = lowbit::io::parse_json(lowbit::io::read_text(results), results.string());
    return json.is_object() && json.value("program", "") == "four_models";
  } catch (const std::exception&) {
    return false;
  }
}

void refuse_files_of_others(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : output_names)
    if (fs::is_directory(folder / name, ignored))
      lowbit::raise<lowbit::IoError>((folder / name).string() + ": is a folder; expected a file or nothing");
  const fs::path results = folder / output_names[0];
  if (is_there(results) && written_by_us(results)) return;
  for (const char* name : output_names)
    if (is_there(folder / name))
      lowbit::raise<lowbit::IoError>((folder / name).string() + ": is there already, and no " + output_names[0] +
                                     " of four_models beside it; move it away, or choose another --out");
}

// The folders that have to be made for `folder` to be there, outermost first.
std::vector<fs::path> missing(fs::path folder) {
  std::vector<fs::path> result;
  for (; !folder.empty() && !is_there(folder) && folder != folder.parent_path(); folder = folder.parent_path())
    result.insert(result.begin(), folder);
  return result;
}

// The folders beside `folder` that io::write_folder_atomically() may have left, with a run in them, or nothing yet.
std::vector<fs::path> left_beside(const fs::path& folder, const char* suffix) {
  std::error_code ignored;
  const fs::path target = fs::weakly_canonical(fs::absolute(folder));
  std::vector<fs::path> result = numbered_beside(target, suffix);
  std::erase_if(result, [&](const fs::path& path) {
    return !fs::is_directory(path, ignored) ||
           (!fs::is_empty(path, ignored) &&
            std::none_of(output_names.begin(), output_names.end(), [&](const char* name) { return is_there(path / name); }));
  });
  return result;
}

// Where a program died between the two renames of a system that cannot exchange folders, the whole earlier run is beside its place.
void put_back_folder(const fs::path& folder) {
  if (is_there(folder)) return;
  for (const fs::path& old : left_beside(folder, ".old")) {
    std::error_code failure;
    if (!written_by_us(old / output_names[0])) continue;
    fs::rename(old, folder, failure);
    if (!failure) return;
  }
}

// A folder with a name that nobody has, below `folder`: on the same file system, whatever is mounted where.
fs::path make_temporary(const fs::path& folder) {
  for (int i = 0;; ++i) {
    const fs::path path = folder / (part + std::to_string(i));
    std::error_code failure;
    if (fs::create_directory(path, failure)) return path;
    if (failure || i == 999)
      lowbit::raise<lowbit::IoError>(path.string() +
                                     ": cannot make the folder: " + (failure ? failure.message() : "it and all like it are there"));
  }
}

class Temporary {
 public:
  explicit Temporary(const fs::path& folder) : path_(make_temporary(folder)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void check(const std::error_code& failure, const fs::path& path, const char* what) {
  if (failure) lowbit::raise<lowbit::IoError>(path.string() + ": cannot " + what + ": " + failure.message());
}

void write_files(const fs::path& folder, const std::vector<OutputFile>& files) {
  for (const OutputFile& file : files) {
    if (is_output(file.name)) lowbit::io::make_folder((folder / file.name).parent_path());
    lowbit::io::write_atomically(folder / file.name, file.content);
  }
}

// Gives a file a second name, or a copy where there are no such names.
void keep_file(const fs::path& from, const fs::path& to) {
  lowbit::io::make_folder(to.parent_path());
  std::error_code failure;
  fs::create_hard_link(from, to, failure);
  if (failure) fs::copy_file(from, to, failure);
  check(failure, to, "keep the old file there");
}

// From here on there is no earlier run to go back to.
void forget_old(const fs::path& folder) {
  const Temporary trash(folder);
  std::error_code failure;
  fs::rename(folder / set_aside, trash.path() / "old", failure);
  check(failure, folder / set_aside, "remove the folder");
}

// Puts the run back that was set aside.  Who is killed meanwhile can do it again.
void restore(const fs::path& folder) {
  if (!is_there(folder / set_aside)) return;
  for (const char* name : output_names) {
    std::error_code failure;
    fs::remove(folder / name, failure);
    check(failure, folder / name, "put the old file back");
    if (is_there(folder / set_aside / name)) keep_file(folder / set_aside / name, folder / name);
  }
  forget_old(folder);
}

void keep_old(const fs::path& folder) {
  const Temporary old(folder);
  for (const char* name : output_names)
    if (is_there(folder / name)) keep_file(folder / name, old.path() / name);
  std::error_code failure;
  fs::rename(old.path(), folder / set_aside, failure);
  check(failure, folder / set_aside, "make the folder");
}

// results.json goes first and comes last.
void move_one_by_one(const fs::path& folder, const std::vector<OutputFile>& files) {
  const Temporary fresh(folder);
  write_files(fresh.path(), files);
  keep_old(folder);
  try {
    std::error_code failure;
    fs::remove(folder / output_names[0], failure);
    for (auto name = output_names.rbegin(); name != output_names.rend() && !failure; ++name) {
      const fs::path to = folder / *name;
      if (is_there(fresh.path() / *name)) {
        lowbit::io::make_folder(to.parent_path());
        fs::rename(fresh.path() / *name, to, failure);
      } else {
        fs::remove(to, failure);
      }
      check(failure, to, "put the new file there");
    }
    check(failure, folder / output_names[0], "replace");
  } catch (...) {
    restore(folder);
    throw;
  }
  forget_old(folder);
}

// Puts a new folder in the place of the old one.  False where that cannot be: the program runs in it, something is mounted there,
// or the system refuses; or the files could not be written, of which the other way will say why.
bool replace_folder(const fs::path& folder, const std::vector<OutputFile>& files) {
  try {
    lowbit::io::write_folder_atomically(
        folder, [&](const fs::path& fresh) { write_files(fresh, files); }, [](const fs::path& name) { return !is_output(name); });
    return true;
  } catch (const lowbit::IoError&) {
    return false;
  }
}

}  // namespace

OutputFolder::OutputFolder(fs::path folder) : folder_(std::move(folder)) {
  if (!folder_.has_filename()) folder_ = folder_.parent_path();  // "out/"
  put_back_folder(folder_);
  const std::vector<fs::path> made = missing(folder_);
  lowbit::io::make_folder(folder_);
  made_ = made;
  try {
    restore(folder_);
    refuse_files_of_others(folder_);
    std::error_code ignored;
    for (const fs::path& stale : numbered_beside(folder_ / part, ""))
      if (fs::is_directory(stale, ignored)) fs::remove_all(stale, ignored);
    const Temporary probe(folder_);
    lowbit::io::write_atomically(probe.path() / "probe", std::string_view("probe"));
  } catch (...) {
    take_away();
    throw;
  }
}

OutputFolder::~OutputFolder() { take_away(); }

void OutputFolder::take_away() {
  std::error_code ignored;
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) fs::remove(*folder, ignored);  // only if it is empty
}

void OutputFolder::replace(const std::vector<OutputFile>& files) {
  refuse_files_of_others(folder_);
  if (replace_folder(folder_, files)) return;
  lowbit::io::make_folder(folder_);
  move_one_by_one(folder_, files);
}

std::vector<fs::path> OutputFolder::left_by_killed() const {
  std::vector<fs::path> left = left_beside(folder_, ".part");
  for (const fs::path& old : left_beside(folder_, ".old")) left.push_back(old);
  return left;
}

}  // namespace examples
