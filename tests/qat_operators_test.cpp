// SPDX-License-Identifier: MIT
// The operators of training: every gradient against central differences of the operator written in double, at every level and at
// random shapes; AdamW, the schedule and fake quantization against their formulas.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "lowbit/matmul.hpp"
#include "lowbit/qat/adamw.hpp"
#include "lowbit/qat/linear.hpp"
#include "lowbit/qat/operators.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace qat_operators_test {

namespace {

using namespace lowbit;
using lowbit_test::Random;
using Values = std::vector<double>;

Values widened(const std::vector<float>& v) { return {v.begin(), v.end()}; }
double dot(const Values& a, const Values& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

// The gradient of `loss` at x.  A fourth-order difference: its own error, of h^4 = 1e-12 and of 2^-53 / h = 1e-13 times the values,
// is far below that of a float.
Values differences(Values x, const std::function<double(const Values&)>& loss) {
  Values gradient;
  for (double& v : x) {
    const double at = v, h = 1e-3;
    const auto moved = [&](double by) {
      v = at + by;
      return loss(x);
    };
    gradient.push_back((8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h));
    v = at;
  }
  return gradient;
}

// A float computation of `roundings` steps in a row errs by about the square root of that many units in the last place of the
// values that it passes through (roundings have random signs); eight times that is allowed, of the largest gradient and of `size`,
// the values that cancel in it.
std::string unlike(const std::vector<float>& found, const Values& expected, double roundings, double size = 0) {
  for (const double e : expected) size = std::max(size, std::fabs(e));
  const double bound = 8 * std::sqrt(roundings) * lowbit_test::unit_roundoff * size + 1e-9;
  std::vector<lowbit_test::Bounded> bounds;
  for (const double e : expected) bounds.push_back({e, bound});
  return lowbit_test::outside(found, bounds);
}

Values layer_norm(const Values& x, const Values& gain, const Values& shift, double epsilon) {
  const std::size_t n = gain.size();
  Values y(x.size());
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < n; ++i) mean += x[r * n + i] / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) variance += std::pow(x[r * n + i] - mean, 2) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) y[r * n + i] = (x[r * n + i] - mean) / std::sqrt(variance + epsilon) * gain[i] + shift[i];
  }
  return y;
}

// qkv (T, 3C) to (T, C).
Values attention(const Values& qkv, const std::vector<std::size_t>& offsets, std::size_t heads, std::size_t width) {
  const std::size_t depth = width / heads;
  Values out(qkv.size() / 3);
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t t = offsets[r]; t < offsets[r + 1]; ++t) {
        Values weights;
        double sum = 0;
        for (std::size_t s = offsets[r]; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < depth; ++i)
            score += qkv[t * 3 * width + h * depth + i] * qkv[s * 3 * width + width + h * depth + i];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(depth))));
          sum += weights.back();
        }
        for (std::size_t s = offsets[r]; s <= t; ++s)
          for (std::size_t i = 0; i < depth; ++i)
            out[t * width + h * depth + i] += weights[s - offsets[r]] / sum * qkv[s * 3 * width + 2 * width + h * depth + i];
      }
  return out;
}

double cross_entropy(const Values& logits, std::size_t target, double smoothing) {
  double sum = 0, loss = 0;
  for (const double l : logits) sum += std::exp(l);
  for (std::size_t i = 0; i < logits.size(); ++i)
    loss -= ((i == target ? 1 - smoothing : 0.0) + smoothing / static_cast<double>(logits.size())) * (logits[i] - std::log(sum));
  return loss;
}

}  // namespace

TEST_CASE("qat: the gradients of layer normalization") {
  lowbit_test::for_each_level([&](Level) {
    Random random(1);
    ThreadPool pool(2);
    for (const std::size_t n : {1u, 3u, 8u, 16u, 17u, 37u, 64u, 100u}) {
      const std::size_t tokens = 1 + random.below(20);
      CAPTURE(n, tokens);
      const std::vector<float> x = random.normals(tokens * n), dy = random.normals(tokens * n);
      qat::LayerNorm norm("ln", n);
      for (float& g : norm.gain.value) g = random.normal();
      for (float& s : norm.shift.value) s = random.normal();
      const float epsilon = 0.1f;  // bounds the curvature, also of a row of one number
      const Values wide_x = widened(x), wide_dy = widened(dy), gain(norm.gain.value.begin(), norm.gain.value.end()),
                   shift(norm.shift.value.begin(), norm.shift.value.end());
      const auto loss = [&](const Values& at, const Values& g, const Values& s) {
        return dot(layer_norm(at, g, s, static_cast<double>(epsilon)), wide_dy);
      };
      std::vector<float> y(x.size()), dx(x.size());
      norm.forward(x.data(), tokens, epsilon, y.data(), pool);
      norm.backward(x.data(), dy.data(), tokens, epsilon, dx.data(), false, pool);
      const double roundings = static_cast<double>(n + tokens + 20), size = 4;  // sums of terms of about that size cancel
      CHECK(unlike(y, layer_norm(wide_x, gain, shift, static_cast<double>(epsilon)), roundings, size) == "");
      CHECK(unlike(dx, differences(wide_x, [&](const Values& v) { return loss(v, gain, shift); }), roundings, size * 4) == "");
      CHECK(unlike({norm.gain.gradient.begin(), norm.gain.gradient.end()},
                   differences(gain, [&](const Values& v) { return loss(wide_x, v, shift); }), roundings, size) == "");
      CHECK(unlike({norm.shift.gradient.begin(), norm.shift.gradient.end()},
                   differences(shift, [&](const Values& v) { return loss(wide_x, gain, v); }), roundings, size) == "");
      std::vector<float> added = random.normals(x.size());
      const std::vector<float> before = added;
      norm.backward(x.data(), dy.data(), tokens, epsilon, added.data(), true, pool);
      for (std::size_t i = 0; i < added.size(); ++i) REQUIRE(added[i] == before[i] + dx[i]);
    }
  });
}

TEST_CASE("qat: the gradient of GELU") {
  lowbit_test::for_each_level([&](Level) {
    Random random(2);
    SerialExecutor serial;
    std::vector<float> x = {0.0f, -0.0f, 1e-30f, -9.9f, 9.9f, -12.0f, 12.0f, -100.0f, 100.0f};
    for (int i = 0; i < 300; ++i) x.push_back(static_cast<float>(random.uniform(-9, 9)));
    const std::vector<float> ones(x.size(), 1.0f);
    std::vector<float> dx(x.size());
    qat::gelu_backward(x.data(), ones.data(), x.size(), dx.data(), serial);
    for (std::size_t i = 0; i < x.size(); ++i) {
      CAPTURE(x[i]);
      const Values expected =
          differences({static_cast<double>(x[i])}, [](const Values& v) { return lowbit_test::gelu_tanh(v[0]); });
      // 20 roundings, and the power's argument, up to 100, whose last place the power's relative error is.
      CHECK(unlike({dx[i]}, expected, 40, 1) == "");
    }
    std::vector<float> in_place = random.normals(x.size()), apart(x.size());
    qat::gelu_backward(x.data(), in_place.data(), x.size(), apart.data(), serial);
    qat::gelu_backward(x.data(), in_place.data(), x.size(), in_place.data(), serial);
    CHECK(in_place == apart);
  });
}

TEST_CASE("qat: the gradient of attention") {
  lowbit_test::for_each_level([&](Level) {
    Random random(3);
    ThreadPool pool(2);
    for (int round = 0; round < 8; ++round) {
      const std::size_t heads = 1 + random.below(3), depth = 1 + random.below(round < 4 ? 9 : 40), width = heads * depth;
      std::vector<std::size_t> offsets{0};
      for (std::size_t r = 0; r < 1 + random.below(3); ++r)
        offsets.push_back(offsets.back() + 1 + random.below(round < 6 ? 9 : 21));
      const std::size_t tokens = offsets.back();
      CAPTURE(heads, depth, tokens);
      const std::vector<float> qkv = random.normals(tokens * 3 * width), dout = random.normals(tokens * width);
      const Values wide = widened(qkv), wide_dout = widened(dout);
      std::vector<float> out(tokens * width), dqkv(qkv.size(), 99.0f);
      qat::attention(qkv.data(), offsets, heads, width, out.data(), pool);
      qat::attention_backward(qkv.data(), dout.data(), offsets, heads, width, dqkv.data(), pool);
      const double roundings = static_cast<double>(2 * depth + 2 * tokens + 20);
      CHECK(unlike(out, attention(wide, offsets, heads, width), roundings, 4) == "");
      const auto loss = [&](const Values& v) { return dot(attention(v, offsets, heads, width), wide_dout); };
      CHECK(unlike(dqkv, differences(wide, loss), roundings, 4 * std::sqrt(static_cast<double>(depth))) == "");
    }
  });
}

TEST_CASE("qat: the gradients of a linear layer, at shapes with and without tails") {
  lowbit_test::for_each_level([&](Level) {
    Random random(4);
    ThreadPool pool(2);
    for (int round = 0; round < 12; ++round) {
      const std::size_t tokens = 1 + random.below(70), in = 1 + random.below(round % 2 ? 20 : 130), out = 1 + random.below(130);
      CAPTURE(tokens, in, out);
      qat::Linear layer("l", out, in);
      for (float& w : layer.weight.value) w = random.normal();
      for (float& b : layer.bias.value) b = random.normal();
      std::vector<float> x = random.normals(tokens * in), y(tokens * out), dx(tokens * in);
      const std::vector<float> dy = random.normals(tokens * out);
      AlignedBuffer<float> rounded;
      layer.prepare(qat::Quantization::none, true, rounded, pool);
      layer.forward(x.data(), tokens, y.data(), pool);
      qat::detail::WeightGradient scratch;
      const int times = 1 + round % 2;  // gradients are added
      for (int i = 0; i < times; ++i) layer.backward(x.data(), dy.data(), tokens, dx.data(), scratch, pool);
      // A linear map's differences are exact; written out, they are these sums.
      Values want_y(y.size()), want_dx(dx.size()), want_dw(in * out), want_db(out);
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t o = 0; o < out; ++o) {
          const auto g = static_cast<double>(dy[t * out + o]);
          want_y[t * out + o] = static_cast<double>(layer.bias.value[o]);
          want_db[o] += times * g;
          for (std::size_t i = 0; i < in; ++i) {
            const auto w = static_cast<double>(layer.weight.value[o * in + i]), v = static_cast<double>(x[t * in + i]);
            want_y[t * out + o] += w * v;
            want_dx[t * in + i] += w * g;
            want_dw[o * in + i] += times * v * g;
          }
        }
      const auto size = [](std::size_t n) { return 3 * std::sqrt(static_cast<double>(n)); };
      CHECK(unlike(y, want_y, static_cast<double>(in), size(in)) == "");
      CHECK(unlike(dx, want_dx, static_cast<double>(out), size(out)) == "");
      CHECK(unlike({layer.weight.gradient.begin(), layer.weight.gradient.end()}, want_dw, static_cast<double>(2 * tokens),
                   2 * size(tokens)) == "");
      CHECK(unlike({layer.bias.gradient.begin(), layer.bias.gradient.end()}, want_db, static_cast<double>(2 * tokens),
                   2 * size(tokens)) == "");
    }
  });
}

TEST_CASE("qat: the gradient of cross-entropy") {
  lowbit_test::for_each_level([&](Level) {
    Random random(5);
    for (const std::size_t n : {2u, 4u, 15u, 16u, 17u, 33u, 1000u}) {
      for (const float smoothing : {0.0f, 0.1f}) {
        CAPTURE(n, smoothing);
        std::vector<float> logits = random.normals(n, 3);
        if (n == 4) logits = {80.0f, -80.0f, 79.0f, 0.0f};
        const std::size_t target = random.below(n);
        const Values wide = widened(logits);
        const float loss = lowbit::detail::training_kernels().cross_entropy(logits.data(), n, target, smoothing, 0.5f);
        const auto exact = [&](const Values& v) { return cross_entropy(v, target, static_cast<double>(smoothing)); };
        CHECK(unlike({loss}, {exact(wide)}, static_cast<double>(n + 20), 8) == "");
        Values gradient = differences(wide, exact);
        for (double& g : gradient) g *= 0.5;
        CHECK(unlike(logits, gradient, static_cast<double>(n + 20), 4) == "");
      }
    }
  });
}

TEST_CASE("qat: embedding adds to every row that a token or a place names") {
  SerialExecutor serial;
  qat::Parameter tokens("wte", 5, 70, true), positions("wpe", 4, 70, true);
  Random random(6);
  for (float& v : tokens.value) v = random.normal();
  for (float& v : positions.value) v = random.normal();
  const std::vector<std::int32_t> ids = {3, 1, 3, 3, 0};
  const std::vector<std::size_t> offsets = {0, 3, 5};
  std::vector<float> x(5 * 70);
  qat::embed(tokens, positions, ids, offsets, x.data(), serial);
  const std::vector<float> dx = random.normals(x.size());
  qat::embed_backward(tokens, positions, ids, offsets, dx.data(), serial);
  for (std::size_t c = 0; c < 70; ++c) {
    for (std::size_t t = 0; t < 5; ++t)
      REQUIRE(x[t * 70 + c] ==
              tokens.value[static_cast<std::size_t>(ids[t]) * 70 + c] + positions.value[(t < 3 ? t : t - 3) * 70 + c]);
    REQUIRE(tokens.gradient[3 * 70 + c] == dx[c] + dx[2 * 70 + c] + dx[3 * 70 + c]);
    REQUIRE(tokens.gradient[2 * 70 + c] == 0);
    REQUIRE(positions.gradient[c] == dx[c] + dx[3 * 70 + c]);
    REQUIRE(positions.gradient[3 * 70 + c] == 0);
  }
}

TEST_CASE("qat: dropout keeps its share, scales it, and is the same forward and backward") {
  ThreadPool pool(2);
  SerialExecutor serial;
  const std::size_t n = 200001;
  const std::vector<float> ones(n, 1.0f), twos(n, 2.0f);
  std::vector<float> y(n), again(n), behind(n);
  const qat::Dropout dropout{0.25f, 7};
  dropout.apply(ones.data(), nullptr, n, y.data(), pool);
  dropout.apply(ones.data(), nullptr, n, again.data(), serial);
  CHECK(y == again);
  std::size_t kept = 0;
  for (const float v : y) {
    REQUIRE((v == 0 || v == 1 / 0.75f));
    kept += v != 0;
  }
  // Binomial: six standard deviations of sqrt(n / 4 * 3 / 4).
  CHECK(std::fabs(static_cast<double>(kept) - 0.75 * n) < 6 * std::sqrt(n * 0.25 * 0.75));
  dropout.apply(ones.data(), twos.data(), n, behind.data(), pool);
  for (std::size_t i = 0; i < n; ++i) REQUIRE(behind[i] == y[i] + 2);
  qat::Dropout{0.25f, 8}.apply(ones.data(), nullptr, n, again.data(), pool);
  CHECK(y != again);
  qat::Dropout{0, 8}.apply(ones.data(), twos.data(), n, again.data(), pool);
  CHECK(again == std::vector<float>(n, 3.0f));
}

TEST_CASE("qat: fake-quantized values are Int8Tensor's, and products with them are its int8 products") {
  lowbit_test::for_each_level([&](Level) {
    Random random(8);
    ThreadPool pool(2);
    for (int round = 0; round < 8; ++round) {
      const std::size_t tokens = 1 + random.below(20), in = 1 + random.below(300), out = 1 + random.below(100);
      CAPTURE(tokens, in, out);
      qat::Linear layer("l", out, in);
      std::vector<float> w = random.uneven(out * in), x = random.normals(tokens * in), y(tokens * out), exported(tokens * out);
      std::fill_n(w.begin(), in, 0.0f);  // a row of zeros
      std::copy(w.begin(), w.end(), layer.weight.value.begin());
      for (float& b : layer.bias.value) b = random.normal();

      std::vector<float> rounded(w.size()), decoded(w.size());
      qat::fake_quantize_rows(w.data(), out, in, rounded.data(), pool);
      const auto tensor = Int8Tensor<>::quantize(w.data(), out, in);
      tensor.dequantize(decoded.data());
      REQUIRE(rounded == decoded);

      const std::vector<float> given = x;
      matmul(given.data(), tokens, PackedTensor::pack(tensor), exported.data(),
             {{.compute = Compute::int8}, {}, {}, layer.bias.value.span()});
      AlignedBuffer<float> scratch_for_weights;
      layer.prepare(qat::Quantization::int8, true, scratch_for_weights, pool);
      layer.forward(x.data(), tokens, y.data(), pool);
      // Both are sums of the same products of codes; the int8 side's is exact, then scaled; the float side rounds every term.
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t o = 0; o < out; ++o) {
          double size = std::fabs(static_cast<double>(layer.bias.value[o]));
          for (std::size_t i = 0; i < in; ++i)
            size += std::fabs(static_cast<double>(x[t * in + i]) * static_cast<double>(rounded[o * in + i]));
          REQUIRE(std::fabs(static_cast<double>(y[t * out + o]) - static_cast<double>(exported[t * out + o])) <=
                  lowbit_test::gamma(in + 8) * size);
        }
      // Straight through: the gradients are a plain linear layer's with the rounded values.
      qat::Linear plain("p", out, in);
      std::copy(rounded.begin(), rounded.end(), plain.weight.value.begin());
      plain.prepare(qat::Quantization::none, true, scratch_for_weights, pool);
      const std::vector<float> dy = random.normals(tokens * out);
      std::vector<float> dx(tokens * in), plain_dx(tokens * in);
      qat::detail::WeightGradient scratch;
      layer.backward(x.data(), dy.data(), tokens, dx.data(), scratch, pool);
      plain.backward(x.data(), dy.data(), tokens, plain_dx.data(), scratch, pool);
      REQUIRE(dx == plain_dx);
      for (std::size_t i = 0; i < w.size(); ++i) REQUIRE(layer.weight.gradient[i] == plain.weight.gradient[i]);
    }
    // A row that holds a NaN is a row of NaN, and only that one.
    std::vector<float> x = random.normals(3 * 20);
    x[25] = std::nanf("");
    qat::fake_quantize_rows(x.data(), 3, 20, x.data(), pool);
    for (std::size_t i = 0; i < 60; ++i) REQUIRE(std::isnan(x[i]) == (i / 20 == 1));
  });
}

namespace {

struct TwoParameters {
  qat::Parameter matrix{"m", 7, 11, true}, bias{"b", 1, 5, false}, frozen{"f", 1, 3, true};
  template <class Visit>
  void for_each_parameter(const Visit& visit) {
    visit(matrix);
    visit(bias);
    visit(frozen);
  }
};

}  // namespace

TEST_CASE("qat: AdamW follows its formula") {
  lowbit_test::for_each_level([&](Level) {
    Random random(9);
    ThreadPool pool(2);
    TwoParameters p;
    p.frozen.frozen = true;
    struct Reference {
      Values w, m, v;
      bool decays;
    };
    std::vector<Reference> references;
    p.for_each_parameter([&](qat::Parameter& q) {
      for (float& w : q.value) w = random.normal();
      references.push_back({Values(q.value.begin(), q.value.end()), Values(q.size()), Values(q.size()), q.decays});
    });
    qat::AdamW optimizer;
    optimizer.weight_decay = 0.1f;
    optimizer.clip = 2;
    const double b1 = static_cast<double>(optimizer.beta1), b2 = static_cast<double>(optimizer.beta2);
    for (int t = 1; t <= 20; ++t) {
      const float scale = t % 3 == 0 ? 0.01f : 1.0f;  // some steps are clipped, some not
      double squares = 0;
      p.for_each_parameter([&](qat::Parameter& q) {
        for (float& g : q.gradient) g = scale * random.normal();
        if (!q.frozen)
          for (const float g : q.gradient) squares += static_cast<double>(g) * static_cast<double>(g);
      });
      const double norm = std::sqrt(squares), rate = 0.01 * t, clipped = std::min(1.0, 2 / norm);
      std::size_t index = 0;
      p.for_each_parameter([&](const qat::Parameter& q) {
        Reference& r = references[index++];
        for (std::size_t i = 0; i < q.size() && !q.frozen; ++i) {
          const double g = clipped * static_cast<double>(q.gradient[i]);
          r.m[i] = b1 * r.m[i] + (1 - b1) * g;
          r.v[i] = b2 * r.v[i] + (1 - b2) * g * g;
          const double step = r.m[i] / (1 - std::pow(b1, t)) / (std::sqrt(r.v[i] / (1 - std::pow(b2, t))) + 1e-8);
          r.w[i] -= rate * (r.decays ? 0.1 * r.w[i] : 0) + rate * step;
        }
      });
      CHECK(std::fabs(optimizer.step(p, rate, pool) - norm) < 1e-12 * norm);
      index = 0;
      p.for_each_parameter([&](const qat::Parameter& q) {
        // 12 roundings a step, of weights and of steps of up to 0.2
        CHECK(unlike({q.value.begin(), q.value.end()}, references[index++].w, 12.0 * t, 4) == "");
      });
    }
    // A gradient that is no number changes nothing.
    const std::vector<float> before(p.matrix.value.begin(), p.matrix.value.end());
    p.bias.gradient[0] = std::nanf("");
    CHECK(std::isnan(optimizer.step(p, 1, pool)));
    CHECK(optimizer.steps == 20);
    CHECK(before == std::vector<float>(p.matrix.value.begin(), p.matrix.value.end()));
  });
}

TEST_CASE("qat: the learning rate rises and falls linearly") {
  CHECK(qat::scheduled_rate(0, 10, 110, 1) == Approx(0.1));
  CHECK(qat::scheduled_rate(9, 10, 110, 1) == Approx(1));
  CHECK(qat::scheduled_rate(10, 10, 110, 1) == Approx(1));
  CHECK(qat::scheduled_rate(60, 10, 110, 1) == Approx(0.5));
  CHECK(qat::scheduled_rate(109, 10, 110, 1) == Approx(0.01));
  CHECK(qat::scheduled_rate(500, 10, 110, 1) == 0);
  CHECK(qat::scheduled_rate(110, 10, 110, 1, 0.1) == Approx(0.1));
  CHECK(qat::scheduled_rate(0, 0, 0, 3) == 3);
}

TEST_CASE("qat: a product refuses shapes that do not fit") {
  SerialExecutor serial;
  const std::vector<float> a(12), b(12);
  std::vector<float> y(9);
  qat::Panels panels;
  panels.lay_rows(b.data(), 3, 4, 4, serial);
  CHECK_THROWS_AS(qat::product(MatrixView<const float>(a.data(), 4, 3), panels, MatrixView<float>(y.data(), 4, 3), serial),
                  InvalidArgument);
  CHECK_THROWS_AS(qat::product(MatrixView<const float>(a.data(), 3, 4), panels, MatrixView<float>(y.data(), 3, 2), serial),
                  InvalidArgument);
  CHECK_THROWS_AS(panels.lay_rows(b.data(), 0, 4, 4, serial), InvalidArgument);
  // A layer that was laid out for forward() alone has nothing to go back with.
  qat::Linear layer("l", 3, 4);
  AlignedBuffer<float> rounded;
  qat::detail::WeightGradient gradient;
  layer.prepare(qat::Quantization::none, false, rounded, serial);
  layer.forward(y.data(), 1, y.data() + 4, serial);
  CHECK_THROWS_AS(layer.backward(a.data(), b.data(), 1, nullptr, gradient, serial), InvalidArgument);
}

}  // namespace qat_operators_test
