// SPDX-License-Identifier: MIT
#include "examples/common/synthetic.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "lowbit/lowbit.hpp"

namespace examples {

namespace {

// The finalizer of splitmix64: a bijection that makes neighbours look unrelated, so that element i needs no element before it.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::uint64_t stream(std::uint64_t seed, std::string_view name) {
  for (const char c : name) seed = mix(seed ^ static_cast<unsigned char>(c));
  return seed;
}

// Four 16-bit uniforms add up to something close to a normal, in a few instructions and without a branch.
float nearly_normal(std::uint64_t bits) {
  const auto sum =
      static_cast<std::int32_t>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)) - 2 * 0xFFFF;
  return static_cast<float>(sum) * (1.7320508f / 65536.0f);  // a uniform on [0, 1) has variance 1/12, four have 1/3
}

void fill_normal(float* out, std::size_t n, float deviation, std::uint64_t origin) {
  constexpr std::size_t part = 1 << 16;
  lowbit::default_executor().run(lowbit::ceil_div(n, part), [&](std::size_t p) {
    for (std::size_t i = p * part; i < std::min(n, (p + 1) * part); ++i) out[i] = deviation * nearly_normal(mix(origin + i));
  });
}

// The first `count` of columns that are spread over `width`, so that no panel of the kernels has them all.
void set_spread(float* values, std::size_t width, std::size_t count, float value) {
  for (std::size_t i = 0; i < std::min(count, width); ++i) values[i * width / count] = i % 2 == 0 ? value : -value;
}

}  // namespace

lowbit::gpt2::Config gpt2_small_config() {
  lowbit::gpt2::Config c;
  c.layers = c.heads = 12;
  c.width = 768;
  c.inner = 3072;
  c.positions = 1024;
  c.vocab = 50257;
  c.classes = 4;
  c.class_names = {"World", "Sports", "Business", "Sci/Tech"};
  return c;
}

SyntheticParameters::SyntheticParameters(lowbit::gpt2::Config config, std::uint64_t seed)
    : config_(std::move(config)), seed_(mix(seed)) {
  lowbit::require(config_.layers <= outlier_columns.size(),
                  [&] { return "synthetic model: expected at most 12 layers, found " + std::to_string(config_.layers); });
}

lowbit::AlignedBuffer<float> SyntheticParameters::floats(const std::string& name, std::size_t rows, std::size_t cols) const {
  lowbit::AlignedBuffer<float> values(lowbit::checked_mul(rows, cols, "synthetic tensor"));
  if (rows != 1 || !name.starts_with("h.")) {
    if (name == "ln_f.weight")
      std::fill(values.begin(), values.end(), 1.0f);
    else if (name != "ln_f.bias")
      fill_normal(values.data(), values.size(), 0.02f, stream(seed_, name));
    return values;
  }
  const std::size_t dot = name.find('.', 2), width = config_.width;
  const auto& count = outlier_columns.at(std::stoul(name.substr(2, dot - 2)));
  const std::string_view part = std::string_view(name).substr(dot + 1);
  // Normalized values have deviation 1 and sums of 768 products with weights of deviation 0.02 stay near 1, so that what is set
  // here decides on which side of 6 a column lies, in every row; tests/four_models_synthetic_test.cpp counts.
  const float gain = 0.25f, normed = 8.0f, bias = 14.0f;
  if (part == "ln_1.weight" || part == "ln_2.weight") {
    std::fill(values.begin(), values.end(), 1.0f);
    const std::size_t n = count[part == "ln_1.weight" ? 0 : 2];
    for (std::size_t i = 0; i < n; ++i) values[i * cols / n] = gain;
  } else if (part == "ln_1.bias") {
    set_spread(values.data(), cols, count[0], normed);
  } else if (part == "ln_2.bias") {
    set_spread(values.data(), cols, count[2], normed);
  } else if (part == "attn.c_attn.bias") {
    set_spread(values.data() + 2 * width, width, count[1], bias);  // of the values, whose means the attention passes on
  } else if (part == "mlp.c_fc.bias") {
    // GELU lets only the positive ones pass.
    for (std::size_t i = 0; i < count[3]; ++i) values[i * cols / count[3]] = bias;
  }
  return values;
}

lowbit::Tensor SyntheticParameters::linear(const std::string& module, std::size_t out, std::size_t in) const {
  lowbit::TensorParts parts;
  parts.rows = out;
  parts.cols = in;
  const std::size_t n = lowbit::checked_mul(out, in, "synthetic tensor");
  parts.codes.reset(lowbit::checked_mul(n, sizeof(float), "synthetic tensor"));
  fill_normal(reinterpret_cast<float*>(parts.codes.data()), n, 0.02f, stream(seed_, module));
  return lowbit::Tensor(std::move(parts));
}

std::vector<std::int32_t> random_tokens(std::size_t count, std::size_t vocab, std::uint64_t seed) {
  std::vector<std::int32_t> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<std::int32_t>(mix(mix(seed) + i) % vocab);
  return ids;
}

}  // namespace examples
