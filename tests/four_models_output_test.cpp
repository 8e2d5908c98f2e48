// SPDX-License-Identifier: MIT
// The files of four_models: all of one run or none, whatever fills the disk, removes the folder or stops the program.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <csignal>
#include <functional>
#include <map>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "examples/four_models/output_folder.hpp"
#include "support/four_models.hpp"

namespace four_models_output_test {

using namespace four_models_test;
using examples::OutputFolder;

namespace {

// Files below a folder, by name.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = lowbit::io::read_text(entry.path());
  return files;
}

// No file that is written while this lives may become larger.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(::rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const ::rlimit limit = {bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  ::rlimit old_ = {};
};

constexpr const char* ours = "{\"program\": \"four_models\"}";

}  // namespace

TEST_CASE("four_models: output that cannot be written is found before the work, and old results stay") {
  const Folder folder;
  put_file(folder / "file", "not a folder");
  Outcome o = run(folder, {"--out", (folder / "file").string()});
  CHECK(not_refused(o, 1, {"file"}) == "");
  CHECK(o.out.empty());
  o = run(folder, {"--out", (folder / "file/below").string()});
  CHECK(not_refused(o, 1, {"below"}) == "");
  CHECK(o.out.empty());
  fs::create_directories(folder / "out/results.json");
  o = run(folder, {"--out", (folder / "out").string()});
  CHECK(not_refused(o, 1, {"results.json"}) == "");
  CHECK(o.out.empty());

  const std::string old = "{\"program\": \"four_models\", \"what\": \"old\"}";
  put_file(folder / "kept/results.json", old);
  put_file(folder / "rows.csv", "9,a,b\n");
  CHECK(run(folder, {"--data", (folder / "rows.csv").string(), "--out", (folder / "kept").string()}).code == 1);
  CHECK(lowbit::io::read_text(folder / "kept/results.json") == old);
}

#if defined(__linux__)
TEST_CASE("four_models: a report that nobody can read does not cost the files") {
  const Folder folder;
  const Outcome o = Process(FOUR_MODELS, folder,
                            {"--no-synthetic", "--limit", "2", "--models", "fp32", "--out", (folder / "out").string()}, "/dev/full")
                        .wait();
  CHECK(not_refused(o, 1, {"standard output"}) == "");
  CHECK(json_of(folder / "out/results.json").at("dataset").at("rows_done") == 2);
  for (const char* option : {"--help", "--version"}) {
    Process process(FOUR_MODELS, folder, {option}, "/dev/full");
    CHECK(not_refused(wait_for(process), 1, {"standard output"}) == "");
  }
}

TEST_CASE("four_models: messages that nobody can read change no exit code") {
  const Folder folder;
  const auto code = [&](const char* redirection, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-c", "exec \"$0\" \"$@\" " + std::string(redirection), FOUR_MODELS});
    return Process("/bin/sh", folder, arguments).wait().code;
  };
  for (const char* redirection : {"2>/dev/full", "2>&-", "0<&- >&- 2>&-"}) {
    CAPTURE(redirection);
    CHECK(code(redirection, {"--bad"}) == 2);
    CHECK(code(redirection, {"--model", mini().string(), "--max-tokens", "257"}) == 2);
    CHECK(code(redirection, {"--model", (folder / "none").string()}) == 1);
  }
}
#endif

TEST_CASE("four_models: who stops reading the report gets the files, and a message") {
  const Folder folder;
  Process process("/bin/sh", folder,
                  {"-c", "{ \"$@\"; echo $? > \"$0\"; } | :", (folder / "code").string(), FOUR_MODELS, "--no-synthetic", "--limit",
                   "2", "--models", "fp32", "--out", (folder / "out").string()});
  const Outcome o = wait_for(process);
  CHECK(not_refused({std::stoi(lowbit::io::read_text(folder / "code")), o.out, o.err}, 1, {"standard output"}) == "");
  CHECK(json_of(folder / "out/results.json").at("dataset").at("rows_done") == 2);
}

namespace {

std::string many_items(int times) {
  const std::string items = lowbit::io::read_text(lowbit::testing::assets_dir() / "news_items.csv");
  std::string many;
  for (int i = 0; i < times; ++i) many += items;
  return many;
}

// Stops a long run with `signal` once it has rows, after `before` has done something to its folder.
void check_stopped(int signal, const std::function<void(const fs::path&)>& before) {
  const Folder folder;
  put_file(folder / "many.csv", many_items(100));
  // How long it takes until there are rows depends on the machine and the build.
  for (int wait_ms = 1000;; wait_ms *= 2) {
    Process process(
        FOUR_MODELS, folder,
        {"--data", (folder / "many.csv").string(), "--no-synthetic", "--models", "fp32,int8", "--out", (folder / "out").string()});
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    before(folder / "out");
    process.signal(signal);
    const Outcome o = wait_for(process);
    REQUIRE(o.code == 128 + signal);
    CHECK(holds(o.out, "INTERRUPTED"));
    const fs::path partial = folder / "out/interrupted";
    if (holds(o.err, "interrupted after 0 of")) {
      CHECK_FALSE(fs::exists(folder / "out"));
      REQUIRE(wait_ms < 60000);
      continue;
    }
    const Json results = json_of(partial / "results.json");
    CHECK(results.at("interrupted") == true);
    const auto rows = results.at("dataset").at("rows_done").get<std::size_t>();
    CHECK(csv_of(partial / "predictions.csv").size() == rows + 1);
    CHECK(not_refused(o, 128 + signal, {"interrupted after " + std::to_string(rows) + " of 40000 rows", partial.string()}) == "");
    CHECK(rows > 0);
    CHECK(rows < 40000);
    for (const Json& m : results.at("models")) CHECK(m.at("performance").at("rows") == rows);
    break;
  }
}

}  // namespace

TEST_CASE("four_models: Ctrl-C keeps the rows that are done") {
  check_stopped(SIGINT, [](const fs::path&) {});
}
TEST_CASE("four_models: SIGTERM and SIGHUP do too, also where the folder was removed meanwhile") {
  check_stopped(SIGTERM, [](const fs::path& out) { fs::remove_all(out); });
  check_stopped(SIGHUP, [](const fs::path&) {});
}

TEST_CASE("four_models: a run that is interrupted replaces no whole one") {
  const Folder folder;
  REQUIRE(run(folder, {"--limit", "4", "--models", "fp32", "--out", (folder / "out").string()}).code == 0);
  const auto before = contents(folder / "out");
  put_file(folder / "many.csv", many_items(100));
  // From before the first row on, until there were some.
  bool with_rows = false;
  for (int wait_ms = 250; !with_rows; wait_ms *= 2) {
    REQUIRE(wait_ms < 60000);
    Process process(
        FOUR_MODELS, folder,
        {"--data", (folder / "many.csv").string(), "--no-synthetic", "--models", "fp32,int8", "--out", (folder / "out").string()});
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    process.signal(SIGINT);
    const Outcome o = wait_for(process);
    auto after = contents(folder / "out");
    with_rows = std::erase_if(after, [](const auto& file) { return file.first.starts_with("interrupted/"); }) != 0;
    CHECK(after == before);
    // Nothing watches for signals in the first moments.
    if (o.code != 1000 + SIGINT) CHECK(not_refused(o, 130, {with_rows ? "out/interrupted" : "nothing is written"}) == "");
  }
  // Neither does a whole run take it away.
  REQUIRE(run(folder, {"--limit", "4", "--models", "int8", "--out", (folder / "out").string()}).code == 0);
  CHECK(json_of(folder / "out/interrupted/results.json").at("interrupted") == true);
}

TEST_CASE("four_models: signals that the program was started to ignore stay ignored") {
  const Folder folder;
  Process process("/bin/sh", folder,
                  {"-c", "trap '' INT TERM HUP; exec \"$0\" \"$@\"", FOUR_MODELS, "--no-synthetic", "--models", "fp32"});
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) process.signal(signal);
  CHECK(wait_for(process).code == 0);
}

namespace {

// Replaces the files of `folder` without end in a process of its own, from that of run 1 on, and kills that after `life`.
void replace_until_killed(const fs::path& folder, std::chrono::microseconds life, bool in_folder) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      if (in_folder) fs::current_path(folder);
      OutputFolder target(in_folder ? fs::path(".") : folder);
      for (int run = 1;; ++run) {
        std::vector<examples::OutputFile> files;
        for (const char* name : examples::output_names)
          if (run % 2 == 0 || std::string(name).find("synthetic") == std::string::npos)
            files.push_back({name, files.empty() ? "{\"program\": \"four_models\", \"run\": " + std::to_string(run) + "}"
                                                 : std::to_string(run)});
        target.replace(files);
      }
    } catch (...) {
    }
    std::_Exit(1);
  }
  std::this_thread::sleep_for(life);
  ::kill(child, SIGKILL);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));  // else the folder that a killed run left was refused
}

// What is wrong with the files of a folder, which should be of one run, beside mine.txt; empty if nothing.
std::string not_whole(const fs::path& folder) {
  auto files = contents(folder);
  std::erase_if(files, [](const auto& file) { return file.first.starts_with(".four_models.part"); });  // the next run's to clear
  if (files.erase("mine.txt") != 1) return "mine.txt is gone";
  if (files.empty()) return "";
  if (files.count("results.json") == 0) return "no results.json, but " + files.begin()->first;
  const Json results = json_of(folder / "results.json");
  const int run = results.at("run").get<int>();
  files.erase("results.json");
  constexpr std::size_t others = examples::output_names.size() - 1;
  if (files.size() != (run % 2 == 0 ? others : others - 2))
    return std::to_string(files.size()) + " files of run " + std::to_string(run);
  for (const auto& [name, content] : files)
    if (content != std::to_string(run)) return name + " is of run " + content + ", not " + std::to_string(run);
  return "";
}

}  // namespace

TEST_CASE("output folder: whoever is killed at any time leaves the files of one run") {
  const Folder folder;
  const fs::path out = folder / "out";
  put_file(out / "mine.txt", "mine");
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    replace_until_killed(out, std::chrono::microseconds(10000 + 1370 * round), false);
    REQUIRE(not_whole(out) == "");
  }
  const auto left = OutputFolder(out).left_by_killed();
  for (const auto& entry : fs::directory_iterator(folder.path()))
    if (entry.path().filename().string().starts_with("out.")) CHECK(holds(entry.path().filename().string(), "out.part"));
  fs::remove_all(out);
  const Outcome o = run(folder, {"--limit", "2", "--models", "fp32", "--out", out.string()});
  CHECK(o.code == 0);
  for (const fs::path& path : left) CHECK(holds(o.err, path.filename().string() + ": left by a run that was killed"));
  CHECK(csv_of(out / "predictions.csv").size() == 3);
}

TEST_CASE("output folder: where the folder cannot be exchanged, the next run finds the files of one run") {
  const Folder folder;
  const fs::path out = folder / "out";
  put_file(out / "mine.txt", "mine");
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    replace_until_killed(out, std::chrono::microseconds(10000 + 1370 * round), true);
    { const OutputFolder mended(out); }
    REQUIRE(not_whole(out) == "");
    for (const auto& entry : fs::directory_iterator(out)) CHECK_FALSE(entry.path().filename().string().starts_with("."));
  }
}

TEST_CASE("output folder: an earlier run that was moved aside is put back") {
  const Folder folder;
  { OutputFolder(folder / "out").replace({{"results.json", ours}}); }
  fs::rename(folder / "out", folder / "out.old0");  // as a system leaves it that cannot exchange folders
  fs::create_directory(folder / "out.part0");
  const OutputFolder target(folder / "out");
  CHECK(lowbit::io::read_text(folder / "out/results.json") == ours);
  CHECK_FALSE(fs::exists(folder / "out.old0"));
  REQUIRE(target.left_by_killed().size() == 1);
  CHECK(target.left_by_killed()[0].filename() == "out.part0");
}

TEST_CASE("four_models: a full disk leaves the files of the run before, whole") {
  const Folder folder;
  const std::vector<std::string> first = {"--limit", "4", "--models", "fp32", "--out", (folder / "out").string()};
  REQUIRE(run(folder, first).code == 0);
  const auto before = contents(folder / "out");
  REQUIRE(before.size() == 10);
  std::string rows;
  for (int i = 0; i < 400; ++i) rows += "2,football,\n";
  put_file(folder / "rows.csv", rows);
  const auto run_on_full_disk = [&] {
    const FileSizeLimit limit(25000);  // enough for results.json, not for predictions.csv
    return run(folder, {"--data", (folder / "rows.csv").string(), "--models", "fp32,int8", "--out", (folder / "out").string()});
  };
  Outcome o = run_on_full_disk();
  CHECK(not_refused(o, 1, {"predictions.csv", "cannot write"}) == "");
  CHECK(holds(o.out, "Table 2"));
  CHECK(contents(folder / "out") == before);
  fs::remove_all(folder / "out");
  o = run_on_full_disk();
  CHECK(o.code == 1);
  CHECK_FALSE(fs::exists(folder / "out"));  // not a half of it
}

TEST_CASE("four_models: a run takes the place of another one as a whole, and what is not ours stays") {
  const Folder folder;
  put_file(folder / "out/mine.txt", "mine");
  put_file(folder / "out/figures/mine.svg", "mine");
  REQUIRE(run(folder, {"--limit", "4", "--models", "fp32", "--out", (folder / "out").string()}).code == 0);
  put_file(folder / "out/figures/synthetic_memory.svg", "of a run with synthetic weights");
  REQUIRE(run(folder, {"--limit", "2", "--models", "int8", "--out", (folder / "out").string()}).code == 0);
  const auto files = contents(folder / "out");
  CHECK(files.size() == 13);
  CHECK(files.count("figures/synthetic_memory.svg") == 0);
  CHECK(files.at("mine.txt") == "mine");
  CHECK(files.at("figures/mine.svg") == "mine");
  CHECK(csv_of(folder / "out/predictions.csv").size() == 3);
  // Somebody else's file of one of our names.
  put_file(folder / "theirs/report.md", "theirs");
  CHECK(not_refused(run(folder, {"--limit", "2", "--models", "int8", "--out", (folder / "theirs").string()}), 1,
                    {"theirs/report.md", "is there already"}) == "");
  CHECK(contents(folder / "theirs") == std::map<std::string, std::string>{{"report.md", "theirs"}});
}

TEST_CASE("four_models: a start that fails leaves no folder") {
  const Folder folder;
  CHECK(run(folder, {"--data", (folder / "none.csv").string(), "--out", (folder / "a/b").string()}).code == 1);
  CHECK_FALSE(fs::exists(folder / "a"));
  fs::create_directory(folder / "there");
  CHECK(run(folder, {"--data", (folder / "none.csv").string(), "--out", (folder / "there").string()}).code == 1);
  CHECK(fs::is_empty(folder / "there"));
}

TEST_CASE("output folder: what cannot be moved into place is moved back") {
  const Folder folder;
  const fs::path out = folder / "out";
  OutputFolder target(out);
  target.replace({{"results.json", ours}, {"report.md", "1"}, {"figures/memory.svg", "1"}});
  const auto before = contents(out);
  CHECK(before.size() == 3);
  // A file that is not in the list of names has no place in a run; the ones before it must not have moved.
  CHECK_THROWS_AS(target.replace({{"results.json", ours}, {"report.md", "2"}, {"nowhere/a.svg", "2"}}), lowbit::IoError);
  CHECK(contents(out) == before);
  target.replace({{"results.json", ours}, {"predictions.csv", "3"}});
  CHECK(contents(out) == std::map<std::string, std::string>{{"results.json", ours}, {"predictions.csv", "3"}});
  for (const auto& entry : fs::directory_iterator(out)) CHECK_FALSE(entry.path().filename().string().starts_with("."));
}

}  // namespace four_models_output_test
