// SPDX-License-Identifier: MIT
// What a product takes besides float rows: 16-bit rows, rows that a function makes, a bias by pointer, weights in memory of somebody
// else; and what Compute::automatic stands for.
#include <cstddef>
#include <vector>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace input_types_test {

using lowbit::BFloat16;
using lowbit::Compute;
using lowbit::Float16;
using lowbit::InvalidArgument;
using lowbit::Level;
using lowbit::MatmulOptions;
using lowbit::MatrixView;
using lowbit_test::bits_of;
using lowbit_test::for_each_level;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

template <class T>
T narrow(float v) {
  if constexpr (std::is_same_v<T, Float16>)
    return lowbit::to_float16(v);
  else
    return lowbit::to_bfloat16(v);
}

// Rows of T, `stride` from each other: the product on them is that on their floats, and a y of T is the float y, rounded once.
template <class T>
void check_16_bits(const Weights& w, bool packed, const MatmulOptions& options, std::size_t m, Random& random) {
  const std::size_t k = w.tensor.cols(), n = w.tensor.rows(), x_stride = k + 3, y_stride = n + 5;
  std::vector<T> x(m * x_stride), y(m * y_stride, narrow<T>(-77.0f));
  Floats floats(m * k), sum(m * n);
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < k; ++c) {
      x[r * x_stride + c] = narrow<T>(random.normals(1, 2)[0]);
      floats[r * k + c] = lowbit::to_float(x[r * x_stride + c]);
    }
  const lowbit::Weights weights = packed ? lowbit::Weights(*w.packed) : lowbit::Weights(w.tensor);
  const lowbit::Input rows(x.data(), m, k, x_stride);
  lowbit::matmul(rows, weights, {sum.data(), m, n}, options);
  const Floats expected = lowbit_test::run_product(floats, m, w, packed, options);
  CHECK(bits_of(sum) == bits_of(expected));
  lowbit::matmul(rows, weights, lowbit::Output(y.data(), m, n, y_stride), options);
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < m; ++r) {
    for (std::size_t c = 0; c < n; ++c) wrong += y[r * y_stride + c].bits != narrow<T>(expected[r * n + c]).bits;
    for (std::size_t c = n; c < y_stride; ++c) wrong += y[r * y_stride + c].bits != narrow<T>(-77.0f).bits;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("x and y in Float16 and BFloat16: the bits of the float product, rounded once") {
  Random random(71);
  lowbit::ThreadPool pool(2);
  for (const std::size_t k : Sizes{61, 128})
    for (const Weights& w : lowbit_test::one_of_every_kind(50, k, random))
      for (const Compute compute : lowbit_test::all_computes)
        for (const bool packed : {false, true}) {
          if (!lowbit_test::has_compute(w.tensor.format(), compute) || (packed && !w.packed)) continue;
          INFO(w.name << ", " << k << " deep, " << compute_name(compute) << (packed ? ", packed" : ", canonical"));
          MatmulOptions options;
          options.compute = compute;
          options.executor = &pool;
          options.outlier_threshold = 2;
          options.outliers = random.coin() ? lowbit::Outliers::per_call : lowbit::Outliers::per_row;
          options.activation = lowbit::gelu_tanh;
          for_each_level([&](Level) {
            for (const std::size_t m : Sizes{1, 19}) {
              check_16_bits<Float16>(w, packed, options, m, random);
              check_16_bits<BFloat16>(w, packed, options, m, random);
            }
          });
        }
}

TEST_CASE("a 16-bit y and the next product's input are both the float result") {
  Random random(72);
  const std::size_t m = 9, k = 64, n = 72, out = 40;
  const Floats x = random.normals(m * k), first = random.normals(n * k), second = random.normals(out * n);
  for (const Compute then : lowbit_test::all_computes) {
    const lowbit::Linear a(lowbit::NF4Tensor<>::quantize(first.data(), n, k), {}, {{.compute = Compute::int8}});
    const lowbit::Linear b(lowbit::Int8Tensor<>::quantize(second.data(), out, n), {}, {{.compute = then}});
    Floats between(m * n), expected(m * out), y(m * out);
    a.forward(x.data(), m, between.data());
    b.forward(between.data(), m, expected.data());
    lowbit::PreparedInput next;
    b.shape(next);
    std::vector<BFloat16> rounded(m * n);
    a.forward({x.data(), m, k}, {rounded.data(), m, n}, {.next = &next});
    std::vector<float> other(m * k, 1.0f), elsewhere(m * n);
    a.forward(other.data(), m, elsewhere.data());  // works in the same memory
    b.forward(next, {y.data(), m, out});
    CHECK(bits_of(y) == bits_of(expected));
    for (std::size_t i = 0; i < rounded.size(); ++i) CHECK(rounded[i].bits == lowbit::to_bfloat16(between[i]).bits);
  }
}

TEST_CASE("rows that a function makes are those of memory") {
  Random random(73);
  lowbit::ThreadPool pool(3);
  const std::size_t m = 37, k = 96, n = 50;
  const Floats x = random.normals(m * k, 2);
  for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random))
    for (const Compute compute : lowbit_test::all_computes) {
      if (!lowbit_test::has_compute(w.tensor.format(), compute)) continue;
      for (const auto outliers : {lowbit::Outliers::per_row, lowbit::Outliers::per_call}) {
        MatmulOptions options;
        options.compute = compute;
        options.outlier_threshold = 2;
        options.outliers = outliers;
        lowbit::PreparedInput input = lowbit::input_for(w.tensor, options);
        lowbit::produce_input(
            m, [&](std::size_t begin, std::size_t count, float* to) { std::copy_n(x.data() + begin * k, count * k, to); }, input,
            pool);
        Floats y(m * n);
        lowbit::matmul(input, w.tensor, {y.data(), m, n}, options);
        CHECK(bits_of(y) == bits_of(lowbit_test::run_product(x, m, w, false, options)));
      }
    }
}

TEST_CASE("a bias is a pointer, a span or a vector") {
  Random random(74);
  const std::size_t m = 3, k = 32, n = 20;
  const Floats x = random.normals(m * k), w = random.normals(n * k), bias = random.normals(n);
  const auto tensor = lowbit::Int8Tensor<>::quantize(w.data(), n, k);
  const auto product = [&](const lowbit::Bias& b) {
    Floats y(m * n);
    lowbit::matmul(x.data(), m, tensor, y.data(), {{.compute = Compute::f32}, {}, {}, b});
    return y;
  };
  const Floats without = product({}), with = product(bias.data());
  CHECK(bits_of(product(nullptr)) == bits_of(without));
  CHECK(bits_of(with) != bits_of(without));
  CHECK(bits_of(product(bias)) == bits_of(with));
  CHECK(bits_of(product(std::span<const float>(bias))) == bits_of(with));
  CHECK(unsaid<InvalidArgument>([&] { product(std::span<const float>(bias).first(n - 1)); }, {"bias has 19 elements"}) == "");
}

TEST_CASE("what a view of weights lacks is said") {
  const float scales[4] = {1, 1, 1, 1};
  const std::uint8_t codes[128] = {};
  lowbit::WeightsViewParts p;
  p.format = lowbit::Format::nf4;
  p.rows = 4;
  p.cols = 64;
  p.codes = codes;
  p.block = 64;
  p.scales = scales;
  CHECK_NOTHROW(lowbit::WeightsView(p));
  const auto without = [&](auto change) {
    lowbit::WeightsViewParts q = p;
    change(q);
    return q;
  };
  const auto says = [&](const lowbit::WeightsViewParts& q, const std::string& what) {
    return unsaid<InvalidArgument>([&] { lowbit::WeightsView view(q); }, {"nf4 weights", "(4, 64)", what}) == "";
  };
  CHECK(says(without([](auto& q) { q.codes = nullptr; }), "codes"));
  CHECK(says(without([](auto& q) { q.block = 0; }), "block size"));
  CHECK(says(without([](auto& q) { q.block = 48; }), "power of two"));
  CHECK(says(without([](auto& q) { q.scales = nullptr; }), "scales"));
  CHECK(says(without([&](auto& q) { q.scales = nullptr, q.scale_codes = codes; }), "nested"));
}

TEST_CASE("automatic compute is int8 for int8 weights, f32 for floats, and what the plan says") {
  Random random(75);
  for (const Weights& w : lowbit_test::one_of_every_kind(50, 64, random))
    for_each_level([&](Level level) {
      const Compute chosen = lowbit::plan_matmul(w.tensor).compute;
      CHECK(chosen == lowbit::automatic_compute(w.tensor.format()));
      const bool bf16 = level >= Level::avx512bf16 && lowbit::cpu_has_fast_bf16(), tiles = level == Level::amx;
      switch (w.tensor.format()) {
        case lowbit::Format::int8:
        case lowbit::Format::llm_int8: CHECK(chosen == Compute::int8); break;
        case lowbit::Format::nf4:
        case lowbit::Format::fp4: CHECK(chosen == (bf16 ? Compute::bf16 : Compute::int8)); break;
        case lowbit::Format::bf16: CHECK(chosen == (bf16 || tiles ? Compute::bf16 : Compute::f32)); break;
        default: CHECK(chosen == Compute::f32);
      }
    });
}

TEST_CASE("a layer follows the level that is active when it is called") {
  Random random(76);
  const std::size_t m = 5, k = 64, n = 48;
  const Floats x = random.normals(m * k), w = random.normals(n * k);
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w.data(), n, k), {}, {{.compute = Compute::int8}});
  const auto packed = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(w.data(), n, k));
  for_each_level([&](Level level) {
    Floats y(m * n), expected(m * n);
    CHECK(layer.forward(x.data(), m, y.data()).level == level);
    CHECK(layer.plan().level == level);
    lowbit::matmul(x.data(), m, packed, expected.data(), {{.compute = Compute::int8}});
    CHECK(bits_of(y) == bits_of(expected));
  });
}

}  // namespace input_types_test
