// SPDX-License-Identifier: MIT
// What the command line asks for.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lowbit/qat/fake_quantize.hpp"

namespace train_classifier {

inline constexpr int exit_failed = 1, exit_usage = 2;

struct Options {
  std::filesystem::path data, test, model, out;  // test, model: may be empty
  lowbit::qat::Quantization quantization = lowbit::qat::Quantization::none;
  bool resume = false, overwrite = false, profile = false, freeze_embeddings = false;

  // A model from random initialization.
  std::vector<std::string> class_names;
  std::size_t layers = 4, heads = 5, width = 240, vocab = 8192, positions = 256;

  std::size_t epochs = 4, batch_rows = 32, max_tokens = 160, limit = 0, threads = 1;
  double rate = 0;       // 0: the default for the kind of run
  double warmup = 0.06;  // share of all steps
  float weight_decay = 0.05f, dropout = 0.1f, label_smoothing = 0.05f, clip = 1;
  float language_weight = 0.2f;
  double language_share = 0.5;
  std::size_t checkpoint_seconds = 300;
  std::uint64_t seed = 1;

  std::set<std::string> given;  // the options on the command line, "--seed"

  double peak_rate() const { return rate > 0 ? rate : model.empty() ? 1e-3 : 2e-5; }
};

// An exit code where the program has nothing more to do: 0 after --help, exit_usage after saying what is wrong.
std::optional<int> read_options(int argc, const char* const* argv, Options& o);

}  // namespace train_classifier
