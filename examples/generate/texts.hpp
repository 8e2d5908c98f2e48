// SPDX-License-Identifier: MIT
// Prompts in, texts out: runs a model over a list of prompts, some at once, and clocks prefill and decode.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/generate/model.hpp"
#include "lowbit/gpt2/generation.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/parallel.hpp"

namespace generate {

struct Text {
  std::string prompt, text;  // text: what was generated, well-formed UTF-8
  std::size_t prompt_tokens = 0;
  std::vector<std::int32_t> tokens;
  std::string finish;  // "length", "stop token" (also the end of the text), "stop string" or "interrupted"
};
struct Speed {
  std::size_t tokens = 0, passes = 0;
  double seconds = 0;
  double tokens_per_second() const { return seconds == 0 ? 0 : static_cast<double>(tokens) / seconds; }
};
struct Texts {
  std::vector<Text> texts;
  Speed prefill;                             // passes in which some text read its prompt, or its last half anew
  Speed decode;                              // passes of one token a text
  std::size_t cache_bytes = 0;               // of the keys and values of all texts that were under way at once, at most
  std::optional<std::size_t> process_bytes;  // that the process held then or when a text ended, at most
};

// The prompts of the command line or the file.  Throws IoError, and FormatError if there are none.
std::vector<std::string> prompts_of(const Options& options);

// A line on standard error for every prompt that is longer than the model's positions.
void warn_of_long_prompts(const Source& source, const std::vector<std::string>& prompts, const Options& o);

// Continues every prompt.  An empty one begins with the end of the text before, as models were trained.  on_text(i, piece): text i goes
// on with this piece; its last piece comes before its end.  Stops early, with what there is, on interrupted().
// Throws InvalidArgument for an empty prompt of a model without such a token, Error that names the model and the prompts where logits
// are not finite.
Texts continue_prompts(const Loaded& model, const Source& source, const std::vector<std::string>& prompts, const Options& options,
                       lowbit::Executor& executor, const std::function<void(std::size_t, std::string_view)>& on_text = {});

// "prefill 12 tokens, 597.1 tokens/s; decode 127 tokens, 43.2 tokens/s".
std::string words_of(const Texts& texts);
// What decides the texts, beside the model and the prompts.
lowbit::io::Json settings_of(const Options& options);
lowbit::io::Json json_of(const Speed& speed);
lowbit::io::Json json_of(const Text& text);
// Name, format, compute, sizes of a model.
lowbit::io::Json json_of(const Loaded& model);

}  // namespace generate
