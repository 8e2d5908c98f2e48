// SPDX-License-Identifier: MIT
// GPT-2 small in full size without its 500 MB: random weights in place of trained ones, for memory and latency, which do not depend
// on their values - but for one: LLM.int8() takes columns with |x| >= 6 out of its integer product, and random weights have none.
// So every layer gets as many such columns as a trained model of this shape has, in every row.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lowbit/gpt2/parameters.hpp"

namespace examples {

// Input columns with any |x| > 6, per layer: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj.  Measured on a GPT-2 small trained on
// AG News, the largest number in a batch of 256 rows (golden/outlier_columns.json of the project's reference data).  A single row
// of that model has at most as many.
inline constexpr std::array<std::array<std::size_t, 4>, 12> outlier_columns = {{{0, 0, 2, 9},
                                                                                {5, 0, 7, 2},
                                                                                {8, 0, 9, 4},
                                                                                {8, 0, 11, 7},
                                                                                {10, 0, 11, 4},
                                                                                {8, 0, 10, 5},
                                                                                {5, 0, 15, 9},
                                                                                {5, 0, 20, 19},
                                                                                {8, 0, 25, 21},
                                                                                {9, 0, 34, 30},
                                                                                {11, 0, 39, 22},
                                                                                {20, 2, 34, 11}}};

lowbit::gpt2::Config gpt2_small_config();

// Every weight is close to normal, mean 0, deviation 0.02, the norms are 1 and 0, the biases 0, but for what makes the outlier
// columns.  The same seed and config give the same values on every machine and number of threads.  At most 12 layers.
class SyntheticParameters final : public lowbit::gpt2::ParameterSource {
 public:
  // Throws InvalidArgument if the config has more than 12 layers.
  SyntheticParameters(lowbit::gpt2::Config config, std::uint64_t seed);
  const lowbit::gpt2::Config& config() const override { return config_; }
  bool contains(const std::string& name) const override { return name != "lm_head.weight"; }
  lowbit::AlignedBuffer<float> floats(const std::string& name, std::size_t rows, std::size_t cols) const override;
  lowbit::Tensor linear(const std::string& module, std::size_t out, std::size_t in) const override;

 private:
  lowbit::gpt2::Config config_;
  std::uint64_t seed_;
};

// `count` token ids below `vocab`, all alike likely.
std::vector<std::int32_t> random_tokens(std::size_t count, std::size_t vocab, std::uint64_t seed);

}  // namespace examples
