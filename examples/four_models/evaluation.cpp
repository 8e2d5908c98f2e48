// SPDX-License-Identifier: MIT
#include "examples/four_models/evaluation.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include <fmt/format.h>

#include "examples/common/interrupt.hpp"
#include "lowbit/format/finite.hpp"
#include "examples/common/progress.hpp"

namespace examples {

namespace {

double seconds_of(const auto& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

using Ids = std::span<const std::int32_t>;

// The parameters are finite, so it is the computation that left the range of floats.
void require_finite_logits(const LoadedModel& model, std::size_t row, std::span<const float> logits) {
  const std::size_t c = lowbit::first_non_finite(logits.data(), logits.size());
  if (c == logits.size()) return;
  lowbit::raise<lowbit::Error>(
      fmt::format("{}: {}: row {}: expected finite logits, found {} for class {}, though every parameter is finite",
                  model.folder.empty() ? "synthetic weights" : model.folder, model.kind->id, row, logits[c], c));
}

// Calls result(model, row, milliseconds, logits) model after model within a row; row_done(row) after the last model.
// ids_of(row) for rows 0 ... rows - 1.
void time_rows(std::span<const LoadedModel> models, std::size_t rows, const auto& ids_of, lowbit::Executor& executor,
               const auto& result, const auto& row_done) {
  Progress progress("latency, rows", rows);
  const std::size_t warm_up = std::min<std::size_t>(rows, 3);
  for (std::size_t r = 0; r < warm_up; ++r)
    for (const LoadedModel& model : models)
      if (!interrupted()) model.net.classify(ids_of(r), executor);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t m = 0; m < models.size(); ++m) {
      if (interrupted()) return;
      std::vector<float> logits;
      const double seconds = seconds_of([&] { logits = models[m].net.classify(ids_of(r), executor); });
      result(m, r, 1000 * seconds, logits);
    }
    row_done(r);
    progress.step();
  }
}

// Logits of rows [begin, end), groups of them spread over the threads; false if interrupted.
bool classify_rows(const LoadedModel& model, std::span<const Item> items, std::size_t group_rows, lowbit::Executor& executor,
                   std::span<float> logits) {
  const std::size_t classes = model.net.config.classes, groups = lowbit::ceil_div(items.size(), group_rows);
  executor.run(groups, [&](std::size_t g) {
    if (interrupted()) return;
    const std::size_t begin = g * group_rows, end = std::min(items.size(), begin + group_rows);
    std::vector<std::int32_t> ids;
    std::vector<std::size_t> offsets = {0};
    for (std::size_t r = begin; r < end; ++r) {
      ids.insert(ids.end(), items[r].ids.begin(), items[r].ids.end());
      offsets.push_back(ids.size());
    }
    lowbit::SerialExecutor serial;
    model.net.classify(ids, offsets, logits.subspan(begin * classes, (end - begin) * classes), serial);
  });
  return !interrupted();
}

bool same_bits(std::span<const float> a, std::span<const float> b) { return std::memcmp(a.data(), b.data(), a.size_bytes()) == 0; }

}  // namespace

std::size_t Evaluation::rows_done() const { return static_cast<std::size_t>(std::count(done.begin(), done.end(), 1)); }

Evaluation evaluate(std::span<const LoadedModel> models, const Dataset& data, std::size_t latency_rows, std::size_t group_rows,
                    lowbit::Executor& executor) {
  const std::size_t rows = data.items.size(), classes = data.class_names.size();
  Evaluation e;
  e.runs.resize(models.size());
  e.done.assign(rows, 0);
  for (Run& run : e.runs) run.logits.resize(rows * classes);

  const std::size_t samples = std::min(rows, latency_rows);
  const auto row_of = [&](std::size_t sample) { return sample * rows / samples; };
  time_rows(
      models, samples, [&](std::size_t s) { return Ids(data.items[row_of(s)].ids); }, executor,
      [&](std::size_t m, std::size_t s, double ms, const std::vector<float>& logits) {
        require_finite_logits(models[m], data.items[row_of(s)].row, logits);
        e.runs[m].latency_ms.push_back(ms);
        std::copy(logits.begin(), logits.end(), e.runs[m].logits.begin() + static_cast<std::ptrdiff_t>(row_of(s) * classes));
      },
      [&](std::size_t s) { e.done[row_of(s)] = 1; });

  // A few groups per thread even out their lengths, and are few enough that an interrupt loses little.
  const std::size_t threads = executor.concurrency(), chunk = threads * 4 * group_rows;
  const auto keeps_busy = [&](std::size_t n) { return lowbit::ceil_div(n, group_rows) >= 2 * threads; };
  if (keeps_busy(std::min(chunk, rows))) {
    // The first call of a thread makes its buffers.
    const auto first = std::span(data.items).first(std::min(rows, threads * group_rows));
    std::vector<float> unused(first.size() * classes);
    for (const LoadedModel& model : models) classify_rows(model, first, group_rows, executor, unused);
  }
  Progress progress("accuracy, rows", rows);
  for (std::size_t begin = 0; begin < rows && !interrupted(); begin += chunk) {
    const auto items = std::span(data.items).subspan(begin, std::min(chunk, rows - begin));
    std::size_t tokens = 0;
    for (const Item& item : items) tokens += item.ids.size();
    std::vector<std::vector<float>> logits(models.size(), std::vector<float>(items.size() * classes));
    for (std::size_t m = 0; m < models.size(); ++m) {
      bool whole = false;
      const double seconds = seconds_of([&] { whole = classify_rows(models[m], items, group_rows, executor, logits[m]); });
      if (!whole) return e;  // rows that only some models have seen cannot be compared
      for (std::size_t r = 0; r < items.size(); ++r)
        require_finite_logits(models[m], items[r].row, std::span(logits[m]).subspan(r * classes, classes));
      if (keeps_busy(items.size())) e.runs[m].batched_seconds_per_token.push_back(seconds / static_cast<double>(tokens));
    }
    for (std::size_t m = 0; m < models.size(); ++m) {
      Run& run = e.runs[m];
      for (std::size_t r = 0; r < items.size(); ++r) {
        const auto fresh = std::span(logits[m]).subspan(r * classes, classes),
                   old = std::span(run.logits).subspan((begin + r) * classes, classes);
        if (e.done[begin + r] != 0 && !same_bits(fresh, old)) run.repeats = false;
        std::copy(fresh.begin(), fresh.end(), old.begin());
      }
    }
    std::fill_n(e.done.begin() + static_cast<std::ptrdiff_t>(begin), items.size(), std::uint8_t{1});
    progress.step(items.size());
  }
  return e;
}

std::vector<std::vector<double>> measure_latency(std::span<const LoadedModel> models,
                                                 const std::vector<std::vector<std::int32_t>>& rows, lowbit::Executor& executor) {
  std::vector<std::vector<double>> ms(models.size());
  std::size_t whole = 0;
  time_rows(
      models, rows.size(), [&](std::size_t r) { return Ids(rows[r]); }, executor,
      [&](std::size_t m, std::size_t r, double t, const std::vector<float>& logits) {
        require_finite_logits(models[m], r, logits);
        ms[m].push_back(t);
      },
      [&](std::size_t r) { whole = r + 1; });
  for (auto& times : ms) times.resize(whole);
  return ms;
}

}  // namespace examples
