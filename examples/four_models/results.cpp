// SPDX-License-Identifier: MIT
#include "examples/four_models/results.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "examples/common/model_walk.hpp"
#include "examples/four_models/options.hpp"
#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

std::size_t largest(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

constexpr std::size_t replicates = 2000;  // of the bootstrap: its ends are then good to about a twentieth of the interval

double median_of(std::vector<double> values) { return summary_of(std::move(values)).median; }

MemorySplit split_of(const lowbit::gpt2::Transformer& net, std::size_t resident) {
  MemorySplit s;
  std::size_t weights = 0;
  for (const lowbit::gpt2::Block& b : net.blocks)
    for (const lowbit::Linear* l : {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out}) {
      s.codes += l->element_bytes();
      weights += l->resident_bytes() - l->bias().size_bytes();
    }
  s.scales = weights - s.codes;
  s.embeddings = net.token_embedding.resident_bytes() + net.position_embedding.resident_bytes();
  s.rest = resident - weights - s.embeddings;
  return s;
}

// What the models said about the rows that are done.
struct Said {
  std::vector<std::size_t> labels;
  std::vector<std::vector<std::size_t>> predicted;  // by model and row

  Confusion confusion(std::size_t model, std::size_t classes) const {
    Confusion counts(classes, std::vector<std::size_t>(classes));
    for (std::size_t i = 0; i < labels.size(); ++i) ++counts[labels[i]][predicted[model][i]];
    return counts;
  }
};

// Macro F1, percent, of a sample of rows, without the memory that scores_of() takes.
class SampleF1 {
 public:
  SampleF1(const std::vector<std::size_t>& labels, const std::vector<std::size_t>& predicted, std::size_t classes)
      : labels_(labels), predicted_(predicted), hits_(classes), sums_(classes) {}
  double operator()(std::span<const std::size_t> sample) {
    std::fill(hits_.begin(), hits_.end(), 0.0);
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (const std::size_t i : sample) {
      sums_[labels_[i]] += 1;
      sums_[predicted_[i]] += 1;
      if (labels_[i] == predicted_[i]) hits_[labels_[i]] += 1;
    }
    double f1 = 0;
    for (std::size_t c = 0; c < hits_.size(); ++c) f1 += sums_[c] == 0 ? 0 : 2 * hits_[c] / sums_[c];
    return 100 * f1 / static_cast<double>(hits_.size());
  }

 private:
  const std::vector<std::size_t>&labels_, &predicted_;
  std::vector<double> hits_, sums_;
};

Difference difference_of(const Said& said, std::size_t model, std::size_t base, std::size_t classes, std::uint64_t seed) {
  Difference d;
  const auto &ours = said.predicted[model], &theirs = said.predicted[base], &labels = said.labels;
  std::vector<double> gain(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const bool base_right = theirs[i] == labels[i], this_right = ours[i] == labels[i];
    d.only_baseline += base_right && !this_right;
    d.only_this += this_right && !base_right;
    gain[i] = static_cast<double>(this_right) - static_cast<double>(base_right);
  }
  d.p = mcnemar_p(d.only_baseline, d.only_this);
  if (labels.empty()) return d;
  const double n = static_cast<double>(labels.size());
  d.accuracy = 100 * (static_cast<double>(d.only_this) - static_cast<double>(d.only_baseline)) / n;
  d.accuracy_95 = middle_95(bootstrap(labels.size(), replicates, seed, [&](std::span<const std::size_t> sample) {
    double sum = 0;
    for (const std::size_t i : sample) sum += gain[i];
    return 100 * sum / n;
  }));
  SampleF1 our_f1(labels, ours, classes), their_f1(labels, theirs, classes);
  d.macro_f1 = 100 * (scores_of(said.confusion(model, classes)).f1 - scores_of(said.confusion(base, classes)).f1);
  d.macro_f1_95 = middle_95(bootstrap(labels.size(), replicates, seed,
                                      [&](std::span<const std::size_t> sample) { return our_f1(sample) - their_f1(sample); }));
  return d;
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

const ModelResult* Results::find(std::string_view id) const {
  for (const ModelResult& m : models)
    if (m.kind->id == id) return &m;
  return nullptr;
}
const ModelResult* Results::baseline() const { return find(baseline_id); }

ModelResult describe(const LoadedModel& model) {
  ModelResult r;
  r.kind = model.kind;
  r.identity = model.identity;
  r.folder = model.folder;
  r.memory = model.net.memory();
  r.split = split_of(model.net, r.memory.resident_bytes);
  r.weight_errors = model.weight_errors;
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

RelativeLatency relative_latency(const std::vector<double>& ms, const std::vector<double>& baseline_ms, std::uint64_t seed) {
  RelativeLatency r;
  std::vector<double> ratios(ms.size());
  for (std::size_t i = 0; i < ms.size(); ++i) ratios[i] = ms[i] / baseline_ms[i];
  if (ratios.empty()) return r;
  const Summary s = summary_of(ratios);
  r.median = s.median;
  r.p5 = s.p5;
  r.p95 = s.p95;
  std::vector<double> sampled(ratios.size());
  const auto middle = sampled.begin() + static_cast<std::ptrdiff_t>(sampled.size() / 2);
  r.median_95 = middle_95(bootstrap(ratios.size(), replicates, seed, [&](std::span<const std::size_t> sample) {
    std::transform(sample.begin(), sample.end(), sampled.begin(), [&](std::size_t i) { return ratios[i]; });
    std::nth_element(sampled.begin(), middle, sampled.end());
    return *middle;
  }));
  const auto half = ratios.begin() + static_cast<std::ptrdiff_t>((ratios.size() + 1) / 2);
  r.first_half = median_of({ratios.begin(), half});
  r.second_half = half == ratios.end() ? r.first_half : median_of({half, ratios.end()});
  return r;
}

std::vector<ModelResult> summarize(const std::vector<LoadedModel>& models, const Evaluation& evaluation, const Dataset& data,
                                   std::uint64_t seed) {
  const std::size_t classes = data.class_names.size();
  Said said;
  said.predicted.resize(models.size());
  std::vector<std::vector<double>> ms(models.size());  // of the rows done
  for (std::size_t row = 0; row < data.items.size(); ++row) {
    if (evaluation.done[row] == 0) continue;
    said.labels.push_back(data.items[row].label);
    for (std::size_t m = 0; m < models.size(); ++m) {
      const Run& run = evaluation.runs[m];
      said.predicted[m].push_back(largest(std::span(run.logits).subspan(row * classes, classes)));
      const auto times = run.latency_ms.begin() + static_cast<std::ptrdiff_t>(row * evaluation.repeat);
      ms[m].push_back(median_of({times, times + static_cast<std::ptrdiff_t>(evaluation.repeat)}));
    }
  }

  std::vector<ModelResult> results;
  const auto baseline = std::find_if(models.begin(), models.end(), [](const LoadedModel& m) { return m.kind->id == baseline_id; });
  for (std::size_t m = 0; m < models.size(); ++m) {
    ModelResult r = describe(models[m]);
    const Run& run = evaluation.runs[m];
    r.latency = summary_of(ms[m]);
    // The median, as one part that something else disturbed must not decide.
    if (!run.batched_seconds_per_token.empty())
      r.batched_per_second = 1 / (median_of(run.batched_seconds_per_token) * data.mean_tokens());
    for (std::size_t o = 0; o < run.operator_ms.size(); ++o) r.operators.push_back({operator_names[o], run.operator_ms[o]});
    r.repeats = run.repeats;
    r.confusion = said.confusion(m, classes);
    r.scores = scores_of(r.confusion);
    if (!said.labels.empty())
      r.macro_f1_95 = middle_95(bootstrap(said.labels.size(), replicates, seed, SampleF1(said.labels, said.predicted[m], classes)));
    if (baseline != models.end() && r.kind->id != baseline_id && !said.labels.empty()) {
      const auto base = static_cast<std::size_t>(baseline - models.begin());
      r.relative = relative_latency(ms[m], ms[base], seed);
      r.difference = difference_of(said, m, base, classes, seed);
    }
    results.push_back(std::move(r));
  }
  return results;
}

}  // namespace examples
