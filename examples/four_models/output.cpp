// SPDX-License-Identifier: MIT
#include "examples/four_models/output.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include <fmt/format.h>

#include "lowbit/io/json.hpp"
#include "lowbit/lowbit.hpp"
#include "examples/four_models/paper.hpp"
#include "examples/four_models/svg.hpp"

namespace examples {

namespace {

using Json = lowbit::io::Json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json model_json(const ModelResult& m, bool paper_rows) {
  const paper::Row* p = m.paper_row();
  Json j;
  j["id"] = m.kind->id;
  j["name"] = m.identity.name;
  j["weights"] = m.identity.weights;
  j["settings"] = m.identity.settings;
  j["settings_as_in_the_paper_s_row"] = m.identity.as_in_paper;
  if (!m.folder.empty()) j["folder"] = m.folder;
  j["load_seconds"] = m.load_seconds;
  for (const auto& [plan, layers] : m.plans) j["linear_layers"].push_back({{"plan", plan}, {"layers", layers}});
  j["memory"] = {
      {"parameters", m.memory.parameters},           {"linear_parameters", m.memory.linear_parameters},
      {"paper_account_bytes", m.memory.paper_bytes}, {"paper_account_mib", static_cast<double>(m.memory.paper_bytes) / (1 << 20)},
      {"resident_bytes", m.memory.resident_bytes},   {"process_rss_growth_bytes", or_null(m.process_growth)}};
  if (m.latency.count != 0)
    j["latency"] = {{"rows", m.latency.count},           {"mean_ms", m.latency.mean},
                    {"median_ms", m.latency.median},     {"p95_ms", m.latency.p95},
                    {"rows_per_second", m.per_second()}, {"batched_rows_per_second", or_null(m.batched_per_second)}};
  if (m.scores.rows != 0) {
    const auto [low, high] = wilson_interval(m.scores.correct, m.scores.rows);
    Json f1 = Json::array();
    for (const double v : m.scores.class_f1) f1.push_back(100 * v);
    j["performance"] = {{"rows", m.scores.rows},
                        {"correct", m.scores.correct},
                        {"accuracy", 100 * m.scores.accuracy},
                        {"accuracy_wilson_95", {100 * low, 100 * high}},
                        {"macro_precision", 100 * m.scores.precision},
                        {"macro_recall", 100 * m.scores.recall},
                        {"macro_f1", 100 * m.scores.f1},
                        {"class_f1", f1},
                        {"confusion", m.confusion},
                        {"same_bits_one_by_one_and_batched", m.repeats}};
    if (m.mcnemar)
      j["performance"]["mcnemar"] = {{"baseline", baseline_id},
                                     {"only_baseline_right", m.mcnemar->only_baseline},
                                     {"only_this_right", m.mcnemar->only_this},
                                     {"p", m.mcnemar->p}};
  }
  if (p)
    j["paper"] = {{"memory_mib", p->table1.memory_mb},
                  {"compression", p->table1.compression},
                  {"latency_ms", p->table1.latency_ms},
                  {"rows_per_second", or_null(p->table1.per_second)}};
  if (p && paper_rows)
    j["paper"].update({{"accuracy", p->table2.accuracy},
                       {"precision", p->table2.precision},
                       {"recall", p->table2.recall},
                       {"f1", p->table2.f1},
                       {"class_f1", p->table3}});
  return j;
}

Json models_json(const Results& r) {
  Json models = Json::array();
  for (const ModelResult& m : r.models) models.push_back(model_json(m, r.paper_rows()));
  return models;
}

std::vector<std::string> names_of(const Results& r) {
  std::vector<std::string> names;
  for (const ModelResult& m : r.models) names.push_back(m.identity.name);
  return names;
}

// A chart of one number per model, with the paper's beside it where that makes sense.
svg::BarChart chart_of(const Results& r, const std::string& title, const std::string& unit, bool with_paper, int digits,
                       const auto& ours, const auto& papers) {
  svg::BarChart chart{title, unit, names_of(r), {{with_paper ? "lowbit" : "", {}}}};
  if (with_paper) chart.series.push_back({r.paper_shape() ? "paper" : "paper (GPT-2 small)", {}});
  for (const ModelResult& m : r.models) {
    const auto bar = [&](double value) { return svg::Bar{value, fmt::format("{:.{}f}", value, digits)}; };
    chart.series[0].bars.push_back(bar(ours(m)));
    if (!with_paper) continue;
    const paper::Row* p = m.paper_row();
    const std::optional<double> value = p ? papers(*p) : std::nullopt;
    chart.series[1].bars.push_back(value ? bar(*value) : svg::Bar{});
  }
  return chart;
}

void add_efficiency_figures(std::vector<OutputFile>& files, const Results& r, const std::string& prefix, const std::string& of) {
  const auto add = [&](const std::string& name, const std::vector<svg::BarChart>& charts) {
    files.push_back({"figures/" + prefix + name, svg::picture(charts)});
  };
  const bool with_paper = r.paper_shape();
  add("memory.svg", {chart_of(
                        r, "Memory by the paper's account" + of, "MiB", with_paper, 2,
                        [](const ModelResult& m) { return static_cast<double>(m.memory.paper_bytes) / (1 << 20); },
                        [](const paper::Row& p) { return std::optional(p.table1.memory_mb); })});
  if (r.models[0].latency.count == 0) return;
  add("latency.svg",
      {chart_of(
           r, "Mean latency of one row" + of, "ms", with_paper, 2, [](const ModelResult& m) { return m.latency.mean; },
           [](const paper::Row& p) { return std::optional(p.table1.latency_ms); }),
       chart_of(
           r, "Throughput, 1 / mean latency" + of, "rows per second", with_paper, 1,
           [](const ModelResult& m) { return m.per_second(); }, [](const paper::Row& p) { return p.table1.per_second; })});
}

svg::BarChart accuracy_chart(const Results& r) {
  svg::BarChart chart = chart_of(
      r, "Accuracy, with its 95 % interval", "%", r.paper_rows(), 2, [](const ModelResult& m) { return 100 * m.scores.accuracy; },
      [](const paper::Row& p) { return std::optional(p.table2.accuracy); });
  chart.to = 100;
  double lowest = 100;
  for (std::size_t i = 0; i < r.models.size(); ++i) {
    const auto [low, high] = wilson_interval(r.models[i].scores.correct, r.models[i].scores.rows);
    chart.series[0].bars[i].low = 100 * low;
    chart.series[0].bars[i].high = 100 * high;
    lowest = std::min(lowest, 100 * low);
  }
  // Differences of a tenth of a percent would be lost on an axis from 0.
  chart.from = std::clamp(std::floor(lowest / 5) * 5, 0.0, 90.0);
  if (chart.from > 0) chart.unit = fmt::format("% (axis begins at {:.0f})", chart.from);
  return chart;
}

}  // namespace

std::string results_json(const Results& r, const Results* synthetic) {
  Json j;
  j["program"] = "four_models";
  j["lowbit_version"] = LOWBIT_VERSION;
  j["date"] = r.machine.date;
  j["interrupted"] = r.interrupted;
  j["options"] = r.options;
  j["command"] = r.command;
  j["machine"] = {{"cpu", r.machine.cpu},
                  {"processors", r.machine.processors},
                  {"threads", r.machine.threads},
                  {"level", r.machine.level},
                  {"compiler", r.machine.compiler}};
  j["dataset"] = {{"path", r.dataset},
                  {"rows", r.rows},
                  {"rows_done", r.rows_done},
                  {"rows_without_a_text", r.empty_texts},
                  {"blank_lines", r.blank_lines},
                  {"classes", r.class_names},
                  {"mean_tokens", r.mean_tokens},
                  {"max_tokens", r.max_tokens},
                  {"texts_cut_at_max_tokens", r.cut_texts}};
  j["paper_figures_are_of"] = "GPT-2 small on the 7,600 rows of the AG News test set";
  j["models_have_the_paper_s_shape"] = r.paper_shape();
  j["rows_are_the_paper_s"] = r.paper_rows();
  j["notes"] = r.notes;
  j["models"] = models_json(r);
  if (synthetic != nullptr)
    j["synthetic_gpt2_small"] = {{"what", synthetic->dataset},
                                 {"interrupted", synthetic->interrupted},
                                 {"notes", synthetic->notes},
                                 {"models", models_json(*synthetic)}};
  // Names from files may be anything; what is not UTF-8 is marked as such instead of losing the results.
  return j.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string predictions_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data) {
  const std::size_t classes = data.class_names.size();
  std::string csv = "row,true";
  for (const LoadedModel& m : models) {
    csv += fmt::format(",{}.pred", m.kind->id);
    for (std::size_t c = 0; c < classes; ++c) csv += fmt::format(",{}.logit_{}", m.kind->id, c);
  }
  csv += '\n';
  for (std::size_t row = 0; row < data.items.size(); ++row) {
    if (evaluation.done[row] == 0) continue;
    csv += fmt::format("{},{}", data.items[row].row, data.items[row].label);
    for (const Run& run : evaluation.runs) {
      const auto logits = std::span(run.logits).subspan(row * classes, classes);
      csv += fmt::format(",{}", std::max_element(logits.begin(), logits.end()) - logits.begin());
      for (const float v : logits) csv += fmt::format(",{}", v);  // the shortest text that reads back as the same float
    }
    csv += '\n';
  }
  return csv;
}

std::vector<OutputFile> figures(const Results& r, const Results* synthetic) {
  std::vector<OutputFile> files;
  if (!r.models.empty()) add_efficiency_figures(files, r, "", "");
  if (synthetic != nullptr && !synthetic->models.empty())
    add_efficiency_figures(files, *synthetic, "synthetic_", ", GPT-2 small with synthetic weights");
  if (r.rows_done == 0) return files;
  files.push_back({"figures/accuracy.svg", svg::picture(std::vector{accuracy_chart(r)})});
  std::vector<svg::HeatMap> maps;
  for (const ModelResult& m : r.models) maps.push_back({m.identity.name, r.class_names, m.confusion});
  files.push_back({"figures/confusion.svg", svg::picture(maps)});
  return files;
}

}  // namespace examples
