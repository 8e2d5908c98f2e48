// SPDX-License-Identifier: MIT
#include "examples/four_models/report.hpp"

#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "examples/four_models/options.hpp"
#include "examples/four_models/paper.hpp"
#include "examples/four_models/verdict.hpp"

namespace examples {

namespace {

constexpr std::size_t columns = 100;
constexpr const char* nothing = "-";

std::string number(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }
std::string percent(double share, int digits = 2) { return number(100 * share, digits); }
std::string mebibytes(std::size_t bytes) { return number(mib(bytes), 2); }
std::string signed_points(double points) { return fmt::format("{:+.2f}", points); }
std::string times(double factor) { return number(factor, 2) + "x"; }

// Words below each other, for heads.
std::string stacked(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c == ' ') c = '\n';
  return result;
}

class Tables {
 public:
  explicit Tables(const Results& results) : r_(results), paper_head_(results.paper_shape() ? "paper" : "paper\n(GPT-2\nsmall)") {
    for (const ModelResult& m : r_.models)
      if (m.kind->id == baseline_id) baseline_ = &m;
  }

  Table efficiency() const {
    Table t{"Table 1: Efficiency metrics",
            {"Model", "Memory\nMiB", paper_head_, "Compression", paper_head_, "Mean\nlatency\nms", paper_head_},
            {}};
    for (const ModelResult& m : r_.models) {
      const paper::Row* p = m.paper_row();
      t.rows.push_back({name(m), mebibytes(m.memory.paper_bytes), p ? number(p->table1.memory_mb, 2) : nothing,
                        baseline_ ? times(ratio(baseline_->memory.paper_bytes, m.memory.paper_bytes)) : nothing,
                        p ? times(p->table1.compression) : nothing, milliseconds(m, m.latency.mean),
                        p ? number(p->table1.latency_ms, 2) : nothing});
    }
    t.note =
        "Memory by the paper's account: the elements of all parameters and transformers' causal-mask buffers,\nwithout scales.";
    return t;
  }

  Table memory() const {
    Table t{"Memory really held, MiB", {"Model", "Parameters", "Resident", "of FP32", "Process\nRSS growth", "Load\ns"}, {}};
    bool measured = false;
    for (const ModelResult& m : r_.models) {
      measured = measured || m.process_growth;
      t.rows.push_back({name(m), grouped(m.memory.parameters), mebibytes(m.memory.resident_bytes),
                        baseline_ ? percent(ratio(m.memory.resident_bytes, baseline_->memory.resident_bytes), 1) + " %" : nothing,
                        m.process_growth ? mebibytes(*m.process_growth) : nothing, number(m.load_seconds, 2)});
    }
    t.note = "Resident: all that a loaded model holds, scales and padding included, no mask buffers.";
    if (measured) t.note += "\nProcess RSS growth: anonymous memory that loading added to a process of its own.";
    return t;
  }

  Table latency() const {
    Table t{"Latency of one row, ms, and throughput, rows per second",
            {"Model", "Mean", "Median", "p5", "p95", "vs FP32", "1 / mean\nlatency", paper_head_, "Batched"},
            {}};
    for (const ModelResult& m : r_.models) {
      const paper::Row* p = m.paper_row();
      const bool timed = m.latency.count != 0;
      t.rows.push_back({name(m), milliseconds(m, m.latency.mean), milliseconds(m, m.latency.median), milliseconds(m, m.latency.p5),
                        milliseconds(m, m.latency.p95),
                        timed && m.relative        ? times(m.relative->median)
                        : timed && &m == baseline_ ? times(1)
                                                   : nothing,
                        timed ? number(m.per_second(), 2) : nothing,
                        p && p->table1.per_second ? number(*p->table1.per_second, 2) : nothing,
                        m.batched_per_second ? number(*m.batched_per_second, 1) : nothing});
    }
    t.note = fmt::format(
        "{}, {} thread{}, level {}.\n"
        "vs FP32: median over the rows of a model's time over FP32's for the same row; below 1 is faster.\n"
        "The paper's are of AG News' test rows, on hardware that it does not name: compare ratios.",
        r_.latency_rows, r_.machine.threads, r_.machine.threads == 1 ? "" : "s", r_.machine.level);
    return t;
  }

  Table performance() const {
    Table t{"Table 2: Performance metrics, %", {"Model"}, {}};
    const bool with_paper = r_.paper_rows();
    for (const char* head : {"Accuracy", "Precision", "Recall", "F1"}) {
      t.head.emplace_back(head);
      if (with_paper) t.head.push_back(paper_head_);
    }
    for (const ModelResult& m : r_.models) {
      const paper::Row* p = m.paper_row();
      const paper::Table2 q = p ? p->table2 : paper::Table2{};
      t.rows.push_back({name(m)});
      for (const auto& [ours, papers] : {std::pair(m.scores.accuracy, q.accuracy), std::pair(m.scores.precision, q.precision),
                                         std::pair(m.scores.recall, q.recall), std::pair(m.scores.f1, q.f1)}) {
        t.rows.back().push_back(percent(ours));
        if (with_paper) t.rows.back().push_back(p ? number(papers, 2) : nothing);
      }
    }
    t.note = "Precision, recall and F1 are means over the classes.";
    if (!with_paper)
      t.note +=
          fmt::format("\nThe paper's stand beside those of AG News' 7,600 test rows alone, cut after {} tokens.", usual_max_tokens);
    return t;
  }

  Table certainty() const {
    Table t{"How sure that is: accuracy with its 95 % interval, and McNemar's exact test against FP32",
            {"Model", "Right", "Rows", "Accuracy\n%", "95 % interval\n(Wilson)", "only FP32\nright", "only this\nright", "p"},
            {}};
    for (const ModelResult& m : r_.models) {
      const auto [low, high] = m.accuracy_95();
      std::vector<std::string> row = {name(m), grouped(m.scores.correct), grouped(m.scores.rows), percent(m.scores.accuracy),
                                      percent(low) + " - " + percent(high)};
      if (m.difference)
        row.insert(row.end(), {grouped(m.difference->only_baseline), grouped(m.difference->only_this),
                               fmt::format("{:.3g}", m.difference->p)});
      else
        row.insert(row.end(), 3, nothing);
      t.rows.push_back(std::move(row));
    }
    t.note = "p: how often chance alone would split the rows on which the two differ so unevenly or more so.";
    return t;
  }

  Table macro_f1() const {
    Table t{"Macro F1 with its 95 % interval (bootstrap), %", {"Model", "F1", "95 % interval"}, {}};
    for (const ModelResult& m : r_.models)
      t.rows.push_back({name(m), percent(m.scores.f1), number(m.macro_f1_95.low, 2) + " - " + number(m.macro_f1_95.high, 2)});
    return t;
  }

  Table differences() const {
    Table t{"Minus FP32 on the same rows, percentage points, with 95 % intervals (paired bootstrap)",
            {"Model", "Accuracy", "95 % interval", "Macro F1", "95 % interval"},
            {}};
    const auto interval = [](const Interval& i) { return signed_points(i.low) + " to " + signed_points(i.high); };
    for (const ModelResult& m : r_.models)
      if (const auto& d = m.difference)
        t.rows.push_back(
            {name(m), signed_points(d->accuracy), interval(d->accuracy_95), signed_points(d->macro_f1), interval(d->macro_f1_95)});
    return t;
  }

  // Four models to a table, or it would be too wide.
  std::vector<Table> class_f1() const {
    std::vector<Table> tables;
    for (std::size_t first = 0; first < r_.models.size(); first += 4) {
      Table t{"Table 3: F1 by class, %", {"Class"}, {}};
      for (std::size_t c = 0; c < r_.class_names.size(); ++c) t.rows.push_back({r_.class_names[c]});
      for (std::size_t i = first; i < std::min(first + 4, r_.models.size()); ++i) {
        const ModelResult& m = r_.models[i];
        const paper::Row* p = r_.paper_rows() ? m.paper_row() : nullptr;
        t.head.push_back(stacked(m.identity.name));
        if (p) t.head.push_back(paper_head_);
        for (std::size_t c = 0; c < t.rows.size(); ++c) {
          t.rows[c].push_back(percent(m.scores.class_f1[c]));
          if (p) t.rows[c].push_back(number(p->table3[c], 2));
        }
      }
      tables.push_back(std::move(t));
    }
    return tables;
  }

  std::vector<Table> confusions() const {
    std::vector<Table> tables;
    for (const ModelResult& m : r_.models) {
      Table t{name(m) + ": true class (rows) by predicted", {""}, {}};
      t.head.insert(t.head.end(), r_.class_names.begin(), r_.class_names.end());
      for (std::size_t c = 0; c < r_.class_names.size(); ++c) {
        std::vector<std::string> row = {r_.class_names[c]};
        for (const std::size_t count : m.confusion[c]) row.push_back(std::to_string(count));
        t.rows.push_back(std::move(row));
      }
      tables.push_back(std::move(t));
    }
    return tables;
  }

  Table plans() const {
    Table t{"What ran", {"Model", "id", "Linear layers"}, {}, {}, 3};
    for (const ModelResult& m : r_.models)
      for (const auto& [plan, layers] : m.plans)
        t.rows.push_back({name(m), std::string(m.kind->id), std::to_string(layers) + " x " + plan});
    return t;
  }

 private:
  static double ratio(std::size_t a, std::size_t b) { return static_cast<double>(a) / static_cast<double>(b); }
  static std::string name(const ModelResult& m) { return m.identity.name; }
  static std::string milliseconds(const ModelResult& m, double value) { return m.latency.count == 0 ? nothing : number(value, 2); }
  static std::string grouped(std::size_t value) {
    std::string digits = std::to_string(value);
    for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
    return digits;
  }
  const Results& r_;
  std::string paper_head_;
  const ModelResult* baseline_ = nullptr;
};

std::string texts(const Results& r) {
  std::string text = fmt::format("Texts: {}: {} rows of {} classes, {:.1f} tokens on average; {} of them cut after {} tokens.",
                                 r.dataset, r.rows, r.class_names.size(), r.mean_tokens, r.cut_texts, r.max_tokens);
  if (r.empty_texts != 0) text += fmt::format("  {} rows without a text skipped.", r.empty_texts);
  if (r.blank_lines != 0) text += fmt::format("  {} blank lines skipped.", r.blank_lines);
  if (r.sampled_from) text += fmt::format("  They are drawn by the seed, of {} rows.", *r.sampled_from);
  return text;
}

}  // namespace

std::string on_machine(const Machine& m) {
  std::string load;
  if (m.load_before && m.load_after) load = fmt::format(", load {:.1f} before, {:.1f} after", *m.load_before, *m.load_after);
  return fmt::format("{}, {} of {} processors, level {}, {}{}.", m.cpu, m.threads, m.processors, m.level, m.compiler, load);
}

std::vector<std::string> circumstances(const Results& r) {
  return {on_machine(r.machine), texts(r),
          fmt::format("{}; warm-up of {} rows, then the models take turns within each row, another one first each time.",
                      r.latency_rows, std::min(warm_up_rows, r.rows))};
}

Section comparison_section(const Results& r) {
  Section s;
  s.title = "Four models: what quantization costs and saves";
  if (const std::string summary = summary_sentence(r); !summary.empty()) s.paragraphs.push_back(summary);
  for (const Verdict& v : verdicts(r)) {
    if (r.rows_done != 0) s.paragraphs.push_back(v.sentence);
    for (const std::string& w : v.warnings) s.paragraphs.push_back("WARNING: " + w);
  }
  for (const std::string& w : noise_warnings(r)) s.paragraphs.push_back("WARNING: " + w);
  for (std::string& p : circumstances(r)) s.paragraphs.push_back(std::move(p));
  s.paragraphs.push_back("Settings: " + r.command);
  if (r.interrupted)
    s.paragraphs.push_back(
        fmt::format("INTERRUPTED: what follows is of the {} of {} rows that every model had seen.", r.rows_done, r.rows));
  s.paragraphs.insert(s.paragraphs.end(), r.notes.begin(), r.notes.end());
  if (r.models.empty()) return s;
  const Tables tables(r);
  s.tables = {tables.plans(), tables.efficiency(), tables.memory(), tables.latency()};
  if (r.rows_done == 0) return s;
  s.tables.push_back(tables.performance());
  s.tables.push_back(tables.certainty());
  if (Table t = tables.differences(); !t.rows.empty()) s.tables.push_back(std::move(t));
  s.tables.push_back(tables.macro_f1());
  for (Table& t : tables.class_f1()) s.tables.push_back(std::move(t));
  s.small_tables = tables.confusions();
  return s;
}

Section claims_section(const Results& r) {
  Section s;
  s.title = "The paper's claims, one by one";
  for (const Claim& c : claims(r))
    s.paragraphs.push_back(fmt::format("{}: {}  {}: {}", c.section, c.text, outcome_name(c.outcome), c.finding));
  for (const Recommendation& rec : recommendations(r)) s.paragraphs.push_back(fmt::format("{}: {}", rec.need, rec.choice));
  return s;
}

Section synthetic_section(const Results& r) {
  Section s;
  s.title = "SYNTHETIC WEIGHTS: memory and latency at the full GPT-2 small shape";
  s.paragraphs = {r.dataset + ".", "Nothing here says anything about accuracy.", "Settings: " + r.command};
  if (r.interrupted) s.paragraphs.push_back("INTERRUPTED: not all rows were timed.");
  s.paragraphs.insert(s.paragraphs.end(), r.notes.begin(), r.notes.end());
  if (r.models.empty()) return s;
  const Tables tables(r);
  s.tables = {tables.plans(), tables.efficiency(), tables.memory(), tables.latency()};
  return s;
}

std::string as_text(const Section& s) {
  std::string text = s.title + '\n' + std::string(width_of(s.title), '=') + '\n';
  for (const std::string& p : s.paragraphs)
    for (const std::string& line : wrapped(printable(p), columns, false)) text += line + '\n';
  for (const Table& t : s.tables) text += '\n' + as_text(t);
  std::vector<std::string> blocks;
  for (const Table& t : s.small_tables) blocks.push_back(as_text(t));
  if (!blocks.empty())
    text += '\n' + side_by_side(blocks, columns) +
            "The paper shows its confusion matrices as a picture, without numbers to set beside these.\n";
  return text;
}

std::string as_markdown(const Section& s) {
  std::string text = "## " + s.title + "\n\n";
  for (const std::string& p : s.paragraphs) text += markdown_escaped(p) + "\n\n";
  for (const std::vector<Table>* tables : {&s.tables, &s.small_tables})
    for (const Table& t : *tables) text += as_markdown(t) + '\n';
  if (!s.small_tables.empty())
    text += "The paper shows its confusion matrices as a picture, without numbers to set beside these.\n\n";
  return text;
}

}  // namespace examples
