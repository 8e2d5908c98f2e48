// SPDX-License-Identifier: MIT
// config.json: every number that is accepted is one that later code may rely on.
#include "fuzz/fuzz.hpp"
#include "lowbit/io/hugging_face.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lowbit_fuzz::reads("config.json", [&] {
    const lowbit::io::HuggingFaceConfig c = lowbit::io::parse_config(lowbit_fuzz::text_of(data, size), "config.json");
    lowbit_fuzz::expect(c.layers >= 1 && c.layers <= 10'000 && c.width >= 1 && c.width <= 1'000'000, "layers and width in range");
    lowbit_fuzz::expect(c.heads >= 1 && c.width % c.heads == 0, "heads that divide the width");
    lowbit_fuzz::expect(c.inner >= 1 && c.positions >= 1 && c.vocab >= 1, "sizes of at least 1");
    lowbit_fuzz::expect(c.layer_norm_epsilon > 0 && c.layer_norm_epsilon < 1, "an epsilon between 0 and 1");
    for (const std::size_t id : c.eos_ids) lowbit_fuzz::expect(id < c.vocab, "ids of the vocabulary");
    lowbit_fuzz::expect(!c.pad_id || *c.pad_id < c.vocab, "a pad of the vocabulary");
  });
  return 0;
}
