// SPDX-License-Identifier: MIT
// bench_model: latency of whole GPT-2 small classifiers, one text at a time, in every quantization, beside the products of their
// linear layers in oneDNN, and where the time goes.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "examples/common/dataset.hpp"
#include "examples/common/model_walk.hpp"
#include "examples/common/models.hpp"
#include "examples/common/synthetic.hpp"
#include "executors.hpp"
#include "lowbit/lowbit.hpp"
#include "machine.hpp"
#include "measure.hpp"
#include "oracle.hpp"
#include "peers.hpp"

namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<std::int32_t>;
using lowbit::gpt2::Transformer;

struct Options {
  std::string model, qat_model, data, out;
  std::vector<std::string> models = {"fp32", "int8_scratch", "int8_bnb", "nf4_bnb", "nf4_int8", "nf4_f32"};
  std::vector<std::size_t> threads;
  std::size_t rows = 40, repeats = 5;
};

// Tokens of AG News' texts, roughly: mean 52.
constexpr std::size_t lengths[] = {28, 33, 36, 39, 41, 43, 45, 47, 48, 50, 51, 53, 54, 56, 58, 60, 64, 69, 77, 88};

struct Named {
  std::string id;
  Transformer net;
};

double median(std::vector<double> v) {
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}
double mean(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size()); }

std::unique_ptr<lowbit::gpt2::ParameterSource> source_of(const Options& o, std::string_view id) {
  if (o.model.empty()) return std::make_unique<examples::SyntheticParameters>(examples::gpt2_small_config(), 1);
  // Without the twin, int8_scratch is the float model quantized: the same bytes and operations.
  if (id == "int8_scratch" && !o.qat_model.empty())
    return std::make_unique<lowbit::gpt2::FolderParameters>(o.qat_model, std::filesystem::path(o.model));
  return std::make_unique<lowbit::gpt2::FolderParameters>(o.model);
}

std::vector<Named> load(const Options& o) {
  std::vector<Named> models;
  for (const std::string& id : o.models) {
    std::fprintf(stderr, "loading %s\n", id.c_str());
    const examples::ModelKind* kind = examples::find_kind(id);
    models.push_back({id, examples::make_model(*kind, *source_of(o, id), {})});
  }
  return models;
}

std::vector<Ids> texts(const Options& o, const lowbit::gpt2::Config& config) {
  std::vector<Ids> rows;
  if (o.data.empty()) {
    for (std::size_t i = 0; i < o.rows; ++i)
      rows.push_back(examples::random_tokens(lengths[i % std::size(lengths)], config.vocab, i));
    return rows;
  }
  const examples::Dataset data = examples::read_dataset(o.data, o.model, config, 160, 0);
  const std::size_t n = std::min(o.rows, data.items.size());
  for (std::size_t i = 0; i < n; ++i) rows.push_back(data.items[i * data.items.size() / n].ids);
  return rows;
}

// The linear layers' products in oneDNN, checked; null without oneDNN.
std::unique_ptr<bench::onednn::Sequence> products_of(const Options& o, std::size_t usual, std::size_t threads) {
  if (bench::onednn::version().empty()) return nullptr;
  const auto source = source_of(o, "fp32");
  const lowbit::gpt2::Config& c = source->config();
  std::vector<std::vector<float>> weights;
  std::vector<bench::onednn::Sequence::Layer> layers;
  for (std::size_t i = 0; i < c.layers; ++i)
    for (const auto& [name, n, k] : {std::tuple("attn.c_attn", 3 * c.width, c.width), std::tuple("attn.c_proj", c.width, c.width),
                                     std::tuple("mlp.c_fc", c.inner, c.width), std::tuple("mlp.c_proj", c.width, c.inner)}) {
      weights.emplace_back(n * k);
      source->linear("h." + std::to_string(i) + "." + name, n, k).dequantize(weights.back().data());
      layers.push_back({n, k, nullptr});
    }
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i].w = weights[i].data();
  auto sequence = std::make_unique<bench::onednn::Sequence>(layers, usual, threads);
  const std::vector<float> x = lowbit_test::Random(1).normals(usual * c.inner);
  for (std::size_t way = 0; way < sequence->at(usual).ways.size(); ++way)
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::size_t n = layers[i].n, k = layers[i].k;
      std::vector<float> y(usual * n);
      sequence->product(way, i, usual, x.data(), y.data());
      const auto row_of = [k](const float* a) {
        return [=](std::size_t r, std::span<double> out) { std::copy_n(a + r * k, k, out.begin()); };
      };
      const std::string wrong = bench::find_wrong({usual, n, k, row_of(x.data()), row_of(layers[i].w), k + 8, {}}, y.data());
      if (!wrong.empty()) lowbit::raise<lowbit::Error>("oneDNN, layer " + std::to_string(i) + ": wrong result: " + wrong);
    }
  return sequence;
}

// A contender whose turn is one call, which nothing precedes: weights are as cold as in use.
bench::Contender single(std::size_t threads, std::function<void()> call) {
  bench::Contender c;
  c.threads = threads;
  c.enter = [threads] { bench::gather(threads); };
  c.lap = 0;
  c.ways.push_back({"", [call = std::move(call)](std::size_t) { call(); }});
  return c;
}

// Seconds of every contender for one row.
std::vector<double> measure(const std::vector<bench::Contender>& contenders, std::size_t repeats) {
  std::vector<const bench::Contender*> all;
  for (const bench::Contender& c : contenders) all.push_back(&c);
  bench::Plan plan;
  plan.rounds = repeats;
  plan.slice = 0;
  plan.group_seconds = 1e9;
  plan.retake = 60e-3;
  std::vector<double> seconds;
  for (const bench::Measured& m : bench::measure_in_turn(all, plan)) seconds.push_back(m.seconds);
  return seconds;
}

Json summary(const std::vector<double>& seconds) {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  return {{"mean_ms", 1e3 * mean(seconds)},
          {"median_ms", 1e3 * median(seconds)},
          {"p95_ms", 1e3 * sorted[(sorted.size() * 95 + 99) / 100 - 1]}};
}

// Where a pass over `ids` spends its time.
void add_breakdown(Json& result, const Named& model, const Ids& ids, std::size_t threads, std::size_t repeats) {
  lowbit::Executor& executor = bench::executor(threads);
  examples::ModelWalk walk(model.net, ids.size(), executor);
  if (walk.run(ids, false); walk.logits() != model.net.classify(ids, executor))
    lowbit::raise<lowbit::Error>(model.id + ": the pass by operators gives other logits than classify()");
  // In turn, each taken again where the system let somebody else run in between.
  const auto undisturbed = [threads](const auto& pass) {
    for (int tries = 1;; ++tries) {
      bench::gather(threads);
      const long before = bench::interruptions();
      const auto found = pass();
      if (bench::interruptions() == before || tries == 8) return found;
    }
  };
  std::vector<examples::OperatorTimes> fused, bare;
  std::vector<double> wholes;
  for (std::size_t r = 0; r < repeats; ++r) {
    fused.push_back(undisturbed([&] { return walk.run(ids, false); }));
    bare.push_back(undisturbed([&] { return walk.run(ids, true); }));
    wholes.push_back(undisturbed([&] {
      const auto start = std::chrono::steady_clock::now();
      model.net.classify(ids, executor);
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }));
  }
  const double whole = median(wholes);
  const auto of = [](const std::vector<examples::OperatorTimes>& runs, std::size_t i) {
    std::vector<double> t;
    for (const auto& r : runs) t.push_back(r[i]);
    return median(t);
  };
  double sum = 0, products = 0;
  Json operators = Json::array();
  for (std::size_t i = 0; i < examples::operator_names.size(); ++i) {
    const double t = of(fused, i);
    sum += t;
    operators.push_back({{"operator", examples::operator_names[i]}, {"ms", 1e3 * t}});
    using examples::Operator;
    for (const Operator o : {Operator::attention_in, Operator::attention_out, Operator::mlp_in, Operator::mlp_out})
      if (static_cast<std::size_t>(o) == i) products += of(bare, i);
  }
  result["breakdown"] = operators;
  result["sum_ms"] = 1e3 * sum;
  result["whole_ms"] = 1e3 * whole;
  result["products_ms"] = 1e3 * products;
  result["rest_share"] = 1 - products / whole;
}

void print(const Json& run) {
  std::printf("\n%d thread(s)\n%-28s %9s %9s %9s  %s\n", run["threads"].get<int>(), "", "mean ms", "median", "p95",
              "times as fast as fp32");
  const auto line = [&](const std::string& name, const Json& j) {
    std::printf("%-28s %9.2f %9.2f %9.2f  ", name.c_str(), j["mean_ms"].get<double>(), j["median_ms"].get<double>(),
                j["p95_ms"].get<double>());
    if (j.contains("faster_than_fp32"))
      std::printf("%.2f\n", j["faster_than_fp32"].get<double>());
    else
      std::printf("-\n");
  };
  if (!run["products"].empty()) line(run["products"]["name"], run["products"]);
  for (const Json& m : run["models"]) line(m["id"], m);
  std::printf("\nms at %d tokens%14s", run["breakdown_tokens"].get<int>(), "");
  for (const char* name : examples::operator_names) std::printf(" %13s", name);
  std::printf(" %8s %8s  %s\n", "sum", "whole", "outside the products");
  for (const Json& m : run["models"]) {
    std::printf("%-28s", m["id"].get<std::string>().c_str());
    for (const Json& o : m["breakdown"]) std::printf(" %13.2f", o["ms"].get<double>());
    std::printf(" %8.2f %8.2f  %.1f %%\n", m["sum_ms"].get<double>(), m["whole_ms"].get<double>(),
                100 * m["rest_share"].get<double>());
  }
  std::fflush(stdout);
}

Json run_threads(const Options& o, const std::vector<Named>& models, const std::vector<Ids>& rows, std::size_t tokens,
                 std::size_t threads) {
  lowbit::Executor& executor = bench::executor(threads);
  const auto sequence = products_of(o, tokens, threads);
  const std::size_t first = sequence ? 1 : 0;
  std::vector<std::vector<double>> seconds(models.size() + first);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::fprintf(stderr, "\r%zu thread(s), row %zu of %zu ", threads, r + 1, rows.size());
    std::vector<bench::Contender> contenders;
    if (sequence) {
      contenders.push_back(sequence->at(rows[r].size()));
      contenders.back().lap = 0;
    }
    for (const Named& m : models) contenders.push_back(single(threads, [&] { m.net.classify(rows[r], executor); }));
    const std::vector<double> t = measure(contenders, o.repeats);
    for (std::size_t c = 0; c < t.size(); ++c) seconds[c].push_back(t[c]);
  }
  std::fputs("\n", stderr);
  Json run = {{"threads", threads}, {"breakdown_tokens", tokens}, {"products", Json::object()}, {"models", Json::array()}};
  if (sequence) {
    run["products"] = summary(seconds[0]);
    run["products"]["name"] = "onednn/f32/" + std::to_string(4 * models[0].net.config.layers) + " products";
  }
  const auto fp32 = std::find_if(models.begin(), models.end(), [](const Named& m) { return m.id == "fp32"; });
  const double base = fp32 == models.end() ? 0 : mean(seconds[static_cast<std::size_t>(fp32 - models.begin()) + first]);
  const Ids ids = examples::random_tokens(tokens, models[0].net.config.vocab, 7);
  for (std::size_t m = 0; m < models.size(); ++m) {
    Json j = {{"id", models[m].id}};
    j.update(summary(seconds[m + first]));
    if (base != 0) j["faster_than_fp32"] = base / mean(seconds[m + first]);
    if (sequence) j["over_products"] = mean(seconds[m + first]) / mean(seconds[0]);
    add_breakdown(j, models[m], ids, threads, 3 * o.repeats);
    run["models"].push_back(j);
  }
  return run;
}

int run(const Options& o) {
  const std::vector<Named> models = load(o);
  const std::vector<Ids> rows = texts(o, models[0].net.config);
  std::size_t sum = 0;
  for (const Ids& ids : rows) sum += ids.size();
  const double mean_tokens = static_cast<double>(sum) / static_cast<double>(rows.size());

  Json all;
  for (const auto& [key, value] : bench::circumstances()) all["context"][key] = value;
  all["weights"] = o.model.empty() ? "Random weights with the outlier columns of a trained model"
                                   : std::filesystem::path(o.model).lexically_normal().filename().string();
  all["rows"] = rows.size();
  all["repeats"] = o.repeats;
  all["mean_tokens"] = mean_tokens;
  all["runs"] = Json::array();
  for (const std::size_t threads : o.threads) {
    all["runs"].push_back(run_threads(o, models, rows, static_cast<std::size_t>(mean_tokens + 0.5), threads));
    print(all["runs"].back());
  }
  if (o.out.empty()) return 0;
  std::ofstream file(o.out);
  file << all.dump(1) << "\n";
  if (!file.flush()) lowbit::raise<lowbit::IoError>(o.out + ": cannot be written");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  o.threads = bench::usable_processors() < 2 ? std::vector<std::size_t>{1} : std::vector<std::size_t>{1, 2};
  CLI::App app(
      "Latency of whole GPT-2 small classifiers, one text at a time, beside the products of their linear layers in oneDNN, "
      "and where the time goes.\nWithout --model: random weights, and lengths as AG News has them.",
      "bench_model");
  app.footer("Exit codes: 0 done, 1 something failed or a result was wrong, 2 wrong usage.");
  const auto positive = CLI::Range(std::size_t{1}, std::size_t{1} << 20);
  app.add_option("--model", o.model, "the float model, a Hugging Face folder")->type_name("DIR")->check(CLI::ExistingDirectory);
  app.add_option("--qat-model", o.qat_model, "its INT8 twin [int8_scratch is then the float model, quantized]")
      ->type_name("DIR")
      ->check(CLI::ExistingDirectory);
  app.add_option("--data", o.data, "labelled rows: class, title, description")->type_name("CSV")->check(CLI::ExistingFile);
  app.add_option("--models", o.models, "ids as four_models has them [" + CLI::detail::join(o.models) + "]")
      ->delimiter(',')
      ->type_name("ID,...");
  app.add_option("--rows", o.rows, "how many texts, sampled evenly [40]")->check(positive)->type_name("N");
  app.add_option("--repeats", o.repeats, "how often each is timed; the median of the quieter half counts [5]")
      ->check(positive)
      ->type_name("N");
  app.add_option("--threads", o.threads, "numbers of threads [1,2; 1 where there is one processor]")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->type_name("N,...");
  app.add_option("--out", o.out, "where the results are written, as JSON")->type_name("FILE");
  try {
    app.parse(argc, argv);
    if (!o.data.empty() && o.model.empty()) throw CLI::ValidationError("--data", "needs --model DIR, which has the tokenizer");
    if (!o.qat_model.empty() && o.model.empty()) throw CLI::ValidationError("--qat-model", "needs --model DIR");
    if (!o.model.empty() && o.data.empty()) throw CLI::ValidationError("--model", "needs --data CSV");
    for (const std::string& id : o.models)
      if (examples::find_kind(id) == nullptr) throw CLI::ValidationError("--models", "no model has the id " + id);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::Error& error) {
    std::fprintf(stderr, "bench_model: %s (--help explains)\n", error.what());
    return 2;
  }
  try {
    return run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_model: %s\n", error.what());
    return 1;
  }
}
