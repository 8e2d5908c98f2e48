// SPDX-License-Identifier: MIT
// The command inspect: what a checkpoint holds, weight by weight.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "examples/common/interrupt.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/table.hpp"
#include "examples/quantize/commands.hpp"
#include "examples/quantize/weights.hpp"
#include "lowbit/tensor/error_statistics.hpp"

namespace quantize {

namespace {

namespace io = lowbit::io;

struct Spread {
  double largest = 0, rms = 0;
};
Spread spread_of(const Decoded& d) {
  Spread s;
  for (const float v : d.values) {
    s.largest = std::max(s.largest, std::fabs(static_cast<double>(v)));
    s.rms += static_cast<double>(v) * static_cast<double>(v);
  }
  s.rms = d.values.size() == 0 ? 0 : std::sqrt(s.rms / static_cast<double>(d.values.size()));
  return s;
}

}  // namespace

int inspect(const Options& o) {
  // Beside a GGUF file a folder goes by that file's names.
  const bool as_gguf = !o.against.empty() && (is_gguf(o.in) || is_gguf(o.against));
  const std::unique_ptr<Weights> weights = open_weights(o.in, as_gguf),
                                 before = o.against.empty() ? nullptr : open_weights(o.against, as_gguf);
  const std::vector<std::string> names = weights->names();
  examples::Table table;
  table.title = weights->location();
  table.head = {"weight", "shape", "format", "block", "bytes", "bits per weight", "largest", "rms"};
  table.left_columns = 4;
  if (before) table.head.insert(table.head.end(), {"largest error", "rms error", "SNR, dB"});
  io::Json json = {{"file", weights->location()}, {"weights", io::Json::array()}};
  std::size_t elements = 0, bytes = 0;
  {
    examples::Progress progress("reading", names.size());
    for (const std::string& name : names) {
      if (examples::interrupted()) throw Interrupted{};
      const Description d = weights->describe(name);
      elements += d.elements;
      bytes += d.bytes;
      const double bits = d.elements == 0 ? 0 : 8 * static_cast<double>(d.bytes) / static_cast<double>(d.elements);
      std::vector<std::string> row{name,    io::shape_string(d.shape), d.format,
                                   d.block, std::to_string(d.bytes),   fmt::format("{:.3f}", bits)};
      io::Json entry = {{"name", name},     {"shape", d.shape}, {"format", d.format},
                        {"block", d.block}, {"bytes", d.bytes}, {"bits_per_weight", bits}};
      if (d.decodes) {
        const Decoded values = weights->decode(name);
        const Spread s = spread_of(values);
        row.insert(row.end(), {fmt::format("{:.4g}", s.largest), fmt::format("{:.4g}", s.rms)});
        entry["largest"] = s.largest;
        entry["rms"] = s.rms;
        if (before && before->contains(name)) {
          const Decoded exact = before->decode(name);
          if (exact.shape != values.shape)
            lowbit::raise<lowbit::FormatError>(before->location() + ": tensor " + io::in_quotes(name) + ": expected shape " +
                                               io::shape_string(values.shape) + ", found " + io::shape_string(exact.shape));
          const auto e = lowbit::error_statistics(exact.values.data(), values.values.data(), values.values.size());
          row.insert(row.end(), {fmt::format("{:.4g}", e.max), fmt::format("{:.4g}", e.rms), fmt::format("{:.2f}", e.snr_db)});
          entry["largest_error"] = e.max;
          entry["rms_error"] = e.rms;
          if (std::isfinite(e.snr_db)) entry["snr_db"] = e.snr_db;  // JSON has no infinity: left out where nothing was lost
          before->release(name);
        }
      }
      row.resize(table.head.size());
      table.rows.push_back(std::move(row));
      json["weights"].push_back(std::move(entry));
      weights->release(name);
      progress.step();
    }
  }
  json["elements"] = elements;
  json["bytes"] = bytes;
  table.note = fmt::format("{} weights, {} elements, {}", names.size(), elements, size_text(static_cast<double>(bytes)));
  say(o.json ? json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n" : examples::as_text(table));
  return 0;
}

}  // namespace quantize
