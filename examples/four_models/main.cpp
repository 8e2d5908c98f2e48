// SPDX-License-Identifier: MIT
// four_models: GPT-2 classifiers in float32, INT8 and NF4 beside each other, in memory, time and accuracy.  --help explains.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "examples/common/dataset.hpp"
#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/left_behind.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/standard_streams.hpp"
#include "examples/common/synthetic.hpp"
#include "examples/four_models/checkpoints.hpp"
#include "examples/four_models/evaluation.hpp"
#include "examples/four_models/options.hpp"
#include "examples/four_models/output.hpp"
#include "examples/four_models/output_folder.hpp"
#include "examples/four_models/page.hpp"
#include "examples/four_models/report.hpp"
#include "examples/four_models/resident.hpp"
#include "examples/four_models/results_json.hpp"
#include "lowbit/lowbit.hpp"

namespace {

using examples::Checkpoints;
using examples::Identity;
using examples::LoadedModel;
using examples::ModelKind;
using examples::Options;
using examples::Results;
using lowbit::gpt2::ParameterSource;

constexpr std::size_t synthetic_rows = 30, synthetic_tokens = 52;  // 52: AG News' mean
constexpr const char* synthetic_prefix = "synthetic:";

// Where the parameters of a model come from: a folder, or nowhere.
struct Source {
  const Options& options;
  bool synthetic;
  Checkpoints checkpoints = synthetic ? Checkpoints() : examples::find_checkpoints(options.checkpoints, options.kinds);

  std::unique_ptr<ParameterSource> open(const ModelKind& kind) const {
    if (synthetic) return std::make_unique<examples::SyntheticParameters>(examples::gpt2_small_config(), options.seed);
    if (kind.id == "int8_scratch") {
      examples::require_trained_int8(options.qat_model);
      return std::make_unique<lowbit::gpt2::FolderParameters>(options.qat_model, options.model);
    }
    if (const auto* folder = examples::checkpoint_of(checkpoints, kind))
      return std::make_unique<lowbit::gpt2::FolderParameters>(*folder, options.model);
    return std::make_unique<lowbit::gpt2::FolderParameters>(options.model);
  }
  std::string folder(const ModelKind& kind) const {
    if (synthetic) return "";
    if (const auto* checkpoint = examples::checkpoint_of(checkpoints, kind)) return checkpoint->string();
    return (kind.id == "int8_scratch" ? options.qat_model : options.model).string();
  }
  std::string id(const ModelKind& kind) const { return (synthetic ? synthetic_prefix : "") + std::string(kind.id); }
};

std::pair<lowbit::gpt2::Transformer, Identity> load(const Source& source, const ModelKind& kind) {
  return examples::make_checked_model(kind, *source.open(kind), source.options.tuning,
                                      source.synthetic ? "synthetic weights" : source.folder(kind), !source.synthetic);
}

// The models that were loaded before an interrupt, if there was one.
std::vector<LoadedModel> load_all(const Source& source, const std::vector<std::string>& command_line) {
  std::vector<LoadedModel> models;
  for (const ModelKind* kind : source.options.kinds) {
    if (examples::interrupted()) break;
    const examples::Progress progress("loading " + source.id(*kind));
    LoadedModel m;
    m.kind = kind;
    m.folder = source.folder(*kind);
    const auto start = std::chrono::steady_clock::now();
    std::tie(m.net, m.identity) = load(source, *kind);
    m.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::vector<std::string> arguments = command_line;
    arguments.insert(arguments.end(), {"--measure-resident", source.id(*kind)});
    m.process_growth = examples::number_from_own_process(arguments);
    models.push_back(std::move(m));
  }
  if (source.synthetic || examples::interrupted()) return models;
  const auto errors = examples::weight_errors(source.options.kinds, lowbit::gpt2::FolderParameters(source.options.model),
                                              source.checkpoints, source.options.tuning);
  for (std::size_t m = 0; m < models.size(); ++m) models[m].weight_errors = errors[m];
  return models;
}

// The process that weighs one model.
int measure_resident(const Options& options) {
  const bool synthetic = options.measure_resident.starts_with(synthetic_prefix);
  const ModelKind* kind = examples::find_kind(synthetic ? options.measure_resident.substr(std::string(synthetic_prefix).size())
                                                        : options.measure_resident);
  if (kind == nullptr) return examples::exit_usage;
  lowbit::default_executor();  // its threads' memory is not the model's
  const auto growth = examples::resident_growth([&] { return load(Source{options, synthetic}, *kind).first; });
  if (!growth) return examples::exit_failure;
  fmt::print("{}\n", *growth);
  return 0;
}

void require_alike(const std::vector<LoadedModel>& models) {
  const auto refuse = [&](const LoadedModel& m, const std::string& what) {
    lowbit::raise<lowbit::FormatError>(m.folder + ": its " + what + " from those of " + models[0].folder);
  };
  for (const LoadedModel& m : models) {
    const lowbit::gpt2::Config &a = m.net.config, &b = models[0].net.config;
    if (a.class_names != b.class_names) refuse(m, "classes differ");
    if (a.vocab != b.vocab || a.positions != b.positions) refuse(m, "vocabulary or positions differ");
  }
}

void complain(const std::string& text) { examples::complain("four_models", text); }

// Throws if something that was printed is lost: the disk is full, or who read it is gone.
void require_printed() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    lowbit::raise<lowbit::IoError>("standard output: cannot write what the program has to say");
}

// Says everything on the terminal that the report of a run has in tables.
void print_section(const examples::Section& section) {
  // Failures count at the end, when the files are written.
  std::fputs(examples::as_text(section).c_str(), stdout);
  std::fflush(stdout);
}

// --report: the report of an earlier run, from its files.
int make_report(const Options& options) {
  const examples::RunFiles files = examples::read_run(options.report);
  const examples::RunResults run = examples::parse_results(files.results, (options.report / "results.json").string());
  examples::OutputFolder out(options.report);
  const std::filesystem::path data = options.data_given ? options.data : std::filesystem::path(run.main.dataset);
  const examples::Texts texts = options.texts ? examples::read_texts(data, run.main, options.data_given) : examples::Texts{};
  out.replace(examples::all_files(files, texts));
  print_section(comparison_section(run.main));
  if (run.synthetic) {
    std::fputs("\n", stdout);
    print_section(synthetic_section(*run.synthetic));
  }
  if (options.paper) print_section(claims_section(run.main));
  fmt::print("\nReport: {}\n", (options.report / "report.html").string());
  require_printed();
  return 0;
}

class Program {
 public:
  Program(Options options, std::vector<std::string> command_line)
      : options_(std::move(options)),
        command_line_(std::move(command_line)),
        pool_(options_.threads),
        machine_(examples::this_machine(options_.threads)) {}

  int run() {
    std::optional<examples::OutputFolder> out;
    if (!options_.out.empty()) {
      out.emplace(options_.out);
      for (const auto& left : out->left_by_killed()) examples::note_left_behind("four_models", left);
    }
    // All input is read before the long work.
    examples::Dataset data = read_rows();
    const std::size_t all_rows = data.items.size();
    if (options_.sample != 0) examples::keep_sample(data, options_.sample, options_.seed);
    const std::vector<LoadedModel> models = load_all({options_, false}, command_line_);
    require_alike(models);
    const examples::Evaluation evaluation = evaluate(models, data);

    examples::RunResults run{results_of(models, evaluation, data), std::nullopt};
    Results& results = run.main;
    if (data.items.size() != all_rows) results.sampled_from = all_rows;
    print_section(comparison_section(results));
    if (options_.synthetic && !examples::interrupted()) {
      std::fputs("\n", stdout);
      run.synthetic = run_synthetic();
      print_section(synthetic_section(*run.synthetic));
    }
    if (options_.paper) print_section(examples::claims_section(results));
    results.interrupted = examples::interrupted();  // whatever comes from here on comes too late
    // A part of a run has a folder of its own: it must not take the place of a whole one.
    const std::filesystem::path partial = options_.out / "interrupted";
    if (out && results.interrupted && results.rows_done != 0) out.emplace(partial);
    if (out && (!results.interrupted || results.rows_done != 0)) {
      write_files(*out, run, models, evaluation, data);
      if (!results.interrupted) fmt::print("\nReport: {}\n", (options_.out / "report.html").string());
    }
    require_printed();
    if (!results.interrupted) return 0;
    std::string where;
    if (out) where = results.rows_done == 0 ? "; nothing is written" : ", which are in " + partial.string();
    complain(fmt::format("interrupted after {} of {} rows{}", results.rows_done, results.rows, where));
    return examples::interrupted_exit_code();
  }

 private:
  // Throws where a model is no folder of a classifier, too.
  examples::Dataset read_rows() {
    for (const auto& folder : {options_.model, options_.qat_model}) lowbit::io::require_model_folder(folder);
    for (const auto& folder : options_.checkpoints) lowbit::io::require_model_folder(folder);
    const auto config = lowbit::gpt2::FolderParameters(options_.model).config();
    if (config.classes == 0)
      lowbit::raise<lowbit::FormatError>(options_.model.string() + ": expected a classifier, found no score.weight");
    settle_max_tokens(config.positions);
    return examples::read_dataset(options_.data, options_.model, config, *options_.max_tokens, options_.limit);
  }

  // With no row done where an interrupt came before all models were there.
  examples::Evaluation evaluate(const std::vector<LoadedModel>& models, const examples::Dataset& data) {
    // LLM.int8() per call: a call must be one text in both passes, or accuracy and latency would not be of one configuration.
    const std::size_t group = options_.tuning.outliers == lowbit::Outliers::per_call ? 1 : 4;
    if (models.size() == options_.kinds.size()) return examples::evaluate(models, data, options_.repeat, group, pool_);
    examples::Evaluation evaluation;
    evaluation.done.assign(data.items.size(), 0);
    evaluation.runs.resize(models.size());
    return evaluation;
  }

  Results results_of(const std::vector<LoadedModel>& models, const examples::Evaluation& evaluation,
                     const examples::Dataset& data) const {
    Results results = blank_results();
    results.machine.load_after = examples::load_average();
    results.dataset = data.path;
    results.latency_rows = fmt::format("One row at a time at its own length, {} rows{}", data.items.size(),
                                       options_.repeat == 1 ? "" : fmt::format(", the median of {} times", options_.repeat));
    results.class_names = data.class_names;
    results.rows = data.items.size();
    results.rows_done = evaluation.rows_done();
    results.repeat = options_.repeat;
    results.operator_rows = evaluation.operator_rows;
    results.max_tokens = data.max_tokens;
    results.mean_tokens = data.mean_tokens();
    results.cut_texts = data.cut_texts;
    results.empty_texts = data.empty_texts;
    results.blank_lines = data.blank_lines;
    results.models = examples::summarize(models, evaluation, data, options_.seed);
    results.notes = options_.notes;
    add_warnings(results);
    return results;
  }

  void write_files(examples::OutputFolder& out, const examples::RunResults& run, const std::vector<LoadedModel>& models,
                   const examples::Evaluation& evaluation, const examples::Dataset& data) const {
    const examples::RunFiles files{examples::results_json(run), examples::predictions_csv(models, evaluation, data),
                                   examples::latency_csv(models, evaluation, data)};
    out.replace(
        examples::all_files(files, options_.texts ? examples::read_texts(options_.data, run.main, false) : examples::Texts{}));
  }

  void settle_max_tokens(std::size_t positions) {
    if (options_.max_tokens && *options_.max_tokens > positions)
      throw examples::UsageError(fmt::format("--max-tokens: expected at most {}, the positions of {}, found {}", positions,
                                             options_.model.string(), *options_.max_tokens));
    if (!options_.max_tokens) options_.max_tokens = std::min(examples::usual_max_tokens, positions);
  }

  // What the reader should know before he trusts a number.
  void add_warnings(Results& results) const {
    bool batched = true;
    for (const auto& m : results.models) {
      if (!m.repeats)
        results.notes.push_back("WARNING: " + m.identity.name + " gave other logits in groups of rows than one by one.");
      batched = batched && m.batched_per_second;
      // Groups share the threads' work without waiting for each other: they cannot be slower for a reason of the model's.
      if (m.batched_per_second && *m.batched_per_second < 0.8 * m.per_second())
        results.notes.push_back(fmt::format(
            "WARNING: {} took {:.1f} rows per second in groups and {:.1f} one by one: something else kept the machine busy, "
            "or there are more threads than processors.",
            m.identity.name, *m.batched_per_second, m.per_second()));
    }
    if (!batched && results.rows_done != 0)
      results.notes.push_back(fmt::format("No batched throughput: too few rows to keep {} threads busy.", options_.threads));
    if (options_.threads > results.machine.processors)
      results.notes.push_back(
          fmt::format("WARNING: {} threads on {} processors wait for each other.", options_.threads, results.machine.processors));
  }

  Results blank_results() const {
    Results r;
    r.machine = machine_;
    r.version = LOWBIT_VERSION;
    r.options = examples::recorded(options_);
    r.command = examples::as_command(options_);
    r.interrupted = examples::interrupted();
    return r;
  }

  Results run_synthetic() {
    const auto models = load_all({options_, true}, command_line_);
    std::vector<std::vector<std::int32_t>> rows;
    for (std::size_t i = 0; i < synthetic_rows; ++i)
      rows.push_back(examples::random_tokens(synthetic_tokens, examples::gpt2_small_config().vocab, options_.seed + i));
    std::vector<std::vector<double>> ms(models.size());
    if (models.size() == options_.kinds.size()) ms = examples::measure_latency(models, rows, pool_);
    Results r = blank_results();
    r.dataset =
        "GPT-2 small's shape, random weights (seed " + std::to_string(options_.seed) + "), outlier columns as in a trained model";
    r.latency_rows =
        "One row of " + std::to_string(synthetic_tokens) + " tokens at a time, " + std::to_string(synthetic_rows) + " rows";
    std::size_t base = 0;
    while (base < models.size() && models[base].kind->id != examples::baseline_id) ++base;
    for (std::size_t m = 0; m < models.size(); ++m) {
      r.models.push_back(examples::describe(models[m]));
      r.models.back().latency = examples::summary_of(ms[m]);
      if (base < models.size() && m != base && !ms[m].empty())
        r.models.back().relative = examples::relative_latency(ms[m], ms[base], options_.seed);
      if (models[m].kind->id == "int8_scratch")
        r.notes.push_back("INT8 (scratch) is quantized, not trained: the same bytes and operations.");
    }
    return r;
  }

  Options options_;
  std::vector<std::string> command_line_;
  lowbit::ThreadPool pool_;
  examples::Machine machine_;
};

}  // namespace

int main(int argc, char** argv) {
  examples::outlive_failed_writes();
  try {
    Options options;
    if (const auto code = examples::read_options(argc, argv, options)) {
      require_printed();  // --help, --version
      return *code;
    }
    if (!options.measure_resident.empty()) return measure_resident(options);
    if (!options.report.empty()) return make_report(options);
    examples::watch_for_interrupt();
    examples::warn_of_threads("four_models", options.threads);
    return Program(std::move(options), std::vector<std::string>(argv, argv + argc)).run();
  } catch (const examples::UsageError& error) {
    complain(error.what() + std::string(" (--help explains)"));
    return examples::exit_usage;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return examples::exit_failure;
}
