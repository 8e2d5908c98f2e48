// SPDX-License-Identifier: MIT
// How four_models breaks, cuts and escapes text, and what a progress line says where there is no terminal.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "examples/common/progress.hpp"
#include "examples/four_models/svg.hpp"
#include "examples/common/table.hpp"
#include "examples/common/text.hpp"
#include "support/catch.hpp"

using namespace examples;
using Lines = std::vector<std::string>;

namespace {

// What the steps of a progress wrote into a file.
std::string written(std::chrono::milliseconds patience) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    Progress progress("rows", 4, 0, file, patience);
    for (int i = 0; i < 4; ++i) progress.step(1, ", well");
  }
  std::string text(static_cast<std::size_t>(std::ftell(file)), ' ');
  std::rewind(file);
  CHECK(std::fread(text.data(), 1, text.size(), file) == text.size());
  std::fclose(file);
  return text;
}

}  // namespace

TEST_CASE("text: lines break at blanks, and inside a word only where it must be") {
  CHECK(wrapped("one two three", 7) == Lines{"one two", "three"});
  CHECK(wrapped("a  b", 9) == Lines{"a  b"});
  CHECK(wrapped("first\nsecond", 20) == Lines{"first", "second"});
  CHECK(wrapped("unbreakable", 4) == Lines{"unbr", "eaka", "ble"});
  CHECK(wrapped("an unbreakable one", 4, false) == Lines{"an", "unbreakable", "one"});
  CHECK(wrapped("\xC3\xA4\xC3\xB6\xC3\xBC", 2) == Lines{"\xC3\xA4\xC3\xB6", "\xC3\xBC"});
  CHECK(wrapped("", 5) == Lines{""});
}

TEST_CASE("text: a full-width character takes two columns, a mark on another one none, and a byte that is no text one") {
  const std::string wide = "\xE4\xB8\x96\xE7\x95\x8C\xE6\x96\xB0\xE8\x81\x9E";  // four Chinese characters
  CHECK(width_of(wide) == 8);
  CHECK(width_of("e\xCC\x81") == 1);
  CHECK(width_of("\xE4\xB8") == 2);
  CHECK(prefix_bytes(wide, 5) == 6);
  CHECK(prefix_bytes(wide, 1) == 3);
  CHECK(prefix_bytes("e\xCC\x81x", 1) == 3);
  CHECK(wrapped(wide, 4) == Lines{wide.substr(0, 6), wide.substr(6)});
  const Table t{"T", {"Model", "n"}, {{wide, "1"}, {"b", "2"}}};
  CHECK(as_text(t).find("\nb         2\n") != std::string::npos);
}

TEST_CASE("text: what has a meaning in XML or Markdown is shown, not obeyed") {
  CHECK(xml_escaped("<a href=\"x\">&\x1b") == "&lt;a href=&quot;x&quot;&gt;&amp; ");
  CHECK(markdown_escaped("a|b *c* `d` [e](f) int8_bnb _g_ \\") == "a\\|b \\*c\\* \\`d\\` \\[e\\](f) int8_bnb \\_g\\_ \\\\");
  CHECK(markdown_escaped("<b>\n&") == "&lt;b&gt; &amp;");
  const Table t{"T <i>", {"a|b"}, {{"<b>|"}}};
  CHECK(as_markdown(t) == "### T &lt;i&gt;\n\n| a\\|b |\n| :-- |\n| &lt;b&gt;\\| |\n");
}

TEST_CASE("text: a table's long names go over several lines") {
  const Table t{"T", {"Model", "n"}, {{"NF4, block 4096, absmax f32, int8 compute", "1"}, {"b", "2"}}};
  const std::string text = as_text(t);
  CHECK(text.find("NF4, block 4096, absmax f32,  1\n") != text.npos);
  CHECK(text.find("\nint8 compute\n") != text.npos);
}

TEST_CASE("text: no label of a heat map is longer than its place, and the whole name is in the file") {
  const std::string name(60, 'W');
  const std::string picture = svg::picture(std::vector<svg::HeatMap>{{"map", {name, "b"}, {{1, 2}, {3, 4}}}});
  CHECK(picture.find("<title>" + name + "</title>") != picture.npos);
  CHECK(picture.find(std::string(14, 'W')) == picture.find(name));  // only in the titles
  // The columns' labels have 78 units, the rows' 88, of 12 * 0.56 a column: five and six full-width characters.
  std::string wide;
  for (int i = 0; i < 30; ++i) wide += "\xE4\xB8\x96";
  const std::string chinese = svg::picture(std::vector<svg::HeatMap>{{"map", {wide, "b"}, {{1, 2}, {3, 4}}}});
  CHECK(chinese.find("<title>" + wide + "</title>") != chinese.npos);
  CHECK(chinese.find("\">" + wide.substr(0, 15) + "</text>") != chinese.npos);
  CHECK(chinese.find("\">" + wide.substr(0, 18) + "</text>") != chinese.npos);
  CHECK(chinese.find("\">" + wide.substr(0, 21)) == chinese.npos);
}

TEST_CASE("progress: where there is no terminal, a line every so often, and none of a quick step") {
  CHECK(written(std::chrono::hours(1)) == "");
  const std::string lines = written(std::chrono::milliseconds(0));
  CHECK(lines.find("progress: rows: 1 of 4, 0 s left, well\n") == 0);
  CHECK(lines.find('\r') == lines.npos);
}
