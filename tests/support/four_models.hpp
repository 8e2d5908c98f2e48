// SPDX-License-Identifier: MIT
// The program four_models as a user starts it, for the tests of it.
#pragma once
#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"

namespace four_models_test {

using lowbit::io::Json;
using lowbit_test::Folder;
using lowbit_test::Outcome;
using lowbit_test::Process;
using lowbit_test::put_file;
namespace fs = std::filesystem;

// What a process said and how it ended, without the lines on progress that a slow machine sees.
inline Outcome wait_for(Process& process) {
  Outcome o = process.wait();
  std::istringstream lines(o.err);
  o.err.clear();
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("progress: ")) o.err += line + '\n';
  return o;
}
inline Outcome run(const Folder& folder, std::vector<std::string> arguments) {
  if (arguments.empty() || arguments[0] != "--help") arguments.insert(arguments.begin(), "--no-synthetic");
  Process process(FOUR_MODELS, folder, std::move(arguments));
  return wait_for(process);
}

inline bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// The first line of more than 100 characters; a path, which cannot be broken, may be longer.
inline std::string too_wide(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.size() > 100 && holds(line, " ")) return line;
  return "";
}

inline Json json_of(const fs::path& path) { return lowbit::io::parse_json(lowbit::io::read_text(path), path.string()); }

// The fields of a file, line by line.
inline std::vector<std::vector<std::string>> csv_of(const fs::path& path) {
  const std::string text = lowbit::io::read_text(path);
  lowbit::io::CsvReader reader(text, path.string());
  std::vector<std::vector<std::string>> lines;
  for (std::vector<std::string> fields; reader.next(fields);) lines.push_back(fields);
  return lines;
}

inline const Json& model_of(const Json& results, std::string_view id) {
  for (const Json& m : results.at("models"))
    if (m.at("id") == id) return m;
  throw std::runtime_error("results.json has no " + std::string(id));
}

inline fs::path mini() { return lowbit::testing::assets_dir() / "gpt2-mini-ag-news"; }
inline fs::path mini_twin() { return lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat"; }

// A copy of the small model that may be broken.
inline fs::path copy_of_mini(const Folder& folder) {
  const fs::path copy = folder / "model";
  fs::remove_all(copy);
  fs::copy(mini(), copy);
  return copy;
}
inline void replace_in(const fs::path& file, const std::string& old_text, const std::string& new_text) {
  std::string content = lowbit::io::read_text(file);
  const auto at = content.find(old_text);
  REQUIRE(at != content.npos);
  put_file(file, content.replace(at, old_text.size(), new_text));
}

// What is wrong with an outcome that should be a failure of code `code`, said in one line with all the words; empty if nothing.
inline std::string not_refused(const Outcome& o, int code, std::initializer_list<std::string> words) {
  if (o.code != code) return "exit code " + std::to_string(o.code) + ": " + o.err;
  if (!o.err.starts_with("four_models: ") || std::count(o.err.begin(), o.err.end(), '\n') != 1 || o.err.back() != '\n')
    return "not one line: " + o.err;
  for (const std::string& word : words)
    if (!holds(o.err, word)) return "'" + word + "' is not in: " + o.err;
  return "";
}

}  // namespace four_models_test
