// SPDX-License-Identifier: MIT
#include "examples/four_models/figures.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

#include "examples/four_models/charts.hpp"

namespace examples {

namespace {

// One sentence per model, for readers who cannot see the drawing.
std::string told(const auto& rows) {
  std::string text;
  for (const auto& row : rows) text += (text.empty() ? "" : "; ") + row.name + ": " + row.label;
  return text + ".";
}

Figure memory_figure(const Results& r, const std::string& name) {
  svg::StackedBars chart;
  chart.caption.unit = "MiB";
  chart.parts = {"codes", "scales, padding", "embeddings", "rest"};
  chart.styles = {"c0", "c1", "c2", "c6"};
  chart.mark_name = "the paper's account";
  for (const ModelResult& m : r.models)
    chart.rows.push_back({m.identity.name,
                          fmt::format("{:.1f} MiB", mib(m.memory.resident_bytes)),
                          {mib(m.split.codes), mib(m.split.scales), mib(m.split.embeddings), mib(m.split.rest)},
                          mib(m.memory.paper_bytes)});
  chart.caption.title = "Resident memory, by what it holds";
  chart.caption.description = told(chart.rows);
  return {
      name,
      "What each model holds in memory, MiB",
      "Bytes resident once a model is loaded: the codes of its linear layers, their scales and padding, embeddings, and the rest "
      "(norms, biases, head). The diamond is the paper's account: parameters and mask buffers, no scales.",
      {draw(chart)}};
}

Figure latency_figure(const Results& r, const std::string& name) {
  svg::Intervals chart;
  chart.caption.unit = "times FP32's latency (logarithmic; left is faster)";
  chart.caption.title = "Latency relative to FP32";
  chart.reference = 1;
  chart.reference_name = "FP32";
  chart.logarithmic = true;
  const paper::Row& base = paper::rows[0];
  double low = 0.9, high = 1.1;
  for (const ModelResult& m : r.models) {
    if (!m.relative) continue;
    const RelativeLatency& t = *m.relative;
    const paper::Row* p = r.paper_shape() ? m.paper_row() : nullptr;
    const std::optional<double> papers = p ? std::optional(p->table1.latency_ms / base.table1.latency_ms) : std::nullopt;
    if (papers) chart.mark_name = "the paper's ratio of means, on its hardware";
    chart.rows.push_back(
        {m.identity.name, fmt::format("{:.2f} ({:.2f} to {:.2f})", t.median, t.p5, t.p95), t.median, {t.p5, t.p95}, papers});
    low = std::min(low, t.p5);
    high = std::max({high, t.p95, papers.value_or(1)});
  }
  chart.from = std::pow(2.0, std::floor(std::log2(low)));
  chart.to = std::pow(2.0, std::ceil(std::log2(high)));
  chart.caption.description = told(chart.rows);
  return {name,
          "How long a row takes, as a share of FP32's time",
          "Every row by every model in turn, divided by FP32's time for that row. Dot: the median; bar: the middle 90 % of rows.",
          {draw(chart)}};
}

// From and to so that an interval does not touch the edge.
std::pair<double, double> roomy(double low, double high) {
  const double room = std::max(0.05 * (high - low), 0.01);
  return {low - room, high + room};
}

Figure accuracy_figure(const Results& r) {
  svg::Intervals chart;
  chart.caption.title = "Accuracy with its 95 % interval";
  double low = 100, high = 0;
  for (const ModelResult& m : r.models) {
    const Interval i = {100 * m.accuracy_95().low, 100 * m.accuracy_95().high};
    const paper::Row* p = r.paper_rows() ? m.paper_row() : nullptr;
    if (p) chart.mark_name = "the paper";
    const std::optional<double> papers = p ? std::optional(p->table2.accuracy) : std::nullopt;
    chart.rows.push_back({m.identity.name, fmt::format("{:.2f} % ({:.2f} to {:.2f})", 100 * m.scores.accuracy, i.low, i.high),
                          100 * m.scores.accuracy, i, papers});
    low = std::min({low, i.low, papers.value_or(100)});
    high = std::max({high, i.high, papers.value_or(0)});
  }
  std::tie(chart.from, chart.to) = roomy(low, high);
  chart.from = std::max(0.0, chart.from);
  chart.to = std::min(100.0, chart.to);
  chart.caption.unit = fmt::format("% of {} rows right; the axis runs from {:.1f} to {:.1f} %", r.rows_done, chart.from, chart.to);
  chart.caption.description = told(chart.rows);
  return {
      "accuracy",
      "Accuracy: every model's interval, on a scale cut to them",
      "Dot: share of rows right; bar: Wilson's 95 % interval. Models answer the same rows, so bars that overlap may still differ: "
      "the next figure compares row by row.",
      {draw(chart)}};
}

Figure difference_figure(const Results& r) {
  svg::Intervals chart;
  chart.caption.title = "Accuracy minus FP32's, same rows";
  chart.caption.unit = "percentage points (right is better than FP32)";
  chart.reference = 0;
  chart.reference_name = "FP32";
  double reach = 0.1;
  for (const ModelResult& m : r.models) {
    if (!m.difference) continue;
    const Difference& d = *m.difference;
    chart.rows.push_back(
        {m.identity.name,
         fmt::format("{:+.2f} ({:+.2f} to {:+.2f}), p = {:.2g}", d.accuracy, d.accuracy_95.low, d.accuracy_95.high, d.p),
         d.accuracy, d.accuracy_95, std::nullopt});
    reach = std::max({reach, std::fabs(d.accuracy_95.low), std::fabs(d.accuracy_95.high)});
  }
  chart.from = -1.1 * reach;
  chart.to = 1.1 * reach;
  chart.caption.description = told(chart.rows);
  return {
      "difference",
      "What quantizing did to accuracy: real or noise",
      "Difference of accuracies on the same rows, with the 95 % interval of a paired bootstrap; p is McNemar's exact test. A bar "
      "across the line is a difference that chance explains.",
      {draw(chart)}};
}

Figure against_accuracy(const Results& r, bool memory) {
  svg::Scatter chart;
  chart.caption.unit = "accuracy, %";
  chart.caption.title = memory ? "Accuracy against memory" : "Accuracy against latency";
  chart.x_unit = memory ? "MiB resident (left is smaller)" : "times FP32's latency (logarithmic; left is faster)";
  double low = 100, high = 0, x_low = 1e300, x_high = 0;
  std::string description;
  for (const ModelResult& m : r.models) {
    const double x = memory ? mib(m.memory.resident_bytes) : m.relative ? m.relative->median : 1;
    const Interval i = {100 * m.accuracy_95().low, 100 * m.accuracy_95().high};
    chart.points.push_back({m.identity.name, x, 100 * m.scores.accuracy, i});
    low = std::min(low, i.low);
    high = std::max(high, i.high);
    x_low = std::min(x_low, x);
    x_high = std::max(x_high, x);
  }
  std::tie(chart.y_from, chart.y_to) = roomy(low, high);
  chart.y_to = std::min(chart.y_to, 100.0);
  chart.logarithmic = !memory;
  chart.x_from = memory ? 0 : std::pow(2.0, std::floor(std::log2(0.95 * x_low)));
  chart.x_to = memory ? 1.1 * x_high : std::pow(2.0, std::ceil(std::log2(1.05 * x_high)));
  const std::vector<bool> front = pareto_front(chart.points);
  for (std::size_t i = 0; i < front.size(); ++i)
    description += fmt::format("{}: {:.2f}, {:.2f} %{}; ", chart.points[i].name, chart.points[i].x, chart.points[i].y,
                               front[i] ? ", on the front" : "");
  chart.caption.description = description;
  return {
      memory ? "accuracy_memory" : "accuracy_latency",
      memory ? "Accuracy against memory, and who is on the front" : "Accuracy against latency, and who is on the front",
      "Full dots: no other model is at least as good in both. The bars are the 95 % intervals of the accuracies: within them the "
      "order from top to bottom may be chance.",
      {draw(chart)}};
}

Figure confusion_figure(const Results& r) {
  Figure f{
      "confusion", "Which classes are taken for which", "Rows: true class; columns: predicted; numbers: rows of the data.", {}};
  for (const ModelResult& m : r.models) f.drawings.push_back(draw(svg::HeatMap{m.identity.name, r.class_names, m.confusion}));
  f.drawings.push_back(svg::heat_scale());
  return f;
}

std::optional<Figure> errors_figure(const Results& r) {
  // Models with the same weights share a line.
  std::vector<std::pair<std::string, const std::vector<LayerError>*>> lines;
  for (const ModelResult& m : r.models) {
    if (m.weight_errors.empty()) continue;
    const auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& line) {
      return std::equal(
          line.second->begin(), line.second->end(), m.weight_errors.begin(), m.weight_errors.end(),
          [](const LayerError& a, const LayerError& b) { return a.layer == b.layer && a.relative_rms == b.relative_rms; });
    });
    if (same != lines.end())
      same->first += "; " + m.identity.name;
    else
      lines.emplace_back(m.identity.name, &m.weight_errors);
  }
  if (lines.empty()) return std::nullopt;
  svg::Lines chart;
  chart.caption.title = "Quantization error by layer";
  chart.caption.unit = "relative RMS error of the weights, % (logarithmic)";
  chart.x_unit = "block";
  chart.logarithmic = true;
  const std::array<std::pair<const char*, const char*>, 4> kinds = {{{"attn.c_attn", "attention in (q, k, v)"},
                                                                     {"attn.c_proj", "attention out"},
                                                                     {"mlp.c_fc", "MLP in"},
                                                                     {"mlp.c_proj", "MLP out"}}};
  const std::size_t blocks = lines[0].second->size() / kinds.size();
  for (std::size_t b = 0; b < blocks; ++b) chart.x.push_back(static_cast<double>(b));
  std::string description;
  for (const auto& [name, errors] : lines) {
    const bool exact = std::all_of(errors->begin(), errors->end(), [](const LayerError& e) { return e.relative_rms == 0; });
    chart.names.push_back(name + (exact ? ": none" : ""));
    const auto [least, most] = std::minmax_element(
        errors->begin(), errors->end(), [](const LayerError& a, const LayerError& b) { return a.relative_rms < b.relative_rms; });
    description += fmt::format("{}: {:.2g} % ({}) to {:.2g} % ({}). ", name, 100 * least->relative_rms, least->layer,
                               100 * most->relative_rms, most->layer);
  }
  chart.caption.description = description;
  for (const auto& [ending, title] : kinds) {
    svg::Lines::Panel panel{title, {}};
    for (const auto& line : lines) {
      panel.lines.emplace_back(blocks, std::numeric_limits<double>::quiet_NaN());
      for (const LayerError& e : *line.second)
        for (std::size_t b = 0; b < blocks; ++b)
          if (e.layer == fmt::format("h.{}.{}", b, ending))
            panel.lines.back()[b] = e.relative_rms > 0 ? 100 * e.relative_rms : panel.lines.back()[b];
    }
    chart.panels.push_back(std::move(panel));
  }
  std::string caption =
      "How far a layer's quantized weights are from the float ones: root of the summed squares of the differences over that of the "
      "weights.";
  if (r.find("int8_scratch") != nullptr) caption += " INT8 (scratch) is not here: its weights were trained, not rounded.";
  return Figure{"weight_errors", "Quantization error of the weights, layer by layer", caption, {draw(chart)}};
}

std::optional<Figure> operators_figure(const Results& r) {
  static constexpr std::array<std::pair<const char*, const char*>, 7> parts = {{{"attention_in", "attention in"},
                                                                                {"attention_out", "attention out"},
                                                                                {"mlp_in", "MLP in"},
                                                                                {"mlp_out", "MLP out"},
                                                                                {"attention", "attention"},
                                                                                {"layer norm", "layer norm"},
                                                                                {"", "embedding and head"}}};
  svg::StackedBars chart;
  chart.caption.title = "Time of one row by operator";
  chart.caption.unit = "ms for one row";
  chart.styles = {"c0", "c2", "c3", "c4", "c1", "c5", "c6"};
  for (const auto& part : parts) chart.parts.emplace_back(part.second);
  for (const ModelResult& m : r.models) {
    if (m.operators.empty()) continue;
    std::vector<double> values(parts.size());
    double sum = 0, linear = 0;
    for (const OperatorTime& o : m.operators) {
      std::size_t p = 0;
      while (p + 1 < parts.size() && o.name != parts[p].first) ++p;
      values[p] += o.ms;
      sum += o.ms;
      if (p < 4) linear += o.ms;
    }
    chart.rows.push_back(
        {m.identity.name, fmt::format("{:.1f} ms, {:.0f} % linear layers", sum, 100 * linear / sum), values, std::nullopt});
  }
  if (chart.rows.empty()) return std::nullopt;
  chart.caption.description = told(chart.rows);
  return Figure{
      "operators",
      "Where the time of a row goes",
      fmt::format(
          "A pass with a clock at every operator, the median of {} rows for each. The first four are the linear layers; GELU "
          "is inside MLP in, residuals inside the two outs.",
          r.operator_rows),
      {draw(chart)}};
}

std::optional<Figure> length_figure(const Results& r, const LatencyRows& latency) {
  if (latency.tokens.size() < 40) return std::nullopt;
  svg::Lines chart;
  chart.caption.title = "Latency by length of the text";
  chart.caption.unit = "median ms";
  chart.x_unit = "tokens";
  // Tenths of the rows, by length.
  std::vector<std::size_t> order(latency.tokens.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return latency.tokens[a] != latency.tokens[b] ? latency.tokens[a] < latency.tokens[b] : a < b;
  });
  constexpr std::size_t bins = 10;
  const auto median_in = [&](std::size_t bin, const std::vector<double>& values) {
    std::vector<double> part;
    for (std::size_t i = order.size() * bin / bins; i < order.size() * (bin + 1) / bins; ++i) part.push_back(values[order[i]]);
    return summary_of(std::move(part)).median;
  };
  for (std::size_t b = 0; b < bins; ++b) chart.x.push_back(median_in(b, latency.tokens));
  if (chart.x.front() == chart.x.back()) return std::nullopt;
  svg::Lines::Panel panel;
  std::string description;
  for (std::size_t m = 0; m < std::min<std::size_t>(6, r.models.size()); ++m) {
    chart.names.push_back(r.models[m].identity.name);
    panel.lines.emplace_back();
    for (std::size_t b = 0; b < bins; ++b) panel.lines.back().push_back(median_in(b, latency.row_ms[m]));
    description += fmt::format("{}: {:.2f} ms at {:.0f} tokens, {:.2f} ms at {:.0f}. ", chart.names.back(),
                               panel.lines.back().front(), chart.x.front(), panel.lines.back().back(), chart.x.back());
  }
  chart.caption.description = description;
  chart.panels = {panel};
  return Figure{"latency_by_length",
                "How latency grows with the length of a text, ms",
                "Rows in ten equal groups by their number of tokens; each point is a group's median.",
                {draw(chart)}};
}

}  // namespace

svg::Drawing Figure::whole() const {
  if (drawings.size() == 1) return drawings[0];
  double width = 0, height = 0;
  for (const svg::Drawing& d : drawings) width = std::max(width, d.width());
  std::vector<double> tops;
  for (std::size_t i = 0; i < drawings.size(); i += 2) {
    tops.push_back(height);
    height += std::max(drawings[i].height(), i + 1 < drawings.size() ? drawings[i + 1].height() : 0) + 12;
  }
  svg::Drawing all(2 * width, height, title, caption);
  for (std::size_t i = 0; i < drawings.size(); ++i) all.inset(width * static_cast<double>(i % 2), tops[i / 2], drawings[i]);
  return all;
}

std::vector<Figure> figures_of(const Results& r, const LatencyRows& latency) {
  std::vector<Figure> figures;
  if (r.models.empty()) return figures;
  const auto any = [&](const auto& has) { return std::any_of(r.models.begin(), r.models.end(), has); };
  const auto add = [&](std::optional<Figure> f) {
    if (f) figures.push_back(std::move(*f));
  };
  figures.push_back(memory_figure(r, "memory"));
  const bool relative = any([](const ModelResult& m) { return m.relative.has_value(); });
  if (relative) figures.push_back(latency_figure(r, "latency"));
  if (r.rows_done == 0) return figures;
  figures.push_back(accuracy_figure(r));
  if (any([](const ModelResult& m) { return m.difference.has_value(); })) figures.push_back(difference_figure(r));
  figures.push_back(against_accuracy(r, true));
  if (relative) figures.push_back(against_accuracy(r, false));
  figures.push_back(confusion_figure(r));
  add(errors_figure(r));
  add(operators_figure(r));
  add(length_figure(r, latency));
  return figures;
}

std::vector<Figure> synthetic_figures_of(const Results& r) {
  std::vector<Figure> figures;
  if (r.models.empty()) return figures;
  figures.push_back(memory_figure(r, "synthetic_memory"));
  if (std::any_of(r.models.begin(), r.models.end(), [](const ModelResult& m) { return m.relative.has_value(); }))
    figures.push_back(latency_figure(r, "synthetic_latency"));
  return figures;
}

}  // namespace examples
