// SPDX-License-Identifier: MIT
// A tokenizer for the targets that need one, trained on a few lines: all bytes, and some hundred merges over several scripts.
#pragma once
#include <string_view>

#include "lowbit/gpt2/tokenizer_training.hpp"

namespace lowbit_fuzz {

inline const lowbit::gpt2::TokenizerFiles& small_tokenizer() {
  static const lowbit::gpt2::TokenizerFiles files = [] {
    lowbit::gpt2::TokenizerTrainer trainer;
    for (const std::string_view text :
         {"the quantized weights of the model are the weights that it's been trained with, and they're smaller than they were",
          "aaaaaaaaaaaaaaaa abababababab  1234567890 12 123 1234   \n\n\t\n", "we'll say it's what I'd do; don't they've",
          "\xC3\xBC"
          "ber die gr\xC3\xB6\xC3\x9F"
          "eren H\xC3\xA4user",
          "\xE4\xB8\xAD\xE6\x96\x87\xE5\xAD\x97 \xF0\x9F\x98\x80\xF0\x9F\x98\x80"})
      trainer.add(text);
    return trainer.train(420, 1);
  }();
  return files;
}

}  // namespace lowbit_fuzz
