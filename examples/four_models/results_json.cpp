// SPDX-License-Identifier: MIT
#include "examples/four_models/results_json.hpp"

#include <exception>

#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

using Json = lowbit::io::Json;

constexpr int results_format = 2;  // 1 had no latency.csv beside it

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}
Json pair_of(const Interval& i) { return {i.low, i.high}; }

Json memory_json(const ModelResult& m) {
  return {{"parameters", m.memory.parameters},
          {"linear_parameters", m.memory.linear_parameters},
          {"paper_account_bytes", m.memory.paper_bytes},
          {"paper_account_mib", mib(m.memory.paper_bytes)},
          {"resident_bytes", m.memory.resident_bytes},
          {"resident_split_bytes",
           {{"codes", m.split.codes}, {"scales", m.split.scales}, {"embeddings", m.split.embeddings}, {"rest", m.split.rest}}},
          {"process_rss_growth_bytes", or_null(m.process_growth)}};
}

Json latency_json(const ModelResult& m) {
  Json j = {{"rows", m.latency.count},
            {"mean_ms", m.latency.mean},
            {"median_ms", m.latency.median},
            {"p5_ms", m.latency.p5},
            {"p95_ms", m.latency.p95},
            {"rows_per_second", m.per_second()},
            {"batched_rows_per_second", or_null(m.batched_per_second)}};
  if (m.relative)
    j["against_baseline_row_by_row"] = {{"baseline", baseline_id},
                                        {"median", m.relative->median},
                                        {"median_bootstrap_95", pair_of(m.relative->median_95)},
                                        {"p5", m.relative->p5},
                                        {"p95", m.relative->p95},
                                        {"median_of_first_half", m.relative->first_half},
                                        {"median_of_second_half", m.relative->second_half}};
  return j;
}

Json performance_json(const ModelResult& m) {
  const auto [low, high] = m.accuracy_95();
  Json f1 = Json::array();
  for (const double v : m.scores.class_f1) f1.push_back(100 * v);
  Json j = {{"rows", m.scores.rows},
            {"correct", m.scores.correct},
            {"accuracy", 100 * m.scores.accuracy},
            {"accuracy_wilson_95", {100 * low, 100 * high}},
            {"macro_precision", 100 * m.scores.precision},
            {"macro_recall", 100 * m.scores.recall},
            {"macro_f1", 100 * m.scores.f1},
            {"macro_f1_bootstrap_95", pair_of(m.macro_f1_95)},
            {"class_f1", f1},
            {"confusion", m.confusion},
            {"same_bits_one_by_one_and_batched", m.repeats}};
  if (!m.difference) return j;
  const Difference& d = *m.difference;
  j["mcnemar"] = {
      {"baseline", baseline_id}, {"only_baseline_right", d.only_baseline}, {"only_this_right", d.only_this}, {"p", d.p}};
  j["minus_baseline"] = {{"accuracy", d.accuracy},
                         {"accuracy_bootstrap_95", pair_of(d.accuracy_95)},
                         {"macro_f1", d.macro_f1},
                         {"macro_f1_bootstrap_95", pair_of(d.macro_f1_95)}};
  return j;
}

Json paper_json(const paper::Row& p, bool with_performance) {
  Json j = {{"memory_mib", p.table1.memory_mb},
            {"compression", p.table1.compression},
            {"latency_ms", p.table1.latency_ms},
            {"rows_per_second", or_null(p.table1.per_second)}};
  if (with_performance)
    j.update({{"accuracy", p.table2.accuracy},
              {"precision", p.table2.precision},
              {"recall", p.table2.recall},
              {"f1", p.table2.f1},
              {"class_f1", p.table3}});
  return j;
}

Json model_json(const ModelResult& m, bool paper_rows) {
  Json j;
  j["id"] = m.kind->id;
  j["name"] = m.identity.name;
  j["weights"] = m.identity.weights;
  j["settings"] = m.identity.settings;
  j["settings_as_in_the_paper_s_row"] = m.identity.as_in_paper;
  if (!m.folder.empty()) j["folder"] = m.folder;
  j["load_seconds"] = m.load_seconds;
  for (const auto& [plan, layers] : m.plans) j["linear_layers"].push_back({{"plan", plan}, {"layers", layers}});
  j["memory"] = memory_json(m);
  if (m.latency.count != 0) j["latency"] = latency_json(m);
  for (const OperatorTime& o : m.operators) j["operators"].push_back({{"operator", o.name}, {"median_ms", o.ms}});
  for (const LayerError& e : m.weight_errors) j["weight_errors"].push_back({{"layer", e.layer}, {"relative_rms", e.relative_rms}});
  if (m.scores.rows != 0) j["performance"] = performance_json(m);
  if (const paper::Row* p = m.paper_row()) j["paper"] = paper_json(*p, paper_rows);
  return j;
}

Json models_json(const Results& r) {
  Json models = Json::array();
  for (const ModelResult& m : r.models) models.push_back(model_json(m, r.paper_rows()));
  return models;
}

Json timing_json(const Results& r) {
  return {{"rows", r.latency_rows},
          {"repeat", r.repeat},
          {"warm_up_rows", warm_up_rows},
          {"order", "model after model within a row, another one first each time"},
          {"rows_behind_the_operators", r.operator_rows}};
}

// And back.

template <class T>
std::optional<T> optional_of(const Json& j) {
  return j.is_null() ? std::nullopt : std::optional(j.get<T>());
}
Interval interval_of(const Json& j) { return {j.at(0).get<double>(), j.at(1).get<double>()}; }

void read_latency(const Json& j, ModelResult& m) {
  m.latency.count = j.at("rows");
  m.latency.mean = j.at("mean_ms");
  m.latency.median = j.at("median_ms");
  m.latency.p5 = j.at("p5_ms");
  m.latency.p95 = j.at("p95_ms");
  m.batched_per_second = optional_of<double>(j.at("batched_rows_per_second"));
  if (const auto r = j.find("against_baseline_row_by_row"); r != j.end())
    m.relative = {r->at("median"),
                  r->at("p5"),
                  r->at("p95"),
                  interval_of(r->at("median_bootstrap_95")),
                  r->at("median_of_first_half"),
                  r->at("median_of_second_half")};
}

void read_performance(const Json& j, ModelResult& m) {
  m.confusion = j.at("confusion").get<Confusion>();
  m.scores = scores_of(m.confusion);
  m.macro_f1_95 = interval_of(j.at("macro_f1_bootstrap_95"));
  m.repeats = j.at("same_bits_one_by_one_and_batched");
  const auto test = j.find("mcnemar");
  if (test == j.end()) return;
  const Json& d = j.at("minus_baseline");
  m.difference = {test->at("only_baseline_right"),
                  test->at("only_this_right"),
                  test->at("p"),
                  d.at("accuracy"),
                  d.at("macro_f1"),
                  interval_of(d.at("accuracy_bootstrap_95")),
                  interval_of(d.at("macro_f1_bootstrap_95"))};
}

ModelResult read_model(const Json& j) {
  ModelResult m;
  const auto id = j.at("id").get<std::string>();
  m.kind = find_kind(id);
  if (m.kind == nullptr) lowbit::raise<lowbit::FormatError>("no model has the id " + id);
  m.identity = {j.at("name"), j.at("weights"), j.at("settings_as_in_the_paper_s_row"), j.at("settings")};
  m.folder = j.value("folder", "");
  m.load_seconds = j.at("load_seconds");
  for (const Json& l : j.value("linear_layers", Json::array())) m.plans.emplace_back(l.at("plan"), l.at("layers"));
  const Json& memory = j.at("memory");
  m.memory.parameters = memory.at("parameters");
  m.memory.linear_parameters = memory.at("linear_parameters");
  m.memory.paper_bytes = memory.at("paper_account_bytes");
  m.memory.resident_bytes = memory.at("resident_bytes");
  const Json& split = memory.at("resident_split_bytes");
  m.split = {split.at("codes"), split.at("scales"), split.at("embeddings"), split.at("rest")};
  m.process_growth = optional_of<std::size_t>(memory.at("process_rss_growth_bytes"));
  if (j.contains("latency")) read_latency(j.at("latency"), m);
  for (const Json& o : j.value("operators", Json::array())) m.operators.push_back({o.at("operator"), o.at("median_ms")});
  for (const Json& e : j.value("weight_errors", Json::array())) m.weight_errors.push_back({e.at("layer"), e.at("relative_rms")});
  if (j.contains("performance")) read_performance(j.at("performance"), m);
  return m;
}

void read_timing(const Json& j, Results& r) {
  r.latency_rows = j.at("rows");
  r.repeat = j.at("repeat");
  r.operator_rows = j.at("rows_behind_the_operators");
}

Results read_main(const Json& j) {
  Results r;
  const Json &machine = j.at("machine"), &data = j.at("dataset");
  r.version = j.at("lowbit_version");
  r.machine = {machine.at("cpu"),
               machine.at("level"),
               machine.at("compiler"),
               j.at("date"),
               machine.at("processors"),
               machine.at("threads"),
               optional_of<double>(machine.at("load_before")),
               optional_of<double>(machine.at("load_after"))};
  r.interrupted = j.at("interrupted");
  r.options = j.at("options");
  r.command = j.at("command");
  r.dataset = data.at("path");
  r.rows = data.at("rows");
  r.rows_done = data.at("rows_done");
  r.sampled_from = optional_of<std::size_t>(data.at("sampled_from_rows"));
  r.empty_texts = data.at("rows_without_a_text");
  r.blank_lines = data.at("blank_lines");
  r.class_names = data.at("classes").get<std::vector<std::string>>();
  r.mean_tokens = data.at("mean_tokens");
  r.max_tokens = data.at("max_tokens");
  r.cut_texts = data.at("texts_cut_at_max_tokens");
  r.notes = j.at("notes").get<std::vector<std::string>>();
  read_timing(j.at("timing"), r);
  for (const Json& m : j.at("models")) r.models.push_back(read_model(m));
  return r;
}

Results read_synthetic(const Json& j, const Results& main) {
  Results r;
  r.machine = main.machine;
  r.version = main.version;
  r.options = main.options;
  r.command = main.command;
  r.dataset = j.at("what");
  r.interrupted = j.at("interrupted");
  r.notes = j.at("notes").get<std::vector<std::string>>();
  read_timing(j.at("timing"), r);
  for (const Json& m : j.at("models")) r.models.push_back(read_model(m));
  return r;
}

}  // namespace

std::string results_json(const RunResults& run) {
  const Results& r = run.main;
  Json j;
  j["program"] = "four_models";
  j["results_format"] = results_format;
  j["lowbit_version"] = r.version;
  j["date"] = r.machine.date;
  j["interrupted"] = r.interrupted;
  j["options"] = r.options;
  j["command"] = r.command;
  j["machine"] = {{"cpu", r.machine.cpu},
                  {"processors", r.machine.processors},
                  {"threads", r.machine.threads},
                  {"level", r.machine.level},
                  {"compiler", r.machine.compiler},
                  {"load_before", or_null(r.machine.load_before)},
                  {"load_after", or_null(r.machine.load_after)}};
  j["dataset"] = {{"path", r.dataset},
                  {"rows", r.rows},
                  {"rows_done", r.rows_done},
                  {"sampled_from_rows", or_null(r.sampled_from)},
                  {"rows_without_a_text", r.empty_texts},
                  {"blank_lines", r.blank_lines},
                  {"classes", r.class_names},
                  {"mean_tokens", r.mean_tokens},
                  {"max_tokens", r.max_tokens},
                  {"texts_cut_at_max_tokens", r.cut_texts}};
  j["timing"] = timing_json(r);
  j["paper_figures_are_of"] = "GPT-2 small on the 7,600 rows of the AG News test set";
  j["models_have_the_paper_s_shape"] = r.paper_shape();
  j["rows_are_the_paper_s"] = r.paper_rows();
  j["notes"] = r.notes;
  j["models"] = models_json(r);
  if (run.synthetic)
    j["synthetic_gpt2_small"] = {{"what", run.synthetic->dataset},
                                 {"interrupted", run.synthetic->interrupted},
                                 {"notes", run.synthetic->notes},
                                 {"timing", timing_json(*run.synthetic)},
                                 {"models", models_json(*run.synthetic)}};
  // Names from files may be anything; what is not UTF-8 is marked as such instead of losing the results.
  return j.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

RunResults parse_results(std::string_view text, const std::string& name) {
  const Json j = lowbit::io::parse_json(text, name);
  if (!j.is_object() || j.value("program", Json()) != "four_models")
    lowbit::raise<lowbit::FormatError>(name + ": expected the results of a run of four_models");
  if (j.value("results_format", Json(1)) != results_format)
    lowbit::raise<lowbit::FormatError>(name + ": expected results_format " + std::to_string(results_format) + ", found " +
                                       j.value("results_format", Json(1)).dump() + ": run the comparison again");
  try {
    RunResults run;
    run.main = read_main(j);
    if (j.contains("synthetic_gpt2_small")) run.synthetic = read_synthetic(j.at("synthetic_gpt2_small"), run.main);
    return run;
  } catch (const std::exception& error) {  // nlohmann's name the key
    lowbit::raise<lowbit::FormatError>(name + ": " + error.what());
  }
}

}  // namespace examples
