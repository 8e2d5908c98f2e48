// SPDX-License-Identifier: MIT
// The command line of lowbit-generate.
#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "examples/common/models.hpp"
#include "lowbit/gpt2/generation.hpp"

namespace generate {

inline constexpr std::size_t usual_row_tokens = 160;
inline constexpr int exit_failed = 1, exit_usage = 2;

struct Options {
  std::filesystem::path model;                    // a folder or a GGUF file
  std::filesystem::path base;                     // for what the folder leaves out
  std::filesystem::path tokenizer;                // empty: the model's
  std::vector<const examples::ModelKind*> kinds;  // empty: what the model holds
  std::vector<std::string> prompts;               // of the command line
  std::filesystem::path file;                     // a prompt, or with `lines` a prompt a line; "-": standard input
  bool lines = false, interactive = false;
  std::size_t batch = 8;  // texts at once
  lowbit::gpt2::GenerationOptions generation;
  std::vector<std::string> stop_strings;
  bool special = false;     // "<|endoftext|>" and other added tokens in a prompt are those tokens
  bool ignore_end = false;  // of the text, by the model's own token
  bool show_prompt = true;
  bool compare = false;
  std::filesystem::path perplexity;       // a text, or a CSV of news; empty: none
  std::size_t context = 0, stride = 0;    // 0: the model's positions; half of the context
  std::optional<std::size_t> row_tokens;  // of a CSV; default: 160, or the model's positions
  std::size_t rows = 0;                   // of a CSV; 0: all
  bool layer_errors = false;
  std::size_t threads = 1;
  bool json = false;
};

// Reads the command line.  Returns the exit code where the program is to end at once: after --help, or wrong usage.
std::optional<int> read_options(int argc, const char* const* argv, Options& options);

}  // namespace generate
