// SPDX-License-Identifier: MIT
// The program four_models as a user meets it: what it prints and writes, its exit codes, and what it says about wrong usage.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "examples/four_models/options.hpp"
#include "examples/four_models/paper.hpp"
#include "examples/four_models/results.hpp"
#include "support/golden.hpp"
#include "support/four_models.hpp"

namespace four_models_test {

TEST_CASE("four_models: eight rows, all files, and numbers that agree with each other") {
  const Folder folder;
  const Outcome o = run(folder, {"--limit", "8", "--threads", "2", "--out", (folder / "a/b").string()});
  REQUIRE(o.code == 0);
  CHECK(o.err.empty());
  for (const char* words :
       {"Table 1", "Table 2", "Table 3", "true class (rows) by predicted", "486.71", "127.86", "2 threads", "level"})
    CHECK(holds(o.out, words));
  for (const char* papers : {"94.70", "95.78"}) CHECK_FALSE(holds(o.out, papers));  // these are other rows
  CHECK(too_wide(o.out) == "");

  const fs::path out = folder / "a/b";
  const Json results = json_of(out / "results.json");
  CHECK(results.at("interrupted") == false);
  CHECK(results.at("machine").at("threads") == 2);
  CHECK(!results.contains("synthetic_gpt2_small"));
  CHECK(results.at("dataset").at("rows") == 8);
  CHECK(results.at("dataset").at("rows_done") == 8);
  CHECK(results.at("dataset").at("classes") == Json({"World", "Sports", "Business", "Sci/Tech"}));
  std::vector<std::string> ids;
  for (const Json& m : results.at("models")) ids.push_back(m.at("id"));
  REQUIRE(ids == std::vector<std::string>{"fp32", "int8_scratch", "int8_bnb", "nf4_bnb"});

  // 5,323,264 parameters, 3,145,728 of them in the linear layers, and four masks of 256 x 256 bytes.
  const std::size_t linear = 3145728, rest = 5323264 - linear, masks = 4 * 256 * 256;
  const auto account = [&](const char* id) { return model_of(results, id).at("memory").at("paper_account_bytes"); };
  CHECK(account("fp32") == 4 * (linear + rest) + masks);
  CHECK(account("int8_scratch") == linear + 4 * rest + masks);
  CHECK(account("int8_bnb") == linear + 2 * rest + masks);
  CHECK(account("nf4_bnb") == linear / 2 + 2 * rest + masks);

  const auto lines = csv_of(out / "predictions.csv");
  REQUIRE(lines.size() == 9);
  std::vector<std::string> head = {"row", "true"};
  for (const std::string& id : ids) {
    head.push_back(id + ".pred");
    for (int c = 0; c < 4; ++c) head.push_back(id + ".logit_" + std::to_string(c));
  }
  REQUIRE(lines[0] == head);
  const auto rows = lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv");
  for (std::size_t m = 0; m < ids.size(); ++m) {
    CAPTURE(ids[m]);
    std::vector<std::vector<std::size_t>> confusion(4, std::vector<std::size_t>(4));
    std::size_t right = 0;
    for (std::size_t r = 0; r < 8; ++r) {
      const auto& line = lines[r + 1];
      REQUIRE(line.size() == head.size());
      CHECK(line[0] == std::to_string(r));
      CHECK(line[1] == std::to_string(rows[r].label));
      std::vector<float> logits;
      for (std::size_t c = 0; c < 4; ++c) logits.push_back(std::stof(line[2 + 5 * m + 1 + c]));
      const std::size_t pred = std::stoul(line[2 + 5 * m]);
      CHECK(pred == static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      ++confusion.at(static_cast<std::size_t>(rows[r].label)).at(pred);
      right += pred == static_cast<std::size_t>(rows[r].label);
    }
    const Json& model = model_of(results, ids[m]);
    const Json& performance = model.at("performance");
    CHECK(performance.at("confusion") == Json(confusion));
    CHECK(performance.at("correct") == right);
    CHECK(performance.at("accuracy").get<double>() == 100 * static_cast<double>(right) / 8);
    CHECK(performance.at("same_bits_one_by_one_and_batched") == true);
    CHECK(performance.contains("mcnemar") == (m != 0));
    CHECK(model.at("latency").at("rows") == 8);
    CHECK(model.at("latency").at("rows_per_second").get<double>() ==
          Approx(1000 / model.at("latency").at("mean_ms").get<double>()));
    CHECK(model.at("latency").at("median_ms") <= model.at("latency").at("p95_ms"));
    CHECK(model.at("linear_layers").at(0).at("layers") == 16);
    CHECK(model.at("paper").contains("latency_ms"));
    CHECK_FALSE(model.at("paper").contains("accuracy"));
  }
  CHECK(holds(lowbit::io::read_text(out / "report.md"), "| Model |"));
  CHECK(holds(lowbit::io::read_text(out / "report.html"), "</html>"));
  for (const char* name : {"memory.svg", "latency.svg", "accuracy.svg", "confusion.svg", "accuracy_memory.svg"}) {
    const std::string svg = lowbit::io::read_text(out / "figures" / name);
    CHECK(svg.starts_with("<svg "));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(holds(svg, "NF4 (bnb)"));
  }
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("four_models: a process grows by what the model says it holds") {
  const Folder folder;
  const Outcome o = run(folder, {"--limit", "1", "--out", folder.path().string()});
  REQUIRE(o.code == 0);
  for (const Json& m : json_of(folder / "results.json").at("models")) {
    CAPTURE(m.at("id").get<std::string>());
    const auto held = m.at("memory").at("resident_bytes").get<std::size_t>();
    REQUIRE(m.at("memory").at("process_rss_growth_bytes").is_number());
    const auto grown = m.at("memory").at("process_rss_growth_bytes").get<std::size_t>();
    CHECK(grown >= held);
    CHECK(grown < held + 1000000);  // the ends of the last pages of some 70 buffers, and what the allocator keeps
  }
}
#endif

TEST_CASE("four_models: every id, and the options that change models") {
  const Folder folder;
  const std::string all = "fp32,int8_scratch,int8_bnb,nf4_bnb,nf4_f32,nf4_int8,int8,fp4,bf16,nf4_emb_int8,nf4_all,int8_all";
  Outcome o = run(folder, {"--limit", "6", "--models", all, "--out", folder.path().string()});
  REQUIRE(o.code == 0);
  Json results = json_of(folder / "results.json");
  CHECK(results.at("models").size() == 12);
  CHECK(too_wide(o.out) == "");
  const auto plan = [&](const char* id) { return model_of(results, id).at("linear_layers").at(0).at("plan").get<std::string>(); };
  CHECK(holds(plan("fp32"), "f32 weights (packed), f32 compute"));
  CHECK(holds(plan("int8_scratch"), "int8 weights (packed), int8 compute"));
  CHECK(holds(plan("int8_bnb"), "llm_int8 weights (packed), int8 compute"));
  CHECK(holds(plan("nf4_f32"), "nf4 weights (packed), f32 compute"));
  CHECK(holds(plan("nf4_int8"), "nf4 weights (packed), int8 compute"));
  CHECK(holds(plan("fp4"), "fp4 weights (packed)"));
  CHECK(holds(plan("bf16"), "bf16 weights (packed), bf16 compute"));
  CHECK_FALSE(model_of(results, "int8").contains("paper"));
  const auto held = [&](const char* id) { return model_of(results, id).at("memory").at("resident_bytes").get<std::size_t>(); };
  const std::size_t nf4_held = held("nf4_f32");
  CHECK(held("nf4_all") < held("nf4_emb_int8"));
  CHECK(held("nf4_emb_int8") < nf4_held);
  CHECK(held("int8_all") < held("int8"));
  CHECK(model_of(results, "nf4_emb_int8").at("settings").at("embeddings") == "int8");
  CHECK(holds(model_of(results, "int8_all").at("weights").get<std::string>(), "embeddings"));
  CHECK_FALSE(model_of(results, "nf4_f32").at("settings").contains("embeddings"));

  // A scale per 256 elements instead of per 64: 3,145,728 * (4 / 64 - 4 / 256) bytes fewer, with plain scales in both cases.
  o = run(folder, {"--limit", "6", "--models", "nf4_f32,nf4_bnb", "--nf4-block", "256", "--no-double-quant", "--compute", "f32",
                   "--out", folder.path().string()});
  REQUIRE(o.code == 0);
  results = json_of(folder / "results.json");
  CHECK(holds(plan("nf4_bnb"), "nf4 weights (packed), f32 compute"));
  CHECK(model_of(results, "nf4_bnb").at("performance").at("confusion") ==
        model_of(results, "nf4_f32").at("performance").at("confusion"));
  CHECK_FALSE(model_of(results, "nf4_bnb").at("performance").contains("mcnemar"));
  const std::size_t fewer = 3145728 * 4 / 64 - 3145728 * 4 / 256;
  CHECK(nf4_held - held("nf4_f32") >= fewer);
  CHECK(nf4_held - held("nf4_f32") < fewer + fewer / 4);  // and no codes of double quantization, and less padding

  // Without outliers LLM.int8() computes something else; per call or per row, groups and single rows agree.
  std::vector<std::string> logits;
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"--outliers", "per-call"}, {"--int8-threshold", "0"}, {"--int8-threshold", "1.5"}}) {
    std::vector<std::string> arguments = {"--limit", "12", "--models", "int8_bnb", "--out", folder.path().string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    o = run(folder, arguments);
    REQUIRE(o.code == 0);
    results = json_of(folder / "results.json");
    CHECK(model_of(results, "int8_bnb").at("performance").at("same_bits_one_by_one_and_batched") == true);
    logits.push_back(lowbit::io::read_text(folder / "predictions.csv"));
  }
  CHECK(logits[2] != logits[3]);
}

TEST_CASE("four_models: the paper's rows are told by their classes, number and length") {
  examples::Results r;
  r.class_names.assign(examples::paper::class_names.begin(), examples::paper::class_names.end());
  r.rows_done = 7600;
  r.max_tokens = examples::usual_max_tokens;
  CHECK_FALSE(r.paper_rows());  // no model
  r.models.resize(1);
  r.models[0].confusion = examples::Confusion(4, std::vector<std::size_t>(4, 475));
  CHECK(r.paper_rows());
  const auto differs = [&](const auto& change) {
    examples::Results other = r;
    change(other);
    return !other.paper_rows();
  };
  CHECK(differs([](examples::Results& o) { o.rows_done = 7599; }));
  CHECK(differs([](examples::Results& o) { o.max_tokens = 20; }));
  CHECK(differs([](examples::Results& o) { std::swap(o.class_names[0], o.class_names[1]); }));
  CHECK(differs([](examples::Results& o) {
    --o.models[0].confusion[1][1];
    ++o.models[0].confusion[0][1];
  }));
}

TEST_CASE("four_models: the paper's accuracy stands beside that of its rows only", "[.full]") {
  const Folder folder;
  const char* const words[] = {"treaty", "football", "shares", "software"};
  std::string rows;
  for (int i = 0; i < 7600; ++i) rows += std::to_string(1 + i % 4) + "," + words[i % 4] + ",\n";
  put_file(folder / "rows.csv", rows);
  const auto check = [&](bool stands, const std::vector<std::string>& more) {
    CAPTURE(more);
    std::vector<std::string> arguments = {"--data", (folder / "rows.csv").string(), "--out", (folder / "out").string(), "--models",
                                          "fp32"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome o = run(folder, arguments);
    REQUIRE(o.code == 0);
    CHECK(too_wide(o.out) == "");
    const Json results = json_of(folder / "out/results.json");
    CHECK(results.at("rows_are_the_paper_s") == stands);
    CHECK(model_of(results, "fp32").at("paper").contains("accuracy") == stands);
    CHECK(model_of(results, "fp32").at("paper").contains("class_f1") == stands);
    for (const char* papers : {"94.62", "95.78", "92.50"}) CHECK(holds(o.out, papers) == stands);
    CHECK(holds(lowbit::io::read_text(folder / "out/figures/accuracy.svg"), "94.62") == stands);
    CHECK(holds(o.out, "The paper's stand beside") == !stands);
    CHECK(holds(o.out, "486.71"));  // memory has nothing to do with rows
  };
  check(true, {});
  check(false, {"--max-tokens", "20"});
  check(false, {"--limit", "7599"});
  replace_in(folder / "rows.csv", "2,football", "1,football");
  check(false, {});
}

TEST_CASE("four_models: threads change no bit of the logits") {
  const Folder folder;
  std::vector<std::string> csv;
  for (const char* threads : {"1", "3"}) {
    REQUIRE(run(folder, {"--limit", "20", "--threads", threads, "--out", folder.path().string()}).code == 0);
    csv.push_back(lowbit::io::read_text(folder / "predictions.csv"));
  }
  CHECK(csv[0] == csv[1]);
}

TEST_CASE("four_models: other models and files of the same form") {
  const Folder folder;
  const fs::path model = copy_of_mini(folder);
  replace_in(model / "config.json", "\"Sci/Tech\"", "\"Wissenschaft\"");
  replace_in(model / "config.json", "\"World\"", "\"W\xC3\xA4lt <&>\"");
  put_file(folder / "rows.csv", "class,title,description\n4,Moon probe wakes,\"After \"\"two\"\" years\"\n1,Talks go on,\n");
  const Outcome o =
      run(folder, {"--model", model.string(), "--data", (folder / "rows.csv").string(), "--out", (folder / "out").string()});
  REQUIRE(o.code == 0);
  CHECK(holds(o.out, "int8_scratch is left out"));
  CHECK(holds(o.out, "Wissenschaft"));
  const Json results = json_of(folder / "out/results.json");
  CHECK(results.at("models").size() == 3);
  CHECK(results.at("dataset").at("rows") == 2);
  CHECK(results.at("dataset").at("classes").at(0) == "W\xC3\xA4lt <&>");
  CHECK(holds(lowbit::io::read_text(folder / "out/figures/confusion.svg"), "W\xC3\xA4lt &lt;&amp;&gt;"));
  CHECK(run(folder, {"--model", mini().string(), "--qat-model", mini_twin().string(), "--limit", "2"}).code == 0);
  CHECK(not_refused(run(folder, {"--model", model.string(), "--qat-model", mini_twin().string(), "--limit", "2"}), 1,
                    {"gpt2-mini-ag-news-int8-qat", "classes"}) == "");
}

namespace {
// The small model, quantized by lowbit-quantize.
std::string quantized_mini(const Folder& folder, const std::string& name, std::vector<std::string> more) {
  const std::string out = (folder / name).string();
  more.insert(more.begin(), {"quantize", mini().string(), out});
  const Outcome o = Process(LOWBIT_QUANTIZE, folder, std::move(more)).wait();
  INFO(o.err);
  REQUIRE(o.code == 0);
  return out;
}
}  // namespace

TEST_CASE("four_models: a quantized folder gives what quantizing the float model gives") {
  const Folder folder;
  const std::string nf4 = quantized_mini(folder, "nf4", {"--rest", "f16"}),
                    int8 = quantized_mini(folder, "int8", {"--format", "llm_int8", "--shard-size", "2MB"});
  const auto compare = [&](const char* out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "--model", mini().string(), "--models", "fp32,int8_bnb,nf4_bnb,nf4_f32", "--limit", "12", "--out", (folder / out).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome o = run(folder, arguments);
    INFO(o.err);
    REQUIRE(o.code == 0);
    CHECK(too_wide(o.out) == "");
    return json_of(folder / out / "results.json");
  };
  const Json plain = compare("plain", {}), held = compare("held", {"--checkpoint", nf4, "--checkpoint", int8});
  CHECK(lowbit::io::read_text(folder / "plain/predictions.csv") == lowbit::io::read_text(folder / "held/predictions.csv"));
  CHECK(held.at("options").at("checkpoints") == Json({nf4, int8}));
  for (const auto& [id, source] :
       {std::pair<const char*, std::string>{"fp32", mini().string()}, {"int8_bnb", int8}, {"nf4_bnb", nf4}, {"nf4_f32", nf4}}) {
    CAPTURE(id);
    const Json &a = model_of(plain, id), &b = model_of(held, id);
    CHECK(a.at("folder") == mini().string());
    CHECK(b.at("folder") == source);
    CHECK(a.at("name") == b.at("name"));
    CHECK(b.at("settings").at("layers_as_the_folder_holds_them") == 16);
    CHECK(a.value("weight_errors", Json()) == b.value("weight_errors", Json()));
    CHECK(a.at("memory").at("paper_account_bytes") == b.at("memory").at("paper_account_bytes"));
  }

  const auto refused = [&](int code, std::vector<std::string> arguments, std::initializer_list<std::string> words) {
    CHECK(not_refused(run(folder, std::move(arguments)), code, words) == "");
  };
  const std::string model = mini().string();
  refused(2, {"--checkpoint", nf4}, {"--checkpoint", "--model"});
  refused(1, {"--model", model, "--checkpoint", nf4, "--checkpoint", nf4}, {nf4, "nf4", "one of a format"});
  refused(1, {"--model", model, "--checkpoint", model}, {model, "floats alone"});
  refused(1, {"--model", model, "--models", "fp32,int8_bnb", "--checkpoint", nf4}, {nf4, "--models nf4_bnb,nf4_f32,nf4_int8"});
  refused(1, {"--model", model, "--checkpoint", (folder / "none").string()}, {"none"});
}

TEST_CASE("four_models: wrong usage is exit code 2 and one line") {
  const Folder folder;
  CHECK(not_refused(run(folder, {"--no-such-option"}), 2, {"--no-such-option", "--help"}) == "");
  CHECK(not_refused(run(folder, {"--models", "fp32,fp16"}), 2, {"fp16", "nf4_bnb"}) == "");
  CHECK(not_refused(run(folder, {"--models", "fp32,fp32"}), 2, {"twice"}) == "");
  CHECK(not_refused(run(folder, {"--limit", "0"}), 2, {"--limit"}) == "");
  CHECK(not_refused(run(folder, {"--limit", "many"}), 2, {"--limit", "many"}) == "");
  CHECK(not_refused(run(folder, {"--threads", "0"}), 2, {"--threads"}) == "");
  CHECK(not_refused(run(folder, {"--max-tokens", "0"}), 2, {"--max-tokens"}) == "");
  CHECK(not_refused(run(folder, {"--nf4-block", "65"}), 2, {"--nf4-block", "power of two", "65"}) == "");
  CHECK(not_refused(run(folder, {"--int8-threshold", "-1"}), 2, {"--int8-threshold"}) == "");
  CHECK(not_refused(run(folder, {"--int8-threshold", "nan"}), 2, {"--int8-threshold"}) == "");
  CHECK(not_refused(run(folder, {"--outliers", "some"}), 2, {"--outliers", "per-row", "some"}) == "");
  CHECK(not_refused(run(folder, {"--compute", "fp8"}), 2, {"--compute", "bf16", "fp8"}) == "");
  CHECK(not_refused(run(folder, {"--qat-model", mini_twin().string()}), 2, {"--qat-model", "--model"}) == "");
  CHECK(not_refused(run(folder, {"--model", mini().string(), "--models", "int8_scratch"}), 2, {"int8_scratch", "--qat-model"}) ==
        "");
  const Outcome help = run(folder, {"--help"});
  CHECK(help.code == 0);
  for (const char* words : {"--qat-model DIR", "Examples:", "nf4_bnb", "Ctrl-C", "DIR/interrupted", "one run or none"})
    CHECK(holds(help.out, words));
}

TEST_CASE("four_models: the default run, with GPT-2 small in synthetic weights", "[.full]") {
  const Folder folder;
  const Outcome o = Process(FOUR_MODELS, folder, {"--out", (folder / "out").string()}).wait();
  REQUIRE(o.code == 0);
  CHECK(holds(o.out, "SYNTHETIC WEIGHTS"));
  CHECK(too_wide(o.out) == "");
  const Json results = json_of(folder / "out/results.json");
  CHECK(results.at("dataset").at("rows_done") == 400);
  const Json& synthetic = results.at("synthetic_gpt2_small");
  const std::vector<std::pair<std::string, std::size_t>> account = {
      {"fp32", 510354432}, {"int8_scratch", 255550464}, {"int8_bnb", 176534016}, {"nf4_bnb", 134066688}};
  for (const auto& [id, bytes] : account) {
    const Json& m = model_of(synthetic, id);
    CHECK(m.at("memory").at("paper_account_bytes") == bytes);
    CHECK(m.at("memory").at("parameters") == 124442880);
    CHECK(m.at("latency").at("rows") == 30);
    CHECK_FALSE(m.contains("performance"));
  }
}

// Double quantization's offset, a mean that a GPU sums in another order, is within 1 ulp; all else is the same.
TEST_CASE("four_models: folders that bitsandbytes wrote on a GPU give what quantizing here gives", "[.full]") {
  const fs::path shared = lowbit::testing::shared_dir();
  if (shared.empty()) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR");
    return;
  }
  const Folder folder;
  const auto predictions = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "--model", mini().string(),          "--data", (shared / "data/ag_news_test.csv").string(), "--limit", "60",
        "--out",   (folder / "out").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome o = run(folder, arguments);
    INFO(o.err);
    REQUIRE(o.code == 0);
    return csv_of(folder / "out/predictions.csv");
  };
  for (const auto& [name, id, more, bound] : std::vector<std::tuple<std::string, std::string, std::vector<std::string>, double>>{
           {"nf4-dq-f16", "nf4_f32", {}, 1e-5},
           {"nf4-bf16-sharded", "nf4_f32", {"--no-double-quant"}, 0},
           {"nf4-storage-bf16", "nf4_f32", {}, 1e-5},
           {"int8-f16", "int8_bnb", {}, 0}}) {
    CAPTURE(name);
    const fs::path archive = shared / "golden/checkpoints" / (name + ".tar.xz");
    REQUIRE(std::system(("tar xJf '" + archive.string() + "' -C '" + folder.path().string() + "'").c_str()) == 0);
    std::vector<std::string> options = {"--models", "fp32," + id};
    options.insert(options.end(), more.begin(), more.end());
    const auto here = predictions(options);
    options.insert(options.end(), {"--checkpoint", (folder / name).string()});
    const auto theirs = predictions(options);
    const Json model = model_of(json_of(folder / "out/results.json"), id);
    CHECK(model.at("folder") == (folder / name).string());
    CHECK(model.at("settings").at("layers_as_the_folder_holds_them") == 16);
    REQUIRE(here.size() == 61);
    REQUIRE(theirs.size() == 61);
    double furthest = 0;
    std::size_t other_class = 0;
    for (std::size_t r = 1; r <= 60; ++r) {
      other_class += here[r][7] != theirs[r][7];
      for (std::size_t c = 8; c < 12; ++c)
        furthest = std::max(furthest, std::fabs(std::stod(here[r][c]) - std::stod(theirs[r][c])));
    }
    std::printf("%s: logits within %.2g of quantizing here, %zu of 60 classes differ\n", name.c_str(), furthest, other_class);
    CHECK(furthest <= bound);
    CHECK(other_class == 0);
  }
}

// The comparison itself: 124 M parameters, AG News, all rows or the first LOWBIT_FULL_ROWS of them.
TEST_CASE("four_models: the trained GPT-2 small on AG News, against the reference", "[.full]") {
  const fs::path shared = lowbit::testing::shared_dir(), models = lowbit::testing::models_dir();
  if (shared.empty() || models.empty()) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
    return;
  }
  const char* given = std::getenv("LOWBIT_FULL_ROWS");
  const std::size_t rows =
      given != nullptr && *given != '\0' ? std::min<std::size_t>(std::strtoul(given, nullptr, 10), 7600) : 7600;
  const Folder folder;
  const auto began = std::chrono::steady_clock::now();
  const Outcome o =
      run(folder, {"--model", (models / "gpt2-small-ag-news").string(), "--qat-model",
                   (models / "gpt2-small-ag-news-int8-qat").string(), "--data", (shared / "data/ag_news_test.csv").string(),
                   "--limit", std::to_string(rows), "--out", (folder / "out").string()});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  REQUIRE(o.code == 0);
  std::printf("%zu rows, four models: %.0f s\n%s", rows, took.count(), o.out.c_str());
  const Json results = json_of(folder / "out/results.json");
  CHECK(results.at("dataset").at("rows_done") == rows);
  const auto predictions = csv_of(folder / "out/predictions.csv");
  REQUIRE(predictions.size() == rows + 1);
  const lowbit_test::GoldenFile golden((shared / "golden/reference_logits.safetensors").string());
  const auto labels = golden.get<std::int64_t>("small.labels", "I64");

  struct Bound {
    std::string id, reference;
    double max, rms, accuracy;  // 0: not bounded; bf16 compute has no reference of its own
  };
  for (const Bound& b : {Bound{"fp32", "fp32", 1e-4, 0, 94.00}, Bound{"int8_scratch", "qat-w8a8", 0, 0.026, 93.95},
                         Bound{"int8_bnb", "int8-bnb-thr6-row", 0, 0.026, 94.04}, Bound{"nf4_bnb", "nf4-dq", 0, 0, 94.03}}) {
    CAPTURE(b.id);
    const auto column = std::find(predictions[0].begin(), predictions[0].end(), b.id + ".logit_0") - predictions[0].begin();
    REQUIRE(static_cast<std::size_t>(column) + 3 < predictions[0].size());
    const std::vector<float> expected = golden.floats("small." + b.reference);
    double largest = 0, squares = 0, fourths = 0;
    std::size_t right = 0, reference_right = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<double> logits, reference;
      double of_row = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        logits.push_back(std::stod(predictions[r + 1][static_cast<std::size_t>(column) + i]));
        reference.push_back(static_cast<double>(expected[4 * r + i]));
        const double off = std::fabs(logits[i] - reference[i]);
        largest = std::max(largest, off);
        of_row += off * off;
      }
      squares += of_row;
      fourths += of_row * of_row;
      const auto best = [](const std::vector<double>& v) { return std::max_element(v.begin(), v.end()) - v.begin(); };
      right += best(logits) == labels[r];
      reference_right += best(reference) == labels[r];
    }
    const double rms = std::sqrt(squares / static_cast<double>(4 * rows)), percent = 100 / static_cast<double>(rows);
    const double accuracy = static_cast<double>(right) * percent;
    std::printf("%-12s against %-17s max %.2g, rms %.2g, accuracy %.2f %% (reference %.2f %%)\n", b.id.c_str(), b.reference.c_str(),
                largest, rms, accuracy, static_cast<double>(reference_right) * percent);
    if (b.max != 0) CHECK(largest <= b.max);
    if (b.rms != 0) CHECK(squares - 3 * std::sqrt(fourths) <= b.rms * b.rms * static_cast<double>(4 * rows));  // a sample's 3 sigma
    if (b.id == "fp32") CHECK(right == reference_right);
    if (rows == 7600) CHECK(std::fabs(accuracy - b.accuracy) <= 0.1);
    CHECK(model_of(results, b.id).at("performance").at("rows") == rows);
  }
  std::fflush(stdout);
}

}  // namespace four_models_test
