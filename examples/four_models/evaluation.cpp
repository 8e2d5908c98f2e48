// SPDX-License-Identifier: MIT
#include "examples/four_models/evaluation.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include <fmt/format.h>

#include "examples/common/interrupt.hpp"
#include "examples/common/metrics.hpp"
#include "examples/common/model_walk.hpp"
#include "examples/common/progress.hpp"
#include "lowbit/format/finite.hpp"

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

// Calls result(model, row, time, milliseconds, logits), model after model within a row, `repeat` times; row_done(row) after the
// last.  Another model begins each time, so that none always runs behind the same one.  ids_of(row) for rows 0 ... rows - 1.
void time_rows(std::span<const LoadedModel> models, std::size_t rows, std::size_t repeat, const auto& ids_of,
               lowbit::Executor& executor, const auto& result, const auto& row_done) {
  Progress progress("one row at a time, rows", rows);
  for (std::size_t r = 0; r < std::min(rows, warm_up_rows); ++r)
    for (const LoadedModel& model : models)
      if (!interrupted()) model.net.classify(ids_of(r), executor);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t time = 0; time < repeat; ++time)
      for (std::size_t turn = 0; turn < models.size(); ++turn) {
        if (interrupted()) return;
        const std::size_t m = (r + time + turn) % models.size();
        std::vector<float> logits;
        const double seconds = seconds_of([&] { logits = models[m].net.classify(ids_of(r), executor); });
        result(m, r, time, 1000 * seconds, logits);
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

// At most `count` rows of all, evenly.
std::vector<std::size_t> evenly(std::size_t rows, std::size_t count) {
  std::vector<std::size_t> result(std::min(rows, count));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = i * rows / result.size();
  return result;
}

// The throughput of rows in groups, and whether they give the bits that they gave one by one.
void run_batched(std::span<const LoadedModel> models, const Dataset& data, std::size_t group_rows, lowbit::Executor& executor,
                 Evaluation& e) {
  const std::size_t classes = data.class_names.size(), threads = executor.concurrency();
  // A few groups per thread even out their lengths, and are few enough that an interrupt loses little.
  const std::size_t chunk = threads * 4 * group_rows;
  const auto keeps_busy = [&](std::size_t n) { return lowbit::ceil_div(n, group_rows) >= 2 * threads; };
  std::vector<Item> items;
  const std::vector<std::size_t> rows = evenly(data.items.size(), std::max<std::size_t>(400, 8 * chunk));
  for (const std::size_t row : rows) items.push_back(data.items[row]);
  if (keeps_busy(std::min(chunk, items.size()))) {
    // The first call of a thread makes its buffers.
    const auto first = std::span<const Item>(items).first(std::min(items.size(), threads * group_rows));
    std::vector<float> unused(first.size() * classes);
    for (const LoadedModel& model : models) classify_rows(model, first, group_rows, executor, unused);
  }
  Progress progress("in groups, rows", items.size());
  for (std::size_t begin = 0; begin < items.size(); begin += chunk) {
    const auto part = std::span<const Item>(items).subspan(begin, std::min(chunk, items.size() - begin));
    std::size_t tokens = 0;
    for (const Item& item : part) tokens += item.ids.size();
    std::vector<float> logits(part.size() * classes);
    for (std::size_t m = 0; m < models.size(); ++m) {
      Run& run = e.runs[m];
      bool whole = false;
      const double seconds = seconds_of([&] { whole = classify_rows(models[m], part, group_rows, executor, logits); });
      if (!whole) return;
      for (std::size_t r = 0; r < part.size(); ++r) {
        const auto fresh = std::span<const float>(logits).subspan(r * classes, classes);
        require_finite_logits(models[m], part[r].row, fresh);
        run.repeats =
            run.repeats && same_bits(fresh, std::span<const float>(run.logits).subspan(rows[begin + r] * classes, classes));
      }
      if (keeps_busy(part.size())) run.batched_seconds_per_token.push_back(seconds / static_cast<double>(tokens));
    }
    progress.step(part.size());
  }
}

// Where the time of one row goes.
void run_operators(std::span<const LoadedModel> models, const Dataset& data, lowbit::Executor& executor, Evaluation& e) {
  const std::vector<std::size_t> rows = evenly(data.items.size(), 40);
  Progress progress("operator by operator, rows", rows.size());
  std::vector<std::vector<std::vector<double>>> ms(models.size(), std::vector<std::vector<double>>(operator_names.size()));
  for (const std::size_t row : rows) {
    const Ids ids = data.items[row].ids;
    for (std::size_t m = 0; m < models.size(); ++m) {
      if (interrupted()) return;
      ModelWalk walk(models[m].net, ids.size(), executor);
      walk.run(ids, false);  // its buffers are new
      const OperatorTimes times = walk.run(ids, false);
      for (std::size_t o = 0; o < times.size(); ++o) ms[m][o].push_back(1000 * times[o]);
    }
    progress.step();
  }
  e.operator_rows = rows.size();
  for (std::size_t m = 0; m < models.size(); ++m)
    for (auto& times : ms[m]) e.runs[m].operator_ms.push_back(summary_of(std::move(times)).median);
}

}  // namespace

std::size_t Evaluation::rows_done() const { return static_cast<std::size_t>(std::count(done.begin(), done.end(), 1)); }

Evaluation evaluate(std::span<const LoadedModel> models, const Dataset& data, std::size_t repeat, std::size_t group_rows,
                    lowbit::Executor& executor) {
  const std::size_t rows = data.items.size(), classes = data.class_names.size();
  Evaluation e;
  e.repeat = repeat;
  e.runs.resize(models.size());
  e.done.assign(rows, 0);
  for (Run& run : e.runs) {
    run.logits.resize(rows * classes);
    run.latency_ms.resize(rows * repeat);
  }
  time_rows(
      models, rows, repeat, [&](std::size_t r) { return Ids(data.items[r].ids); }, executor,
      [&](std::size_t m, std::size_t r, std::size_t time, double ms, const std::vector<float>& fresh) {
        require_finite_logits(models[m], data.items[r].row, fresh);
        Run& run = e.runs[m];
        run.latency_ms[r * repeat + time] = ms;
        const auto logits = std::span(run.logits).subspan(r * classes, classes);
        run.repeats = run.repeats && (time == 0 || same_bits(fresh, logits));
        std::copy(fresh.begin(), fresh.end(), logits.begin());
      },
      [&](std::size_t r) { e.done[r] = 1; });
  if (!interrupted()) run_batched(models, data, group_rows, executor, e);
  if (!interrupted()) run_operators(models, data, executor, e);
  return e;
}

std::vector<std::vector<double>> measure_latency(std::span<const LoadedModel> models,
                                                 const std::vector<std::vector<std::int32_t>>& rows, lowbit::Executor& executor) {
  std::vector<std::vector<double>> ms(models.size(), std::vector<double>(rows.size()));
  std::size_t whole = 0;
  time_rows(
      models, rows.size(), 1, [&](std::size_t r) { return Ids(rows[r]); }, executor,
      [&](std::size_t m, std::size_t r, std::size_t, double t, const std::vector<float>& logits) {
        require_finite_logits(models[m], r, logits);
        ms[m][r] = t;
      },
      [&](std::size_t r) { whole = r + 1; });
  for (auto& times : ms) times.resize(whole);
  return ms;
}

}  // namespace examples
