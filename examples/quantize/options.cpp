// SPDX-License-Identifier: MIT
#include "examples/quantize/options.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <type_traits>

#include <CLI/CLI.hpp>

#include "examples/common/command_line.hpp"
#include "lowbit/base/config.hpp"
#include "lowbit/format/four_bit.hpp"
#include "lowbit/parallel.hpp"

namespace quantize {

namespace {

using lowbit::Format;
using lowbit::io::DType;
using lowbit::io::GgufType;

constexpr const char* description =
    "Writes, reads and compares quantized model folders, on a CPU and without Python.  Folders are Hugging Face's: config.json,\n"
    "model.safetensors (or shards and an index); inspect and verify read llama.cpp's GGUF files too.  NF4, FP4 and LLM.int8() come "
    "out in bitsandbytes' layout, byte for byte, so "
    "that\n"
    "transformers loads them, and so does lowbit.";

constexpr const char* footer =
    "Examples:\n"
    "  lowbit-quantize quantize gpt2 gpt2-nf4                            4.13 bits per weight, as load_in_4bit with double quant\n"
    "  lowbit-quantize quantize gpt2 gpt2-nf4 --block 32 --scales search  better weights in the same format\n"
    "  lowbit-quantize quantize gpt2 gpt2-nf4 --scales search --calibration news.txt\n"
    "                                                                    ... where it matters on that text\n"
    "  lowbit-quantize quantize llama llama-int8 --format llm_int8 --rest f16 --shard-size 5GB\n"
    "  lowbit-quantize quantize bert bert-nf4 --skip 'bert.pooler*'      leaves those modules as they are\n"
    "  lowbit-quantize inspect gpt2-nf4 --against gpt2                    every tensor, with its error\n"
    "  lowbit-quantize inspect model.gguf                                 also of a file for llama.cpp\n"
    "  lowbit-quantize dequantize gpt2-nf4 gpt2-f16 --format f16          for programs that know no 4-bit files\n"
    "  lowbit-quantize gguf gpt2 gpt2-q8_0.gguf                           a GPT-2 for llama.cpp\n"
    "  lowbit-quantize verify gpt2-nf4 other                              the first difference of every tensor\n"
    "  lowbit-quantize verify gpt2-q8_0.gguf gpt2                         ... of what they decode to\n"
    "\n"
    "Each command has its own --help.  What is written appears whole or not at all; a run that is killed may leave an OUT.part0,\n"
    "which the next one names.\n"
    "Exit codes: 0 done (verify: equal), 1 a file or the system failed, 2 wrong usage, 3 verify found a difference, 130 "
    "interrupted\n"
    "(SIGTERM: 143).";

constexpr const char* quantize_footer =
    "What is quantized: the weights of linear layers, which are the float matrices X.weight, but for embeddings, norms and heads\n"
    "(*embed*, *wte, *wpe, *shared, *norm*, *ln_*, *lm_head, *embed_out, *score, *classifier*, ...): what bitsandbytes leaves "
    "alone in\n"
    "transformers too.  --skip leaves more modules alone, --only takes exactly the matrices that it names; both are patterns with "
    "*\n"
    "and ? for module names (\"transformer.h.0.*\"), and what they leave alone is written to llm_int8_skip_modules.  Models whose "
    "linear\n"
    "layers are Conv1D, [in, out] (GPT-2 and its kin, by model_type), are turned to [out, in], as transformers does.\n"
    "\n"
    "--rest rounds everything, the weights before they are quantized too: that is what torch_dtype does in transformers.\n"
    "--calibration runs a GPT-2 over lines of a text, in float32, and keeps the mean square of every input of its linear layers: "
    "an\n"
    "error of a weight counts as much as what it is multiplied by.  Other layers (a head that --only names) count evenly.\n"
    "\n"
    "Memory: about twice the largest tensor; with --calibration, the model in float32.  The folder OUT appears whole or not at "
    "all; files of IN that are not weights "
    "(tokenizer,\n"
    "licence) are copied.";

// CLI11 shows "[a,b]" otherwise, which nobody can type.
template <class T>
std::string names_of(const std::map<std::string, T>& names) {
  std::string text;
  for (const auto& [name, value] : names) text += (text.empty() ? "" : "|") + name;
  return text;
}

// An option that takes one of these names, and sets `value` to what the name stands for.
template <class T>
void add_choice(CLI::App* command, const char* option, T& value, const std::map<std::string, std::type_identity_t<T>>& names,
                const char* text) {
  command
      ->add_option_function<std::string>(
          option, [&value, names](const std::string& name) { value = names.at(name); }, text)
      ->check(CLI::IsMember(names))
      ->type_name(names_of(names));
}

void add_folders(CLI::App* command, Options& o) {
  command->add_option("IN", o.in, "model folder, safetensors file or index")->required();
  command->add_option("OUT", o.out, "folder to write")->required();
}

// --shard-size is read by read_options.
void add_writing_options(CLI::App* command, Options& o) {
  command->add_option("--shard-size", "most bytes of a file: 5GB, 500MB, 2GiB [50GB]")->type_name("SIZE");
  command->add_option("--threads", o.threads, "threads [one per processor]")->check(CLI::Range(1, 1024))->type_name("N");
  command->add_flag("--overwrite", o.overwrite, "replace the model in OUT; other files of the folder stay");
  command->add_flag("--json", o.json, "print the summary as JSON");
}

void add_format_options(CLI::App* quantize, Options& o) {
  add_choice(quantize, "--format", o.format,
             {{"nf4", Format::nf4},
              {"fp4", Format::fp4},
              {"llm_int8", Format::llm_int8},
              {"int8", Format::int8},
              {"f16", Format::f16},
              {"bf16", Format::bf16}},
             "nf4, fp4, llm_int8: bitsandbytes'; int8: a scale a row, for lowbit alone; f16, bf16: rounded only [nf4]");
  quantize->add_option("--block", o.block, "nf4, fp4: elements that share a scale, 32 to 4096 [64]")->type_name("N");
  quantize->add_flag_callback(
      "--plain-absmax", [&o] { o.double_quantized = false; }, "nf4, fp4: scales as float32 instead of 8 bits");
  add_choice(quantize, "--scales", o.scales, {{"absmax", Scales::absmax}, {"search", Scales::search}},
             "nf4, fp4: the largest magnitude of the block, or what gives the least squared error [absmax]");
  quantize
      ->add_option("--calibration", o.calibration,
                   "--scales search, GPT-2: weigh errors by the inputs that the layers have on this text, a row a line")
      ->type_name("FILE");
  quantize->add_option("--calibration-rows", o.calibration_rows, "the first N lines that are not empty [128]")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 40))
      ->type_name("N");
}

void add_selection_options(CLI::App* quantize, Options& o) {
  add_choice(quantize, "--rest", o.rest, {{"f32", DType::F32}, {"f16", DType::F16}, {"bf16", DType::BF16}},
             "type of everything that is not quantized [as it is]");
  quantize->add_option("--skip", o.skip, "modules to leave alone, beside embeddings and heads (again for more)")
      ->type_name("PATTERN");
  quantize->add_option("--only", o.only, "quantize these modules and no others (again for more)")->type_name("PATTERN");
}

void add_bitsandbytes_options(CLI::App* quantize, Options& o) {
  add_choice(quantize, "--quant-storage", o.storage,
             {{"uint8", DType::U8}, {"float16", DType::F16}, {"bfloat16", DType::BF16}, {"float32", DType::F32}},
             "nf4, fp4: the type that the file gives the codes [uint8]");
  add_choice(quantize, "--compute-dtype", o.compute, {{"float32", "float32"}, {"float16", "float16"}, {"bfloat16", "bfloat16"}},
             "what transformers is to compute in, written to config.json [float32]");
  quantize
      ->add_option("--offsets-of", o.offsets_of, "take the offsets of double quantization from this checkpoint, to compare bytes")
      ->type_name("DIR");
}

CLI::App* add_quantize(CLI::App& app, Options& o) {
  CLI::App* quantize = app.add_subcommand("quantize", "a folder of floats to a quantized one");
  quantize->footer(quantize_footer);
  add_folders(quantize, o);
  add_format_options(quantize, o);
  add_selection_options(quantize, o);
  add_bitsandbytes_options(quantize, o);
  add_writing_options(quantize, o);
  return quantize;
}

CLI::App* add_dequantize(CLI::App& app, Options& o) {
  CLI::App* dequantize = app.add_subcommand("dequantize", "a quantized folder to one of floats");
  add_folders(dequantize, o);
  add_choice(dequantize, "--format", o.format, {{"f32", Format::f32}, {"f16", Format::f16}, {"bf16", Format::bf16}},
             "of all weights [f32]");
  add_writing_options(dequantize, o);
  return dequantize;
}

CLI::App* add_gguf(CLI::App& app, Options& o) {
  CLI::App* gguf = app.add_subcommand("gguf", "a GPT-2 folder to one file for llama.cpp");
  gguf->footer(
      "The token embedding, the linear layers and an untied head are stored as --format says, all else as float32, as llama.cpp's\n"
      "own quantizer does; Q8_0 has its bytes.  Quantized folders are decoded first.  The tokenizer (vocab.json and merges.txt, "
      "or\n"
      "tokenizer.json; added tokens) goes into the file; a classifier's score.weight has no place there.");
  gguf->add_option("IN", o.in, "folder of a GPT-2 with its tokenizer")->required();
  gguf->add_option("OUT", o.out, "file to write")->required();
  add_choice(gguf, "--format", o.gguf_type, {{"q8_0", GgufType::q8_0}, {"f16", GgufType::f16}, {"f32", GgufType::f32}},
             "q8_0: 8.5 bits per weight; f16, f32 [q8_0]");
  gguf->add_flag("--overwrite", o.overwrite, "replace OUT");
  gguf->add_flag("--json", o.json, "print the summary as JSON");
  return gguf;
}

constexpr const char* checkpoint_text = "model folder, safetensors file or index, or GGUF file";

CLI::App* add_inspect(CLI::App& app, Options& o) {
  CLI::App* inspect = app.add_subcommand("inspect", "what a folder or file holds, weight by weight");
  inspect->footer(
      "Of a GGUF file every tensor is listed, of whatever type; magnitudes and errors are those of F32, F16, BF16, Q8_0, Q4_0 and\n"
      "IQ4_NL, the types that lowbit decodes.  Where IN or --against is a GGUF file and the other a folder, the folder is that of "
      "a\n"
      "GPT-2, whose weights go by the names that the command gguf writes.");
  inspect->add_option("IN", o.in, checkpoint_text)->required();
  inspect->add_option("--against", o.against, "the model before quantization: adds the error of every weight")->type_name("MODEL");
  inspect->add_option("--threads", o.threads, "threads [one per processor]")->check(CLI::Range(1, 1024))->type_name("N");
  inspect->add_flag("--json", o.json, "print JSON");
  return inspect;
}

void add_verify(CLI::App& app, Options& o) {
  CLI::App* verify = app.add_subcommand("verify", "compare two checkpoints, tensor by tensor");
  verify->footer(
      "Tensors are the same if type, shape and bytes are.  Where one side is quantized and the other is not, or differently, the\n"
      "decoded weights are compared, and that counts as a difference.\n"
      "\n"
      "Where A or B is a GGUF file, only what tensors decode to is compared, whatever they are stored as: a file of the same "
      "values in\n"
      "another type is the same.  A folder beside it is that of a GPT-2; its weights go by the names that the command gguf writes, "
      "and\n"
      "what has none in GGUF is listed and not compared.  A tensor of a type that lowbit does not decode (Q6_K) is an error.\n"
      "\n"
      "Exit code 0: all the same, 3: something differs.");
  verify->add_option("A", o.in, checkpoint_text)->required();
  verify->add_option("B", o.out, "what it is compared with")->required();
  verify->add_flag("--json", o.json, "print JSON");
}

std::size_t bytes_of_size(const std::string& text) {
  std::uint64_t bytes = 0;
  std::string number = text, wrong = "no number";
  try {
    wrong = CLI::AsSizeValue(true)(number);
  } catch (const CLI::Error&) {  // its own message lists a hundred spellings
  }
  // A digit first: the cast would take "-5" for a number near 2^64.
  if (!wrong.empty() || text.find_first_of("0123456789") != 0 || !CLI::detail::lexical_cast(number, bytes) || bytes == 0)
    throw CLI::ValidationError("--shard-size", "expected a size such as 5GB, 500MB or 2GiB, found \"" + text + "\"");
  return static_cast<std::size_t>(bytes);
}

// Throws ValidationError for options of the command that do not go together.
void require_compatible(const CLI::App& quantize, const Options& o) {
  const bool four_bit = o.format == Format::nf4 || o.format == Format::fp4;
  if (!lowbit::valid_block_size(o.block))
    throw CLI::ValidationError("--block", "expected a power of two from 32 to 4096, found " + std::to_string(o.block));
  if (!four_bit && o.command == Command::quantize)
    for (const char* name : {"--block", "--plain-absmax", "--scales", "--quant-storage", "--offsets-of"})
      if (quantize.count(name) != 0) throw CLI::ValidationError(name, "is for --format nf4 and fp4");
  if (!o.calibration.empty() && o.scales != Scales::search) throw CLI::ValidationError("--calibration", "needs --scales search");
  if (o.calibration.empty() && quantize.count("--calibration-rows") != 0)
    throw CLI::ValidationError("--calibration-rows", "needs --calibration FILE");
  if (!o.skip.empty() && !o.only.empty()) throw CLI::ValidationError("--only", "cannot stand beside --skip");
}

}  // namespace

std::optional<int> read_options(int argc, const char* const* argv, Options& o) {
  CLI::App app(description, "lowbit-quantize");
  app.footer(footer);
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("lowbit-quantize ") + LOWBIT_VERSION);
  o.threads = lowbit::available_processors();
  o.shard_bytes = std::size_t{50'000'000'000};
  const CLI::App* quantize = add_quantize(app, o);
  const CLI::App* dequantize = add_dequantize(app, o);
  const CLI::App* gguf = add_gguf(app, o);
  const CLI::App* inspect = add_inspect(app, o);
  add_verify(app, o);

  try {
    app.parse(argc, argv);
    o.command = quantize->parsed()     ? Command::quantize
                : dequantize->parsed() ? Command::dequantize
                : inspect->parsed()    ? Command::inspect
                : gguf->parsed()       ? Command::gguf
                                       : Command::verify;
    if (dequantize->parsed() && dequantize->count("--format") == 0) o.format = Format::f32;
    for (const CLI::App* command : {quantize, dequantize})
      if (const auto size = command->get_option("--shard-size")->as<std::string>(); !size.empty())
        o.shard_bytes = bytes_of_size(size);
    require_compatible(*quantize, o);
  } catch (const CLI::Error& end) {  // --help and --version too
    return examples::end_of_parsing(app, end, "lowbit-quantize", exit_usage);
  }
  return std::nullopt;
}

}  // namespace quantize
