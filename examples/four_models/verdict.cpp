// SPDX-License-Identifier: MIT
#include "examples/four_models/verdict.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace examples {

namespace {

double percent(const ModelResult& m) { return 100 * m.scores.accuracy; }
std::string p_value(double p) { return p < 0.001 ? "p < 0.001" : fmt::format("p = {:.2g}", p); }

// How many models are compared with the baseline.
std::size_t comparisons(const Results& r) {
  return static_cast<std::size_t>(
      std::count_if(r.models.begin(), r.models.end(), [](const ModelResult& m) { return m.difference.has_value(); }));
}
Finding finding_of(const Difference& d, std::size_t among) {
  if (d.p >= 0.05) return Finding::noise;
  return d.p * static_cast<double>(among) < 0.05 ? Finding::real : Finding::doubtful;
}
bool really_worse(const ModelResult& m) { return m.difference && m.difference->p < 0.05 && m.difference->accuracy < 0; }
bool is_faster(const ModelResult& m) { return m.relative && m.relative->median < 1 && !m.relative->median_95.holds(1); }
bool is_slower(const ModelResult& m) { return m.relative && m.relative->median > 1 && !m.relative->median_95.holds(1); }
double time_of(const ModelResult& m) { return m.relative ? m.relative->median : 1; }

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}
std::string with_sign(double points, const Interval& i) {
  return fmt::format("{:+.2f} points (95 % interval {:+.2f} to {:+.2f})", points, i.low, i.high);
}
// "1 of 3", "none", "all 3".
std::string out_of(std::size_t some, std::size_t all) {
  if (some == all) return all == 1 ? "it" : all == 2 ? "both" : fmt::format("all {}", all);
  return some == 0 ? "none" : fmt::format("{} of {}", some, all);
}

Verdict verdict_of(const Results& r, const ModelResult& base, const ModelResult& m) {
  Verdict v;
  v.name = m.identity.name;
  const double smaller = static_cast<double>(base.memory.resident_bytes) / static_cast<double>(m.memory.resident_bytes);
  v.size = smaller >= 1 ? fmt::format("{:.2f} times smaller", smaller) : fmt::format("{:.2f} times larger", 1 / smaller);
  v.sentence = fmt::format("{} holds {:.1f} MiB against {:.1f} ({})", v.name, mib(m.memory.resident_bytes),
                           mib(base.memory.resident_bytes), v.size);
  if (m.relative) {
    const RelativeLatency& t = *m.relative;
    if (t.median_95.holds(1)) {
      v.speed = "no difference in speed";
      v.warnings.push_back(
          fmt::format("{}: the median ratio {:.2f} lies between {:.2f} and {:.2f} by bootstrap: no difference in speed was "
                      "measured.",
                      v.name, t.median, t.median_95.low, t.median_95.high));
    } else {
      v.speed = t.median < 1 ? fmt::format("{:.2f} times as fast", 1 / t.median) : fmt::format("{:.2f} times slower", t.median);
      if (t.p5 < 1 && t.p95 > 1)
        v.warnings.push_back(fmt::format("{}: single rows vary more ({:.2f} to {:.2f} of FP32's time) than the difference claimed.",
                                         v.name, t.p5, t.p95));
    }
    if (std::fabs(std::log(t.first_half / t.second_half)) > 0.5 * std::fabs(std::log(t.median)))
      v.warnings.push_back(
          fmt::format("{}: the machine changed while it was measured: the median is {:.2f} in the first half of the "
                      "rows, {:.2f} in the second.",
                      v.name, t.first_half, t.second_half));
    v.sentence +=
        fmt::format("; takes {:.2f} of FP32's time for a row (middle 90 % of rows: {:.2f} to {:.2f})", t.median, t.p5, t.p95);
  }
  if (m.difference) {
    const Difference& d = *m.difference;
    const std::size_t among = comparisons(r);
    v.finding = finding_of(d, among);
    v.worse = d.accuracy < 0;
    v.accuracy = fmt::format("{:+.2f} points of accuracy", d.accuracy);
    v.sentence += fmt::format("; and gets {:.2f} % of the rows right against {:.2f} %: ", percent(m), percent(base));
    if (d.only_baseline + d.only_this == 0) {
      v.same_rows = true;
      v.sentence += "the two are right about the same rows.";
      return v;
    }
    v.sentence += with_sign(d.accuracy, d.accuracy_95);
    switch (v.finding) {
      case Finding::noise: v.sentence += fmt::format(", a difference that chance explains (McNemar {})", p_value(d.p)); break;
      case Finding::real: v.sentence += fmt::format(", more than chance explains (McNemar {})", p_value(d.p)); break;
      case Finding::doubtful:
        v.sentence += fmt::format(", more than chance usually gives (McNemar {}), though among {} comparisons less surprising",
                                  p_value(d.p), among);
        break;
    }
  }
  v.sentence += ".";
  return v;
}

// Claims.

class Claims {
 public:
  explicit Claims(const Results& r)
      : r_(r), fp32_(as_paper("fp32")), scratch_(as_paper("int8_scratch")), bnb_(as_paper("int8_bnb")), nf4_(as_paper("nf4_bnb")) {}

  std::vector<Claim> all() {
    if (fp32_ == nullptr || quantized().empty()) return {};
    memory();
    latency();
    accuracy();
    conclusions();
    return std::move(claims_);
  }

 private:
  using Outcome = Claim::Outcome;
  const ModelResult* as_paper(std::string_view id) const {
    const ModelResult* m = r_.find(id);
    return m != nullptr && m->paper_row() != nullptr ? m : nullptr;
  }
  std::vector<const ModelResult*> quantized() const {
    std::vector<const ModelResult*> result;
    for (const ModelResult* m : {scratch_, bnb_, nf4_})
      if (m != nullptr && m->relative && m->difference) result.push_back(m);
    return result;
  }
  void add(const char* section, std::string text, std::string finding, Outcome outcome) {
    claims_.push_back({section, std::move(text), std::move(finding), outcome});
  }
  double ratio(const ModelResult& m) const {
    return static_cast<double>(fp32_->memory.paper_bytes) / static_cast<double>(m.memory.paper_bytes);
  }
  std::string memory_finding(const ModelResult& m) const {
    return fmt::format("{:.2f} MiB by the paper's account, {:.2f}x ({:.2f} % less); really resident {:.2f} MiB, {:.2f}x.",
                       mib(m.memory.paper_bytes), ratio(m), 100 - 100 / ratio(m), mib(m.memory.resident_bytes),
                       static_cast<double>(fp32_->memory.resident_bytes) / static_cast<double>(m.memory.resident_bytes));
  }
  // Other shapes have other ratios.
  Outcome same_ratio(const ModelResult& m) const {
    if (!r_.paper_shape()) return Outcome::open;
    return std::fabs(ratio(m) - m.paper_row()->table1.compression) < 0.006 ? Outcome::holds : Outcome::fails;
  }
  std::string other_shape() const { return r_.paper_shape() ? "" : " This model is not of GPT-2 small's shape."; }

  void memory() {
    if (nf4_) {
      const auto all = quantized();
      const bool smallest = std::all_of(all.begin(), all.end(), [&](const ModelResult* m) {
        return m->memory.resident_bytes >= nf4_->memory.resident_bytes && m->memory.paper_bytes >= nf4_->memory.paper_bytes;
      });
      add("3.1", "NF4 compresses most, 3.81x: 486.71 to 127.86 MB, 73.73 % less.",
          memory_finding(*nf4_) + (smallest ? " The smallest of the models." : " Not the smallest of the models.") + other_shape(),
          smallest ? (r_.paper_shape() ? same_ratio(*nf4_) : Outcome::holds) : Outcome::fails);
    }
    if (bnb_) add("3.1", "INT8 of bitsandbytes: 2.89x, 168.36 MB.", memory_finding(*bnb_) + other_shape(), same_ratio(*bnb_));
    if (scratch_)
      add("3.1", "INT8 from scratch: 2.00x, 243.70 MB.", memory_finding(*scratch_) + other_shape(), same_ratio(*scratch_));
  }

  void latency() {
    const auto all = quantized();
    const auto slower =
        static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const ModelResult* m) { return is_slower(*m); }));
    const auto faster =
        static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const ModelResult* m) { return is_faster(*m); }));
    add("3.2", "The baseline has the lowest latency (8.73 ms) and the highest throughput (114.48 rows per second).",
        fmt::format("FP32 takes {:.2f} ms for a row ({:.2f} rows per second); of the quantized models {} faster and {} slower.",
                    fp32_->latency.mean, fp32_->per_second(), out_of(faster, all.size()) + (faster == 1 ? " is" : " are"),
                    out_of(slower, all.size()) + (slower == 1 ? " is" : " are")),
        faster != 0            ? Outcome::fails
        : slower == all.size() ? Outcome::holds
                               : Outcome::open);
    const auto slowness = [&](const ModelResult& m, const char* text) {
      add("3.2", text,
          fmt::format("It takes {:.2f} of FP32's time ({:.2f} ms, {:.2f} rows per second).", time_of(m), m.latency.mean,
                      m.per_second()),
          is_slower(m)   ? Outcome::holds
          : is_faster(m) ? Outcome::fails
                         : Outcome::open);
    };
    if (nf4_ && nf4_->relative) slowness(*nf4_, "NF4 is moderately slower: 16.66 ms, 90.8 % more, 60.04 rows per second.");
    if (bnb_ && bnb_->relative)
      slowness(*bnb_, "INT8 of bitsandbytes is the slowest: 29.39 ms, 236.6 % more, 34.02 rows per second.");
  }

  std::string rows_note() const { return r_.paper_rows() ? "" : " Not the paper's 7,600 rows: compare differences."; }

  void accuracy() {
    if (nf4_ && nf4_->difference) {
      const Difference& d = *nf4_->difference;
      add("3.3", "NF4 is slightly more accurate than the baseline: 94.70 against 94.62 %, which is six rows of 7,600.",
          fmt::format("{:.2f} against {:.2f} %: {}, McNemar {}. ", percent(*nf4_), percent(*fp32_),
                      with_sign(d.accuracy, d.accuracy_95), p_value(d.p)) +
              (d.p >= 0.05 ? "Chance explains either sign." : "More than chance explains.") + rows_note(),
          d.p >= 0.05      ? Outcome::open
          : d.accuracy > 0 ? Outcome::holds
                           : Outcome::fails);
    }
    std::vector<std::string> said;
    bool little = true, large = false;
    for (const ModelResult* m : {scratch_, bnb_})
      if (m != nullptr && m->difference) {
        said.push_back(fmt::format("{} {}", m->identity.name, with_sign(m->difference->accuracy, m->difference->accuracy_95)));
        little = little && m->difference->accuracy_95.low > -0.5;
        large = large || m->difference->accuracy_95.high < -0.5;
      }
    if (!said.empty())
      add("3.3", "INT8 costs hardly any accuracy: 94.54 to 94.58 against 94.62 %.",
          joined(said) +
              (little  ? ": less than half a point is lost."
               : large ? ": more than half a point is lost."
                       : ": half a point or more cannot be excluded.") +
              rows_note(),
          little  ? Outcome::holds
          : large ? Outcome::fails
                  : Outcome::open);
    double least = 1;
    std::string least_of;
    for (const ModelResult* m : {static_cast<const ModelResult*>(fp32_), scratch_, bnb_, nf4_})
      if (m != nullptr)
        for (const double v : {m->scores.precision, m->scores.recall, m->scores.f1})
          if (v < least) {
            least = v;
            least_of = m->identity.name;
          }
    add("3.3", "All models keep macro precision, recall and F1 above 94.5 %.",
        fmt::format("The least is {:.2f} %, of {}. It is the model that decides this, not its format: FP32 has {:.2f} % F1.",
                    100 * least, least_of, 100 * fp32_->scores.f1),
        !r_.paper_rows() ? Outcome::open
        : least > 0.945  ? Outcome::holds
                         : Outcome::fails);
  }

  void conclusions() {
    const auto all = quantized();
    const auto cost = [&](const ModelResult* m) { return static_cast<double>(m->memory.resident_bytes) * time_of(*m); };
    const auto best = std::min_element(all.begin(), all.end(), [&](auto* a, auto* b) { return cost(a) < cost(b); });
    const auto quickest = std::min_element(all.begin(), all.end(), [](auto* a, auto* b) { return time_of(*a) < time_of(*b); });
    if (nf4_ && nf4_->relative)
      add("4.1", "NF4 is the most balanced: best compression, competitive accuracy, reasonable latency.",
          fmt::format("By memory times latency the best is {} ({:.3f} of FP32's; NF4 {:.3f}).{}", (*best)->identity.name,
                      cost(*best) / static_cast<double>(fp32_->memory.resident_bytes),
                      cost(nf4_) / static_cast<double>(fp32_->memory.resident_bytes),
                      really_worse(*nf4_) ? " NF4 is less accurate than FP32 by more than chance." : ""),
          *best == nf4_ && !really_worse(*nf4_) ? Outcome::holds : Outcome::fails);
    if (scratch_ && scratch_->relative) {
      const bool tie = *quickest != scratch_ && (*quickest)->relative->median_95.high >= scratch_->relative->median_95.low;
      add("4.1", "INT8 from scratch is the fastest of the quantized models.",
          fmt::format("It takes {:.2f} of FP32's time; the fastest is {} with {:.2f}{}.", time_of(*scratch_),
                      (*quickest)->identity.name, time_of(**quickest), tie ? ", and their intervals overlap" : ""),
          *quickest == scratch_ ? Outcome::holds
          : tie                 ? Outcome::open
                                : Outcome::fails);
    }
    double most = 0;
    std::vector<std::string> real;
    for (const ModelResult* m : all) {
      most = std::max(most, std::fabs(m->difference->accuracy));
      if (m->difference->p < 0.05) real.push_back(m->identity.name);
    }
    add("4.1", "Every method preserves accuracy, within 0.1 %.",
        fmt::format("The largest difference from FP32 is {:.2f} points; {}.", most,
                    real.empty() ? "none is more than chance explains"
                                 : joined(real) + (real.size() == 1 ? " differs" : " differ") + " by more than chance explains"),
        !real.empty() ? Outcome::fails
        : most < 0.1  ? Outcome::holds
                      : Outcome::open);
    const auto smallest = std::min_element(all.begin(), all.end(),
                                           [](auto* a, auto* b) { return a->memory.resident_bytes < b->memory.resident_bytes; });
    add("4.1", "The choice depends on whether memory or latency matters more.",
        *smallest == *quickest
            ? fmt::format("{} is both the smallest and the fastest.", (*smallest)->identity.name)
            : fmt::format("{} is the smallest, {} the fastest.", (*smallest)->identity.name, (*quickest)->identity.name),
        *smallest == *quickest ? Outcome::fails : Outcome::holds);
  }

  const Results& r_;
  const ModelResult *fp32_, *scratch_, *bnb_, *nf4_;
  std::vector<Claim> claims_;
};

}  // namespace

std::vector<Verdict> verdicts(const Results& r) {
  std::vector<Verdict> result;
  const ModelResult* base = r.baseline();
  if (base == nullptr) return result;
  for (const ModelResult& m : r.models)
    if (&m != base) result.push_back(verdict_of(r, *base, m));
  return result;
}

std::string summary_sentence(const Results& r) {
  const ModelResult* base = r.baseline();
  if (base == nullptr || comparisons(r) == 0) return "";
  std::size_t smaller = 0, faster = 0;
  std::string changed;
  std::size_t changes = 0;
  for (const ModelResult& m : r.models) {
    if (&m == base) continue;
    smaller += m.memory.resident_bytes < base->memory.resident_bytes;
    faster += is_faster(m);
    if (!m.difference || m.difference->p >= 0.05) continue;
    ++changes;
    changed += fmt::format(" {} {} accuracy, {:.2f} against {:.2f} %: more than chance usually explains ({}).", m.identity.name,
                           m.difference->accuracy < 0 ? "loses" : "gains", percent(m), percent(*base), p_value(m.difference->p));
  }
  const std::size_t all = comparisons(r);
  std::string text = all == 1 ? fmt::format("The quantized model is {}smaller and {}faster than FP32.", smaller == 1 ? "" : "not ",
                                            faster == 1 ? "" : "not ")
                              : fmt::format("Of the {} models beside FP32, {} smaller and {} faster.", all,
                                            out_of(smaller, all) + (smaller == 1 ? " is" : " are"),
                                            out_of(faster, all) + (faster == 1 ? " is" : " are"));
  if (changes == 0)
    return text + (all == 1 ? " Its difference in accuracy is noise." : " No difference in accuracy is more than chance explains.");
  return text + changed + (changes < all ? " The other differences in accuracy are noise." : "");
}

std::vector<std::string> noise_warnings(const Results& r) {
  std::vector<std::string> warnings;
  const Machine& m = r.machine;
  if (m.load_before && *m.load_before + static_cast<double>(m.threads) > static_cast<double>(m.processors) + 0.5)
    warnings.push_back(
        fmt::format("Other programs kept the machine busy (load {:.1f} before the run, {:.1f} after it, on {} processors, {} "
                    "of them for this run): trust ratios, which compare the models row by row, not milliseconds.",
                    *m.load_before, m.load_after.value_or(*m.load_before), m.processors, m.threads));
  return warnings;
}

const char* outcome_name(Claim::Outcome outcome) {
  switch (outcome) {
    case Claim::Outcome::holds: return "holds";
    case Claim::Outcome::fails: return "does not hold";
    case Claim::Outcome::open: break;
  }
  return "cannot be said";
}

std::vector<Claim> claims(const Results& r) { return Claims(r).all(); }

std::vector<Recommendation> recommendations(const Results& r) {
  const ModelResult* base = r.baseline();
  if (base == nullptr || comparisons(r) == 0) return {};
  std::vector<const ModelResult*> good;  // not really worse than the baseline
  for (const ModelResult& m : r.models)
    if (!really_worse(m)) good.push_back(&m);
  const auto least = [&](const auto& cost) {
    return *std::min_element(good.begin(), good.end(), [&](auto* a, auto* b) { return cost(*a) < cost(*b); });
  };
  const auto described = [&](const ModelResult& m) {
    return fmt::format("{}: {:.1f} MiB resident, {:.2f} of FP32's time, {:.2f} % accuracy.", m.identity.name,
                       mib(m.memory.resident_bytes), time_of(m), percent(m));
  };
  const auto bytes = [](const ModelResult& m) { return static_cast<double>(m.memory.resident_bytes); };
  const auto balance = [&](const ModelResult& m) { return bytes(m) * time_of(m); };
  const ModelResult* accurate =
      *std::max_element(good.begin(), good.end(), [](auto* a, auto* b) { return a->scores.correct < b->scores.correct; });
  std::string lead;
  if (accurate->difference) {
    lead = fmt::format(" Its lead over FP32 is {} (McNemar {}).",
                       accurate->difference->p >= 0.05 ? "what chance explains" : "more than chance explains",
                       p_value(accurate->difference->p));
  } else {
    std::vector<std::string> alike;
    for (const ModelResult* m : good)
      if (m != accurate) alike.push_back(m->identity.name);
    if (!alike.empty()) lead = fmt::format(" Chance explains its lead over {}.", joined(alike));
  }
  return {{"Least memory", described(*least(bytes))},
          {"Lowest latency", described(*least(time_of))},
          {"Both (memory times latency)", described(*least(balance))},
          {"Most accuracy", described(*accurate) + lead}};
}

}  // namespace examples
