// SPDX-License-Identifier: MIT
#include "examples/four_models/charts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace examples::svg {

namespace {

constexpr double left = 10, right = chart_width - 14;  // of plots without numbers beside them
constexpr double row_height = 41, foot = 42;

// 1, 2 or 5 times a power of ten, so that about `steps` make `range`.
double tick_step(double range, double steps) {
  const double raw = range / steps, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

// Numbers on a line of the drawing.
class Axis {
 public:
  Axis(double from, double to, double begin, double end, bool logarithmic, double steps = 5)
      : from_(from), to_(to), begin_(begin), end_(end), logarithmic_(logarithmic) {
    if (logarithmic_) {
      for (int power = -12; power <= 12; ++power)
        if (const double tick = std::pow(2.0, power); tick >= from * 0.999 && tick <= to * 1.001) add(tick, power);
    } else {
      const double step = tick_step(to - from, steps);
      const int digits = step < 1 ? static_cast<int>(std::ceil(-std::log10(step) - 1e-9)) : 0;
      for (double i = std::ceil(from / step - 1e-9); i * step <= to + step / 1000; ++i)
        ticks_.emplace_back(i * step, fmt::format("{:.{}f}", i * step + 0.0, digits));
    }
  }
  double at(double value) const {
    value = std::clamp(value, from_, to_);
    const double share = logarithmic_ ? std::log(value / from_) / std::log(to_ / from_) : (value - from_) / (to_ - from_);
    return begin_ + share * (end_ - begin_);
  }
  const std::vector<std::pair<double, std::string>>& ticks() const { return ticks_; }

 private:
  void add(double tick, int power) {
    ticks_.emplace_back(tick, power >= 0 ? fmt::format("{:.0f}", tick) : fmt::format("1/{:.0f}", std::pow(2.0, -power)));
  }
  double from_, to_, begin_, end_;
  bool logarithmic_;
  std::vector<std::pair<double, std::string>> ticks_;
};

// The grid, the numbers and the unit below a plot whose values run to the right.
void add_foot(Drawing& d, const Axis& axis, double top, double base, const std::string& unit) {
  for (const auto& [value, text] : axis.ticks()) {
    d.line(axis.at(value), top, axis.at(value), base, "g");
    d.text(axis.at(value), base + 15, text, "s", "middle", 12);
  }
  d.label(chart_width / 2, base + 33, unit, {.width = chart_width, .anchor = "middle", .size = 12, .style = "s"});
}

// A row's name, and its numbers at the end of the line or below it.
double add_name(Drawing& d, double y, const std::string& name, const std::string& label) {
  const double size = 13, wanted = text_width(label, 12) + 8;
  d.label(left, y, name, {.width = right - left - wanted, .size = size, .style = "b"});
  d.text(right, y, label, "t", "end", 12);
  return y;
}

struct Key {
  enum { box, mark, line } kind;
  std::string style, name;
};
// From y on; returns where the legend ends.
double add_legend(Drawing& d, double y, const std::vector<Key>& keys) {
  double x = left;
  for (const Key& key : keys) {
    const double width = 28 + text_width(key.name, 12);
    if (x > left && x + width > chart_width) {
      x = left;
      y += 16;
    }
    if (key.kind == Key::box) d.box(x, y - 9, 11, 11, key.style);
    if (key.kind == Key::mark) d.diamond(x + 6, y - 4, 5, key.style);
    if (key.kind == Key::line) d.line(x - 2, y - 4, x + 14, y - 4, key.style);
    d.label(x + 17, y, key.name, {.width = chart_width - x - 17});
    x += width;
  }
  return keys.empty() ? y - 16 : y;
}

}  // namespace

Drawing draw(const StackedBars& chart) {
  Drawing d(chart_width, 0, chart.caption.title, chart.caption.description);
  std::vector<Key> keys;
  for (std::size_t p = 0; p < chart.parts.size(); ++p) keys.push_back({Key::box, chart.styles[p], chart.parts[p]});
  if (!chart.mark_name.empty()) keys.push_back({Key::mark, "m", chart.mark_name});
  const double top = add_legend(d, 16, keys) + 12, base = top + row_height * static_cast<double>(chart.rows.size()) + 4;
  double most = 0;
  for (const auto& row : chart.rows) {
    double sum = 0;
    for (const double v : row.values) sum += v;
    most = std::max({most, sum, row.mark.value_or(0)});
  }
  if (!(most > 0)) most = 1;
  const double step = tick_step(most, 5);
  const Axis axis(0, std::ceil(most / step) * step, left, right, false);
  add_foot(d, axis, top, base, chart.caption.unit);
  for (std::size_t r = 0; r < chart.rows.size(); ++r) {
    const auto& row = chart.rows[r];
    const double y = top + row_height * static_cast<double>(r) + 14;
    add_name(d, y, row.name, row.label);
    double sum = 0;
    for (std::size_t p = 0; p < row.values.size(); ++p) {
      d.box(axis.at(sum), y + 5, axis.at(sum + row.values[p]) - axis.at(sum), 14, chart.styles[p],
            fmt::format("{}, {}: {:.2f} {}", row.name, chart.parts[p], row.values[p], chart.caption.unit));
      sum += row.values[p];
    }
    if (row.mark)
      d.diamond(axis.at(*row.mark), y + 12, 5, "m",
                fmt::format("{}, {}: {:.2f} {}", row.name, chart.mark_name, *row.mark, chart.caption.unit));
  }
  d.line(left, top, left, base, "a");
  d.set_height(base + foot);
  return d;
}

Drawing draw(const Intervals& chart) {
  Drawing d(chart_width, 0, chart.caption.title, chart.caption.description);
  std::vector<Key> keys;
  if (!chart.mark_name.empty()) keys.push_back({Key::mark, "m", chart.mark_name});
  if (chart.reference) keys.push_back({Key::line, "d", chart.reference_name});
  const double top = add_legend(d, 16, keys) + 12, base = top + row_height * static_cast<double>(chart.rows.size()) + 4;
  const Axis axis(chart.from, chart.to, left + 8, right - 8, chart.logarithmic);
  add_foot(d, axis, top, base, chart.caption.unit);
  if (chart.reference) d.line(axis.at(*chart.reference), top, axis.at(*chart.reference), base, "d");
  for (std::size_t r = 0; r < chart.rows.size(); ++r) {
    const auto& row = chart.rows[r];
    const double y = top + row_height * static_cast<double>(r) + 14;
    add_name(d, y, row.name, row.label);
    if (row.interval.high > row.interval.low)
      d.line(axis.at(row.interval.low), y + 12, axis.at(row.interval.high), y + 12, "k0 thick");
    if (row.mark)
      d.diamond(axis.at(*row.mark), y + 12, 5, "m", fmt::format("{}, {}: {:.2f}", row.name, chart.mark_name, *row.mark));
    d.dot(axis.at(row.value), y + 12, 4.5, "c0", row.name + ": " + row.label);
  }
  d.line(left, base, right, base, "a");
  d.set_height(base + foot);
  return d;
}

std::vector<bool> pareto_front(const std::vector<Scatter::Point>& points) {
  std::vector<bool> front;
  for (const auto& p : points)
    front.push_back(std::none_of(points.begin(), points.end(),
                                 [&](const auto& q) { return q.x <= p.x && q.y >= p.y && (q.x < p.x || q.y > p.y); }));
  return front;
}

Drawing draw(const Scatter& chart) {
  Drawing d(chart_width, 340, chart.caption.title, chart.caption.description);
  const double begin = 46, top = 34, base = 294;
  const Axis x(chart.x_from, chart.x_to, begin, right, chart.logarithmic), y(chart.y_from, chart.y_to, base, top, false, 6);
  add_foot(d, x, top, base, chart.x_unit);
  for (const auto& [value, text] : y.ticks()) {
    d.line(begin, y.at(value), right, y.at(value), "g");
    d.text(begin - 6, y.at(value) + 4, text, "s", "end", 12);
  }
  d.text(left, 16, chart.caption.unit, "s");
  d.line(begin, top, begin, base, "a");
  d.line(begin, base, right, base, "a");
  const std::vector<bool> front = pareto_front(chart.points);
  std::vector<std::pair<double, double>> joined;
  for (std::size_t i = 0; i < chart.points.size(); ++i)
    if (front[i]) joined.emplace_back(x.at(chart.points[i].x), y.at(chart.points[i].y));
  std::sort(joined.begin(), joined.end());
  d.polyline(joined, "d");
  struct Label {
    double x, y, width;
    bool before;
  };
  std::vector<Label> labels;  // that must not cover each other, or a dot
  for (const auto& p : chart.points) labels.push_back({x.at(p.x) - 6, y.at(p.y) + 4, 12, false});
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const auto& p = chart.points[i];
    if (p.interval.high > p.interval.low) {
      d.line(x.at(p.x), y.at(p.interval.low), x.at(p.x), y.at(p.interval.high), "k0 faint");
    }
  }
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const auto& p = chart.points[i];
    d.dot(x.at(p.x), y.at(p.y), 5, front[i] ? "c0" : "h", p.name);
    const double width = text_width(p.name, 12), px = x.at(p.x), py = y.at(p.y) + 4;
    Label best{};
    double least = std::numeric_limits<double>::infinity();
    for (const double shift : {0.0, -13.0, 13.0, -26.0, 26.0, -39.0, 39.0, -52.0, 52.0})
      for (const bool before : {false, true}) {
        const Label l{before ? px - 9 - width : px + 9, py + shift, width, before};
        double cost = std::fabs(shift) / 100;
        if (l.x < begin + 2 || l.x + width > chart_width || l.y < top + 8 || l.y > base - 2) cost += 1000;
        for (const Label& o : labels)
          if (std::fabs(o.y - l.y) < 12 && l.x < o.x + o.width && o.x < l.x + width) cost += 10;
        for (const auto& q : chart.points)  // their intervals
          if (q.interval.high > q.interval.low && x.at(q.x) > l.x - 3 && x.at(q.x) < l.x + width + 3 &&
              l.y > y.at(q.interval.high) && l.y - 8 < y.at(q.interval.low))
            cost += 3;
        if (cost < least) {
          least = cost;
          best = l;
        }
      }
    labels.push_back(best);
    d.text(best.x, best.y, p.name);
  }
  return d;
}

Drawing draw(const Lines& chart) {
  Drawing d(chart_width, 0, chart.caption.title, chart.caption.description);
  static constexpr const char* strokes[] = {"k0", "k1", "k2", "k3", "k4", "k5"};
  std::vector<Key> keys;
  for (std::size_t i = 0; i < chart.names.size(); ++i) keys.push_back({Key::line, strokes[i % std::size(strokes)], chart.names[i]});
  const double top = add_legend(d, 16, keys) + 22;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& panel : chart.panels)
    for (const auto& line : panel.lines)
      for (const double v : line)
        if (!std::isnan(v)) {
          low = std::min(low, v);
          high = std::max(high, v);
        }
  if (!(low <= high)) low = high = 1;
  double from = 0, to = high;
  if (chart.logarithmic) {
    from = std::pow(2.0, std::floor(std::log2(low)));
    to = std::pow(2.0, std::ceil(std::log2(high) + 1e-9));
  } else {
    const double step = tick_step(high > 0 ? high : 1, 4);
    to = std::max(step, std::ceil(high / step) * step);
  }
  const bool two = chart.panels.size() > 1;
  const double width = two ? chart_width / 2 : chart_width, height = two ? 168 : 270;
  d.text(left, top, chart.caption.unit, "s");
  for (std::size_t p = 0; p < chart.panels.size(); ++p) {
    const double x0 = width * static_cast<double>(p % 2), y0 = top + 10 + height * static_cast<double>(p / 2);
    const Axis x(chart.x.front(), chart.x.size() > 1 ? chart.x.back() : chart.x.front() + 1, x0 + 44, x0 + width - 14, false,
                 two ? 4 : 6);
    const double plot_top = y0 + (two ? 20 : 8), base = y0 + height - (two ? 32 : 22);
    const Axis y(from, to, base, plot_top, chart.logarithmic, 4);
    if (two) d.label(x0 + 44, y0 + 12, chart.panels[p].title, {.width = width - 58, .style = "b"});
    for (const auto& [value, text] : y.ticks()) {
      d.line(x0 + 44, y.at(value), x0 + width - 14, y.at(value), "g");
      d.text(x0 + 39, y.at(value) + 4, chart.logarithmic ? fmt::format("{:.2g}", value) : text, "s", "end", 11);
    }
    for (const auto& [value, text] : x.ticks()) d.text(x.at(value), base + 14, text, "s", "middle", 11);
    d.line(x0 + 44, base, x0 + width - 14, base, "a");
    for (std::size_t l = 0; l < chart.panels[p].lines.size(); ++l) {
      std::vector<std::pair<double, double>> points;
      for (std::size_t i = 0; i < chart.x.size(); ++i)
        if (const double v = chart.panels[p].lines[l][i]; !std::isnan(v)) points.emplace_back(x.at(chart.x[i]), y.at(v));
      d.polyline(points, strokes[l % std::size(strokes)]);
    }
  }
  const double end = top + 12 + height * std::ceil(static_cast<double>(chart.panels.size()) / (two ? 2 : 1));
  d.text(chart_width / 2, end + 8, chart.x_unit, "s", "middle");
  d.set_height(end + 16);
  return d;
}

namespace {
// A square root lets the few errors show.
double depth_of(double share) { return std::sqrt(share); }
constexpr double cell_width = 56, cell_height = 36, map_left = 88, map_top = 64;
}  // namespace

Drawing draw(const HeatMap& map) {
  const double n = static_cast<double>(map.classes.size());
  std::string description = "Rows: true class; columns: predicted.";
  for (std::size_t t = 0; t < map.classes.size(); ++t) {
    description += " " + map.classes[t] + ":";
    for (const std::size_t count : map.counts[t]) description += " " + std::to_string(count);
    description += ".";
  }
  Drawing d(map_left + cell_width * n + 10, map_top + cell_height * n + 8, map.title + ": true class by predicted", description);
  d.label(left, 16, map.title, {.width = d.width() - 16, .style = "b"});
  d.text(map_left + cell_width * n / 2, 36, "predicted", "s", "middle", 11);
  d.text(map_left - 8, map_top - 8, "true", "s", "end", 11);
  for (std::size_t t = 0; t < map.classes.size(); ++t) {
    std::size_t sum = 0;
    for (const std::size_t count : map.counts[t]) sum += count;
    const double y = map_top + cell_height * static_cast<double>(t);
    d.label(map_left + cell_width * (static_cast<double>(t) + 0.5), map_top - 8, map.classes[t],
            {.width = cell_width - 2, .anchor = "middle", .size = 11});
    d.label(map_left - 8, y + cell_height / 2 + 4, map.classes[t], {.width = map_left - 14, .anchor = "end", .size = 11});
    for (std::size_t p = 0; p < map.classes.size(); ++p) {
      const double share = sum == 0 ? 0 : static_cast<double>(map.counts[t][p]) / static_cast<double>(sum);
      const double x = map_left + cell_width * static_cast<double>(p), depth = depth_of(share);
      d.box(x + 1, y + 1, cell_width - 2, cell_height - 2, "c0",
            fmt::format("{} taken for {}: {}, {:.1f} %", map.classes[t], map.classes[p], map.counts[t][p], 100 * share),
            std::max(depth, 0.02));
      d.text(x + cell_width / 2, y + cell_height / 2 + 5, std::to_string(map.counts[t][p]), depth > 0.6 ? "w" : "t", "middle", 13);
    }
  }
  return d;
}

Drawing heat_scale() {
  Drawing d(300, 44, "Scale of the confusion matrices",
            "Shade of a cell by its share of its row: 0, 1, 5, 10, 25, 50, 100 percent.");
  const double shares[] = {0, 0.01, 0.05, 0.10, 0.25, 0.50, 1.0};
  d.text(2, 12, "Share of the row's true class, %", "s", "start", 11);
  for (std::size_t i = 0; i < std::size(shares); ++i) {
    const double x = 2 + 42 * static_cast<double>(i), depth = depth_of(shares[i]);
    d.box(x, 18, 41, 22, "c0", {}, std::max(depth, 0.02));
    d.text(x + 20, 33, fmt::format("{:.0f}", 100 * shares[i]), depth > 0.6 ? "w" : "t", "middle", 11);
  }
  return d;
}

}  // namespace examples::svg
