// SPDX-License-Identifier: MIT
// four_models: GPT-2 classifiers in float32, INT8 and NF4 beside each other, in memory, time and accuracy.  --help explains.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "dataset.hpp"
#include "evaluation.hpp"
#include "interrupt.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/lowbit.hpp"
#include "options.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "resident.hpp"
#include "results.hpp"
#include "synthetic.hpp"

namespace {

using namespace std::string_literals;
using four_models::LoadedModel;
using four_models::ModelKind;
using four_models::Options;
using four_models::Results;
using lowbit::gpt2::ParameterSource;

constexpr std::size_t latency_rows = 200, synthetic_rows = 30, synthetic_tokens = 52;  // 52: AG News' mean
constexpr const char* synthetic_prefix = "synthetic:";

// Where the parameters of a model come from: a folder, or nowhere.
struct Source {
  const Options& options;
  bool synthetic;

  std::unique_ptr<ParameterSource> open(const ModelKind& kind) const {
    if (synthetic) return std::make_unique<four_models::SyntheticParameters>(four_models::gpt2_small_config(), options.seed);
    if (kind.id == "int8_scratch") return std::make_unique<lowbit::gpt2::FolderParameters>(options.qat_model, options.model);
    return std::make_unique<lowbit::gpt2::FolderParameters>(options.model);
  }
  std::string folder(const ModelKind& kind) const {
    if (synthetic) return "";
    return (kind.id == "int8_scratch" ? options.qat_model : options.model).string();
  }
  std::string id(const ModelKind& kind) const { return (synthetic ? synthetic_prefix : "") + std::string(kind.id); }
};

lowbit::gpt2::Transformer load(const Source& source, const ModelKind& kind) {
  return four_models::make_model(kind, *source.open(kind), source.options.tuning);
}

// The models that were loaded before an interrupt, if there was one.
std::vector<LoadedModel> load_all(const Source& source, const std::vector<std::string>& command_line) {
  std::vector<LoadedModel> models;
  for (const ModelKind* kind : source.options.kinds) {
    if (four_models::interrupted()) break;
    const four_models::Progress progress("loading " + source.id(*kind));
    LoadedModel m;
    m.kind = kind;
    m.folder = source.folder(*kind);
    const auto start = std::chrono::steady_clock::now();
    m.net = load(source, *kind);
    m.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::vector<std::string> arguments = command_line;
    arguments.insert(arguments.end(), {"--measure-resident", source.id(*kind)});
    m.process_growth = four_models::number_from_own_process(arguments);
    models.push_back(std::move(m));
  }
  return models;
}

// The process that weighs one model.
int measure_resident(const Options& options) {
  const bool synthetic = options.measure_resident.starts_with(synthetic_prefix);
  const ModelKind* kind = four_models::find_kind(synthetic ? options.measure_resident.substr(std::string(synthetic_prefix).size())
                                                           : options.measure_resident);
  if (kind == nullptr) return four_models::exit_usage;
  lowbit::default_executor();  // its threads' memory is not the model's
  const auto growth = four_models::resident_growth([&] { return load(Source{options, synthetic}, *kind); });
  if (!growth) return four_models::exit_failure;
  fmt::print("{}\n", *growth);
  return 0;
}

void require_alike(const std::vector<LoadedModel>& models) {
  for (const LoadedModel& m : models)
    if (m.net.config.class_names != models[0].net.config.class_names)
      lowbit::raise<lowbit::FormatError>(m.folder + ": its classes differ from those of " + models[0].folder);
}

class Program {
 public:
  Program(const Options& options, std::vector<std::string> command_line)
      : options_(options),
        command_line_(std::move(command_line)),
        pool_(options.threads),
        machine_(four_models::this_machine(options.threads)) {}

  int run() {
    if (!options_.out.empty()) four_models::prepare_output(options_.out);
    const auto config = lowbit::gpt2::FolderParameters(options_.model).config();
    if (config.classes == 0)
      lowbit::raise<lowbit::FormatError>(options_.model.string() + ": expected a classifier, found no score.weight");
    // All input is read before the long work.
    const auto data = four_models::read_dataset(options_.data, options_.model, config, options_.max_tokens, options_.limit);
    const std::vector<LoadedModel> models = load_all({options_, false}, command_line_);
    require_alike(models);

    // LLM.int8() per call: a call must be one text in both passes, or accuracy and latency would not be of one configuration.
    const std::size_t group = options_.tuning.outliers == lowbit::Outliers::per_call ? 1 : 4;
    four_models::Evaluation evaluation;
    evaluation.done.assign(data.items.size(), 0);
    evaluation.runs.resize(models.size());
    if (models.size() == options_.kinds.size()) evaluation = four_models::evaluate(models, data, latency_rows, group, pool_);

    Results results = blank_results();
    results.dataset = data.path;
    results.latency_rows = "One row at a time at its own length, " + std::to_string(std::min(latency_rows, data.items.size())) +
                           " rows, sampled evenly";
    results.class_names = data.class_names;
    results.rows = data.items.size();
    results.rows_done = evaluation.rows_done();
    results.max_tokens = data.max_tokens;
    results.mean_tokens = data.mean_tokens();
    results.models = four_models::summarize(models, evaluation, data);
    results.notes = options_.notes;
    for (const auto& m : results.models)
      if (!m.repeats)
        results.notes.push_back("WARNING: "s + std::string(m.kind->id) + " gave other logits in groups of rows than one by one.");
    say(comparison_section(results));

    std::optional<Results> synthetic;
    if (options_.synthetic && !four_models::interrupted()) {
      std::fputs("\n", stdout);
      synthetic = run_synthetic();
      say(synthetic_section(*synthetic));
    }
    if (!options_.out.empty()) {
      const auto put = [&](const char* name, const std::string& text) { lowbit::io::write_atomically(options_.out / name, text); };
      const Results* second = synthetic ? &*synthetic : nullptr;
      put("predictions.csv", four_models::predictions_csv(models, evaluation, data));
      put("results.json", four_models::results_json(results, second));
      put("report.md", markdown_);
      four_models::write_figures(options_.out / "figures", results, second);
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      lowbit::raise<lowbit::IoError>("standard output: cannot write the report");
    if (!four_models::interrupted()) return 0;
    fmt::print(stderr, "four_models: interrupted after {} of {} rows{}\n", results.rows_done, results.rows,
               options_.out.empty() ? "" : ", which are in " + options_.out.string());
    return four_models::exit_interrupted;
  }

 private:
  Results blank_results() const {
    Results r;
    r.machine = machine_;
    r.interrupted = four_models::interrupted();
    return r;
  }

  Results run_synthetic() {
    const auto models = load_all({options_, true}, command_line_);
    std::vector<std::vector<std::int32_t>> rows;
    for (std::size_t i = 0; i < synthetic_rows; ++i)
      rows.push_back(four_models::random_tokens(synthetic_tokens, four_models::gpt2_small_config().vocab, options_.seed + i));
    std::vector<std::vector<double>> ms(models.size());
    if (models.size() == options_.kinds.size()) ms = four_models::measure_latency(models, rows, pool_);
    Results r = blank_results();
    r.dataset =
        "GPT-2 small's shape, random weights (seed " + std::to_string(options_.seed) + "), outlier columns as in a trained model";
    r.latency_rows =
        "One row of " + std::to_string(synthetic_tokens) + " tokens at a time, " + std::to_string(synthetic_rows) + " rows";
    for (std::size_t m = 0; m < models.size(); ++m) {
      r.models.push_back(four_models::describe(models[m]));
      r.models.back().latency = four_models::summary_of(ms[m]);
      if (models[m].kind->id == "int8_scratch")
        r.notes.push_back("INT8 (scratch) is quantized, not trained: the same bytes and operations.");
    }
    return r;
  }

  void say(const four_models::Section& section) {
    // Failures count at the end, when the files are written.
    std::fputs(four_models::as_text(section).c_str(), stdout);
    std::fflush(stdout);
    markdown_ += four_models::as_markdown(section);
  }

  const Options& options_;
  std::vector<std::string> command_line_;
  lowbit::ThreadPool pool_;
  four_models::Machine machine_;
  std::string markdown_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options;
    if (const auto code = four_models::read_options(argc, argv, options)) return *code;
    if (!options.measure_resident.empty()) return measure_resident(options);
#if defined(SIGPIPE)
    std::signal(SIGPIPE, SIG_IGN);  // who stops reading the report must not cost the files
#endif
    four_models::watch_for_interrupt();
    return Program(options, std::vector<std::string>(argv, argv + argc)).run();
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "four_models: out of memory\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "four_models: {}\n", error.what());
  }
  return four_models::exit_failure;
}
