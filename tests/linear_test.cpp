// SPDX-License-Identifier: MIT
// Linear layers: packed where the layout allows it, canonical elsewhere, the same product; and a layer of a model that was trained
// with quantization in the loop against its formula.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/linear.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace linear_test {

using lowbit::AlignedBuffer;
using lowbit::Compute;
using lowbit::InvalidArgument;
using lowbit::Level;
using lowbit::Linear;
using lowbit::LinearOptions;
using lowbit::MatmulOptions;
using lowbit::SerialExecutor;
using lowbit::Tensor;
using lowbit_test::bits_of;
using lowbit_test::Bounded;
using lowbit_test::for_each_level;
using lowbit_test::has_compute;
using lowbit_test::one_of_every_kind;
using lowbit_test::outside;
using lowbit_test::Random;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

AlignedBuffer<float> buffer(const Floats& values) {
  AlignedBuffer<float> b(values.size());
  std::copy(values.begin(), values.end(), b.begin());
  return b;
}

Floats forward(const Linear& layer, const Floats& x, std::size_t m, lowbit::Activation activation = lowbit::Activation::none,
               lowbit::MatrixView<const float> residual = {}) {
  SerialExecutor serial;
  Floats y(m * layer.rows(), -5.0f);
  layer.forward({x.data(), m, layer.cols()}, {y.data(), m, layer.rows()}, {activation, residual}, {&serial});
  return y;
}

}  // namespace

TEST_CASE("a layer is the product of its weights, packed or not, with everything that follows") {
  Random random(41);
  for (const auto& shape : {std::pair<std::size_t, std::size_t>{50, 64}, {49, 96}, {7, 33}}) {
    const std::size_t n = shape.first, k = shape.second;
    for (Weights& w : one_of_every_kind(n, k, random)) {
      INFO(w.name << " " << n << " x " << k);
      const std::size_t m = 4;
      const Floats x = random.normals(m * k, 4), bias = random.normals(n), residual = random.normals(m * n);
      for (const Compute compute : lowbit_test::all_computes) {
        if (!has_compute(w.tensor.format(), compute)) continue;
        for (const bool pack : {false, true}) {
          LinearOptions options;
          options.compute = compute;
          options.pack = pack;
          options.outlier_threshold = 3;
          options.outliers = lowbit::Outliers::per_call;
          options.round_activations_to_fp16 = true;
          const Linear layer(Tensor(lowbit_test::clone(w.tensor.parts())), buffer(bias), options);
          const bool packed = pack && w.packed.has_value();
          CHECK(layer.packed() == packed);
          CHECK(layer.rows() == n);
          CHECK(layer.cols() == k);
          CHECK(layer.format() == w.tensor.format());
          CHECK(layer.element_bytes() == w.tensor.element_bytes());
          CHECK(layer.resident_bytes() == 4 * n + (packed ? w.packed->resident_bytes() : w.tensor.resident_bytes()));
          CHECK(Floats(layer.bias().begin(), layer.bias().end()) == bias);
          if (packed)
            CHECK(bits_of(forward(Linear(lowbit::PackedTensor::pack(w.tensor), buffer(bias), options), x, m)) ==
                  bits_of(forward(layer, x, m)));
          for_each_level([&](Level level) {
            MatmulOptions o;
            o.compute = compute;
            o.bias = bias;
            o.activation = lowbit::gelu_tanh;
            o.residual = {residual.data(), m, n};
            o.outlier_threshold = 3;
            o.outliers = lowbit::Outliers::per_call;
            o.round_activations_to_fp16 = true;
            CHECK(bits_of(forward(layer, x, m, lowbit::gelu_tanh, {residual.data(), m, n})) ==
                  bits_of(run_product(x, m, w, packed, o)));
            CHECK(layer.plan().level == level);
            CHECK(layer.plan().compute == compute);
            CHECK(layer.plan().packed == packed);
          });
        }
      }
    }
  }
}

TEST_CASE("a layer of somebody else's bytes copies nothing but its bias") {
  Random random(43);
  const std::size_t n = 50, k = 128, m = 3;
  const Floats x = random.normals(m * k), values = random.normals(n * k);
  const auto weights = lowbit::NF4Tensor<>::quantize(values.data(), n, k);
  const lowbit::TensorParts& parts = weights.parts();
  lowbit::WeightsViewParts view;
  view.format = parts.format;
  view.rows = n;
  view.cols = k;
  view.codes = parts.codes.data();
  view.block = parts.block;
  view.scale_codes = parts.scale_codes.data();
  view.nested = parts.nested.data();
  view.nested_map = parts.nested_map.data();
  view.offset = parts.offset;
  const Floats bias = random.normals(n);
  const Linear layer(lowbit::WeightsView(view), bias);
  CHECK(layer.resident_bytes() == n * sizeof(float));
  CHECK(layer.element_bytes() == n * k / 2);
  CHECK_FALSE(layer.packed());
  Floats expected(m * n);
  lowbit::MatmulOptions o;
  o.bias = bias;
  lowbit::matmul(x.data(), m, weights, expected.data(), o);
  CHECK(bits_of(forward(layer, x, m)) == bits_of(expected));
  CHECK(unsaid<InvalidArgument>([&] { Linear(lowbit::WeightsView(view), AlignedBuffer<float>(3)); }, {"bias has 3"}) == "");
}

TEST_CASE("a tensor that holds another format than its type says is refused", "[linear]") {
  const std::vector<float> w(64 * 64, 0.5f), x(64, 1.0f);
  std::vector<float> y(64);
  const auto wrong = [&] {
    lowbit::NF4Tensor<> t;
    static_cast<Tensor&>(t) = lowbit::Int8Tensor<>::quantize(w.data(), 64, 64);
    return t;
  };
  CHECK(unsaid<InvalidArgument>([&] { lowbit::matmul(x.data(), 1, wrong(), y.data()); }, {"type of the weights", "int8"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { Linear{wrong()}; }, {"type of the weights", "int8"}) == "");
  // By its base it is what it holds.
  const lowbit::NF4Tensor<> t = wrong();
  lowbit::matmul(x.data(), 1, static_cast<const Tensor&>(t), y.data());
  CHECK(y[0] == 32.0f);
  CHECK_NOTHROW(Linear(lowbit::NF4Tensor<>()));
}

TEST_CASE("a layer may have no bias, and no outputs; a bias of another size is refused") {
  const Floats values(6, 0.5f), x{1, 2, 3};
  const Linear plain(lowbit::DenseTensor<float>::quantize(values.data(), 2, 3), {});
  CHECK(forward(plain, x, 1) == Floats{3, 3});
  CHECK(plain.resident_bytes() >= 24);
  for (const bool pack : {false, true}) {
    LinearOptions options;
    options.pack = pack;
    const Linear none(lowbit::DenseTensor<float>::quantize(nullptr, 0, 3), {}, options);
    CHECK(none.rows() == 0);
    CHECK(none.cols() == 3);
    CHECK(forward(none, x, 1).empty());
  }
  CHECK(unsaid<InvalidArgument>([&] { Linear(lowbit::DenseTensor<float>::quantize(values.data(), 2, 3), AlignedBuffer<float>(3)); },
                                {"bias has 3", "(2, 3)"}) == "");
  SerialExecutor serial;
  Floats y(2);
  CHECK(unsaid<InvalidArgument>(
            [&] {
              plain.forward({x.data(), 1, 2}, {y.data(), 1, 2}, {}, {&serial});
            },
            {"(1, 2)", "(2, 3)"}) == "");
  const Linear nothing;
  CHECK(nothing.resident_bytes() == 0);
}

TEST_CASE("a layer of the INT8 model computes codes times scales with activations quantized per token") {
  const lowbit_test::GoldenFile file(std::string(LOWBIT_ASSETS) + "/gpt2-mini-ag-news-int8-qat/model.safetensors");
  Random random(42);
  for (const std::string name : {"transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc", "transformer.h.0.mlp.c_proj"}) {
    INFO(name);
    const auto codes = file.get<std::int8_t>(name + ".weight", "I8");
    const Floats scales = file.floats(name + ".weight_scale"), bias = file.floats(name + ".bias");
    const std::size_t n = scales.size(), k = codes.size() / n, m = 5;
    LinearOptions options;
    options.compute = Compute::int8;
    const Linear layer(lowbit::Int8Tensor<>::from_codes(codes.data(), scales.data(), n, k), buffer(bias), options);
    CHECK(layer.packed());
    const Floats x = random.normals(m * k, 2);
    std::vector<Bounded> expected;
    for (std::size_t r = 0; r < m; ++r) {
      const lowbit_test::QuantizedRow q = lowbit_test::quantize_row(&x[r * k], k, false, 0);
      for (std::size_t c = 0; c < n; ++c) {
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += q.codes[i] * codes[c * k + i];
        const double value = static_cast<double>(sum) * static_cast<double>(q.scale) * static_cast<double>(scales[c]);
        expected.push_back(lowbit_test::plus({value, lowbit_test::gamma(4) * std::fabs(value)}, bias[c]));  // the sum, two scales
      }
    }
    for_each_level([&](Level) { CHECK(outside(forward(layer, x, m), expected) == ""); });
  }
}

}  // namespace linear_test
