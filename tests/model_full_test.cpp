// SPDX-License-Identifier: MIT
// The full-size models against the reference logits, as language models, and the memory that they take.
#include "lowbit/gpt2/model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "lowbit/lowbit.hpp"
#include "examples/common/model_walk.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/gpt2_models.hpp"
#include "support/resident.hpp"
#include "support/sanitizers.hpp"

namespace model_full_test {

namespace fs = std::filesystem;
using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::ThreadPool;

namespace {

bool skipped() {
  if (!lowbit::testing::shared_dir().empty() && !lowbit::testing::models_dir().empty()) return false;
  WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
  return true;
}

// Which rows of the test set: all 7,600, or LOWBIT_FULL_ROWS of them, evenly spread.
std::vector<std::size_t> full_rows(std::size_t most = 7600) {
  const char* given = std::getenv("LOWBIT_FULL_ROWS");
  const std::size_t wanted = given != nullptr && *given != '\0' ? static_cast<std::size_t>(std::strtoul(given, nullptr, 10)) : 7600;
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, most);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < count; ++i) rows.push_back(i * 7600 / count);
  return rows;
}

// The ids of every row of the test set, its first 160 tokens; vocabulary "gpt2" or "mini".
std::vector<Ids> full_tokens(const std::string& vocabulary) {
  const GoldenFile file((lowbit::testing::shared_dir() / "golden/ag_news_test_tokens.safetensors").string());
  const auto ids = file.get<std::int32_t>(vocabulary + ".ids", "I32");
  const auto offsets = file.get<std::int64_t>(vocabulary + ".offsets", "I64");
  std::vector<Ids> rows;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    rows.emplace_back(ids.begin() + offsets[r], ids.begin() + std::min(offsets[r] + 160, offsets[r + 1]));
  return rows;
}

// How a model must stand against the reference logits; 0: not checked, only printed.
struct FullCheck {
  std::string model, against;
  double max, rms, accuracy;
};

void check_full(const std::string& size, const std::string& vocabulary, const std::vector<FullCheck>& checks) {
  const GoldenFile golden((lowbit::testing::shared_dir() / "golden/reference_logits.safetensors").string());
  const auto labels = golden.get<std::int64_t>(size + ".labels", "I64");
  const std::vector<Ids> tokens = full_tokens(vocabulary);
  const std::vector<std::size_t> rows = full_rows();
  const fs::path folder = lowbit::testing::models_dir() / ("gpt2-" + size + "-ag-news");
  REQUIRE(tokens.size() == 7600);
  REQUIRE(labels.size() == 7600);
  ThreadPool pool;
  for (const Recipe& recipe : recipes())
    for (const FullCheck& check : checks) {
      if (check.model != recipe.name) continue;
      const Transformer m = recipe.load(folder, folder.string() + "-int8-qat");
      std::vector<float> found(4 * rows.size());
      pool.run(rows.size(), [&](std::size_t i) {  // one row per call
        const std::size_t offsets[2] = {0, tokens[rows[i]].size()};
        m.classify(tokens[rows[i]], offsets, std::span(found).subspan(4 * i, 4), serial);
      });
      const std::vector<float> all = golden.floats(size + "." + check.against);
      std::vector<float> expected;
      std::size_t right = 0, same = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        expected.insert(expected.end(), all.begin() + static_cast<std::ptrdiff_t>(4 * rows[i]),
                        all.begin() + static_cast<std::ptrdiff_t>(4 * rows[i] + 4));
        const std::size_t best = argmax(std::span(found).subspan(4 * i, 4));
        right += best == static_cast<std::size_t>(labels[rows[i]]);
        same += best == argmax(std::span(expected).subspan(4 * i, 4));
      }
      const auto error = lowbit::error_statistics(expected.data(), found.data(), found.size());
      const double percent = 100 / static_cast<double>(rows.size()), accuracy = static_cast<double>(right) * percent;
      std::printf("gpt2-%s %-12s  %s; %zu rows against %s: max %.2g, rms %.2g, same class %.2f %%, accuracy %.2f %%\n",
                  size.c_str(), recipe.name.c_str(), to_string(m.plans()[0]).c_str(), rows.size(), check.against.c_str(), error.max,
                  error.rms, static_cast<double>(same) * percent, accuracy);
      std::fflush(stdout);
      CAPTURE(size, recipe.name);
      CHECK(std::isfinite(error.max));
      if (check.max != 0) CHECK(error.max <= check.max);
      double fourths = 0;  // a sum of squares over rows has this variance
      for (std::size_t i = 0; i < rows.size(); ++i) {
        double of_row = 0;
        for (std::size_t j = 4 * i; j < 4 * i + 4; ++j)
          of_row += std::pow(static_cast<double>(found[j]) - static_cast<double>(expected[j]), 2);
        fourths += of_row * of_row;
      }
      const double values = static_cast<double>(found.size());
      if (check.rms != 0) CHECK(error.rms * error.rms * values - 3 * std::sqrt(fourths) <= check.rms * check.rms * values);
      if (check.accuracy != 0 && rows.size() == 7600) CHECK(std::fabs(accuracy - check.accuracy) <= 0.1);
    }
}

}  // namespace

// Two right implementations of 8-bit activations differ by about 0.022 RMS: a difference in the last bit flips codes, and the share
// of flipped codes grows from layer to layer.  Float and exactly decoded NF4 have no such chaos.
TEST_CASE("Model: GPT-2 small against the reference logits", "[model][.full]") {
  if (skipped()) return;
  check_full("small", "gpt2",
             {{"fp32", "fp32", 1e-4, 0, 94.00},
              {"int8_scratch", "qat-w8a8", 0, 0.026, 93.95},
              {"int8_bnb", "int8-bnb-thr6-row", 0, 0.026, 94.04},
              {"nf4_bnb", "nf4-dq", 0, 0, 94.03},
              {"nf4_f32", "nf4-dq", 2e-3, 2e-4, 94.03},
              {"nf4_int8", "nf4-dq", 0, 0, 0}});
}

TEST_CASE("Model: GPT-2 mini against the reference logits", "[model][.full]") {
  if (skipped()) return;
  check_full("mini", "mini",
             {{"fp32", "fp32", 1e-4, 0, 92.43},
              {"int8_scratch", "qat-w8a8", 0, 0.026, 92.36},
              {"int8_bnb", "int8-bnb-thr6", 0, 0, 92.45},
              {"nf4_bnb", "nf4-dq", 0, 0, 92.49},
              {"nf4_f32", "nf4-dq", 2e-3, 2e-4, 92.49},
              {"nf4_int8", "nf4-dq", 0, 0, 0}});
}

// What int8 compute on NF4 weights costs, layer by layer, on the activations of exact decoding.  Two roundings make the error: of
// an activation to a step of its row's absmax / 127, and of the codebook to 127 steps.  If they are independent and even, an
// output's error has the variance sum_k w^2 step^2 / 12 + x^2 (absmax of the block * e)^2, e the codebook's mean error.
TEST_CASE("Model: NF4 in int8 compute, the error of every layer of GPT-2 small", "[model][.full]") {
  if (skipped()) return;
  const fs::path folder = lowbit::testing::models_dir() / "gpt2-small-ag-news";
  ModelOptions<lowbit::NF4Tensor<>> exact_options, int8_options;
  exact_options.linear.pack = int8_options.linear.pack = false;  // so that the weights can be looked at
  exact_options.linear.compute = Compute::f32;
  int8_options.linear.compute = Compute::int8;
  const auto exact = Model<lowbit::NF4Tensor<>>::load(folder, exact_options),
             int8 = Model<lowbit::NF4Tensor<>>::load(folder, int8_options);
  double code_error = 0;
  for (const float v : lowbit::Nf4::table) {
    const double byte = std::nearbyint(static_cast<double>(v) * 127) / 127;
    code_error += std::pow(static_cast<double>(v) - byte, 2) / 16;
  }
  struct Layer {
    double signal = 0, error = 0, predicted = 0;
  };
  std::vector<Layer> layers(4 * exact.blocks.size());
  std::vector<std::vector<double>> squares(layers.size()), block_squares(layers.size());  // sums over outputs, by input
  const auto linear_of = [](const lowbit::gpt2::Transformer& m, std::size_t i) -> const lowbit::Linear& {
    const auto& b = m.blocks[i / 4];
    const lowbit::Linear* four[] = {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out};
    return *four[i % 4];
  };
  const lowbit::gpt2::FolderParameters source(folder);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const char* names[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
    const lowbit::Linear& l = linear_of(exact, i);
    const auto w = lowbit::NF4Tensor<>::quantize(
        reinterpret_cast<const float*>(
            source.linear("h." + std::to_string(i / 4) + "." + names[i % 4], l.rows(), l.cols()).parts().codes.data()),
        l.rows(), l.cols());
    std::vector<float> decoded(w.size());
    w.dequantize(decoded.data());
    squares[i].resize(l.cols());
    block_squares[i].resize(l.cols());
    for (std::size_t e = 0; e < w.size(); ++e) {
      squares[i][e % l.cols()] += std::pow(static_cast<double>(decoded[e]), 2);
      block_squares[i][e % l.cols()] += std::pow(static_cast<double>(w.scale(e / w.block_size())), 2);
    }
  }
  const std::vector<Ids> tokens = full_tokens("gpt2");
  for (const std::size_t row : full_rows(20)) {
    examples::ModelWalk walk(exact, tokens[row].size(), serial);
    std::size_t at = 0;
    walk.before_product = [&](const lowbit::Linear& l, lowbit::MatrixView<const float> x) {
      Layer& layer = layers[at];
      std::vector<float> y(x.rows * l.rows()), rough(y.size());
      l.forward(x, {y.data(), x.rows, l.rows()}, {}, {&serial});
      linear_of(int8, at).forward(x, {rough.data(), x.rows, l.rows()}, {}, {&serial});
      for (std::size_t t = 0; t < x.rows; ++t) {
        double absmax = 0;
        for (std::size_t k = 0; k < x.cols; ++k) absmax = std::max(absmax, std::fabs(static_cast<double>(x.row(t)[k])));
        for (std::size_t k = 0; k < x.cols; ++k)
          layer.predicted += squares[at][k] * std::pow(absmax / 127, 2) / 12 +
                             std::pow(static_cast<double>(x.row(t)[k]), 2) * block_squares[at][k] * code_error;
        for (std::size_t n = 0; n < l.rows(); ++n) {
          const auto value = static_cast<double>(y[t * l.rows() + n]);
          layer.signal += std::pow(value - static_cast<double>(l.bias()[n]), 2);
          layer.error += std::pow(value - static_cast<double>(rough[t * l.rows() + n]), 2);
        }
      }
      ++at;
    };
    walk.run(tokens[row], false);
    REQUIRE(at == layers.size());
  }
  std::vector<double> snr;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    snr.push_back(10 * std::log10(layers[i].signal / layers[i].error));
    const char* names[] = {"attention_in", "attention_out", "mlp_in", "mlp_out"};
    const double ratio = layers[i].error / layers[i].predicted;
    std::printf("block %2zu %-13s SNR %5.1f dB, error %.2f of the predicted variance\n", i / 4, names[i % 4], snr.back(), ratio);
    CAPTURE(i, ratio);
    CHECK(ratio > 0.25);
    CHECK(ratio < 4);
  }
  std::sort(snr.begin(), snr.end());
  std::printf("NF4 in int8 compute against exact decode: SNR from %.1f to %.1f dB, median %.1f\n", snr.front(), snr.back(),
              snr[snr.size() / 2]);
  std::fflush(stdout);
}

TEST_CASE("Model: GPT-2 small as a language model", "[model][.full]") {
  if (skipped()) return;
  const auto golden =
      nlohmann::json::parse(lowbit_test::read_bytes((lowbit::testing::shared_dir() / "golden/lm_reference.json").string()));
  const std::vector<double> expected = golden.at("fp32_row_nll");
  const std::vector<Ids> tokens = full_tokens("gpt2");
  const auto m = Model<DenseTensor<float>>::load(lowbit::testing::models_dir() / "gpt2-small-ag-news");
  REQUIRE(m.config.tied);
  REQUIRE(expected.size() == 7600);
  const std::size_t vocab = m.config.vocab;
  ThreadPool pool;

  const std::vector<std::size_t> rows = full_rows(300);
  std::vector<double> nll(rows.size());
  pool.run(rows.size(), [&](std::size_t i) {
    const Ids& ids = tokens[rows[i]];
    const std::vector<float> logits = language_logits(m, ids);
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
      const auto row = std::span(logits).subspan(t * vocab, vocab);
      const auto largest = static_cast<double>(row[argmax(row)]);
      double total = 0;
      for (const float v : row) total += std::exp(static_cast<double>(v) - largest);
      nll[i] += largest + std::log(total) - static_cast<double>(row[static_cast<std::size_t>(ids[t + 1])]);
    }
  });
  double found_sum = 0, expected_sum = 0, predicted = 0, worst = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    found_sum += nll[i];
    expected_sum += expected[rows[i]];
    predicted += static_cast<double>(tokens[rows[i]].size() - 1);
    worst = std::max(worst, std::fabs(nll[i] / expected[rows[i]] - 1));
  }
  std::printf(
      "gpt2-small fp32 as a language model: %zu rows, perplexity %.4f (reference %.4f on these rows), worst row off by %.2g\n",
      rows.size(), std::exp(found_sum / predicted), std::exp(expected_sum / predicted), worst);
  CHECK(worst <= 1e-3);
  CHECK(std::fabs(found_sum / expected_sum - 1) <= 1e-5);

  // Greedy text: a token sees only what came before, so one pass over prompt and continuation gives the choice at every step.
  const auto generations = golden.at("fp32").at("generations");
  std::size_t steps = 0, decided = 0;
  double margin_error = 0;
  for (const auto& g : generations) {
    Ids ids = g.at("prompt").get<Ids>();
    const Ids chosen = g.at("tokens").get<Ids>();
    const std::vector<double> margins = g.at("top2_margin");
    const std::size_t prompt = ids.size();
    ids.insert(ids.end(), chosen.begin(), chosen.end());
    const std::vector<float> logits = language_logits(m, ids);
    for (std::size_t s = 0; s < chosen.size(); ++s) {
      const auto row = std::span(logits).subspan((prompt - 1 + s) * vocab, vocab);
      std::vector<float> sorted(row.begin(), row.end());
      std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
      margin_error =
          std::max(margin_error, std::fabs(static_cast<double>(sorted[0]) - static_cast<double>(sorted[1]) - margins[s]));
      ++steps;
      if (margins[s] <= 1e-3) continue;
      ++decided;
      CHECK(argmax(row) == static_cast<std::size_t>(chosen[s]));
    }
  }
  std::printf("gpt2-small fp32 greedy text: %zu of %zu steps decided by more than 1e-3, margins off by at most %.2g\n", decided,
              steps, margin_error);
  CHECK(margin_error <= 5e-4);
  CHECK(decided > steps * 9 / 10);
}

#if defined(__GLIBC__) && !LOWBIT_TEST_SANITIZED
TEST_CASE("Model: GPT-2 small takes the memory that it reports", "[model][.full]") {
  if (skipped()) return;
  const std::map<std::string, int> paper = {{"fp32", 48671}, {"int8_scratch", 24371}, {"int8_bnb", 16836}, {"nf4_bnb", 12786}};
  const fs::path folder = lowbit::testing::models_dir() / "gpt2-small-ag-news";
  for (const Recipe& recipe : recipes()) {
    if (paper.find(recipe.name) == paper.end()) continue;
    // In a process of its own, so that nothing that ran before leaves memory to use again.
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::array<std::size_t, 4> report{};
      try {
        const std::int64_t before = resident_bytes();
        const Transformer m = recipe.load(folder, folder.string() + "-int8-qat");
        const auto memory = m.memory();
        report = {memory.parameters, memory.paper_bytes, memory.resident_bytes,
                  static_cast<std::size_t>(resident_bytes() - before)};
      } catch (...) {
      }
      _exit(write(ends[1], report.data(), sizeof report) == sizeof report ? 0 : 1);
    }
    close(ends[1]);
    std::array<std::size_t, 4> report{};
    CHECK(read(ends[0], report.data(), sizeof report) == sizeof report);
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    const auto [parameters, paper_bytes, resident, grown] = report;
    std::printf("gpt2-small %-12s  paper's account %.2f MiB, resident %.2f MiB, process grew by %.2f MiB\n", recipe.name.c_str(),
                static_cast<double>(paper_bytes) / mib, static_cast<double>(resident) / mib, static_cast<double>(grown) / mib);
    CAPTURE(recipe.name);
    CHECK(status == 0);
    CHECK(parameters == 124'442'880);
    CHECK(std::lround(100 * static_cast<double>(paper_bytes) / mib) == paper.at(recipe.name));
    CHECK(static_cast<double>(grown) >= 0.98 * static_cast<double>(resident));
    CHECK(static_cast<double>(grown) <= 1.03 * static_cast<double>(resident) + 8 * mib);
  }
}
#endif

}  // namespace model_full_test
