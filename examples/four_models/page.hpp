// SPDX-License-Identifier: MIT
// What --out DIR receives: the three files of a run, and the reports that are made of them and of the rows' texts alone, so that they
// can be made again later.  output_folder.hpp puts the files there.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "examples/four_models/output_folder.hpp"
#include "examples/four_models/results_json.hpp"

namespace examples {

// The files of a run, as they are on the disk.
struct RunFiles {
  std::string results, predictions, latency;
};
// Throws IoError that names the file.
RunFiles read_run(const std::filesystem::path& folder);

// The texts of the rows, by their place in the file; or why there are none.
struct Texts {
  struct Row {
    std::size_t label = 0;
    std::string text;
  };
  std::map<std::size_t, Row> rows;
  std::string why_none;
};
// Those of a run's data.  A file that cannot be read a second time (a pipe), or not any more, is an answer and no error, unless it
// `must` be there: then this throws IoError or FormatError.
Texts read_texts(const std::filesystem::path& data, const Results& results, bool must);

// The files of a run, report.html, report.md and figures.  A pure function.
// Throws FormatError that names the file if one of the three does not hold what a run wrote.
std::vector<OutputFile> all_files(const RunFiles& files, const Texts& texts);

}  // namespace examples
