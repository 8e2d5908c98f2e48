// SPDX-License-Identifier: MIT
#include "examples/four_models/svg.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "examples/common/text.hpp"

namespace examples::svg {

namespace {

constexpr std::array<const char*, 4> fills = {"#33658a", "#c9b28f", "#758e4f", "#8e4162"};
constexpr const char* ink = "#222222";

// anchor: start, middle or end.
std::string text(double x, double y, std::string_view words, const char* anchor = "middle", int size = 13, const char* fill = ink,
                 const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\" fill=\"{}\"{}>{}</text>\n", x, y, anchor,
                     size, fill, more, xml_escaped(words));
}
// A name in at most `lines` lines of at most `width`, the last one at y, or the first one if it hangs from there.  What does not
// fit is cut, and hovering shows the whole.
struct Fit {
  double width;
  std::size_t lines;
  const char* anchor = "middle";
  bool hangs = false;
  int size = 12;
};
std::string label(double x, double y, std::string_view name, const Fit& fit) {
  const double character = 0.56 * fit.size, height = 1.1 * fit.size;  // of Helvetica, on the wide side
  const auto columns = std::max<std::size_t>(4, static_cast<std::size_t>(fit.width / character));
  std::vector<std::string> parts = wrapped(printable(std::string(name)), columns);
  if (parts.size() > fit.lines) {
    parts.resize(fit.lines);
    std::string& last = parts.back();
    last = last.substr(0, prefix_bytes(last, columns - 1)) + "\xE2\x80\xA6";  // an ellipsis
  }
  if (!fit.hangs) y -= height * static_cast<double>(parts.size() - 1);
  std::string out = "<g><title>" + xml_escaped(name) + "</title>\n";
  for (std::size_t i = 0; i < parts.size(); ++i)
    out += text(x, y + height * static_cast<double>(i), parts[i], fit.anchor, fit.size);
  return out + "</g>\n";
}
std::string box(double x, double y, double width, double height, const std::string& fill) {
  return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y, width, height,
                     fill);
}
std::string line(double x1, double y1, double x2, double y2, const char* stroke = ink) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2, stroke);
}
std::string document(double width, double height, const std::string& body) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
             "font-family=\"Helvetica, Arial, sans-serif\">\n",
             width, height) +
         box(0, 0, width, height, "#ffffff") + body + "</svg>\n";
}

// 1, 2 or 5 times a power of ten, so that about five steps make `range`.
double tick_step(double range) {
  const double raw = range / 5, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

constexpr double chart_left = 76, chart_top = 64, plot_height = 240, chart_height = 360;

double chart_width(const BarChart& chart) {
  const double group = std::max(110.0, 64.0 * static_cast<double>(chart.series.size()) + 24);
  return chart_left + group * static_cast<double>(chart.groups.size()) + 24;
}

std::string drawn(const BarChart& chart, double top, double width) {
  double highest = chart.to;
  if (highest == 0)
    for (const Series& s : chart.series)
      for (const Bar& b : s.bars) highest = std::max({highest, b.value, b.high});
  if (!(highest > chart.from)) highest = chart.from + 1;
  const double step = tick_step(highest - chart.from), end = chart.to != 0 ? chart.to : std::ceil(highest / step) * step;
  const double base = top + chart_top + plot_height, right = width - 24;
  const auto y_of = [&](double value) {
    return base - plot_height * (std::clamp(value, chart.from, end) - chart.from) / (end - chart.from);
  };

  std::string out = text(width / 2, top + 24, chart.title, "middle", 17);
  out += text(18, top + chart_top + plot_height / 2, chart.unit, "middle", 13, ink,
              fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", top + chart_top + plot_height / 2).c_str());
  const int digits = step < 1 ? static_cast<int>(std::ceil(-std::log10(step))) : 0;
  for (int i = 0; chart.from + i * step <= end + step / 1000; ++i) {
    const double value = chart.from + i * step;
    out += line(chart_left, y_of(value), right, y_of(value), i == 0 ? ink : "#dddddd");
    out += text(chart_left - 8, y_of(value) + 4, fmt::format("{:.{}f}", value, digits), "end", 12);
  }
  const double group = (right - chart_left) / static_cast<double>(chart.groups.size());
  const double bar = std::min(56.0, (group - 20) / static_cast<double>(chart.series.size()));
  for (std::size_t g = 0; g < chart.groups.size(); ++g) {
    const double middle = chart_left + group * (static_cast<double>(g) + 0.5);
    out += label(middle, base + 18, chart.groups[g], {.width = group - 8, .lines = 3, .hangs = true});
    double x = middle - bar * static_cast<double>(chart.series.size()) / 2;
    for (std::size_t s = 0; s < chart.series.size(); ++s, x += bar) {
      const Bar& b = chart.series[s].bars[g];
      if (b.label.empty()) continue;
      double mark = y_of(b.value);
      out += box(x + 2, mark, bar - 4, base - mark, fills[s % fills.size()]);
      if (b.high > b.low) {
        const double centre = x + bar / 2;
        out += line(centre, y_of(b.low), centre, y_of(b.high));
        for (const double v : {b.low, b.high}) out += line(centre - 5, y_of(v), centre + 5, y_of(v));
        mark = std::min(mark, y_of(b.high));
      }
      out += text(x + bar / 2, mark - 5, b.label, "middle", 12);
    }
  }
  double x = chart_left;
  for (std::size_t s = 0; s < chart.series.size() && !chart.series[s].name.empty(); ++s) {
    out += box(x, top + 36, 12, 12, fills[s % fills.size()]) + text(x + 17, top + 46, chart.series[s].name, "start");
    x += 40 + 7.5 * static_cast<double>(chart.series[s].name.size());
  }
  return out;
}

constexpr double cell_width = 84, cell_height = 46, map_left = 124, map_top = 92, map_gap = 28;

std::string drawn(const HeatMap& map, double left, double top) {
  const double n = static_cast<double>(map.classes.size());
  std::string out = label(left + map_left + cell_width * n / 2, top + 30, map.title,
                          {.width = map_left + cell_width * n, .lines = 2, .size = width_of(map.title) > 24 ? 13 : 17});
  out += text(left + map_left + cell_width * n / 2, top + 52, "predicted", "middle", 13);
  const double middle = top + map_top + cell_height * n / 2;
  out += text(left + 14, middle, "true", "middle", 13, ink,
              fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", left + 14, middle).c_str());
  for (std::size_t t = 0; t < map.classes.size(); ++t) {
    std::size_t sum = 0;
    for (const std::size_t count : map.counts[t]) sum += count;
    const double y = top + map_top + cell_height * static_cast<double>(t);
    out += label(left + map_left + cell_width * (static_cast<double>(t) + 0.5), top + map_top - 8, map.classes[t],
                 {.width = cell_width - 6, .lines = 2});
    out += label(left + map_left - 8, y + cell_height / 2 - 2, map.classes[t],
                 {.width = map_left - 36, .lines = 2, .anchor = "end", .hangs = true});
    for (std::size_t p = 0; p < map.classes.size(); ++p) {
      const double share = sum == 0 ? 0 : static_cast<double>(map.counts[t][p]) / static_cast<double>(sum);
      const double x = left + map_left + cell_width * static_cast<double>(p);
      // From white to the first bar's blue; a square root lets the few errors show.
      const double depth = std::sqrt(share);
      const auto channel = [&](int full) { return static_cast<int>(std::lround(255 + (full - 255) * depth)); };
      out += box(x + 1, y + 1, cell_width - 2, cell_height - 2,
                 fmt::format("#{:02x}{:02x}{:02x}", channel(0x33), channel(0x65), channel(0x8a)));
      out += text(x + cell_width / 2, y + cell_height / 2 + 5, std::to_string(map.counts[t][p]), "middle", 14,
                  depth > 0.6 ? "#ffffff" : ink);
    }
  }
  return out;
}

}  // namespace

std::string picture(const std::vector<BarChart>& charts) {
  double width = 0;
  for (const BarChart& chart : charts) width = std::max(width, chart_width(chart));
  std::string body;
  for (std::size_t i = 0; i < charts.size(); ++i) body += drawn(charts[i], chart_height * static_cast<double>(i), width);
  return document(width, chart_height * static_cast<double>(charts.size()), body);
}

std::string picture(const std::vector<HeatMap>& maps) {
  if (maps.empty()) return document(1, 1, "");
  const double n = static_cast<double>(maps[0].classes.size());
  const double width = map_left + cell_width * n + map_gap, height = map_top + cell_height * n + map_gap;
  std::string body;
  for (std::size_t i = 0; i < maps.size(); ++i)
    body += drawn(maps[i], width * static_cast<double>(i % 2), height * static_cast<double>(i / 2));
  return document(width * static_cast<double>(std::min<std::size_t>(2, maps.size())),
                  height * static_cast<double>((maps.size() + 1) / 2), body);
}

}  // namespace examples::svg
