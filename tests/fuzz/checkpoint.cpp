// SPDX-License-Identifier: MIT
// A training checkpoint taken up again: by a model that is as it was where the file is refused, and finite sizes of everything else.
#include <cstring>
#include <vector>

#include "fuzz/safetensors_mutator.hpp"
#include "fuzz/scratch.hpp"
#include "fuzz/small_training.hpp"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  static constexpr const char* names[] = {"value.score.weight", "first_moment.score.weight", "second_moment.score.weight",
                                          "value.transformer.wte.weight", "kind"};
  return lowbit_fuzz::SafeTensorsMutator(seed)(data, size, max_size, names);
}

namespace {

std::vector<float> values_of(lowbit::qat::Transformer& model) {
  std::vector<float> all;
  model.for_each_parameter([&](const lowbit::qat::Parameter& p) {
    for (const auto* part : {&p.value, &p.first_moment, &p.second_moment}) all.insert(all.end(), part->begin(), part->end());
  });
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lowbit_fuzz::Scratch folder;
  static lowbit::qat::Transformer model = lowbit_fuzz::small_model();
  lowbit::qat::AdamW optimizer;
  const std::filesystem::path path = folder.put("checkpoint.safetensors", lowbit_fuzz::text_of(data, size));
  const std::vector<float> before = values_of(model);
  const bool loaded = lowbit_fuzz::reads(path.string(), [&] {
    for (const auto& [key, value] : lowbit::qat::load_checkpoint(path, model, optimizer))
      lowbit_fuzz::expect(key != "kind" && key != "optimizer_steps", "the caller's own notes");
  });
  if (loaded) {
    model = lowbit_fuzz::small_model();
    return 0;
  }
  const std::vector<float> after = values_of(model);
  lowbit_fuzz::expect(optimizer.steps == 0 && before.size() == after.size() &&
                          std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0,
                      "a model that is unchanged");
  return 0;
}
