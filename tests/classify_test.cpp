// SPDX-License-Identifier: MIT
// The example classify as a user meets it: what it makes of texts, and what it says of a folder or a text that is wrong.
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "lowbit/io/file.hpp"
#include "lowbit/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"

namespace classify_test {

namespace {

using lowbit_test::Folder;
using lowbit_test::Outcome;
using lowbit_test::Process;
using lowbit_test::put_file;
namespace fs = std::filesystem;

fs::path mini() { return lowbit::testing::assets_dir() / "gpt2-mini-ag-news"; }
Outcome run(const Folder& folder, std::vector<std::string> arguments) { return Process(CLASSIFY, folder, arguments).wait(); }
// With standard input, or output, from elsewhere.
Outcome redirected(const Folder& folder, const std::string& redirection, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"-c", "exec \"$0\" \"$@\" " + redirection, CLASSIFY});
  return Process("/bin/sh", folder, arguments).wait();
}
// What is wrong with an outcome that should be a failure; empty if nothing.
std::string not_refused(const Outcome& o, std::initializer_list<std::string> words) {
  if (o.code != 1) return "exit code " + std::to_string(o.code) + ": " + o.out;
  for (const std::string& word : words)
    if (o.err.find(word) == o.err.npos) return "'" + word + "' is not in: " + o.err;
  return o.out;
}

}  // namespace

TEST_CASE("classify: texts of the command line and of standard input, blank ones left out") {
  const Folder folder;
  const Outcome two = run(folder, {mini().string(), "oil price", "", "  ", "the red sox won"});
  CHECK(two.code == 0);
  CHECK(two.out.starts_with("Business "));
  CHECK(two.out.find("\nSports ") != two.out.npos);
  put_file(folder / "lines", "oil price\n\n \nthe red sox won");
  const Outcome lines = redirected(folder, "<'" + (folder / "lines").string() + "'", {mini().string()});
  CHECK(lines.code == 0);
  CHECK(lines.out == two.out);
  // As Windows writes them.
  put_file(folder / "lines", "\xEF\xBB\xBFoil price\r\n\r\nthe red sox won\r\n");
  CHECK(redirected(folder, "<'" + (folder / "lines").string() + "'", {mini().string()}).out == two.out);
  std::string long_text;
  for (int i = 0; i < 300; ++i) long_text += "oil ";
  CHECK(run(folder, {mini().string(), long_text}).err.find("1 texts cut to 256 tokens") != std::string::npos);
  for (const char* option : {"--help", "--version"}) {
    const Outcome usage = run(folder, {option});
    CHECK(usage.code == 2);
    CHECK(usage.err.starts_with("usage: "));
  }
}

TEST_CASE("classify: no class of what is not finite, is no text, or is of another tokenizer") {
  const Folder folder;
  const fs::path model = folder / "model";
  const auto copy = [&] {
    fs::remove_all(model);
    fs::copy(mini(), model);
  };
  copy();
  put_file(model / "merges.txt", "#version: 0.2\n");
  CHECK(not_refused(run(folder, {model.string(), "oil price"}), {"model: the tokenizer does not fit the model"}) == "");
  for (const char* tensor : {"transformer.ln_f.weight", "score.weight", "transformer.h.1.mlp.c_fc.bias"}) {
    copy();
    std::string bytes = lowbit::io::read_text(model / "model.safetensors");
    const auto file = lowbit::io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
    const auto& view = file.at(tensor);
    REQUIRE(view.dtype == lowbit::io::DType::BF16);
    const auto at = static_cast<std::size_t>(view.data.data() - reinterpret_cast<const std::byte*>(bytes.data()));
    bytes.replace(at, 2, "\xC0\x7F");
    put_file(model / "model.safetensors", bytes);
    CHECK(not_refused(run(folder, {model.string(), "", "oil price"}), {"model: text 2: expected finite logits"}) == "");
  }
  CHECK(not_refused(run(folder, {(mini() / "model.safetensors").string(), "oil price"}), {"is a file; expected the folder"}) == "");
  put_file(folder / "text", std::string("\xFF\xFEO\0i\0l\0", 8));
  const std::string from = "<'" + (folder / "text").string() + "'";
  CHECK(not_refused(redirected(folder, from, {mini().string()}), {"text 1: expected UTF-8", "iconv"}) == "");
}

TEST_CASE("classify: a stream that cannot be read or written is told") {
  const Folder folder;
  CHECK(not_refused(redirected(folder, "<.", {mini().string()}), {"standard input"}) == "");
#if defined(__linux__)
  for (const char* output : {">/dev/full", ">&-"})
    CHECK(not_refused(redirected(folder, output, {mini().string(), "oil price"}), {"standard output"}) == "");
#endif
}

}  // namespace classify_test
