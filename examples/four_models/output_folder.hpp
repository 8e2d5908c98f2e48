// SPDX-License-Identifier: MIT
// The folder of --out: the files of a run appear in it all at once or not at all, and take the place of an earlier run's as a
// whole, also where the program is killed.  Where the folder itself cannot be exchanged (the program runs in it, something is
// mounted there), a program that is killed while it moves files leaves a mixture, which the next OutputFolder turns into the
// earlier run again.
#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <vector>

namespace examples {

struct OutputFile {
  std::string name;  // below the folder
  std::string content;
};

// All names that a run may write.  results.json, the first one, is there only with the other files of its run.
inline constexpr std::array<const char*, 17> output_names = {"results.json",
                                                             "predictions.csv",
                                                             "latency.csv",
                                                             "report.html",
                                                             "report.md",
                                                             "figures/memory.svg",
                                                             "figures/latency.svg",
                                                             "figures/accuracy.svg",
                                                             "figures/difference.svg",
                                                             "figures/accuracy_memory.svg",
                                                             "figures/accuracy_latency.svg",
                                                             "figures/confusion.svg",
                                                             "figures/weight_errors.svg",
                                                             "figures/operators.svg",
                                                             "figures/synthetic_memory.svg",
                                                             "figures/synthetic_latency.svg",
                                                             "figures/latency_by_length.svg"};

// Not thread safe; two processes must not replace the same folder's files at once.
class OutputFolder {
 public:
  // Makes the folder if need be, mends what a killed run left in it, and proves that files can be written into it and that nothing
  // of ours that stands there is somebody else's: files of these names are replaced only where results.json says that this program
  // wrote it.  Throws IoError that names the file or folder.
  explicit OutputFolder(std::filesystem::path folder);
  // Takes away the folders that it made, if nothing was put there.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // Puts these files, whose names are of output_names, in the place of all files of these names; other files stay.  A folder that
  // is gone is made again.  Throws IoError that names what failed; then the old files are as they were.
  void replace(const std::vector<OutputFile>& files);

  // Folders beside this one with a run, or a part of one, that seem left by a program that was killed.  They are in nobody's way.
  std::vector<std::filesystem::path> left_by_killed() const;

 private:
  void take_away();
  std::filesystem::path folder_;
  std::vector<std::filesystem::path> made_;  // outermost first
};

}  // namespace examples
