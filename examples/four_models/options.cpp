// SPDX-License-Identifier: MIT
#include "examples/four_models/options.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "examples/common/standard_streams.hpp"
#include "lowbit/format/four_bit.hpp"
#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

constexpr const char* description =
    "Compares GPT-2 classifiers of one text, held in float32, INT8 and NF4: memory, latency, throughput and accuracy, as the "
    "tables\n"
    "of \"Model Compression Analysis: GPT-2 Small Quantization Methods\" do, with the paper's own figures beside them; its "
    "accuracy\n"
    "and F1 only where the rows are its 7,600, cut after 160 tokens.\n"
    "\n"
    "Without arguments it compares the small models of the repository on its 400 labelled news items, and adds memory and latency\n"
    "at the full GPT-2 small shape, with synthetic weights.";

constexpr const char* footer =
    "Model ids (--models), the first four by default:\n"
    "  fp32          float32 weights and compute; the baseline\n"
    "  int8_scratch  int8 per row, trained with quantization in the loop; int8 compute; from --qat-model\n"
    "  int8_bnb      LLM.int8(), outliers from 6 on in float32; everything else float16\n"
    "  nf4_bnb       NF4, double-quantized; bf16 compute where the processor has it at speed, else int8;\n"
    "                everything else float16\n"
    "  nf4_f32, nf4_int8   the same with float32 or int8 compute\n"
    "  int8          int8 per row, quantized after training\n"
    "  fp4           FP4, as nf4_bnb\n"
    "  bf16          bfloat16 weights and compute\n"
    "  nf4_emb_int8, nf4_all   as nf4_bnb, with INT8 or NF4 embeddings\n"
    "  int8_all      int8 per row, embeddings too\n"
    "\n"
    "Examples:\n"
    "  four_models                                        the small models, and synthetic GPT-2 small\n"
    "  four_models --no-synthetic --limit 100 --out run   a quick look; run/ receives report.html, report.md and figures,\n"
    "                                                     results.json, predictions.csv and latency.csv\n"
    "  four_models --model gpt2-small-ag-news --qat-model gpt2-small-ag-news-int8-qat --data test.csv --out run\n"
    "                                                     the paper's comparison, on all rows\n"
    "  four_models --model gpt2-ag-news --checkpoint gpt2-ag-news-nf4 --checkpoint gpt2-ag-news-int8 --data test.csv\n"
    "                                                     NF4 and LLM.int8() weights as transformers, bitsandbytes or\n"
    "                                                     lowbit-quantize saved them, instead of quantizing --model's\n"
    "  four_models --report run --paper                   the report of that run again, with the paper's claims one by one\n"
    "  four_models --model DIR --data test.csv --models fp32,nf4_bnb,fp4 --nf4-block 128 --no-double-quant\n"
    "\n"
    "DIR is a Hugging Face folder: config.json, model.safetensors (or an index and shards), vocab.json, merges.txt.  The CSV has\n"
    "three fields: class from 1, title, description; blank lines and rows without a text are skipped and counted.  It may be a "
    "pipe\n"
    "(--data /dev/stdin).  In predictions.csv rows and classes count from 0.  A folder that holds NF4, FP4 or LLM.int8() weights "
    "is\n"
    "taken as it is by the ids of that format, and by no other.  One given as --checkpoint is taken by them alone: the others "
    "have\n"
    "--model, whose tokenizer serves all and which lends what the folder leaves out.  results.json names each model's folder.\n"
    "All models are in memory at once and take turns row by row; accuracy and latency are of the same calls.  report.html is one\n"
    "page without scripts; it shows the texts on which models disagree (--no-texts leaves them out).\n"
    "The files in --out are all of one run or none, also where the disk is full or the program is killed; other files stay.\n"
    "Where the folder cannot be replaced as a whole (the program runs in it, something is mounted there), a run that is killed\n"
    "while it moves files leaves the earlier run in DIR/.four_models.old, and the next run puts that back first.  A killed run\n"
    "may leave a DIR.part0, which the next one names.\n"
    "Ctrl-C, SIGTERM and SIGHUP keep the rows done so far, in DIR/interrupted: a part of a run replaces no whole one.  Before the\n"
    "first row nothing is written.  A second signal ends the program at once.  LOWBIT_ISA=avx2 and the like choose the\n"
    "instruction set.\n"
    "Exit codes: 0 done, 1 a file, a model or the system failed, 2 wrong usage, 130 (SIGTERM 143, SIGHUP 129) interrupted.";

std::string known_ids() {
  std::string ids;
  for (const ModelKind& kind : model_kinds) ids += (ids.empty() ? "" : ", ") + std::string(kind.id);
  return ids;
}

// What a name stands for; the names are the only values that are taken.
template <class T>
T value_of(const std::map<std::string, T>& values, const std::string& name, const std::string& option) {
  const auto found = values.find(name);
  if (found != values.end()) return found->second;
  std::string names;
  for (const auto& [known, value] : values) names += (names.empty() ? "" : ", ") + known;
  throw CLI::ValidationError(option, "expected one of " + names + ", found \"" + name + "\"");
}

void choose_kinds(const std::vector<std::string>& ids, Options& o) {
  const bool has_twin = !o.qat_model.empty();
  for (const std::string& id : ids) {
    const ModelKind* kind = find_kind(id);
    if (kind == nullptr) throw CLI::ValidationError("--models", "expected ids of " + known_ids() + ", found \"" + id + "\"");
    if (kind->id == "int8_scratch" && !has_twin) throw CLI::ValidationError("--models", "int8_scratch needs --qat-model DIR");
    if (std::find(o.kinds.begin(), o.kinds.end(), kind) != o.kinds.end())
      throw CLI::ValidationError("--models", "\"" + id + "\" is there twice");
    o.kinds.push_back(kind);
  }
  if (!ids.empty()) return;
  for (const ModelKind& kind : model_kinds)
    if (kind.headline && (has_twin || kind.id != "int8_scratch")) o.kinds.push_back(&kind);
  if (!has_twin) o.notes.push_back("int8_scratch is left out: it needs --qat-model DIR.");
}

void add_folder_options(CLI::App& app, Options& o) {
  app.add_option("--model", o.model, "the float model [the small one of the repository]")->type_name("DIR");
  app.add_option("--qat-model", o.qat_model, "its INT8 twin, trained with quantization in the loop")->type_name("DIR");
  app.add_option("--checkpoint", o.checkpoints,
                 "the float model quantized by bitsandbytes or lowbit-quantize: ids of its format take it (again for more)")
      ->type_name("DIR")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--data", o.data, "labelled rows [the news items of the repository]")->type_name("CSV");
  app.add_option("--out", o.out, "where the results and the report are written")->type_name("DIR");
}

void add_report_options(CLI::App& app, Options& o) {
  app.add_option("--report", o.report, "run nothing: make the report of the earlier run in DIR again, from its files")
      ->type_name("DIR");
  app.add_flag("--paper", o.paper, "print the paper's claims one by one, and what the run found, too");
  app.add_flag_callback(
      "--no-texts", [&o] { o.texts = false; }, "leave the texts out of report.html");
}

// What runs, on which rows; `ids` is what choose_kinds() takes.
void add_run_options(CLI::App& app, Options& o, std::vector<std::string>& ids) {
  const auto positive = CLI::Range(std::size_t{1}, std::size_t{1} << 40);
  app.add_option("--models", ids, "which models, by id, see below")->delimiter(',')->type_name("ID,...");
  app.add_option("--limit", o.limit, "only the first N rows")->check(positive)->type_name("N");
  app.add_option("--sample", o.sample, "only N of the rows, drawn by the seed")->check(positive)->type_name("N");
  app.add_option("--repeat", o.repeat, "time every row N times and take the median [1]")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  app.add_option("--threads", o.threads, "threads [one per processor that the program may use]")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_option("--max-tokens", o.max_tokens, "texts are cut after N tokens, at most the model's positions [160]")
      ->check(positive)
      ->type_name("N");
  app.add_option("--seed", o.seed, "of the sample, the bootstrap, the synthetic weights and rows [1]")->type_name("N");
}

// How models are quantized; `outliers` and `compute` are names, which settle_tuning() takes.
void add_tuning_options(CLI::App& app, Tuning& t, std::string& outliers, std::string& compute) {
  app.add_option("--nf4-block", t.four_bit_block, "elements of NF4 and FP4 that share a scale: 32, 64, ... 4096 [64]")
      ->type_name("N");
  app.add_flag_callback(
      "--no-double-quant", [&t] { t.double_quantized = false; }, "keep the scales of NF4 and FP4 in float32");
  app.add_option("--int8-threshold", t.int8_threshold, "int8_bnb: |x| from which on a value is an outlier; 0: none [6]")
      ->type_name("X");
  app.add_option("--outliers", outliers,
                 "int8_bnb: take an outlier out of its own row (per-row), or its column out of all rows of a call (per-call; then\n"
                 "every text is a call of its own) [per-row]")
      ->type_name("HOW");
  app.add_option("--compute", compute, "of nf4_bnb and fp4: f32, bf16 or int8")->type_name("TYPE");
}

void check_tuning(const Tuning& t) {
  if (t.four_bit_block > 4096 || !lowbit::valid_block_size(t.four_bit_block))
    throw CLI::ValidationError("--nf4-block", "expected a power of two from 32 to 4096, found " + std::to_string(t.four_bit_block));
  if (!(t.int8_threshold >= 0) || !std::isfinite(t.int8_threshold))
    throw CLI::ValidationError("--int8-threshold", "expected a number from 0 on");
}

void settle_tuning(Tuning& t, const std::string& outliers, const std::string& compute) {
  t.outliers = value_of<lowbit::Outliers>({{"per-row", lowbit::Outliers::per_row}, {"per-call", lowbit::Outliers::per_call}},
                                          outliers, "--outliers");
  if (!compute.empty())
    t.compute = value_of<lowbit::Compute>(
        {{"f32", lowbit::Compute::f32}, {"bf16", lowbit::Compute::bf16}, {"int8", lowbit::Compute::int8}}, compute, "--compute");
}

void require_model(const Options& o) {
  if (o.model.empty() && !o.qat_model.empty())
    throw CLI::ValidationError("--qat-model", "needs --model DIR, which has its embeddings and its tokenizer");
  if (o.model.empty() && !o.checkpoints.empty())
    throw CLI::ValidationError("--checkpoint", "needs --model DIR, the float model that it was made of");
}

// Refuses options of a run beside --report.
void require_report_alone(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options())
    if (option->count() != 0 && option->get_name() != "--report" && option->get_name() != "--paper" &&
        option->get_name() != "--data" && option->get_name() != "--no-texts")
      throw CLI::ValidationError("--report", "takes --data, --no-texts and --paper beside it, found " + option->get_name());
}

// The repository's files, where none are given.
void fill_in_files(Options& o) {
  const std::filesystem::path assets = LOWBIT_ASSETS;
  o.data_given = !o.data.empty();
  if (!o.data_given) o.data = assets / "news_items.csv";
  if (!o.model.empty()) return;
  o.model = assets / "gpt2-mini-ag-news";
  o.qat_model = assets / "gpt2-mini-ag-news-int8-qat";
}

}  // namespace

std::optional<int> read_options(int argc, const char* const* argv, Options& o) {
  CLI::App app(description, "four_models");
  app.footer(footer);
  std::string outliers = "per-row", compute;
  std::vector<std::string> ids;
  bool no_synthetic = false;
  o.threads = lowbit::available_processors();
  add_folder_options(app, o);
  add_report_options(app, o);
  add_run_options(app, o, ids);
  add_tuning_options(app, o.tuning, outliers, compute);
  app.add_flag("--no-synthetic", no_synthetic, "leave out the part with synthetic weights");
  app.set_version_flag("--version", "four_models (lowbit) " LOWBIT_VERSION);
  app.add_option("--measure-resident", o.measure_resident)->group("");  // hidden: how the program starts itself

  try {
    app.parse(argc, argv);
    check_tuning(o.tuning);
    require_model(o);
    settle_tuning(o.tuning, outliers, compute);
    if (!o.report.empty()) require_report_alone(app);
    o.synthetic = o.model.empty() && !no_synthetic;
    fill_in_files(o);
    choose_kinds(ids, o);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::Error& error) {
    complain("four_models", error.what() + std::string(" (--help explains)"));
    return exit_usage;
  }
  return std::nullopt;
}

lowbit::io::Json recorded(const Options& o) {
  lowbit::io::Json ids = lowbit::io::Json::array();
  for (const ModelKind* kind : o.kinds) ids.push_back(kind->id);
  lowbit::io::Json checkpoints = lowbit::io::Json::array();
  for (const auto& folder : o.checkpoints) checkpoints.push_back(folder.string());
  const char* isa = std::getenv("LOWBIT_ISA");
  const auto or_null = [](bool given, const auto& value) { return given ? lowbit::io::Json(value) : lowbit::io::Json(nullptr); };
  return {{"model", o.model.string()},
          {"qat_model", or_null(!o.qat_model.empty(), o.qat_model.string())},
          {"checkpoints", checkpoints},
          {"data", o.data.string()},
          {"models", ids},
          {"limit", or_null(o.limit != 0, o.limit)},
          {"sample", or_null(o.sample != 0, o.sample)},
          {"repeat", o.repeat},
          {"threads", o.threads},
          {"max_tokens", o.max_tokens.value_or(usual_max_tokens)},
          {"seed", o.seed},
          {"nf4_block", o.tuning.four_bit_block},
          {"double_quant", o.tuning.double_quantized},
          {"int8_threshold", o.tuning.int8_threshold},
          {"outliers", o.tuning.outliers == lowbit::Outliers::per_row ? "per-row" : "per-call"},
          {"compute", lowbit::compute_name(four_bit_compute(o.tuning))},
          {"synthetic", o.synthetic},
          {"LOWBIT_ISA", or_null(isa != nullptr, isa != nullptr ? isa : "")}};
}

std::string as_command(const Options& o) {
  const auto quoted = [](const std::filesystem::path& path) {
    std::string word = "'";
    for (const char c : path.string()) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
    const bool plain = path.string().find_first_of(" \t\n'\"\\$`&;|<>()*?[]#~!{}") == std::string::npos;
    return plain ? path.string() : word + "'";
  };
  std::string ids;
  for (const ModelKind* kind : o.kinds) ids += (ids.empty() ? "" : ",") + std::string(kind->id);
  std::string command = "four_models";
  if (const char* isa = std::getenv("LOWBIT_ISA")) command = "LOWBIT_ISA=" + std::string(isa) + " " + command;
  if (!o.synthetic) command += " --model " + quoted(o.model);  // which the part with synthetic weights goes without
  if (!o.synthetic && !o.qat_model.empty()) command += " --qat-model " + quoted(o.qat_model);
  for (const auto& folder : o.checkpoints) command += " --checkpoint " + quoted(folder);
  command += " --data " + quoted(o.data) + " --models " + ids;
  if (o.limit != 0) command += fmt::format(" --limit {}", o.limit);
  if (o.sample != 0) command += fmt::format(" --sample {}", o.sample);
  if (o.repeat != 1) command += fmt::format(" --repeat {}", o.repeat);
  command += fmt::format(" --threads {} --max-tokens {} --seed {} --nf4-block {}{} --int8-threshold {} --outliers {} --compute {}",
                         o.threads, o.max_tokens.value_or(usual_max_tokens), o.seed, o.tuning.four_bit_block,
                         o.tuning.double_quantized ? "" : " --no-double-quant", o.tuning.int8_threshold,
                         o.tuning.outliers == lowbit::Outliers::per_row ? "per-row" : "per-call",
                         lowbit::compute_name(four_bit_compute(o.tuning)));
  return command;
}

}  // namespace examples
