// SPDX-License-Identifier: MIT
// The command inspect: what a checkpoint holds, weight by weight.
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/common/interrupt.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/table.hpp"
#include "examples/quantize/commands.hpp"
#include "examples/quantize/decoded.hpp"
#include "lowbit/io/residency.hpp"
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
  const ModelFolder model = ModelFolder::open(o.in);
  std::optional<ModelFolder> before;
  std::map<std::string, io::StoredWeight> exact;
  if (!o.against.empty()) {
    before.emplace(ModelFolder::open(o.against));
    for (io::StoredWeight& w : io::stored_weights(before->files)) {
      std::string name = w.name;
      exact.emplace(std::move(name), std::move(w));
    }
  }
  const std::vector<io::StoredWeight> weights = io::stored_weights(model.files);
  examples::Table table;
  table.title = model.files.location();
  table.head = {"weight", "shape", "format", "block", "bytes", "bits per weight", "largest", "rms"};
  table.left_columns = 4;
  if (before) table.head.insert(table.head.end(), {"largest error", "rms error", "SNR, dB"});
  io::Json json = {{"file", model.files.location()}, {"weights", io::Json::array()}};
  std::size_t elements = 0, bytes = 0;
  {
    examples::Progress progress("reading", weights.size());
    for (const io::StoredWeight& w : weights) {
      if (examples::interrupted()) throw Interrupted{};
      const Description d = describe(model, w);
      elements += d.elements;
      bytes += d.bytes;
      const double bits = d.elements == 0 ? 0 : 8 * static_cast<double>(d.bytes) / static_cast<double>(d.elements);
      std::vector<std::string> row{w.name,  io::shape_string(d.shape), d.format,
                                   d.block, std::to_string(d.bytes),   fmt::format("{:.3f}", bits)};
      io::Json entry = {{"name", w.name},   {"shape", d.shape}, {"format", d.format},
                        {"block", d.block}, {"bytes", d.bytes}, {"bits_per_weight", bits}};
      const std::optional<Decoded> values = decode(model, w);
      if (values) {
        const Spread s = spread_of(*values);
        row.insert(row.end(), {fmt::format("{:.4g}", s.largest), fmt::format("{:.4g}", s.rms)});
        entry["largest"] = s.largest;
        entry["rms"] = s.rms;
      }
      const auto found = exact.find(w.name);
      if (values && found != exact.end()) {
        const std::optional<Decoded> other = decode(*before, found->second);
        if (!other || other->shape != values->shape)
          lowbit::raise<lowbit::FormatError>(before->files.at(w.name).where() + ": expected shape " +
                                             io::shape_string(values->shape) +
                                             (other ? ", found " + io::shape_string(other->shape) : ", found no floats"));
        const auto e = lowbit::error_statistics(other->values.data(), values->values.data(), values->values.size());
        row.insert(row.end(), {fmt::format("{:.4g}", e.max), fmt::format("{:.4g}", e.rms), fmt::format("{:.2f}", e.snr_db)});
        entry["largest_error"] = e.max;
        entry["rms_error"] = e.rms;
        if (std::isfinite(e.snr_db)) entry["snr_db"] = e.snr_db;  // JSON has no infinity: left out where nothing was lost
      }
      row.resize(table.head.size());
      table.rows.push_back(std::move(row));
      json["weights"].push_back(std::move(entry));
      for (const std::string& part : w.parts) io::release_pages(model.files.at(part).data);
      progress.step();
    }
  }
  json["elements"] = elements;
  json["bytes"] = bytes;
  table.note = fmt::format("{} weights, {} elements, {}", weights.size(), elements, size_text(static_cast<double>(bytes)));
  say(o.json ? json.dump(2) + "\n" : examples::as_text(table));
  return 0;
}

}  // namespace quantize
