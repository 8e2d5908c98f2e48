// SPDX-License-Identifier: MIT
#include "examples/four_models/output.hpp"

#include <algorithm>
#include <span>

#include <fmt/format.h>

namespace examples {

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

std::string latency_csv(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data) {
  std::string csv = "row,tokens,repetition";
  for (const LoadedModel& m : models) csv += fmt::format(",{}.ms", m.kind->id);
  csv += '\n';
  for (std::size_t row = 0; row < data.items.size(); ++row) {
    if (evaluation.done[row] == 0) continue;
    for (std::size_t time = 0; time < evaluation.repeat; ++time) {
      csv += fmt::format("{},{},{}", data.items[row].row, data.items[row].ids.size(), time);
      for (const Run& run : evaluation.runs) csv += fmt::format(",{:.4f}", run.latency_ms[row * evaluation.repeat + time]);
      csv += '\n';
    }
  }
  return csv;
}

}  // namespace examples
