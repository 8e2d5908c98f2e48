// SPDX-License-Identifier: MIT
#include "examples/four_models/results.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "lowbit/lowbit.hpp"
#include "examples/four_models/options.hpp"

namespace examples {

namespace {

std::size_t largest(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

bool Results::paper_shape() const {
  // 124,442,880 parameters, of which 84,934,656 in the linear layers: no other GPT-2 of four classes has both.
  return !models.empty() && std::all_of(models.begin(), models.end(), [](const ModelResult& m) {
    return m.memory.parameters == 124442880 && m.memory.linear_parameters == 84934656;
  });
}

bool Results::paper_rows() const {
  // AG News' test set, as far as numbers tell: 1,900 rows of each of its classes.
  if (models.empty() || rows_done != 7600 || max_tokens != usual_max_tokens) return false;
  const Confusion& counts = models[0].confusion;
  return std::equal(class_names.begin(), class_names.end(), paper::class_names.begin(), paper::class_names.end()) &&
         std::all_of(counts.begin(), counts.end(),
                     [](const auto& row) { return std::accumulate(row.begin(), row.end(), 0u) == 1900; });
}

ModelResult describe(const LoadedModel& model) {
  ModelResult r;
  r.kind = model.kind;
  r.identity = model.identity;
  r.folder = model.folder;
  r.memory = model.net.memory();
  r.process_growth = model.process_growth;
  r.load_seconds = model.load_seconds;
  for (const lowbit::MatmulPlan& plan : model.net.plans()) {
    const std::string text = to_string(plan);
    const auto known = std::find_if(r.plans.begin(), r.plans.end(), [&](const auto& p) { return p.first == text; });
    if (known == r.plans.end())
      r.plans.emplace_back(text, 1);
    else
      ++known->second;
  }
  return r;
}

std::vector<ModelResult> summarize(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data) {
  const std::size_t classes = data.class_names.size();
  std::vector<std::vector<std::size_t>> predicted(models.size());  // of the rows done
  std::vector<std::size_t> labels;
  for (std::size_t row = 0; row < data.items.size(); ++row) {
    if (evaluation.done[row] == 0) continue;
    labels.push_back(data.items[row].label);
    for (std::size_t m = 0; m < models.size(); ++m)
      predicted[m].push_back(largest(std::span(evaluation.runs[m].logits).subspan(row * classes, classes)));
  }

  std::vector<ModelResult> results;
  const auto baseline = std::find_if(models.begin(), models.end(), [](const LoadedModel& m) { return m.kind->id == baseline_id; });
  for (std::size_t m = 0; m < models.size(); ++m) {
    ModelResult r = describe(models[m]);
    const Run& run = evaluation.runs[m];
    r.latency = summary_of(run.latency_ms);
    // The median, as one part that something else disturbed must not decide.
    if (!run.batched_seconds_per_token.empty())
      r.batched_per_second = 1 / (summary_of(run.batched_seconds_per_token).median * data.mean_tokens());
    r.repeats = run.repeats;
    r.confusion.assign(classes, std::vector<std::size_t>(classes));
    for (std::size_t i = 0; i < labels.size(); ++i) ++r.confusion[labels[i]][predicted[m][i]];
    r.scores = scores_of(r.confusion);
    if (baseline != models.end() && r.kind->id != baseline_id) {
      const auto& base = predicted[static_cast<std::size_t>(baseline - models.begin())];
      McNemar test;
      for (std::size_t i = 0; i < labels.size(); ++i) {
        const bool base_right = base[i] == labels[i], this_right = predicted[m][i] == labels[i];
        test.only_baseline += base_right && !this_right;
        test.only_this += this_right && !base_right;
      }
      test.p = mcnemar_p(test.only_baseline, test.only_this);
      r.mcnemar = test;
    }
    results.push_back(std::move(r));
  }
  return results;
}

}  // namespace examples
