// SPDX-License-Identifier: MIT
#include "output_folder.hpp"

#include <system_error>
#include <utility>

#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"

namespace four_models {

namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
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

// A folder with a name that nobody has, below `folder`: on the same file system, whatever is mounted where.
fs::path make_temporary(const fs::path& folder) {
  for (int i = 0;; ++i) {
    const fs::path path = folder / (".four_models.part" + std::to_string(i));
    std::error_code failure;
    if (fs::create_directory(path, failure)) return path;
    if (failure || i == 999)
      lowbit::raise<lowbit::IoError>(path.string() +
                                     ": cannot make the folder: " + (failure ? failure.message() : "it and all like it are there"));
  }
}

// Moves files, and moves them back unless they are to stay.
class Moves {
 public:
  Moves() = default;
  Moves(const Moves&) = delete;
  Moves& operator=(const Moves&) = delete;
  ~Moves() {
    std::error_code ignored;
    for (auto m = moves_.rbegin(); m != moves_.rend(); ++m) fs::rename(m->second, m->first, ignored);
  }
  void move(const fs::path& from, const fs::path& to) {
    std::error_code failure;
    fs::rename(from, to, failure);
    if (failure) lowbit::raise<lowbit::IoError>(to.string() + ": cannot put the new file there: " + failure.message());
    moves_.emplace_back(from, to);
  }
  void keep() { moves_.clear(); }

 private:
  std::vector<std::pair<fs::path, fs::path>> moves_;
};

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

}  // namespace

OutputFolder::OutputFolder(fs::path folder) : folder_(std::move(folder)) {
  if (!folder_.has_filename()) folder_ = folder_.parent_path();  // "out/"
  const std::vector<fs::path> made = missing(folder_);
  lowbit::io::make_folder(folder_);
  made_ = made;
  try {
    refuse_files_of_others(folder_);
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
  lowbit::io::make_folder(folder_);
  refuse_files_of_others(folder_);
  const Temporary fresh(folder_), old(folder_);
  for (const fs::path& part : {fresh.path(), old.path()}) lowbit::io::make_folder(part / "figures");
  for (const OutputFile& file : files) lowbit::io::write_atomically(fresh.path() / file.name, file.content);
  const fs::path figures = folder_ / "figures";
  const bool had_figures = is_there(figures);
  lowbit::io::make_folder(figures);
  {
    Moves moves;
    for (const char* name : output_names)
      if (is_there(folder_ / name)) moves.move(folder_ / name, old.path() / name);
    for (auto name = output_names.rbegin(); name != output_names.rend(); ++name)
      if (is_there(fresh.path() / *name)) moves.move(fresh.path() / *name, folder_ / *name);
    moves.keep();
  }
  std::error_code ignored;
  if (!had_figures) fs::remove(figures, ignored);  // a run without figures
}

}  // namespace four_models
