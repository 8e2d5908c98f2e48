// SPDX-License-Identifier: MIT
// The synthetic GPT-2 small: its shape, and that every layer's input has just the outlier columns it is said to have, in every row.
#include <cmath>
#include <string>
#include <vector>

#include "examples/common/synthetic.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"

namespace four_models_synthetic_test {

using namespace examples;
using lowbit::MatrixView;

namespace {

using Matrix = std::vector<double>;

// Rows of c values, normalized; written down once more so that the count does not lean on the library's own forward pass.
Matrix normed(const lowbit::gpt2::LayerNorm& n, const Matrix& x, std::size_t c, double epsilon) {
  Matrix y(x.size());
  for (std::size_t r = 0; r < x.size() / c; ++r) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < c; ++i) mean += x[r * c + i] / static_cast<double>(c);
    for (std::size_t i = 0; i < c; ++i) variance += std::pow(x[r * c + i] - mean, 2) / static_cast<double>(c);
    for (std::size_t i = 0; i < c; ++i)
      y[r * c + i] = (x[r * c + i] - mean) / std::sqrt(variance + epsilon) * n.gain[i] + n.shift[i];
  }
  return y;
}

Matrix product(const lowbit::Linear& layer, const Matrix& x) {
  const std::vector<float> in(x.begin(), x.end());
  const std::size_t rows = x.size() / layer.cols();
  std::vector<float> out(rows * layer.rows());
  layer.forward({in.data(), rows, layer.cols()}, {out.data(), rows, layer.rows()});
  return Matrix(out.begin(), out.end());
}

Matrix attention(const Matrix& qkv, std::size_t rows, std::size_t c, std::size_t heads) {
  const std::size_t depth = c / heads;
  Matrix out(rows * c);
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<double> weight(r + 1);
      double largest = -1e300, sum = 0;
      for (std::size_t t = 0; t <= r; ++t) {
        for (std::size_t i = 0; i < depth; ++i) weight[t] += qkv[r * 3 * c + h * depth + i] * qkv[t * 3 * c + c + h * depth + i];
        weight[t] /= std::sqrt(static_cast<double>(depth));
        largest = std::max(largest, weight[t]);
      }
      for (double& w : weight) sum += w = std::exp(w - largest);
      for (std::size_t t = 0; t <= r; ++t)
        for (std::size_t i = 0; i < depth; ++i)
          out[r * c + h * depth + i] += weight[t] / sum * qkv[t * 3 * c + 2 * c + h * depth + i];
    }
  return out;
}

void check_outliers(const Matrix& x, std::size_t columns, std::size_t expected, std::size_t layer, const char* name) {
  CAPTURE(layer, name);
  for (std::size_t r = 0; r < x.size() / columns; ++r) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < columns; ++i) found += std::fabs(x[r * columns + i]) >= 6;
    CHECK(found == expected);
  }
}

}  // namespace

TEST_CASE("synthetic model: its shape is GPT-2 small's") {
  const auto c = gpt2_small_config();
  const std::size_t w = c.width, linear = c.layers * (w * 3 * w + w * w + 2 * w * c.inner);
  CHECK(linear == 84934656);
  const std::size_t biases_and_norms = 3 * w + w + c.inner + w + 4 * w;
  CHECK(linear + c.layers * biases_and_norms + 2 * w + (c.vocab + c.positions + c.classes) * w == 124442880);
}

TEST_CASE("synthetic model: outlier columns of every layer, in every row") {
  auto config = gpt2_small_config();
  config.vocab = 300;  // the width of the layers is what counts
  config.positions = 16;
  for (const std::uint64_t seed : {1u, 2u}) {
    const SyntheticParameters source(config, seed);
    const lowbit::gpt2::Model<lowbit::DenseTensor<float>> net(source);
    const auto ids = random_tokens(10, config.vocab, seed);
    const std::size_t rows = ids.size(), c = config.width;
    const auto tokens = source.floats("wte.weight", config.vocab, c), positions = source.floats("wpe.weight", config.positions, c);
    Matrix x(rows * c);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = tokens[static_cast<std::size_t>(ids[i / c]) * c + i % c] + positions[i];
    const auto add = [&](const Matrix& y) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    };
    for (std::size_t l = 0; l < config.layers; ++l) {
      const auto& block = net.blocks[l];
      const Matrix a = normed(block.ln_1, x, c, config.epsilon);
      check_outliers(a, c, outlier_columns[l][0], l, "attn.c_attn");
      const Matrix b = attention(product(block.attention_in, a), rows, c, config.heads);
      check_outliers(b, c, outlier_columns[l][1], l, "attn.c_proj");
      add(product(block.attention_out, b));
      const Matrix d = normed(block.ln_2, x, c, config.epsilon);
      check_outliers(d, c, outlier_columns[l][2], l, "mlp.c_fc");
      Matrix e = product(block.mlp_in, d);
      for (double& v : e) v = 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
      check_outliers(e, config.inner, outlier_columns[l][3], l, "mlp.c_proj");
      add(product(block.mlp_out, e));
    }
  }
}

TEST_CASE("synthetic model: weights look normal, and depend on seed and name alone") {
  auto config = gpt2_small_config();
  const SyntheticParameters source(config, 5), again(config, 5), other(config, 6);
  const auto w = source.floats("wpe.weight", 1024, 768);
  double mean = 0, square = 0;
  for (const float v : w) {
    mean += static_cast<double>(v) / static_cast<double>(w.size());
    square += static_cast<double>(v) * static_cast<double>(v) / static_cast<double>(w.size());
  }
  // Five standard errors: 0.02 / sqrt(n) of the mean; the variance of four uniforms' square is below a normal's, 2 * 0.02^4.
  const double n = static_cast<double>(w.size());
  CHECK(std::fabs(mean) < 5 * 0.02 / std::sqrt(n));
  CHECK(std::fabs(square - 0.0004) < 5 * 0.0004 * std::sqrt(2 / n));
  const auto equal = [&](const lowbit::AlignedBuffer<float>& v) { return std::equal(w.begin(), w.end(), v.begin()); };
  CHECK(equal(again.floats("wpe.weight", 1024, 768)));
  CHECK_FALSE(equal(other.floats("wpe.weight", 1024, 768)));
  CHECK_FALSE(equal(source.floats("wte.weight", 1024, 768)));
  config.layers = 13;
  CHECK_THROWS_AS(SyntheticParameters(config, 1), lowbit::InvalidArgument);
}

}  // namespace four_models_synthetic_test
