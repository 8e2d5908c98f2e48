// SPDX-License-Identifier: MIT
// How four_models breaks, cuts and escapes text, and what a progress line says where there is no terminal.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "examples/common/progress.hpp"
#include "examples/common/table.hpp"
#include "examples/four_models/charts.hpp"
#include "examples/four_models/template.hpp"
#include "examples/common/text.hpp"
#include "support/catch.hpp"

namespace four_models_text_test {

using namespace examples;
using Lines = std::vector<std::string>;

namespace {

// What the steps of a progress wrote into a file.
std::string written(std::chrono::milliseconds patience, std::size_t step = 1) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    Progress progress("rows", 4, 0, file, patience);
    for (int i = 0; i < 4; ++i) progress.step(step, ", well");
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
  const std::string picture = draw(svg::HeatMap{"map", {name, "b"}, {{1, 2}, {3, 4}}}).file();
  CHECK(picture.find("<title>" + name + "</title>") != picture.npos);
  CHECK(picture.find("\">" + std::string(14, 'W')) == picture.npos);  // in no label
  // The columns' labels have 54 units, the rows' 74, of 11 * 0.56 a column: four and six full-width characters.
  std::string wide;
  for (int i = 0; i < 30; ++i) wide += "\xE4\xB8\x96";
  const std::string chinese = draw(svg::HeatMap{"map", {wide, "b"}, {{1, 2}, {3, 4}}}).file();
  CHECK(chinese.find("<title>" + wide + "</title>") != chinese.npos);
  for (const std::size_t characters : {4u, 6u}) {
    const auto label = chinese.find("\">" + wide.substr(0, 3 * (characters - 1)) + "\xE2\x80\xA6</text>");
    const auto whole = chinese.find("\">" + wide.substr(0, 3 * characters) + "</text>");
    CHECK((label != chinese.npos || whole != chinese.npos));
  }
  CHECK(chinese.find("\">" + wide.substr(0, 21)) == chinese.npos);
}

TEST_CASE("charts: every one has a title, a description, and its values as text") {
  const svg::Caption caption{"T <1>", "D & E", "MiB"};
  const auto check = [](const svg::Drawing& d, const char* value) {
    for (const std::string& text : {d.file(), d.element("x")}) {
      CHECK(text.find("T &lt;1&gt;</title>") != text.npos);
      CHECK(text.find("D &amp; E</desc>") != text.npos);
      CHECK(text.find(value) != text.npos);
      CHECK(text.find("nan") == text.npos);
    }
    CHECK(d.file().find("prefers-color-scheme: dark") != std::string::npos);
    CHECK(d.element("x").find("aria-labelledby=\"x-title x-desc\"") != std::string::npos);
  };
  check(draw(svg::StackedBars{caption, {"a", "b"}, {"c0", "c1"}, {{"one", "3.5 MiB", {1, 2.5}, 3.0}}, "mark"}), ">3.5 MiB<");
  check(draw(svg::Intervals{caption, {{"one", "0.5 (0.4 to 0.6)", 0.5, {0.4, 0.6}, 0.7}}, 0.25, 1, true, 1, "one", "m"}),
        ">0.5 (0.4 to 0.6)<");
  check(draw(svg::Scatter{caption, "x", {{"one", 1, 2, {1, 3}}}, 0, 2, 0, 4}), ">one<");
  check(draw(svg::Lines{caption, "x", {0, 1}, {"one"}, {{"p", {{1, 2}}}, {"q", {{2, 1}}}}, true}), ">one<");
}

TEST_CASE("charts: the front is what no other point beats in both directions") {
  const std::vector<svg::Scatter::Point> points = {
      {"small and bad", 1, 1, {}}, {"large and good", 3, 3, {}}, {"beaten", 3, 2, {}}, {"alike", 3, 3, {}}, {"between", 2, 2, {}}};
  CHECK(svg::pareto_front(points) == std::vector<bool>{true, true, false, true, true});
}

TEST_CASE("template: values, parts that are left out, and marks that have no meaning") {
  const TemplateValues values = {{"a", "<1>"}, {"none", ""}, {"mark", "{{a}}"}};
  CHECK(filled("x{{a}}y", values) == "x<1>y");
  CHECK(filled("{{#a}}[{{a}}]{{/a}}{{#none}}gone{{/none}}.", values) == "[<1>].");
  CHECK(filled("{{mark}}", values) == "{{a}}");  // what came from elsewhere is not looked at
  CHECK_THROWS_AS(filled("{{b}}", values), lowbit::FormatError);
  CHECK_THROWS_AS(filled("{{a", values), lowbit::FormatError);
  CHECK_THROWS_AS(filled("{{#a}}", values), lowbit::FormatError);
}

TEST_CASE("progress: where there is no terminal, a line every so often, and none of a quick step") {
  CHECK(written(std::chrono::hours(1)) == "");
  const std::string lines = written(std::chrono::milliseconds(0));
  CHECK(lines.find("progress: rows: 1 of 4, 0 s left, well\n") == 0);
  CHECK(lines.find('\r') == lines.npos);
  CHECK(written(std::chrono::milliseconds(0), 0).find("progress: rows: 0 of 4, well\n") == 0);  // how long, nobody knows yet
}

}  // namespace four_models_text_test
