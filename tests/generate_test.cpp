// SPDX-License-Identifier: MIT
// The program lowbit-generate as a user meets it: texts continued, formats compared, perplexity, errors of layers, and what it refuses.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "examples/common/models.hpp"
#include "examples/generate/perplexity.hpp"
#include "lowbit/gpt2/generation.hpp"
#include "lowbit/gpt2/gguf_writer.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/tensor/error_statistics.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/npy.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"

namespace generate_test {

using lowbit::DenseTensor;
using lowbit::Format;
using lowbit::gpt2::Model;
using lowbit::gpt2::Transformer;
using lowbit::io::Json;
using lowbit_test::Folder;
using lowbit_test::Outcome;
using lowbit_test::Process;
using lowbit_test::put_file;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;
using Ids = std::vector<std::int32_t>;

const fs::path& mini() {
  static const fs::path folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
  return folder;
}
const lowbit::gpt2::Tokenizer& tokenizer() {
  static const auto t = lowbit::gpt2::Tokenizer::load(mini());
  return t;
}
Outcome run(const Folder& folder, Arguments arguments) {
  arguments.insert(arguments.begin(), mini().string());
  return Process(LOWBIT_GENERATE, folder, arguments).wait();
}
std::string text_of(const Folder& folder, const Arguments& arguments) {
  const Outcome o = run(folder, arguments);
  INFO(o.out << o.err);
  REQUIRE(o.code == 0);
  return o.out;
}
Json json_of(const Folder& folder, Arguments arguments) {
  arguments.push_back("--json");
  return lowbit::io::parse_json(text_of(folder, arguments), "standard output");
}
bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// Greedy tokens by the library.
Ids greedy(const Transformer& m, const std::string& prompt, std::size_t count) {
  lowbit::SerialExecutor serial;
  lowbit::gpt2::GenerationOptions o;
  o.max_tokens = count;
  lowbit::gpt2::Sequence s(m.config, tokenizer().encode(prompt), o);
  lowbit::gpt2::Sequence* const batch[] = {&s};
  while (!s.done()) lowbit::gpt2::advance(m, batch, serial);
  return {s.tokens().begin(), s.tokens().end()};
}

TEST_CASE("lowbit-generate: greedy text, as it comes and as JSON", "[generate]") {
  const Folder folder;
  const std::string prompt = "Oil prices rose in New York";
  const auto m = Model<DenseTensor<float>>::load(mini());
  const Ids tokens = greedy(m, prompt, 12);
  const std::string text = tokenizer().decode(tokens);
  CHECK(text_of(folder, {prompt, "-n", "12"}) == prompt + text + "\n");
  CHECK(text_of(folder, {prompt, "-n", "12", "--no-prompt", "--threads", "1"}) == text + "\n");
  const Json j = json_of(folder, {prompt, "-n", "12"});
  CHECK(j.at("texts").at(0).at("tokens").get<Ids>() == tokens);
  CHECK(j.at("texts").at(0).at("text") == text);
  CHECK(j.at("texts").at(0).at("finish") == "length");
  CHECK(j.at("prefill").at("tokens") == tokenizer().encode(prompt).size());
  CHECK(j.at("decode").at("tokens") == 11);  // the first one comes of the prompt
  Json settings = {{"tokens", 12},
                   {"temperature", 0.0},
                   {"top_k", 0},
                   {"top_p", 1.0},
                   {"min_p", 0.0},
                   {"repetition_penalty", 1.0},
                   {"repetition_window", 0},
                   {"seed", 0},
                   {"stop", Json::array()},
                   {"stop_tokens", Json::array()},
                   {"special", false},
                   {"ignore_end", false},
                   {"batch", 8},
                   {"cache", "f32"}};
  CHECK(j.at("settings") == settings);
  settings.update({{"temperature", 0.5},
                   {"top_k", 7},
                   {"top_p", 0.75},
                   {"min_p", 0.25},
                   {"repetition_penalty", 1.5},
                   {"repetition_window", 3},
                   {"seed", 9},
                   {"stop", {"\n"}},
                   {"stop_tokens", {5}},
                   {"ignore_end", true},
                   {"batch", 2},
                   {"cache", "int8"}});
  for (const char* format : {"fp32", "fp32,int8"}) {
    Arguments more = {prompt,     "-n",
                      "12",       "--temperature",
                      "0.5",      "--top-k",
                      "7",        "--top-p",
                      "0.75",     "--min-p",
                      "0.25",     "--repetition-penalty",
                      "1.5",      "--repetition-window",
                      "3",        "--seed",
                      "9",        "--stop",
                      "\\n",      "--stop-token",
                      "5",        "--ignore-end",
                      "--batch",  "2",
                      "--cache",  "int8",
                      "--format", format};
    if (std::string(format) != "fp32") more.push_back("--compare");
    CHECK(json_of(folder, more).at("settings") == settings);
  }
  CHECK(j.at("decode").at("tokens_per_second").get<double>() > 0);
  CHECK(j.at("format").at("resident_bytes") == m.memory().resident_bytes);
  CHECK(j.at("cache").at("bytes") == lowbit::gpt2::KvCache(m.config, tokenizer().encode(prompt).size() + 11).resident_bytes());
  // Beyond the model's positions it goes on.
  const std::size_t longer = m.config.positions + 20;
  CHECK(json_of(folder, {prompt, "--ignore-end", "-n", std::to_string(longer)}).at("texts").at(0).at("tokens").get<Ids>() ==
        greedy(m, prompt, longer));
}

TEST_CASE("lowbit-generate: special tokens in a prompt are text unless --special says otherwise", "[generate]") {
  const Folder folder;
  const std::string prompt = "<|endoftext|>Oil prices";
  const auto prompt_tokens = [&](const Arguments& arguments) {
    return json_of(folder, arguments).at("texts").at(0).at("prompt_tokens").get<std::size_t>();
  };
  CHECK(prompt_tokens({prompt, "-n", "1"}) == tokenizer().encode(prompt).size());
  CHECK(prompt_tokens({prompt, "-n", "1", "--special"}) == 1 + tokenizer().encode("Oil prices").size());
  // Forty tokens fit; as text they are more than the model's positions.
  std::string many;
  for (int i = 0; i < 40; ++i) many += "<|endoftext|>";
  const Outcome fits = run(folder, {many, "-n", "1", "--special"}), cut = run(folder, {many, "-n", "1"});
  CHECK(fits.err.find("warning") == std::string::npos);
  CHECK(cut.err.find("warning: prompt 1 has") != std::string::npos);
  put_file(folder / "rows.csv", "1,Oil,<|endoftext|>\n");
  for (const Arguments& a : {Arguments{"--special", "--layer-errors"}, Arguments{"--special", "--perplexity", folder / "rows.csv"}})
    CHECK(run(folder, a).code == 2);
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("lowbit-generate: the process grows by what the table says, however long the text", "[generate]") {
  const Folder folder;
  const auto grown = [&](const char* tokens) {
    const Json j = json_of(folder, {"Oil prices", "--ignore-end", "--threads", "2", "--format", "int8", "-n", tokens});
    CHECK(j.at("texts").at(0).at("tokens").size() == std::stoull(tokens));
    REQUIRE(j.at("process_growth_bytes").is_number());
    const auto bytes = j.at("process_growth_bytes").get<std::size_t>();
    const std::size_t held = j.at("format").at("resident_bytes").get<std::size_t>() + j.at("cache").at("bytes").get<std::size_t>();
    CAPTURE(tokens, bytes, held);
    CHECK(bytes >= held);
    CHECK(bytes < held + 3'000'000);  // threads' stacks and workspaces, activations, pages' ends
    return bytes;
  };
  // Positions are wrapped from some hundred tokens on.
  const std::size_t after_600 = grown("600"), after_3000 = grown("3000");
  CHECK(after_3000 < after_600 + 500'000);
}
#endif

TEST_CASE("lowbit-generate: draws depend on options and seed alone", "[generate]") {
  const Folder folder;
  put_file(folder / "prompts", "Oil prices\r\n\n  \nThe game\nA new phone");
  const auto texts = [&](Arguments more) {
    Arguments a = {
        "--file", (folder / "prompts").string(), "--lines", "-n",      "10",  "--temperature", "1", "--top-p", "0.9", "--top-k",
        "40",     "--repetition-penalty",        "1.2",     "--min-p", "0.01"};
    a.insert(a.end(), more.begin(), more.end());
    return json_of(folder, a).at("texts");
  };
  const Json expected = texts({"--seed", "5"});
  REQUIRE(expected.size() == 3);
  CHECK(expected.at(0).at("prompt") == "Oil prices");
  CHECK(texts({"--seed", "5", "--batch", "1", "--threads", "1"}) == expected);
  CHECK(texts({"--seed", "5", "--batch", "2", "--threads", "3"}) == expected);
  CHECK(texts({"--seed", "6"}) != expected);
  CHECK(texts({"--seed", "6"}).at(0).at("prompt_tokens") == expected.at(0).at("prompt_tokens"));
  // Text 1 has seed 5 + 1.
  const Json alone = json_of(folder, {"The game", "-n", "10", "--temperature", "1", "--top-p", "0.9", "--top-k", "40",
                                      "--repetition-penalty", "1.2", "--min-p", "0.01", "--seed", "6"});
  CHECK(alone.at("texts").at(0) == expected.at(1));
}

TEST_CASE("lowbit-generate: where texts end", "[generate]") {
  const Folder folder;
  const std::string prompt = "Oil prices rose";
  const Json whole = json_of(folder, {prompt, "-n", "8", "--repetition-penalty", "1.5"}).at("texts").at(0);
  const auto text = whole.at("text").get<std::string>();
  REQUIRE(text.size() > 8);
  const std::string stop = text.substr(text.size() / 2, 3);
  const std::string before = text.substr(0, text.find(stop));
  const Json stopped = json_of(folder, {prompt, "-n", "8", "--repetition-penalty", "1.5", "--stop", "never", "--stop", stop});
  CHECK(stopped.at("texts").at(0).at("text") == before);
  CHECK(stopped.at("texts").at(0).at("finish") == "stop string");
  CHECK(text_of(folder, {prompt, "-n", "8", "--repetition-penalty", "1.5", "--stop", stop}) == prompt + before + "\n");
  const Ids ids = whole.at("tokens").get<Ids>();
  const auto first = std::find(ids.begin(), ids.end(), ids[4]) - ids.begin();
  const Json at_token = json_of(folder, {prompt, "-n", "8", "--repetition-penalty", "1.5", "--stop-token", std::to_string(ids[4])});
  CHECK(at_token.at("texts").at(0).at("tokens").get<Ids>() == Ids(ids.begin(), ids.begin() + first));
  CHECK(at_token.at("texts").at(0).at("finish") == "stop token");
  // An empty prompt begins with the token between texts, if there is one.
  put_file(folder / "empty", "");
  const bool has_end = tokenizer().encode_with_added("<|endoftext|>").size() == 1;
  CHECK(run(folder, {"--file", (folder / "empty").string(), "-n", "2"}).code == (has_end ? 0 : 1));
}

TEST_CASE("lowbit-generate: formats side by side", "[generate]") {
  const Folder folder;
  const Json j = json_of(folder, {"Oil prices rose", "The game", "-n", "6", "--compare"});
  std::set<std::string> ids;
  for (const Json& f : j.at("formats")) {
    const auto id = f.at("format").get<std::string>();
    CAPTURE(id);
    ids.insert(id);
    examples::ModelKind kind = *examples::find_kind(id);
    if (kind.rest == Format::f16 && !kind.embeddings) kind.embeddings = Format::f16;  // the program packs its head
    const Transformer m = examples::make_model(kind, lowbit::gpt2::FolderParameters(mini()), {});
    CHECK(f.at("resident_bytes") == m.memory().resident_bytes);
    CHECK(f.at("texts").at(1).at("tokens").get<Ids>() == greedy(m, "The game", 6));
    CHECK(f.at("tokens_of_first") == 12);
  }
  CHECK(ids.size() == j.at("formats").size());
  for (const char* id : {"fp32", "int8", "int8_bnb", "nf4_bnb", "fp4", "nf4_emb_int8", "nf4_all", "int8_all"})
    CHECK(ids.count(id) == 1);
  CHECK(j.at("formats").at(0).at("tokens_in_common") == 12);
  CHECK(holds(text_of(folder, {"Oil", "-n", "2", "--compare", "--format", "fp32,nf4_all"}), "NF4, all"));
}

TEST_CASE("lowbit-generate: a GGUF file with its own tokenizer", "[generate]") {
  const Folder folder;
  const std::string file = (folder / "model.gguf").string();
  lowbit::gpt2::write_gguf(file, lowbit::gpt2::FolderParameters(mini()), lowbit::gpt2::TokenizerFiles::read(mini()),
                           lowbit::io::GgufType::f32, "mini");
  const Outcome o = Process(LOWBIT_GENERATE, folder, {file, "Oil prices", "-n", "6"}).wait();
  INFO(o.err);
  CHECK(o.code == 0);
  CHECK(o.out == text_of(folder, {"Oil prices", "-n", "6"}));
  lowbit::gpt2::write_gguf(file, lowbit::gpt2::FolderParameters(mini()), lowbit::gpt2::TokenizerFiles::read(mini()),
                           lowbit::io::GgufType::q8_0, "mini");
  const Outcome q8 = Process(LOWBIT_GENERATE, folder, {file, "Oil prices", "-n", "6", "--json"}).wait();
  INFO(q8.err);
  REQUIRE(q8.code == 0);
  CHECK(lowbit::io::parse_json(q8.out, "stdout").at("format").at("format") == "int8");
  CHECK(holds(q8.err, "INT8, block 32,"));
}

TEST_CASE("lowbit-generate: a GGUF file of 16-bit floats is a float model, and 4 bits by another table are not called NF4",
          "[generate]") {
  const Folder folder;
  const std::string file = (folder / "model.gguf").string();
  lowbit::gpt2::write_gguf(file, lowbit::gpt2::FolderParameters(mini()), lowbit::gpt2::TokenizerFiles::read(mini()),
                           lowbit::io::GgufType::f16, "mini");
  for (const std::string format : {"", "fp32", "nf4_f32"}) {
    CAPTURE(format);
    std::vector<std::string> more = {"Oil prices", "-n", "6"};
    if (!format.empty()) more.insert(more.end(), {"--format", format});
    std::vector<std::string> arguments = {file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome o = Process(LOWBIT_GENERATE, folder, arguments).wait();
    INFO(o.err);
    CHECK(o.code == 0);
    CHECK(o.out == text_of(folder, more));
  }
  CHECK(Process(LOWBIT_GENERATE, folder, {file, "Oil", "-n", "2", "--compare"}).wait().code == 0);

  // Q4_0 of a source whose floats are the small model's.
  class Q4 final : public lowbit::gpt2::ParameterSource {
   public:
    const lowbit::gpt2::Config& config() const override { return floats_.config(); }
    bool contains(const std::string& name) const override { return floats_.contains(name); }
    lowbit::AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override {
      return floats_.floats(name, rows, cols);
    }
    lowbit::Tensor linear(const std::string&, std::size_t out, std::size_t in) const override {
      lowbit::TensorParts p;
      p.format = Format::nf4;
      p.rows = out;
      p.cols = in;
      p.block = 32;
      for (int q = 0; q < 16; ++q) p.table[static_cast<std::size_t>(q)] = static_cast<float>(q - 8);
      p.codes.reset(out * in / 2);
      p.scales.reset(out * in / 32);
      return lowbit::Tensor(std::move(p));
    }

   private:
    lowbit::gpt2::FolderParameters floats_{mini()};
  };
  const auto name_of = [](const char* id) {
    return examples::make_checked_model(*examples::find_kind(id), Q4{}, {}, "q4", true).second;
  };
  CHECK(name_of("nf4_bnb").name == "4 bits, block 32");
  CHECK(name_of("nf4_f32").name == "4 bits, f32, block 32");
  CHECK(name_of("nf4_bnb").weights.starts_with("4 bits by the file's table, in blocks of 32"));
}

TEST_CASE("lowbit-generate: windows predict every token but the first one once", "[generate]") {
  using generate::Window;
  for (const std::size_t tokens : {std::size_t{2}, std::size_t{9}, std::size_t{10}, std::size_t{11}, std::size_t{64}})
    for (const std::size_t context : {std::size_t{2}, std::size_t{3}, std::size_t{10}, std::size_t{100}})
      for (std::size_t stride = 1; stride <= context; stride += 3) {
        CAPTURE(tokens, context, stride);
        std::vector<int> times(tokens, 0);
        for (const Window& w : generate::windows_of(tokens, context, stride)) {
          CHECK(w.end - w.begin <= context);
          CHECK(w.end <= tokens);
          CHECK(w.predicted > w.begin);
          for (std::size_t t = w.predicted; t < w.end; ++t) ++times[t];
        }
        times[0] += 1;
        CHECK(std::all_of(times.begin(), times.end(), [](int n) { return n == 1; }));
      }
  CHECK(generate::windows_of(1, 8, 4).empty());
  CHECK(generate::windows_of(0, 8, 4).empty());
}

TEST_CASE("lowbit-generate: the standard error is that of the jackknife", "[generate]") {
  std::vector<generate::Unit> units;
  for (std::size_t i = 0; i < 200; ++i)
    units.push_back({3.0 * static_cast<double>(20 + i % 37) + static_cast<double>((i * 7919) % 101), 20 + i % 37});
  const auto ratio = [](const std::vector<generate::Unit>& u) {
    double nll = 0, tokens = 0;
    for (const auto& x : u) nll += x.nll, tokens += static_cast<double>(x.tokens);
    return std::exp(nll / tokens);
  };
  std::vector<double> without;
  for (std::size_t i = 0; i < units.size(); ++i) {
    auto rest = units;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
    without.push_back(ratio(rest));
  }
  double mean = 0, squares = 0;
  for (const double v : without) mean += v / static_cast<double>(without.size());
  for (const double v : without) squares += (v - mean) * (v - mean);
  const double jackknife = std::sqrt(squares * static_cast<double>(units.size() - 1) / static_cast<double>(units.size()));
  const generate::Estimate e = generate::perplexity(units);
  CHECK(std::fabs(e.value / ratio(units) - 1) < 1e-12);
  REQUIRE(e.error);
  CHECK(std::fabs(*e.error / jackknife - 1) < 0.02);
  CHECK_FALSE(generate::perplexity(std::span(units).first(1)).error);
}

TEST_CASE("lowbit-generate: perplexity of a text and of rows, per format", "[generate]") {
  const Folder folder;
  lowbit::SerialExecutor serial;
  const auto nll = [&](const Transformer& m, const Ids& ids, std::size_t first) {
    const std::size_t offsets[] = {0, ids.size()}, vocab = m.config.vocab;
    std::vector<float> logits(ids.size() * vocab);
    m.language_logits(ids, offsets, logits, serial);
    double sum = 0;
    for (std::size_t t = first; t < ids.size(); ++t) {
      double total = 0;
      for (std::size_t v = 0; v < vocab; ++v) total += std::exp(static_cast<double>(logits[(t - 1) * vocab + v]));
      sum += std::log(total) - static_cast<double>(logits[(t - 1) * vocab + static_cast<std::size_t>(ids[t])]);
    }
    return sum;
  };
  const std::string text =
      "Oil prices rose in New York on Monday as traders waited for the government's report on stocks of crude and gasoline. "
      "The Red Sox beat the Yankees in the ninth inning, and a new phone is to be sold in Japan from June on.";
  put_file(folder / "text", text);
  put_file(folder / "rows.csv",
           "\"1\",\"Oil prices\",\"They rose in New York on Monday.\"\n\"2\",\"Red Sox\",\"They won.\"\n\"3\",\"x\",\"\"\n");
  const Ids ids = tokenizer().encode(text);
  REQUIRE(ids.size() > 40);
  const Json windows =
      json_of(folder, {"--perplexity", (folder / "text").string(), "--context", "16", "--stride", "6", "--format", "fp32,nf4_all"});
  const Json rows = json_of(folder, {"--perplexity", (folder / "rows.csv").string(), "--format", "int8_all"});
  for (const Json& f : windows.at("formats")) {
    const auto id = f.at("format").get<std::string>();
    CAPTURE(id);
    const Transformer m = examples::make_model(*examples::find_kind(id), lowbit::gpt2::FolderParameters(mini()), {});
    double sum = 0;
    std::size_t i = 0;
    for (const generate::Window& w : generate::windows_of(ids.size(), 16, 6)) {
      const Ids part(ids.begin() + static_cast<std::ptrdiff_t>(w.begin), ids.begin() + static_cast<std::ptrdiff_t>(w.end));
      const double expected = nll(m, part, w.predicted - w.begin);
      CHECK(std::fabs(f.at("nll").at(i++).get<double>() / expected - 1) < 1e-6);
      sum += expected;
    }
    CHECK(i == f.at("nll").size());
    CHECK(f.at("predicted_tokens") == ids.size() - 1);
    CHECK(std::fabs(f.at("perplexity").at("value").get<double>() / std::exp(sum / static_cast<double>(ids.size() - 1)) - 1) < 1e-5);
    CHECK(f.at("perplexity").at("standard_error").get<double>() > 0);
  }
  CHECK(windows.at("formats").at(0).at("nats_per_token_against_first").at("value") == 0.0);
  CHECK(windows.at("formats").at(1).at("nats_per_token_against_first").at("value") != 0.0);
  const Transformer m = examples::make_model(*examples::find_kind("int8_all"), lowbit::gpt2::FolderParameters(mini()), {});
  const Json& likelihoods = rows.at("formats").at(0).at("nll");
  REQUIRE(likelihoods.size() >= 2);
  CHECK(std::fabs(likelihoods.at(0).get<double>() / nll(m, tokenizer().encode("Oil prices They rose in New York on Monday."), 1) -
                  1) < 1e-6);
  CHECK(holds(text_of(folder, {"--perplexity", (folder / "text").string(), "--context", "16", "--format", "fp32"}), "perplexity"));
  CHECK(windows.at("settings") == Json{{"tokens", ids.size()}, {"context", 16}, {"stride", 6}, {"special", false}});

  // What is not measured is counted.
  const std::string gaps = (folder / "gaps.csv").string();
  put_file(gaps, "1,Oil prices,They rose.\n\n2,\"\",\" \"\n2,\"\",they\n  \n3,Red Sox,They won.\n");
  REQUIRE(tokenizer().encode(" they").size() == 1);
  CHECK(holds(text_of(folder, {"--perplexity", gaps, "--row-tokens", "3", "--format", "fp32"}),
              "2 rows, 2 of them cut after 3 tokens; 1 rows of one token, 1 without a text and 2 blank lines skipped"));
  CHECK(
      json_of(folder, {"--perplexity", gaps, "--row-tokens", "3", "--rows", "9", "--format", "fp32"}).at("settings") ==
      Json{
          {"row_tokens", 3}, {"rows", 9}, {"cut_rows", 2}, {"rows_of_one_token", 1}, {"rows_without_text", 1}, {"blank_lines", 2}});
}

TEST_CASE("lowbit-generate: errors of every layer's weights", "[generate]") {
  const Folder folder;
  const Json j = json_of(folder, {"--layer-errors", "--format", "nf4_bnb,int8_all"});
  const lowbit::gpt2::FolderParameters source(mini());
  const auto& config = source.config();
  REQUIRE(j.at("layers").size() == 4 * config.layers + 2);
  const lowbit::Tensor w = source.linear("h.0.attn.c_proj", config.width, config.width);
  const auto* values = reinterpret_cast<const float*>(w.parts().codes.data());
  const auto nf4 = lowbit::error_statistics(values, config.width, config.width,
                                            lowbit::NF4Tensor<>::quantize(values, config.width, config.width));
  CHECK(j.at("layers").at(1).at("layer") == "h.0.attn.c_proj");
  CHECK(std::fabs(j.at("layers").at(1).at("nf4_bnb").at("snr_db").get<double>() - nf4.snr_db) < 1e-9);
  CHECK(std::fabs(j.at("layers").at(1).at("nf4_bnb").at("cosine").get<double>() - nf4.cosine) < 1e-12);
  const Json& embedding = j.at("layers").at(4 * config.layers);
  CHECK(embedding.at("layer") == "wte");
  CHECK_FALSE(embedding.contains("nf4_bnb"));  // its embeddings are not quantized
  CHECK(embedding.at("int8_all").at("snr_db").get<double>() > 30);
}

TEST_CASE("lowbit-generate: help teaches, mistakes are named", "[generate]") {
  const Folder folder;
  const Outcome help = run(folder, {"--help"});
  CHECK(help.code == 0);
  for (const char* word : {"Examples:", "--perplexity", "nf4_all", "Exit codes", "Positions:"}) CHECK(holds(help.out, word));
  const auto refused = [&](int code, const Arguments& arguments, const std::vector<std::string>& words) {
    const Outcome o = run(folder, arguments);
    CAPTURE(o.err, o.out);
    CHECK(o.code == code);
    CHECK(o.out.empty());
    for (const std::string& word : words) CHECK(holds(o.err, word));
  };
  refused(2, {}, {"PROMPT"});
  refused(2, {"a", "--format", "q4"}, {"--format", "fp32", "\"q4\""});
  refused(2, {"a", "--format", "fp32,fp32"}, {"twice"});
  refused(2, {"a", "--format", "fp32,int8"}, {"--compare"});
  refused(2, {"a", "--temperature", "-1"}, {"temperature", "found -1"});
  refused(2, {"a", "--top-p", "0"}, {"top_p"});
  refused(2, {"a", "--cache", "nf4"}, {"--cache"});
  refused(2, {"a", "--stop", ""}, {"--stop"});
  refused(2, {"a", "--file", "b"}, {"--file", "PROMPT"});
  refused(2, {"a", "--lines"}, {"--lines"});
  refused(2, {"a", "--stride", "3"}, {"--stride", "--perplexity"});
  refused(2, {"a", "--perplexity", "b"}, {"instead"});
  refused(2, {"--interactive", "--json"}, {"--interactive"});
  refused(1, {"--file", "missing"}, {"missing"});
  refused(1, {"a", "--format", "int8_scratch"}, {"int8_scratch", "found f32"});
  put_file(folder / "one", "a");
  refused(1, {"--perplexity", (folder / "one").string()}, {"at least two tokens"});
  put_file(folder / "text", "some text of a few tokens");
  refused(1, {"--perplexity", (folder / "text").string(), "--context", "100000"}, {"--context", "positions"});
  refused(1, {"--perplexity", (folder / "text").string(), "--context", "8", "--stride", "9"}, {"--stride"});
  refused(1, {"a", "--stop-token", "1000000"}, {"--stop-token", "0 to", "found 1000000"});
  refused(1, {"--layer-errors", "--format", "fp32"}, {"--layer-errors"});
  const Outcome missing = Process(LOWBIT_GENERATE, folder, {(folder / "nowhere").string(), "a"}).wait();
  CHECK(missing.code == 1);
  CHECK(holds(missing.err, "nowhere"));
}

TEST_CASE("lowbit-generate: inputs of other kinds are named, pipes are read, more threads than processors are warned of",
          "[generate]") {
  const Folder folder;
  const std::string text = (folder / "text").string();
  const auto refused = [&](const Outcome& o, std::initializer_list<std::string> words) {
    CAPTURE(o.err, o.out);
    CHECK(o.code == 1);
    CHECK(o.out.empty());
    for (const std::string& word : words) CHECK(holds(o.err, word));
  };
  put_file(text, std::string("\xFF\xFEO\0i\0l\0", 8));
  for (const char* option : {"--file", "--perplexity"})
    refused(run(folder, {option, text}), {"text", "little-endian UTF-16", "iconv"});
  put_file(text, std::string("Oil\0prices", 10));
  for (const char* option : {"--file", "--perplexity"}) refused(run(folder, {option, text}), {"text", "found a zero at byte 3"});
  refused(Process(LOWBIT_GENERATE, folder, {(mini() / "model.safetensors").string(), "a"}).wait(),
          {"model.safetensors: is a file; expected the folder"});
  refused(run(folder, {"a", "--base", (mini() / "config.json").string()}), {"config.json: is a file; expected the folder"});
  put_file(folder / "rows.csv", "1,Oil prices,They rose in New York.\n2,Red Sox,They won in the ninth inning.\n");
  const std::string rows = (folder / "rows.csv").string();
  refused(run(folder, {"--perplexity", rows, "--row-tokens", "257"}), {"--row-tokens", "256", "found 257"});
  CHECK(holds(text_of(folder, {"--perplexity", rows, "--row-tokens", "8", "--format", "fp32"}),
              "2 rows, 1 of them cut after 8 tokens"));

  std::string numbers;
  for (int i = 0; i < 400; ++i) numbers += " " + std::to_string(i);
  const std::size_t tokens = tokenizer().encode(numbers).size();
  REQUIRE(tokens > 256);
  const std::string cut = " has " + std::to_string(tokens) + " tokens, of which the model reads the last 256";
  CHECK(holds(run(folder, {"Oil", numbers, "-n", "1"}).err, "warning: prompt 2" + cut));
  CHECK(holds(run(folder, {"Oil", numbers, "-n", "1", "--compare", "--format", "fp32"}).err, "warning: prompt 2" + cut));
  CHECK_FALSE(holds(run(folder, {"Oil", "-n", "1"}).err, "warning"));

  put_file(text, "\xEF\xBB\xBFOil");
  CHECK(text_of(folder, {"--file", text, "-n", "2"}) == text_of(folder, {"Oil", "-n", "2"}));
  const std::string many = std::to_string(lowbit::available_processors() + 1);
  const Outcome o = Process("/bin/sh", folder,
                            {"-c", "printf Oil | \"$0\" \"$@\"", LOWBIT_GENERATE, mini().string(), "--file", "/dev/stdin", "-n",
                             "2", "--threads", many})
                        .wait();
  CHECK(o.out == text_of(folder, {"Oil", "-n", "2"}));
  CHECK(holds(o.err, "warning: --threads " + many));
}

TEST_CASE("lowbit-generate: parameters and logits that are not finite, and int8 weights that were not trained as such, are refused",
          "[generate]") {
  const Folder folder;
  const fs::path model = folder / "model";
  const auto refused = [&](const Arguments& arguments, std::initializer_list<std::string> words) {
    Arguments a = arguments;
    a.insert(a.begin(), model.string());
    const Outcome o = Process(LOWBIT_GENERATE, folder, a).wait();
    CAPTURE(o.err, o.out);
    CHECK(o.code == 1);
    CHECK(o.out.empty());
    for (const std::string& word : words) CHECK(holds(o.err, word));
  };
  // Every element of these tensors has these two bytes; they are BF16.
  const auto spoil = [&](std::initializer_list<const char*> tensors, const char* element) {
    fs::remove_all(model);
    fs::copy(mini(), model);
    std::string bytes = lowbit::io::read_text(model / "model.safetensors");
    const auto file = lowbit::io::SafeTensors::parse(lowbit_test::as_bytes(bytes), "image");
    for (const char* name : tensors) {
      const auto& view = file.at(name);
      REQUIRE(view.dtype == lowbit::io::DType::BF16);
      const auto at = static_cast<std::size_t>(view.data.data() - reinterpret_cast<const std::byte*>(bytes.data()));
      for (std::size_t i = 0; i < view.data.size(); ++i) bytes[at + i] = element[i % 2];
    }
    put_file(model / "model.safetensors", bytes);
  };
  put_file(folder / "text", "some text of a few tokens");
  const std::string text = (folder / "text").string();
  for (const char* tensor : {"transformer.ln_f.weight", "transformer.h.2.mlp.c_fc.weight", "transformer.wte.weight"}) {
    spoil({tensor}, "\xC0\x7F");
    const std::string name = std::string(tensor).substr(std::string("transformer.").size());
    for (const Arguments& a : {Arguments{"a"}, {"--perplexity", text}}) refused(a, {"model: fp32: " + name, "NaN"});
    if (name != "ln_f.weight") refused({"--layer-errors"}, {"model: " + name, "nan at element 0"});
  }
  spoil({"transformer.ln_f.weight", "transformer.wte.weight"}, "\x80\x7E");  // finite, but their products are not
  refused({"--perplexity", text, "--format", "fp32"}, {"model: fp32: tokens 0 to ", "finite logits"});
  const std::string not_finite = "sampling: a logit is NaN or infinity";
  refused({"some text", "--no-prompt"}, {"model: fp32: prompt 1: " + not_finite});
  refused({"some text", "--no-prompt", "--temperature", "1"}, {"model: fp32: prompt 1: " + not_finite});
  refused({"some text", "another", "--compare", "--format", "fp32"}, {"model: fp32: prompt 1: " + not_finite});
  refused({"some text", "another", "a third one"}, {"model: fp32: one of the prompts 1 to 3: " + not_finite});

  fs::remove_all(model);
  fs::copy(lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat", model);
  std::string config = lowbit::io::read_text(model / "config.json");
  config.replace(config.find("qat-int8"), 8, "int8");
  put_file(model / "config.json", config);
  refused({"a", "--base", mini().string(), "--format", "int8_scratch"}, {"config.json", "qat-int8", "found \"int8\""});
}

TEST_CASE("lowbit-generate: interrupted, it prints what there is", "[generate]") {
  const Folder folder;
  Process process(LOWBIT_GENERATE, folder, {mini().string(), "Oil prices", "-n", "1000000", "--ignore-end"});
  // Under way once there is text.
  for (int i = 0; i < 600 && (!fs::exists(folder / "stdout") || fs::file_size(folder / "stdout") < 100); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  process.interrupt();
  const Outcome o = process.wait();
  CHECK(o.code == 130);
  CHECK(o.out.starts_with("Oil prices"));
  CHECK(o.out.ends_with("\n"));
  CHECK(holds(o.err, "tokens/s"));
  const Outcome closed = Process(LOWBIT_GENERATE, folder, {mini().string(), "Oil", "-n", "4"}, "/dev/full").wait();
  CHECK(closed.code == 1);
  CHECK(holds(closed.err, "standard output"));
}

// Rows of the test set against another implementation's likelihoods; the perplexity of all of them is 45.13.
TEST_CASE("lowbit-generate: perplexity of GPT-2 small on news", "[generate][.full]") {
  const fs::path model = lowbit::testing::models_dir() / "gpt2-small-ag-news", shared = lowbit::testing::shared_dir();
  if (shared.empty() || !fs::exists(model / "config.json")) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
    return;
  }
  const Folder folder;
  const Outcome o = Process(LOWBIT_GENERATE, folder,
                            {model.string(), "--perplexity", (shared / "data/ag_news_test.csv").string(), "--rows", "40", "--json",
                             "--format", "fp32,int8,nf4_bnb,nf4_emb_int8,nf4_all,int8_all"})
                        .wait();
  INFO(o.err);
  REQUIRE(o.code == 0);
  const Json j = lowbit::io::parse_json(o.out, "stdout");
  const auto expected = lowbit::io::parse_json(lowbit_test::read_bytes((shared / "golden/lm_reference.json").string()), "golden")
                            .at("fp32_row_nll")
                            .get<std::vector<double>>();
  for (std::size_t i = 0; i < 40; ++i)
    CHECK(std::fabs(j.at("formats").at(0).at("nll").at(i).get<double>() / expected[i] - 1) < 1e-3);
  for (const Json& f : j.at("formats")) {
    const double difference = f.at("nats_per_token_against_first").at("value").get<double>();
    std::printf("%-14s perplexity %.3f, %+.4f nats a token\n", f.at("format").get<std::string>().c_str(),
                f.at("perplexity").at("value").get<double>(), difference);
    CHECK(std::fabs(difference) < 0.3);
  }
}

}  // namespace generate_test
