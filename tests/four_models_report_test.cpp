// SPDX-License-Identifier: MIT
// The reports of four_models: a pure function of a run's files, whose numbers are those of results.json; what is timed, and how often.
#include <algorithm>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/four_models.hpp"

namespace four_models_report_test {

using namespace four_models_test;

namespace {

using Cells = std::vector<std::vector<std::string>>;

std::string text_of(const fs::path& path) { return lowbit::io::read_text(path); }

// The cells of the table of an id, its head first.
Cells table_of(const std::string& html, const std::string& id) {
  const auto begin = html.find("<table id=\"" + id + "\"");
  REQUIRE(begin != html.npos);
  const std::string table = html.substr(begin, html.find("</table>", begin) - begin);
  static const std::regex rows("<tr>([^]*?)</tr>"), cells("<t[hd][^>]*>([^<]*)</t[hd]>");
  Cells result;
  for (std::sregex_iterator row(table.begin(), table.end(), rows), end; row != end; ++row) {
    const std::string text = (*row)[1];
    result.emplace_back();
    for (std::sregex_iterator cell(text.begin(), text.end(), cells); cell != end; ++cell) result.back().push_back((*cell)[1]);
  }
  return result;
}

// The column of a head in the row of a name.
std::string cell(const Cells& table, const std::string& row, const std::string& column, std::size_t which = 0) {
  std::size_t c = 0;
  for (; c < table[0].size(); ++c)
    if (table[0][c] == column && which-- == 0) break;
  REQUIRE(c < table[0].size());
  for (const auto& cells : table)
    if (cells[0] == row) return cells.at(c);
  FAIL("no row " + row);
  return "";
}

std::string mib(const Json& bytes) { return fmt::format("{:.2f}", bytes.get<double>() / (1 << 20)); }
std::string two(const Json& value) { return fmt::format("{:.2f}", value.get<double>()); }
std::string with_sign(const Json& value) { return fmt::format("{:+.2f}", value.get<double>()); }

// Every number that the page's tables have of a model, against results.json.
void check_model(const std::string& html, const Json& results, const Json& m) {
  const auto name = m.at("name").get<std::string>();
  CAPTURE(name);
  const Json &memory = m.at("memory"), &latency = m.at("latency"), &performance = m.at("performance");
  const Json& base = model_of(results, "fp32");
  const Cells efficiency = table_of(html, "table-1-efficiency-metrics");
  CHECK(cell(efficiency, name, "Memory MiB") == mib(memory.at("paper_account_bytes")));
  CHECK(cell(efficiency, name, "Compression") == fmt::format("{:.2f}x", base.at("memory").at("paper_account_bytes").get<double>() /
                                                                            memory.at("paper_account_bytes").get<double>()));
  CHECK(cell(efficiency, name, "Mean latency ms") == two(latency.at("mean_ms")));
  CHECK(cell(efficiency, name, "paper (GPT-2 small)", 0) == two(m.at("paper").at("memory_mib")));
  CHECK(cell(efficiency, name, "paper (GPT-2 small)", 2) == two(m.at("paper").at("latency_ms")));
  const Cells held = table_of(html, "memory-really-held-mib");
  CHECK(cell(held, name, "Resident") == mib(memory.at("resident_bytes")));
  const Cells times = table_of(html, "latency-of-one-row-ms-and-throughput-rows-per-second");
  CHECK(cell(times, name, "Median") == two(latency.at("median_ms")));
  CHECK(cell(times, name, "p5") == two(latency.at("p5_ms")));
  CHECK(cell(times, name, "p95") == two(latency.at("p95_ms")));
  CHECK(cell(times, name, "1 / mean latency") == two(latency.at("rows_per_second")));
  const Cells scores = table_of(html, "table-2-performance-metrics");
  for (const auto& [column, key] : std::map<std::string, const char*>{
           {"Accuracy", "accuracy"}, {"Precision", "macro_precision"}, {"Recall", "macro_recall"}, {"F1", "macro_f1"}})
    CHECK(cell(scores, name, column) == two(performance.at(key)));
  const Cells classes = table_of(html, "table-3-f1-by-class");
  const Json& names = results.at("dataset").at("classes");
  for (std::size_t c = 0; c < names.size(); ++c) CHECK(cell(classes, names[c], name) == two(performance.at("class_f1").at(c)));
  const Cells sure = table_of(html, "how-sure-that-is-accuracy-with-its-95-interval-and-mcnemar-s-exact-test-against-fp32");
  CHECK(cell(sure, name, "Right") == std::to_string(performance.at("correct").get<int>()));
  const Json& wilson = performance.at("accuracy_wilson_95");
  CHECK(cell(sure, name, "95 % interval (Wilson)") == two(wilson.at(0)) + " - " + two(wilson.at(1)));
  const Cells f1 = table_of(html, "macro-f1-with-its-95-interval-bootstrap");
  CHECK(cell(f1, name, "95 % interval") ==
        two(performance.at("macro_f1_bootstrap_95").at(0)) + " - " + two(performance.at("macro_f1_bootstrap_95").at(1)));
  // The page's matrices are drawings; their cells say what they are.
  for (const Json& row : performance.at("confusion"))
    for (const Json& count : row) CHECK(holds(html, ">" + std::to_string(count.get<int>()) + "</text>"));
  if (name == "FP32") return;
  const Json &relative = latency.at("against_baseline_row_by_row"), &test = performance.at("mcnemar"),
             &difference = performance.at("minus_baseline");
  CHECK(cell(times, name, "vs FP32") == two(relative.at("median")) + "x");
  CHECK(holds(html, fmt::format(">{} ({} to {})<", two(relative.at("median")), two(relative.at("p5")), two(relative.at("p95")))));
  CHECK(cell(sure, name, "p") == fmt::format("{:.3g}", test.at("p").get<double>()));
  CHECK(cell(sure, name, "only this right") == std::to_string(test.at("only_this_right").get<int>()));
  const Cells minus = table_of(html, "minus-fp32-on-the-same-rows-percentage-points-with-95-intervals-paired-bootstrap");
  CHECK(cell(minus, name, "Accuracy") == with_sign(difference.at("accuracy")));
  CHECK(cell(minus, name, "Macro F1") == with_sign(difference.at("macro_f1")));
  CHECK(cell(minus, name, "95 % interval") ==
        with_sign(difference.at("accuracy_bootstrap_95").at(0)) + " to " + with_sign(difference.at("accuracy_bootstrap_95").at(1)));
  CHECK(holds(html, fmt::format("{:.2f} times smaller",
                                base.at("memory").at("resident_bytes").get<double>() / memory.at("resident_bytes").get<double>())));
}

// Its sentence on every model says what McNemar's test says.
void check_verdict(std::string text, const Json& results) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  for (const Json& m : results.at("models")) {
    if (m.at("id") == "fp32") continue;
    const double p = m.at("performance").at("mcnemar").at("p");
    const auto name = m.at("name").get<std::string>();
    CAPTURE(name, p);
    const auto sentence = text.substr(text.find(name + " holds"), 420);
    const bool alike = m.at("performance").at("mcnemar").at("only_baseline_right") == 0 &&
                       m.at("performance").at("mcnemar").at("only_this_right") == 0;
    const std::string end = sentence.substr(0, sentence.find(alike ? "same rows." : "(McNemar"));
    CHECK(holds(end, "a difference that chance explains") == (!alike && p >= 0.05));
    CHECK(holds(end, "more than chance") == (p < 0.05));
  }
}

}  // namespace

TEST_CASE("report: the page's numbers are those of results.json, and the same again from the files") {
  const Folder folder;
  const fs::path out = folder / "out";
  REQUIRE(run(folder, {"--sample", "60", "--threads", "1", "--out", out.string()}).code == 0);
  const std::string html = text_of(out / "report.html");
  const Json results = json_of(out / "results.json");
  for (const Json& m : results.at("models")) check_model(html, results, m);

  // One page, without a script and without anything from elsewhere.
  for (const char* words : {"<script", "http://", "https://", "src=", "@import", "url("}) CHECK_FALSE(holds(html, words));
  for (const char* words : {"prefers-color-scheme: dark", "@media print", "name=\"viewport\"", "id=\"verdict\"", "id=\"paper\"",
                            "id=\"figures\"", "id=\"claims\"", "id=\"rows\"", "id=\"how\""})
    CHECK(holds(html, words));
  for (const char* figure : {"memory", "latency", "accuracy", "difference", "accuracy_memory", "accuracy_latency", "confusion",
                             "weight_errors", "operators", "latency_by_length"}) {
    CAPTURE(figure);
    CHECK(holds(html, std::string("<figure id=\"") + figure + "\""));
    CHECK(fs::exists(out / "figures" / (std::string(figure) + ".svg")));
    CHECK(holds(text_of(out / "report.md"), std::string("](figures/") + figure + ".svg)"));
  }

  const std::vector<std::string> made = {"report.html", "report.md", "figures/memory.svg", "figures/latency.svg"};
  std::map<std::string, std::string> before;
  for (const std::string& name : made) before[name] = text_of(out / name);
  for (const std::string& name : made) fs::remove(out / name);
  const Outcome again = Process(FOUR_MODELS, folder, {"--report", out.string(), "--paper"}).wait();
  REQUIRE(again.code == 0);
  CHECK(holds(again.out, "Table 1"));
  CHECK(holds(again.out, "The paper's claims, one by one"));
  CHECK(holds(again.out, "report.html"));
  CHECK(too_wide(again.out) == "");
  for (const std::string& name : made) CHECK(text_of(out / name) == before[name]);
  CHECK(json_of(out / "results.json") == results);

  // A page follows the numbers, not the run.
  replace_in(out / "results.json", "\"p95_ms\": ", "\"p95_ms\": 7");
  REQUIRE(Process(FOUR_MODELS, folder, {"--report", out.string()}).wait().code == 0);
  CHECK(text_of(out / "report.html") != before["report.html"]);
}

TEST_CASE("report: which difference is real, and the rows on which models disagree, with their texts, and without") {
  const Folder folder;
  const fs::path out = folder / "out", rows = folder / "rows.csv";
  fs::copy(lowbit::testing::assets_dir() / "news_items.csv", rows);
  const Outcome all = run(folder, {"--data", rows.string(), "--out", out.string()});
  REQUIRE(all.code == 0);
  check_verdict(all.out, json_of(out / "results.json"));  // INT8 from scratch is worse by 8 rows, the others by none or few
  const auto lines = csv_of(out / "predictions.csv");
  std::vector<std::size_t> differ;
  for (std::size_t i = 1; i < lines.size(); ++i)
    if (lines[i][2] != lines[i][7] || lines[i][2] != lines[i][12] || lines[i][2] != lines[i][17])
      differ.push_back(std::stoul(lines[i][0]));
  REQUIRE(!differ.empty());
  const auto news = lowbit::io::read_news(rows);
  std::string html = text_of(out / "report.html");
  CHECK(holds(html, fmt::format("On {} of 400 rows", differ.size())));
  CHECK(holds(html, fmt::format("Row {}, true class", differ[0])));
  const std::string title = news[differ[0]].title.substr(0, news[differ[0]].title.find_first_of("&<>\"'"));
  REQUIRE(title.size() > 8);
  CHECK(holds(html, title));
  const auto report = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"--report", out.string()});
    return Process(FOUR_MODELS, folder, more).wait();
  };
  REQUIRE(report({"--no-texts"}).code == 0);
  html = text_of(out / "report.html");
  CHECK_FALSE(holds(html, title));
  CHECK(holds(html, "Without their texts"));
  // Other data are not shown as if they were the run's; data that are gone are said to be.
  put_file(folder / "other.csv", "1,another,text\n");
  REQUIRE(report({"--data", (folder / "other.csv").string()}).code == 0);
  CHECK(holds(text_of(out / "report.html"), "not those that the run read"));
  fs::remove(rows);
  REQUIRE(report({}).code == 0);
  CHECK(holds(text_of(out / "report.html"), "is not there any more"));
  CHECK(not_refused(report({"--data", rows.string()}), 1, {"rows.csv"}) == "");
}

TEST_CASE("four_models: every row is timed, as often as asked, and a sample is a sample") {
  const Folder folder;
  REQUIRE(run(folder, {"--models", "fp32,int8", "--sample", "30", "--seed", "5", "--repeat", "3", "--out", (folder / "a").string()})
              .code == 0);
  const auto lines = csv_of(folder / "a/latency.csv");
  REQUIRE(lines.size() == 1 + 30 * 3);
  CHECK(lines[0] == std::vector<std::string>{"row", "tokens", "repetition", "fp32.ms", "int8.ms"});
  const Json results = json_of(folder / "a/results.json");
  CHECK(results.at("timing").at("repeat") == 3);
  CHECK(results.at("dataset").at("sampled_from_rows") == 400);
  CHECK(results.at("machine").at("threads").is_number());
  CHECK(results.at("machine").contains("load_before"));
  // The median of a row's times, and of the rows' ratios.
  std::vector<double> ratios;
  std::vector<std::string> rows;
  for (std::size_t i = 1; i < lines.size(); i += 3) {
    std::vector<double> ms[2];
    for (std::size_t t = 0; t < 3; ++t) {
      CHECK(lines[i + t][0] == lines[i][0]);
      CHECK(lines[i + t][2] == std::to_string(t));
      for (std::size_t m = 0; m < 2; ++m) ms[m].push_back(std::stod(lines[i + t][3 + m]));
    }
    for (auto& times : ms) std::sort(times.begin(), times.end());
    ratios.push_back(ms[1][1] / ms[0][1]);
    rows.push_back(lines[i][0]);
  }
  std::sort(ratios.begin(), ratios.end());
  // The file has four decimals of a millisecond.
  CHECK(model_of(results, "int8").at("latency").at("against_baseline_row_by_row").at("median").get<double>() ==
        Approx((ratios[14] + ratios[15]) / 2).epsilon(1e-3));
  CHECK(std::is_sorted(rows.begin(), rows.end(),
                       [](const std::string& a, const std::string& b) { return std::stoi(a) < std::stoi(b); }));
  const auto sampled = [&](const char* seed) {
    REQUIRE(run(folder, {"--models", "fp32", "--sample", "30", "--seed", seed, "--out", (folder / "b").string()}).code == 0);
    std::vector<std::string> result;
    const auto predictions = csv_of(folder / "b/predictions.csv");
    for (std::size_t i = 1; i < predictions.size(); ++i) result.push_back(predictions[i][0]);
    return result;
  };
  CHECK(sampled("5") == rows);
  CHECK(sampled("6") != rows);
}

TEST_CASE("report: files that are not of a run are refused by name") {
  const Folder folder;
  const auto report = [&] { return Process(FOUR_MODELS, folder, {"--report", (folder / "a").string()}).wait(); };
  CHECK(not_refused(report(), 1, {"results.json"}) == "");
  REQUIRE(run(folder, {"--limit", "3", "--models", "fp32", "--out", (folder / "a").string()}).code == 0);
  const std::string results = text_of(folder / "a/results.json"), latency = text_of(folder / "a/latency.csv");
  put_file(folder / "a/latency.csv", "row,tokens\n");
  CHECK(not_refused(report(), 1, {"latency.csv", "line 1", "columns"}) == "");
  put_file(folder / "a/latency.csv", latency + "9,9,9,many\n");
  CHECK(not_refused(report(), 1, {"latency.csv", "many"}) == "");
  put_file(folder / "a/latency.csv", latency);
  replace_in(folder / "a/results.json", "\"results_format\": 2", "\"results_format\": 1");
  CHECK(not_refused(report(), 1, {"results.json", "results_format 2", "found 1", "run the comparison again"}) == "");
  put_file(folder / "a/results.json", results);
  replace_in(folder / "a/results.json", "\"p95_ms\"", "\"p96_ms\"");
  CHECK(not_refused(report(), 1, {"results.json", "p95_ms"}) == "");
  CHECK(not_refused(run(folder, {"--report", (folder / "a").string()}), 2, {"--report", "--no-synthetic"}) == "");
}

}  // namespace four_models_report_test
