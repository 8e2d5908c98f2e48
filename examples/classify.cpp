// SPDX-License-Identifier: MIT
// A model folder in, a label out: any GPT-2 for sequence classification in Hugging Face's layout, its linear layers in NF4.
//   classify FOLDER TEXT...      or, without a text, every line of standard input; memory does not grow with them
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <lowbit/format/finite.hpp>
#include <lowbit/gpt2/model.hpp>
#include <lowbit/gpt2/tokenizer.hpp>
#include <lowbit/io/csv.hpp>
#include <lowbit/lowbit.hpp>

namespace {

// The probability of class `best` among the logits of all classes.
double probability(const std::vector<float>& logits, std::size_t best) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - logits[best]));
  return 1 / sum;
}

// Texts with nothing in them are passed over.
void classify(const std::string& folder, const std::vector<std::string_view>& texts) {
  // Float weights are quantized as they are read; a folder that is NF4 already is taken as it is.
  const auto model = lowbit::gpt2::Model<lowbit::NF4Tensor<>>::load(folder);
  const auto tokenizer = lowbit::gpt2::Tokenizer::load(folder);
  tokenizer.require_fits(model.config.vocab, folder);
  std::fprintf(stderr, "%zu parameters in %.1f MiB\n", model.memory().parameters,
               static_cast<double>(model.memory().resident_bytes) / (1 << 20));

  std::size_t number = 0, cut = 0;
  const auto say_class_of = [&](std::string_view text) {
    ++number;
    if (lowbit::io::is_blank(text)) return;
    lowbit::io::require_utf8(text, "text " + std::to_string(number));
    std::vector<std::int32_t> ids = tokenizer.encode(text);
    cut += ids.size() > model.config.positions;
    ids.resize((std::min)(ids.size(), model.config.positions));
    const std::vector<float> logits = model.classify(ids, lowbit::default_executor());
    if (lowbit::first_non_finite(logits.data(), logits.size()) != logits.size())
      lowbit::raise<lowbit::Error>(folder + ": text " + std::to_string(number) + ": expected finite logits, found NaN or infinity");
    const auto best = static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    std::printf("%-10s %5.1f %%  ", model.config.class_names[best].c_str(), 100 * probability(logits, best));
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::putchar('\n');
  };
  for (const std::string_view text : texts) say_class_of(text);
  for (std::string line; texts.empty() && std::getline(std::cin, line);) {
    if (line.ends_with('\r')) line.pop_back();
    say_class_of(number == 0 && line.starts_with("\xEF\xBB\xBF") ? std::string_view(line).substr(3) : line);
  }
  if (cut != 0) std::fprintf(stderr, "%zu texts cut to %zu tokens\n", cut, model.config.positions);
  if (std::ferror(stdin) != 0) lowbit::raise<lowbit::IoError>("standard input: cannot be read");
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) lowbit::raise<lowbit::IoError>("standard output: cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') {
    std::fprintf(stderr, "usage: %s FOLDER [TEXT...]\n  FOLDER  config.json, model.safetensors, vocab.json and merges.txt\n",
                 argv[0]);
    return 2;
  }
  try {
    classify(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {  // lowbit's names the file, what was expected and what was found
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}
