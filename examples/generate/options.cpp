// SPDX-License-Identifier: MIT
#include "examples/generate/options.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "examples/common/command_line.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/parallel.hpp"

namespace generate {

namespace {

using examples::ModelKind;
using lowbit::Format;

constexpr const char* description =
    "Continues texts with a GPT-2 whose weights are held in float32, INT8, NF4 or another format, on a CPU; compares formats by\n"
    "size, speed and text, and measures perplexity.";

constexpr const char* footer =
    "Formats (--format; by default what the model holds):\n"
    "  fp32          float32 weights and compute\n"
    "  bf16          bfloat16 weights and compute\n"
    "  int8          int8 per row, int8 compute\n"
    "  int8_bnb      LLM.int8(), outliers from 6 on in float32; everything else float16\n"
    "  nf4_bnb, fp4  4 bits, double-quantized; bf16 compute where the processor has it at speed, else int8; everything else "
    "float16\n"
    "  nf4_f32, nf4_int8   the same with float32 or int8 compute\n"
    "  nf4_emb_int8, nf4_all, int8_all   embeddings and head quantized too: a token then reads that much less\n"
    "  int8_scratch  a folder whose int8 weights were trained as such; with --base for its embeddings\n"
    "\n"
    "Examples:\n"
    "  lowbit-generate gpt2 \"The oil price\"                      greedy, float32\n"
    "  lowbit-generate gpt2 \"The oil price\" --format nf4_all --temperature 0.8 --top-p 0.95 --seed 1\n"
    "  lowbit-generate gpt2-q8_0.gguf --file prompt.txt --tokens 200 --stop \"\\n\\n\"\n"
    "  head -20 prompts.txt | lowbit-generate gpt2 --file - --lines --batch 4 --json\n"
    "                                                          a prompt a line, four texts at once\n"
    "  lowbit-generate gpt2 --interactive                      a prompt after the other\n"
    "  lowbit-generate gpt2 \"The oil price\" --compare          all formats side by side\n"
    "  lowbit-generate gpt2 --perplexity test.txt --stride 512 --format fp32,nf4_bnb,nf4_all\n"
    "  lowbit-generate gpt2 --layer-errors --format nf4_bnb,int8\n"
    "\n"
    "Texts are UTF-8, and a file may be a pipe (--file /dev/stdin).\n"
    "MODEL is a Hugging Face folder of a GPT-2 (config.json, weights, vocab.json and merges.txt), also one that bitsandbytes or\n"
    "lowbit-quantize quantized, or a GGUF file of one.  A folder of quantized weights is taken by the formats of those weights.\n"
    "The text goes to standard output as it comes, whole characters only; figures go to standard error, and with --json\n"
    "everything to standard output at the end.  In --stop, \\n and \\t stand for a new line and a tab.\n"
    "Positions: where a text outgrows the model's positions, the model reads its last half anew and goes on from there.\n"
    "--perplexity: of a text, windows of --context tokens, each predicting what the one before has not; of a CSV (class, title,\n"
    "description) every row by itself, its first --row-tokens tokens.  The standard error counts windows, or rows, as "
    "independent.\n"
    "The same options and seed give the same text, whatever the threads and the other texts.\n"
    "Exit codes: 0 done, 1 a file, a model or the system failed, 2 wrong usage, 130 interrupted (SIGTERM: 143); a text that was\n"
    "interrupted is printed as far as it got.";

const ModelKind* kind_of(const std::string& id) {
  const ModelKind* kind = examples::find_kind(id);
  if (kind != nullptr) return kind;
  std::string ids;
  for (const ModelKind& k : examples::model_kinds) ids += (ids.empty() ? "" : ", ") + std::string(k.id);
  throw CLI::ValidationError("--format", "expected ids of " + ids + ", found \"" + id + "\"");
}

// \n, \t and \\ as what they stand for.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    const char stands_for = next == 'n' ? '\n' : next == 't' ? '\t' : next == '\\' ? '\\' : '\0';
    result += stands_for != '\0' ? stands_for : text[i];
    i += stands_for != '\0';
  }
  return result;
}

// Without what CLI11 would say of it in --help.
CLI::Validator positive() { return CLI::Range(std::size_t{1}, std::size_t{1} << 40).description(""); }

void add_prompt_options(CLI::App& app, Options& o) {
  app.add_option("MODEL", o.model, "model folder, or GGUF file")->required();
  app.add_option("PROMPT", o.prompts, "text to continue (again for more)");
  app.add_option("--file", o.file, "read the prompt from a file, - for standard input")->type_name("FILE");
  app.add_flag("--lines", o.lines, "... in which every line that is not blank is a prompt");
  app.add_flag("--interactive", o.interactive, "ask for a prompt again and again, until the input ends");
}

// How the model is held; `formats` is what choose_kinds() takes.
void add_model_options(CLI::App& app, Options& o, std::vector<std::string>& formats) {
  const std::map<std::string, Format> caches{{"f32", Format::f32}, {"bf16", Format::bf16}, {"int8", Format::int8}};
  app.add_option("--format", formats, "how weights are held; several, with commas, for --compare and --perplexity")
      ->delimiter(',')
      ->type_name("ID,...");
  app.add_option("--base", o.base, "folder for embeddings that MODEL leaves out, and its tokenizer")->type_name("DIR");
  app.add_option("--tokenizer", o.tokenizer, "folder of the tokenizer [MODEL]")->type_name("DIR");
  app.add_option_function<std::string>(
         "--cache", [&o, caches](const std::string& name) { o.generation.cache = caches.at(name); },
         "how keys and values are kept: f32, bf16 or int8 [f32]")
      ->check(CLI::IsMember(caches).description(""))
      ->type_name("f32|bf16|int8");
}

void add_sampling_options(CLI::App& app, Options& o) {
  lowbit::gpt2::SamplingOptions& s = o.generation.sampling;
  app.add_option("-n,--tokens", o.generation.max_tokens, "most tokens of a text [128]")->check(positive())->type_name("N");
  app.add_option("--temperature", s.temperature, "0: the likeliest token, always [0]")->type_name("T");
  app.add_option("--top-k", s.top_k, "draw from the K likeliest tokens; 0: all [0]")->type_name("K");
  app.add_option("--top-p", s.top_p, "... from the fewest that together are this likely [1]")->type_name("P");
  app.add_option("--min-p", s.min_p, "... from those this likely, as a share of the likeliest [0]")->type_name("P");
  app.add_option("--repetition-penalty", s.repetition_penalty, "divides logits of tokens that were there before [1]")
      ->type_name("X");
  app.add_option("--repetition-window", s.repetition_window, "... among the last N; 0: all [0]")->type_name("N");
  app.add_option("--seed", s.seed, "of the draws; text i has seed + i [0]")->type_name("N");
}

// Where a text ends, and what of it is read and shown.  --stop is taken as it stands: unescape_stops() comes after.
void add_text_options(CLI::App& app, Options& o) {
  app.add_option("--stop", o.stop_strings, "end a text before this string (again for more)")->type_name("TEXT");
  app.add_option("--stop-token", o.generation.stop_tokens, "end a text at the token of this id (again for more)")
      ->check(CLI::NonNegativeNumber.description(""))
      ->type_name("ID");
  app.add_flag("--special", o.special, "read <|endoftext|> and other added tokens in a prompt or text as tokens");
  app.add_flag("--ignore-end", o.ignore_end, "go on where the model says that the text ends");
  app.add_flag_callback(
      "--no-prompt", [&o] { o.show_prompt = false; }, "print what is new, without the prompt");
  app.add_option("--batch", o.batch, "texts that are continued at once [8]")->check(positive())->type_name("N");
}

void add_measurement_options(CLI::App& app, Options& o) {
  app.add_flag("--compare", o.compare, "the same texts with every format: sizes, speeds and how far they agree");
  app.add_option("--perplexity", o.perplexity, "measure the perplexity of a text or a CSV of news")->type_name("FILE");
  app.add_option("--context", o.context, "--perplexity of a text: tokens of a window [the model's positions]")->type_name("N");
  app.add_option("--stride", o.stride, "... tokens from one window to the next [half of that]")->type_name("N");
  app.add_option("--row-tokens", o.row_tokens, "... of a CSV: most tokens of a row [160]")->check(positive())->type_name("N");
  app.add_option("--rows", o.rows, "... of a CSV: the first N rows [all]")->check(positive())->type_name("N");
  app.add_flag("--layer-errors", o.layer_errors, "signal to noise and cosine of every layer's weights");
}

void choose_kinds(const std::vector<std::string>& formats, Options& o) {
  for (const std::string& id : formats) {
    const ModelKind* kind = kind_of(id);
    if (std::find(o.kinds.begin(), o.kinds.end(), kind) != o.kinds.end())
      throw CLI::ValidationError("--format", "\"" + id + "\" is there twice");
    o.kinds.push_back(kind);
  }
}

void unescape_stops(Options& o) {
  for (std::string& stop : o.stop_strings) {
    if (stop.empty()) throw CLI::ValidationError("--stop", "expected a text, found an empty one");
    stop = unescaped(stop);
  }
}

void check_sampling(const lowbit::gpt2::SamplingOptions& s) {
  try {
    lowbit::gpt2::check(s);
  } catch (const lowbit::InvalidArgument& error) {
    throw CLI::ValidationError(error.what());
  }
}

// Throws ValidationError for options that ask for different things, or for a part of what they need.
void require_one_task(const CLI::App& app, const Options& o) {
  const bool has_prompt = !o.prompts.empty() || !o.file.empty();
  const bool measures = !o.perplexity.empty() || o.layer_errors;
  if (!o.prompts.empty() && !o.file.empty()) throw CLI::ValidationError("--file", "cannot stand beside PROMPT");
  if (o.lines && o.file.empty()) throw CLI::ValidationError("--lines", "needs --file FILE");
  if (o.interactive && (has_prompt || o.compare || o.json))
    throw CLI::ValidationError("--interactive", "cannot stand beside PROMPT, --file, --compare or --json");
  if (measures && (has_prompt || o.interactive || o.compare))
    throw CLI::ValidationError("--perplexity, --layer-errors", "measure instead of continuing a text");
  if (o.layer_errors && !o.perplexity.empty()) throw CLI::ValidationError("--layer-errors", "cannot stand beside --perplexity");
  if (!measures && !o.compare && o.kinds.size() > 1)
    throw CLI::ValidationError("--format", "several are for --compare, --perplexity and --layer-errors");
  if (!measures && !o.interactive && !has_prompt)
    throw CLI::ValidationError("PROMPT", "expected a text, --file, --interactive, --perplexity or --layer-errors");
  for (const char* name : {"--context", "--stride", "--row-tokens", "--rows"})
    if (o.perplexity.empty() && app.count(name) != 0) throw CLI::ValidationError(name, "needs --perplexity FILE");
  if (o.special && (o.layer_errors || o.perplexity.extension() == ".csv"))
    throw CLI::ValidationError("--special", "is for prompts, and for --perplexity of a text");
  for (const char* name : {"--context", "--stride"})
    if (app.count(name) != 0 && app.get_option(name)->as<std::size_t>() == 0)
      throw CLI::ValidationError(name, "expected at least 1, found 0");
}

}  // namespace

std::optional<int> read_options(int argc, const char* const* argv, Options& o) {
  CLI::App app(description, "lowbit-generate");
  app.footer(footer);
  app.set_version_flag("--version", std::string("lowbit-generate ") + LOWBIT_VERSION);
  o.threads = lowbit::available_processors();
  std::vector<std::string> formats;
  add_prompt_options(app, o);
  add_model_options(app, o, formats);
  add_sampling_options(app, o);
  add_text_options(app, o);
  add_measurement_options(app, o);
  app.add_option("--threads", o.threads, "threads [one per processor]")->check(CLI::Range(1, 1024).description(""))->type_name("N");
  app.add_flag("--json", o.json, "print JSON");

  try {
    app.parse(argc, argv);
    choose_kinds(formats, o);
    unescape_stops(o);
    check_sampling(o.generation.sampling);
    require_one_task(app, o);
  } catch (const CLI::Error& end) {  // --help and --version too
    return examples::end_of_parsing(app, end, "lowbit-generate", exit_usage);
  }
  return std::nullopt;
}

}  // namespace generate
