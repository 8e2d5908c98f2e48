// SPDX-License-Identifier: MIT
// README.md shows examples/quickstart.cpp: the shown text must be the program, and the program short.
#include <algorithm>
#include <filesystem>
#include <string>

#include "lowbit/io/file.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

TEST_CASE("README.md shows quickstart.cpp as it is", "[readme]") {
  const std::filesystem::path project = lowbit::testing::assets_dir() / ".." / "..";
  const std::string readme = lowbit::io::read_text(project / "README.md"),
                    program = lowbit::io::read_text(project / "examples" / "quickstart.cpp");
  CHECK(std::count(program.begin(), program.end(), '\n') < 40);
  const std::string shown = program.substr(program.find('\n') + 1);  // without the licence line
  CHECK(readme.find("```cpp\n" + shown + "```") != std::string::npos);
}

TEST_CASE("the files of a release name its version", "[readme]") {
  const std::filesystem::path project = lowbit::testing::assets_dir() / ".." / "..";
  const std::string version = LOWBIT_VERSION;
  const auto says = [&](const std::filesystem::path& file, const std::string& text) {
    INFO(file.string() << " does not say: " << text);
    CHECK(lowbit::io::read_text(project / file).find(text) != std::string::npos);
  };
  says("CITATION.cff", "\nversion: " + version + "\n");
  says("docs/versions.md", "Version " + version + ".");
  // The newest entry.
  const std::string changes = lowbit::io::read_text(project / "docs/CHANGELOG.md");
  CHECK(changes.find("\n## ") == changes.find("\n## " + version + " ("));
}
