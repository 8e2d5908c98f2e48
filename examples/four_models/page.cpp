// SPDX-License-Identifier: MIT
#include "examples/four_models/page.hpp"

#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"

namespace examples {

RunFiles read_run(const std::filesystem::path& folder) {
  using lowbit::io::read_text;
  return {read_text(folder / "results.json"), read_text(folder / "predictions.csv"), read_text(folder / "latency.csv")};
}

Texts read_texts(const std::filesystem::path&, const Results&, bool) { return {}; }

Section claims_section(const Results&) { return {}; }

std::vector<OutputFile> all_files(const RunFiles& files, const Texts&) {
  const RunResults run = parse_results(files.results, "results.json");
  std::string markdown = as_markdown(comparison_section(run.main));
  if (run.synthetic) markdown += as_markdown(synthetic_section(*run.synthetic));
  return {{"results.json", files.results},
          {"predictions.csv", files.predictions},
          {"latency.csv", files.latency},
          {"report.md", markdown}};
}

}  // namespace examples
