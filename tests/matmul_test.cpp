// SPDX-License-Identifier: MIT
// The product, for every format, compute type, layout and instruction-set level: against double and exact integer arithmetic within
// derived bounds; independent, to the bit, of batch, threads and strides; integer sums at their limits; LLM.int8() against a GPU.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lowbit/matmul.hpp"
#include "support/backward_executor.hpp"
#include "support/catch.hpp"
#include "support/checked_product.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"
#include "support/tolerance.hpp"

namespace matmul_test {

using lowbit::Activation;
using lowbit::Compute;
using lowbit::InvalidArgument;
using lowbit::Level;
using lowbit::MatmulOptions;
using lowbit::MatrixView;
using lowbit::Outliers;
using lowbit::PackedTensor;
using lowbit_test::activation_names;
using lowbit_test::all_activations;
using lowbit_test::all_computes;
using lowbit_test::BackwardExecutor;
using lowbit_test::bits_of;
using lowbit_test::Bounded;
using lowbit_test::check_product;
using lowbit_test::describe;
using lowbit_test::Epilogue;
using lowbit_test::expected_at_levels;
using lowbit_test::ExpectedAtLevels;
using lowbit_test::for_each_level;
using lowbit_test::has_compute;
using lowbit_test::one_of_every_kind;
using lowbit_test::OutlierRule;
using lowbit_test::outside;
using lowbit_test::Random;
using lowbit_test::random_epilogue;
using lowbit_test::run_product;
using lowbit_test::Sizes;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

using lowbit_test::sentinel;
const float nan_value = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();

constexpr std::size_t odd_sizes[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16, 17, 24, 31,  32,  33,  40,
                                     47, 48, 49, 50, 63, 64, 65, 77, 95, 96, 97, 99, 100, 127, 128, 129};

// Calls visit(weights, compute, packed) for everything that can be computed from these weights.
template <class Visit>
void for_each_way(const Weights& w, const Visit& visit) {
  for (const Compute compute : all_computes) {
    if (!has_compute(w.tensor.format(), compute)) continue;
    INFO(w.name << ", " << lowbit::compute_name(compute));
    visit(compute, false);
    if (w.packed) visit(compute, true);
  }
}

}  // namespace

// ---- values
// ----------------------------------------------------------------------------------------------------------------------

TEST_CASE("every format, compute type and layout gives the product within its derived bound, at any size", "[product]") {
  Random random(11);
  for (int shape = 0; shape < 70; ++shape) {
    const std::size_t m = shape % 5 == 0 ? 1 : random.one_of(odd_sizes) % 34 + 1, n = random.one_of(odd_sizes),
                      k = random.one_of(odd_sizes);
    INFO("m " << m << ", n " << n << ", k " << k);
    Floats x = random.normals(m * k);
    if (shape % 7 == 0)
      for (std::size_t i = 0; i < k; ++i) x[i] *= 1e-38f;  // a row of subnormal numbers
    for (const Weights& w : one_of_every_kind(n, k, random))
      for_each_way(w, [&](Compute compute, bool packed) {
        MatmulOptions options;
        options.compute = compute;
        options.outlier_threshold = 0;
        const ExpectedAtLevels expected = expected_at_levels(x, m, w, compute, packed);
        const Epilogue epilogue = random_epilogue(random);
        INFO((packed ? "packed" : "canonical") << describe(epilogue));
        for_each_level(
            [&](Level level) { CHECK(check_product(x, m, w, packed, options, expected.at(level), epilogue, random) == ""); });
      });
  }
}

TEST_CASE("4-bit weights of every block size, in rows that blocks fit and in rows that they cross", "[product]") {
  Random random(12);
  for (const std::size_t k : Sizes{768, 96, 64, 100, 1024, 2049})
    for (const std::size_t block : lowbit_test::four_bit_blocks) {
      // Few rows and more: levels decode into memory from 1, 3 or 9 rows on, some blocks or a part of one at a time.
      const std::size_t m = k == 768 || k == 1024 ? 10 : 3, n = k > 1000 ? 7 : 53;
      const Floats x = random.normals(m * k), values = random.uneven(n * k);
      for (const bool double_quantized : {false, true})
        for (const bool nf4 : {false, true}) {
          const Weights w = nf4 ? lowbit_test::four_bit_weights<lowbit::Nf4>(values, n, k, block, double_quantized)
                                : lowbit_test::four_bit_weights<lowbit::Fp4>(values, n, k, block, double_quantized);
          CHECK(w.packed.has_value() == (k % block == 0 || block % k == 0 || std::gcd(k, block) >= 32));
          INFO("k " << k);
          for_each_way(w, [&](Compute compute, bool packed) {
            MatmulOptions options;
            options.compute = compute;
            const ExpectedAtLevels expected = expected_at_levels(x, m, w, compute, packed);
            for_each_level(
                [&](Level level) { CHECK(check_product(x, m, w, packed, options, expected.at(level), {}, random) == ""); });
          });
        }
    }
}

TEST_CASE("deep sums stay within the bound of their two levels", "[product]") {
  Random random(13);
  const std::size_t m = 2, n = 3, k = 5001;
  Floats x = random.normals(m * k);
  for (float& v : x) v = std::fabs(v);  // one sign: errors of a running sum would add up
  Floats values = random.normals(n * k);
  for (float& v : values) v = std::fabs(v);
  std::vector<Weights> all;
  all.push_back(lowbit_test::quantized<lowbit::DenseTensor<float>>("f32", values, n, k));
  all.push_back(lowbit_test::quantized<lowbit::Int8Tensor<>>("int8", values, n, k));
  for (const Weights& w : all)
    for_each_way(w, [&](Compute compute, bool packed) {
      MatmulOptions options;
      options.compute = compute;
      const ExpectedAtLevels expected = expected_at_levels(x, m, w, compute, packed);
      for_each_level([&](Level level) { CHECK(check_product(x, m, w, packed, options, expected.at(level), {}, random) == ""); });
    });
}

TEST_CASE("bias, GELU and residual in every combination, and the residual may be y itself", "[product]") {
  Random random(14);
  const std::size_t m = 5, k = 64;
  for (const std::size_t n : Sizes{1, 3, 4, 5, 8, 15, 17, 47, 48, 49, 63, 100}) {
    const Floats x = random.normals(m * k), values = random.normals(n * k);
    std::vector<Weights> all;
    all.push_back(lowbit_test::quantized<lowbit::DenseTensor<float>>("f32", values, n, k));
    all.push_back(lowbit_test::quantized<lowbit::Int8Tensor<>>("int8", values, n, k));
    all.push_back(lowbit_test::four_bit_weights<lowbit::Nf4>(values, n, k, 64, true));
    for (const Weights& w : all)
      for_each_way(w, [&](Compute compute, bool packed) {
        MatmulOptions options;
        options.compute = compute;
        const ExpectedAtLevels expected = expected_at_levels(x, m, w, compute, packed);
        for (unsigned bits = 0; bits < 40; ++bits) {
          const Epilogue e{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, all_activations[bits / 8]};
          INFO("n " << n << (packed ? " packed" : " canonical") << describe(e));
          for_each_level([&](Level level) { CHECK(check_product(x, m, w, packed, options, expected.at(level), e, random) == ""); });
        }
      });
  }
}

TEST_CASE("NaN and infinity in x follow float arithmetic; in int8 compute they make the row NaN", "[product]") {
  Random random(15);
  const std::size_t m = 3, n = 50, k = 69;
  for (const Weights& w : one_of_every_kind(n, k, random))
    for (const float bad : {nan_value, infinity, -infinity})
      for_each_way(w, [&](Compute compute, bool packed) {
        const Floats good = random.normals(m * k);
        Floats x = good;
        const std::size_t column = random.below(k);
        x[k + column] = bad;
        MatmulOptions options;
        options.compute = compute;
        for_each_level([&](Level) {
          const Floats want = run_product(good, m, w, packed, options), y = run_product(x, m, w, packed, options);
          Floats decoded(n * k);
          w.tensor.dequantize(decoded.data());
          std::size_t wrong = 0;
          for (std::size_t c = 0; c < n; ++c) {
            wrong += y[c] != want[c] || y[2 * n + c] != want[2 * n + c];
            const float factor = decoded[c * k + column];
            if (compute == Compute::int8 || std::isnan(bad) || factor == 0)
              wrong += !std::isnan(y[n + c]);
            else
              wrong += y[n + c] != bad * factor;
          }
          CHECK(wrong == 0);
        });
      });
}

TEST_CASE("weights that were allowed to be NaN give NaN", "[product]") {
  const std::size_t n = 3, k = 64;
  Floats values(n * k, 0.5f);
  values[k + 7] = nan_value;
  const lowbit::Int8Tensor<> t = lowbit::Int8Tensor<>::quantize(values.data(), n, k, {.allow_non_finite = true});
  const PackedTensor packed = PackedTensor::pack(t);
  const Floats x(k, 1.0f);
  for (const Compute compute : all_computes)
    for_each_level([&](Level) {
      MatmulOptions options;
      options.compute = compute;
      Floats y(n), z(n);
      lowbit::matmul(x.data(), 1, t, y.data(), options);
      lowbit::matmul(x.data(), 1, packed, z.data(), options);
      for (const Floats& r : {y, z}) {
        CHECK(std::isfinite(r[0]));
        CHECK(std::isnan(r[1]));
        CHECK(std::isfinite(r[2]));
      }
    });
}

TEST_CASE("activations are within their bounds over the whole range, and keep what is no number", "[product]") {
  // One column: y[r] = activation(x[r]), exactly.
  Floats x;
  for (int i = -2000; i <= 2000; ++i) x.push_back(static_cast<float>(i) * 0.0625f);
  for (const float v : {1e-40f, -1e-40f, 1e-20f, -1e-20f, 3e38f, -3e38f}) x.push_back(v);
  const std::size_t numbers = x.size();
  for (const float v : {nan_value, infinity, -infinity}) x.push_back(v);
  const std::size_t m = x.size();
  const Floats one{1.0f};
  const lowbit::Tensor weights = lowbit::DenseTensor<float>::quantize(one.data(), 1, 1);
  const PackedTensor packed = PackedTensor::pack(weights);
  for (const Activation activation : all_activations)
    for_each_level([&](Level) {
      for (const bool is_packed : {false, true}) {
        INFO("activation" << activation_names[static_cast<int>(activation)] << (is_packed ? ", packed" : ", canonical"));
        Floats y(m);
        MatmulOptions options;
        options.compute = Compute::f32;
        options.activation = activation;
        lowbit::matmul(x.data(), m, is_packed ? lowbit::Weights(packed) : lowbit::Weights(weights), y.data(), options);
        std::vector<Bounded> expected;
        for (std::size_t i = 0; i < numbers; ++i)
          expected.push_back(lowbit_test::activated(activation, {static_cast<double>(x[i]), lowbit_test::smallest_normal}));
        CHECK(outside(Floats(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(numbers)), expected) == "");
        CHECK(std::isnan(y[numbers]));
        CHECK(y[numbers + 1] == infinity);
        CHECK((activation == Activation::none ? y[numbers + 2] == -infinity : std::fabs(y[numbers + 2]) < 1e-35f));
      }
    });
}

// ---- one order of summation
// ------------------------------------------------------------------------------------------------------

TEST_CASE("a row of x gives the same bits alone and in any batch", "[order]") {
  Random random(16);
  for (const auto& shape : {std::pair<std::size_t, std::size_t>{50, 192}, {49, 77}, {97, 64}, {5, 1088}}) {
    const std::size_t n = shape.first, k = shape.second;
    const std::size_t m = 140;  // more than the rows that share one decode
    const Floats x = random.normals(m * k);
    for (const Weights& w : one_of_every_kind(n, k, random))
      for_each_way(w, [&](Compute compute, bool packed) {
        MatmulOptions options;
        options.compute = compute;
        options.activation = lowbit::gelu_tanh;
        options.outlier_threshold = 2.5f;  // some in every row
        for_each_level([&](Level) {
          const Floats all = run_product(x, m, w, packed, options);
          std::size_t wrong = 0;
          const auto compare = [&](std::size_t first, std::size_t rows) {
            const Floats part(x.begin() + static_cast<std::ptrdiff_t>(first * k),
                              x.begin() + static_cast<std::ptrdiff_t>((first + rows) * k));
            const Floats y = run_product(part, rows, w, packed, options);
            for (std::size_t i = 0; i < y.size(); ++i) wrong += y[i] != all[first * n + i];
          };
          for (std::size_t rows = 1; rows <= 17; ++rows) compare(random.below(m - rows + 1), rows);
          compare(127, 1);
          compare(128, 1);
          compare(139, 1);
          compare(1, 129);
          CHECK(wrong == 0);
        });
      });
  }
}

TEST_CASE("threads and executors change no bit, and the executor that is given is the one that is used", "[order]") {
  Random random(17);
  const std::size_t m = 40, n = 301, k = 256;
  const Floats x = random.normals(m * k);
  std::vector<std::unique_ptr<lowbit::Executor>> executors;
  for (const std::size_t threads : Sizes{1, 2, 3, 7}) executors.push_back(std::make_unique<lowbit::ThreadPool>(threads));
  for (const Weights& w : one_of_every_kind(n, k, random))
    for_each_way(w, [&](Compute compute, bool packed) {
      for_each_level([&](Level) {
        lowbit::SerialExecutor serial;
        MatmulOptions options;
        options.compute = compute;
        options.outlier_threshold = 2.5f;
        options.executor = &serial;
        const Floats want = run_product(x, m, w, packed, options);
        for (const auto& executor : executors) {
          options.executor = executor.get();
          CHECK(bits_of(run_product(x, m, w, packed, options)) == bits_of(want));
        }
        BackwardExecutor backward(64);
        options.executor = &backward;
        CHECK(bits_of(run_product(x, m, w, packed, options)) == bits_of(want));
        CHECK(backward.runs >= 1);
        CHECK(backward.most >= 3);  // the work was cut
        options.executor = nullptr;
        CHECK(bits_of(run_product(x, m, w, packed, options)) == bits_of(want));
      });
    });
}

// Runs tasks in another thread or the caller's, which does something else after each.
class InterruptedExecutor final : public lowbit::Executor {
 public:
  InterruptedExecutor(bool other_thread, std::function<void()> other) : other_thread_(other_thread), other_(std::move(other)) {}
  std::size_t concurrency() const override { return 8; }
  void run(std::size_t count, lowbit::TaskRef task) override {
    const auto all = [&] {
      for (std::size_t i = 0; i < count; ++i) {
        task(i);
        other_();
      }
    };
    other_thread_ ? std::thread(all).join() : all();
  }

 private:
  bool other_thread_;
  std::function<void()> other_;
};

// Up to 16 rows every thread converts for itself, and may have other products between two of its parts.
TEST_CASE("a few rows are cut where the weights are worth several threads, and no bit changes", "[order][large]") {
  Random random(18);
  const std::size_t n = 1100, k = 1024;  // 4-bit codes alone are worth four threads
  const Floats x = random.normals(17 * k), other = random.normals(3 * k);
  lowbit::ThreadPool two(2), seven(7);
  const std::vector<Weights> kinds = one_of_every_kind(n, k, random), of_others = one_of_every_kind(48, k, random);
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const Weights& w = kinds[kind];
    const Weights& its = w.packed && !of_others[kind].packed ? w : of_others[kind];  // few rows may be too few to pack
    for_each_way(w, [&](Compute compute, bool packed) {
      for (const std::size_t m : Sizes{1, 2, 5, 16, 17}) {
        const Floats rows(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(m * k));
        lowbit::SerialExecutor serial;
        MatmulOptions options;
        options.compute = compute;
        options.outlier_threshold = 2.5f;
        options.executor = &serial;
        const Floats want = run_product(rows, m, w, packed, options);
        BackwardExecutor backward(64);
        for (lowbit::Executor* executor : std::initializer_list<lowbit::Executor*>{&two, &seven, &backward}) {
          options.executor = executor;
          CHECK(bits_of(run_product(rows, m, w, packed, options)) == bits_of(want));
        }
        CHECK(backward.most >= 4);
        if (m > 16) continue;
        for (lowbit::Executor* executor : std::initializer_list<lowbit::Executor*>{&serial, &backward}) {
          MatmulOptions others = options;
          others.executor = executor;
          for (const bool other_thread : {false, true}) {
            InterruptedExecutor interrupted(other_thread, [&] { run_product(other, 3, its, packed, others); });
            MatmulOptions own = options;
            own.executor = &interrupted;
            CHECK(bits_of(run_product(rows, m, w, packed, own)) == bits_of(want));
          }
        }
      }
    });
  }
}

TEST_CASE("many threads multiply at once, each its own", "[order]") {
  Random random(18);
  const std::size_t m = 9, n = 200, k = 128, callers = 4;
  const Floats values = random.normals(n * k);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(values, n, k, 64, true);
  std::vector<Floats> x, want(callers);
  for (std::size_t c = 0; c < callers; ++c) x.push_back(random.normals(m * k));
  for (std::size_t c = 0; c < callers; ++c) want[c] = run_product(x[c], m, w, true, {});
  std::array<std::atomic<std::size_t>, callers> wrong{};
  std::vector<std::thread> threads;
  for (std::size_t c = 0; c < callers; ++c)
    threads.emplace_back([&, c] {
      for (int i = 0; i < 25; ++i) wrong[c] += run_product(x[c], m, w, true, {}) != want[c];
    });
  for (std::thread& t : threads) t.join();
  for (const auto& count : wrong) CHECK(count == 0);
}

TEST_CASE("strides, pointers and spans are the same product", "[order]") {
  Random random(19);
  const std::size_t m = 6, n = 53, k = 96;
  const Floats x = random.normals(m * k), values = random.normals(n * k), bias = random.normals(n);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(values, n, k, 32, false);
  MatmulOptions options;
  options.bias = bias;
  for_each_level([&](Level) {
    for (const bool packed : {false, true}) {
      const Floats want = run_product(x, m, w, packed, options);
      Floats pointers(m * n), spans(m * n);
      if (packed) {
        lowbit::matmul(x.data(), m, *w.packed, pointers.data(), options);
        lowbit::matmul(std::span<const float>(x), *w.packed, std::span<float>(spans), options);
      } else {
        lowbit::matmul(x.data(), m, w.tensor, pointers.data(), options);
        lowbit::matmul(std::span<const float>(x), w.tensor, std::span<float>(spans), options);
      }
      CHECK(pointers == want);
      CHECK(spans == want);
    }
  });
}

// ---- integers at their limits
// ----------------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t deepest = lowbit::detail::largest_int8_depth;

// Every pattern of the largest codes: x all +-127 (so its scale is 1), weights +-127 or -128 with scale 1; then y is the integer
// sum, rounded to float once.
void check_extremes(std::size_t k) {
  const std::size_t n = 6, m = 4;
  std::vector<std::int8_t> codes(n * k);
  Floats x(m * k);
  Random random(k);
  for (std::size_t i = 0; i < k; ++i) {
    codes[0 * k + i] = 127;
    codes[1 * k + i] = -127;
    codes[2 * k + i] = -128;
    codes[3 * k + i] = i % 2 == 0 ? 127 : -128;
    codes[4 * k + i] = i % 4 < 2 ? 127 : -127;
    codes[5 * k + i] = random.coin() ? 127 : -127;
    x[0 * k + i] = 127;
    x[1 * k + i] = -127;
    x[2 * k + i] = i % 2 == 0 ? 127.0f : -127.0f;
    x[3 * k + i] = random.coin() ? 127.0f : -127.0f;
  }
  const Floats ones(n, 1.0f);
  const Weights w("int8", lowbit::Int8Tensor<>::from_codes(codes.data(), ones.data(), n, k));
  Floats want;
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t c = 0; c < n; ++c) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < k; ++i) sum += static_cast<std::int64_t>(x[r * k + i]) * codes[c * k + i];
      want.push_back(static_cast<float>(sum));
    }
  MatmulOptions options;
  options.compute = Compute::int8;
  for_each_level([&](Level) {
    for (const bool packed : {false, true}) {
      INFO("k " << k << (packed ? ", packed" : ", canonical"));
      CHECK(run_product(x, m, w, packed, options) == want);
    }
  });
}

}  // namespace

TEST_CASE("integer sums are exact for the largest codes at any depth, up to the limit", "[int8]") {
  for (const std::size_t k : Sizes{1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, 1000, 4099}) check_extremes(k);
  check_extremes(deepest);
}

TEST_CASE("a depth that could overflow is refused", "[int8]") {
  for (const std::size_t k : Sizes{deepest + 1, deepest + 8}) {
    const Floats values(k, 1.0f);
    const Weights w("int8", lowbit::Int8Tensor<>::quantize(values.data(), 1, k));
    MatmulOptions options;
    for (const bool packed : {false, true}) {
      options.compute = Compute::int8;
      CHECK(unsaid<InvalidArgument>([&] { run_product(values, 1, w, packed, options); }, {std::to_string(deepest), "overflow"}) ==
            "");
      options.compute = Compute::f32;
      CHECK(std::fabs(run_product(values, 1, w, packed, options)[0] - static_cast<float>(k)) <= 0.01f * static_cast<float>(k));
    }
  }
}

// ---- LLM.int8()
// ------------------------------------------------------------------------------------------------------------------

TEST_CASE("LLM.int8() equals the scalar rule, with outliers found per row and per call", "[llm_int8]") {
  Random random(20);
  for (int shape = 0; shape < 25; ++shape) {
    const std::size_t m = 1 + random.below(9), n = random.one_of(odd_sizes), k = random.one_of(odd_sizes);
    const Floats values = random.normals(n * k);
    const Weights w = lowbit_test::quantized<lowbit::LlmInt8Tensor>("LLM.int8()", values, n, k);
    const auto elements = lowbit_test::take_apart(w.tensor);
    Floats x = random.normals(m * k);
    for (std::size_t i = 0; i < 1 + k / 20; ++i) x[random.below(m * k)] *= 20;
    x[random.below(m * k)] = random.coin() ? 6.0f : -6.0f;  // the threshold itself is an outlier
    for (const float threshold : {6.0f, 0.0f, 1.0f, 0.001f})
      for (const bool per_call : {false, true}) {
        MatmulOptions options;
        options.outlier_threshold = threshold;
        options.outliers = per_call ? Outliers::per_call : Outliers::per_row;
        const std::vector<Bounded> expected = expected_int8(x, m, w.tensor, elements, true, {threshold, per_call});
        const Epilogue epilogue = random_epilogue(random);
        INFO("m " << m << ", n " << n << ", k " << k << ", threshold " << threshold << (per_call ? ", per call" : ", per row")
                  << describe(epilogue));
        for_each_level([&](Level) {
          for (const bool packed : {false, true}) CHECK(check_product(x, m, w, packed, options, expected, epilogue, random) == "");
        });
      }
  }
}

TEST_CASE("LLM.int8(): neighbours matter per call, as in bitsandbytes, and never per row", "[llm_int8]") {
  Random random(21);
  const std::size_t n = 10, k = 80;
  const Floats values = random.normals(n * k), row = random.normals(k);
  const Weights w = lowbit_test::quantized<lowbit::LlmInt8Tensor>("LLM.int8()", values, n, k);
  Floats pair = row;
  pair.insert(pair.end(), row.begin(), row.end());
  pair[k + 13] = 50;  // the neighbour has an outlier
  for_each_level([&](Level) {
    for (const bool packed : {false, true}) {
      MatmulOptions options;
      const Floats alone = run_product(row, 1, w, packed, options), both = run_product(pair, 2, w, packed, options);
      CHECK(std::equal(alone.begin(), alone.end(), both.begin()));
      options.outliers = Outliers::per_call;
      CHECK(bits_of(run_product(row, 1, w, packed, options)) == bits_of(alone));
      const Floats call = run_product(pair, 2, w, packed, options);
      CHECK_FALSE(std::equal(alone.begin(), alone.end(), call.begin()));  // column 13 is now multiplied in float
      CHECK(std::equal(both.begin() + static_cast<std::ptrdiff_t>(n), both.end(), call.begin() + static_cast<std::ptrdiff_t>(n)));
    }
  });
}

TEST_CASE("LLM.int8(): activations and threshold are rounded to fp16 on request", "[llm_int8]") {
  Random random(22);
  const std::size_t m = 4, n = 20, k = 100;
  const Floats values = random.normals(n * k);
  const Weights w = lowbit_test::quantized<lowbit::LlmInt8Tensor>("LLM.int8()", values, n, k);
  Floats x = random.normals(m * k, 3);
  x[5] = 5.999f;       // rounds to 6 in fp16
  x[k + 7] = 2.3003f;  // with the threshold 2.3 below, which fp16 has as 2.30078
  Floats rounded = x;
  for (float& v : rounded) v = lowbit::to_float(lowbit::to_float16(v));
  for (const float threshold : {6.0f, 2.3f}) {
    MatmulOptions options;
    options.outlier_threshold = lowbit::to_float(lowbit::to_float16(threshold));
    for_each_level([&](Level) {
      for (const bool packed : {false, true}) {
        options.round_activations_to_fp16 = false;
        const Floats want = run_product(rounded, m, w, packed, options);
        MatmulOptions rounding = options;
        rounding.round_activations_to_fp16 = true;
        rounding.outlier_threshold = threshold;
        CHECK(bits_of(run_product(x, m, w, packed, rounding)) == bits_of(want));
      }
    });
  }
}

TEST_CASE("LLM.int8() equals bitsandbytes on a GPU", "[llm_int8]") {
  const lowbit_test::GoldenFile cuda(lowbit_test::data_path("bnb_cuda_small.safetensors"));
  const std::size_t m = 64, n = 96, k = 768;
  Floats a = cuda.floats("llm8.A");
  const Floats b = cuda.floats("llm8.B"), out = cuda.floats("llm8.out");
  const Floats a_stats = cuda.floats("llm8.A.stats"), b_stats = cuda.floats("llm8.B.stats");
  const auto a_codes = cuda.get<std::int8_t>("llm8.A.codes", "I8"), b_codes = cuda.get<std::int8_t>("llm8.B.codes", "I8");
  const auto columns = cuda.get<std::int64_t>("llm8.A.outlier_cols", "I64");
  REQUIRE(a.size() == m * k);
  REQUIRE(columns.size() == 2);
  const Floats a32 = a;
  for (float& v : a) v = lowbit::to_float(lowbit::to_float16(v));

  // Weights: the stats are equal; a GPU's fast division leaves a few codes in ten thousand off by one.
  const auto quantized = lowbit::LlmInt8Tensor::quantize(b.data(), n, k);
  CHECK(bits_of(Floats(quantized.scb(), quantized.scb() + n)) == bits_of(b_stats));
  std::size_t off = 0;
  for (std::size_t i = 0; i < n * k; ++i) {
    off += quantized.codes()[i] != b_codes[i];
    CHECK(std::abs(quantized.codes()[i] - b_codes[i]) <= 1);
  }
  CHECK(off * 10000 <= 2 * n * k);

  // The output is the whole product in fp16: the integer part is rounded to fp16; the outlier columns, with weights decoded to
  // fp16, are added to it in fp16.
  const Weights w("LLM.int8()", lowbit::LlmInt8Tensor::from_codes(b_codes.data(), b_stats.data(), n, k));
  const auto is_outlier_column = [&](std::size_t i) {
    return std::find(columns.begin(), columns.end(), static_cast<std::int64_t>(i)) != columns.end();
  };
  for_each_level([&](Level) {
    lowbit::detail::QuantizeRowsArgs q;
    std::vector<std::int8_t> codes(m * k);
    std::vector<std::uint8_t> outliers(k);
    for (const std::int64_t c : columns) outliers[static_cast<std::size_t>(c)] = 1;
    Floats scale(m);
    q.x = a.data();
    q.m = m;
    q.k = q.x_stride = q.k_padded = k;
    q.rule = lowbit::detail::QuantizeRule::llm_int8;
    q.threshold = 6;
    q.column_is_outlier = outliers.data();
    q.codes = codes.data();
    q.scale = scale.data();
    lowbit::detail::kernels().quantize_rows(q);
    std::size_t differ = 0;
    int worst = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      differ += codes[i] != a_codes[i];
      worst = std::max(worst, std::abs(codes[i] - a_codes[i]));
    }
    CHECK(worst <= 1);
    CHECK(differ * 10000 <= 2 * m * k);
    for (std::size_t r = 0; r < m; ++r) CHECK(scale[r] == lowbit_test::once_rounded(a_stats[r] / 127.0f));

    for (const bool packed : {false, true}) {
      MatmulOptions options;
      options.outliers = Outliers::per_call;
      options.round_activations_to_fp16 = true;
      const Floats y = run_product(a32, m, w, packed, options);
      std::size_t wrong = 0;
      const auto ulp16 = [](double v) { return std::ldexp(1.0, std::max(std::ilogb(std::fabs(v) + 1e-30), -14) - 10); };
      for (std::size_t r = 0; r < m; ++r)
        for (std::size_t c = 0; c < n; ++c) {
          double integer = 0, shift = 0, taken = 0;
          for (std::size_t i = 0; i < k; ++i) {
            const double weight = static_cast<double>(b_codes[c * k + i]) * static_cast<double>(b_stats[c]) / 127;
            integer += a_codes[r * k + i] * weight * static_cast<double>(a_stats[r]) / 127;
            shift += (codes[r * k + i] - a_codes[r * k + i]) * weight * static_cast<double>(a_stats[r]) / 127;  // codes that differ
            if (is_outlier_column(i)) taken += std::fabs(static_cast<double>(a[r * k + i])) * (ulp16(weight) / 2);
          }
          const double want = out[r * n + c];
          // Roundings to fp16, half a unit each: the integer part, every decoded weight, the sum, and the GPU's inside the
          // addition.
          const double bound = ulp16(integer) / 2 + taken + ulp16(want) + 1e-5 * (std::fabs(integer) + 1);
          wrong += !(std::fabs(static_cast<double>(y[r * n + c]) - shift - want) <= bound);
        }
      CHECK(wrong == 0);
    }
  });
}

// ---- arguments
// -------------------------------------------------------------------------------------------------------------------

TEST_CASE("shapes that do not match are refused, and the message holds them all", "[arguments]") {
  const std::size_t n = 50, k = 64;
  Random random(23);
  const Floats values = random.normals(n * k);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(values, n, k, 64, true);
  Floats x(10 * 80, 1.0f), y(10 * 80, sentinel), bias(60);
  const MatrixView<const float> good_x(x.data(), 3, k);
  const MatrixView<float> good_y(y.data(), 3, n);
  const auto refused = [&](MatrixView<const float> a, MatrixView<float> b, const MatmulOptions& o,
                           std::initializer_list<std::string_view> words) {
    for (const bool packed : {false, true}) CHECK(unsaid<InvalidArgument>([&] { run_product(a, w, packed, b, o); }, words) == "");
    CHECK(std::all_of(y.begin(), y.end(), [](float v) { return v == sentinel; }));
  };
  refused({x.data(), 3, 63}, good_y, {}, {"(3, 63)", "(50, 64)", "(3, 50)", "63 columns"});
  refused(good_x, {y.data(), 2, n}, {}, {"(3, 64)", "(50, 64)", "(2, 50)"});
  refused(good_x, {y.data(), 3, 51}, {}, {"(3, 64)", "(50, 64)", "(3, 51)"});
  refused({x.data(), 3, k, 63}, good_y, {}, {"stride", "(3, 64)", "(3, 50)"});
  refused(good_x, {y.data(), 3, n, 49}, {}, {"stride", "(3, 64)", "(3, 50)"});
  refused({nullptr, 3, k}, good_y, {}, {"x is null", "(3, 64)"});
  refused(good_x, {nullptr, 3, n}, {}, {"y is null", "(3, 50)"});
  MatmulOptions o;
  o.bias = std::span<const float>(bias.data(), 49);
  refused(good_x, good_y, o, {"bias has 49", "(50, 64)"});
  o = {};
  o.residual = {x.data(), 2, n};
  refused(good_x, good_y, o, {"residual is (2, 50)", "(3, 50)"});
  o.residual = {x.data(), 3, n + 1};
  refused(good_x, good_y, o, {"residual is (3, 51)", "(3, 50)"});
  o.residual = {x.data(), 3, n, n - 1};
  refused(good_x, good_y, o, {"residual"});

  // Spans: sizes that are no whole rows.
  CHECK(unsaid<InvalidArgument>(
            [&] { lowbit::matmul(std::span<const float>(x.data(), 65), w.tensor, std::span<float>(y.data(), 50)); },
            {"65", "50", "64"}) == "");
  CHECK(unsaid<InvalidArgument>(
            [&] { lowbit::matmul(std::span<const float>(x.data(), 64), w.tensor, std::span<float>(y.data(), 51)); },
            {"64", "51", "50"}) == "");

  // A compute type that the format has not.
  const Weights dense = lowbit_test::quantized<lowbit::DenseTensor<float>>("f32", values, n, k);
  o = {};
  o.compute = Compute::int8;
  for (const bool packed : {false, true})
    CHECK(unsaid<InvalidArgument>([&] { run_product(good_x, dense, packed, good_y, o); }, {"int8", "f32"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { lowbit::plan_matmul(dense.tensor, o); }, {"int8", "f32"}) == "");
  CHECK(std::all_of(y.begin(), y.end(), [](float v) { return v == sentinel; }));
}

TEST_CASE("no rows, no outputs and no inputs are products too", "[arguments]") {
  Random random(24);
  const Floats one(200, 1.0f);
  for (const Weights& w : one_of_every_kind(7, 32, random))
    for_each_way(w, [&](Compute compute, bool packed) {
      MatmulOptions o;
      o.compute = compute;
      CHECK(run_product({nullptr, 0, 32}, w, packed, {nullptr, 0, 7}, o).compute == compute);
    });
  for (const Weights& w : one_of_every_kind(0, 32, random))
    for_each_way(w, [&](Compute compute, bool packed) {
      MatmulOptions o;
      o.compute = compute;
      CHECK(run_product({one.data(), 3, 32}, w, packed, {nullptr, 3, 0}, o).packed == packed);
    });
  for (const Weights& w : one_of_every_kind(5, 0, random)) {  // an empty sum is 0; the rest follows
    CHECK_FALSE(w.packed.has_value());
    for_each_way(w, [&](Compute compute, bool packed) {
      for_each_level([&](Level) {
        MatmulOptions o;
        o.compute = compute;
        const Floats bias{1, -2, 3, -4, 5};
        o.bias = bias;
        Floats y(15, sentinel);
        run_product({nullptr, 3, 0}, w, packed, {y.data(), 3, 5}, o);
        for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == bias[i % 5]);
      });
    });
  }
}

TEST_CASE("a plan says what runs", "[arguments]") {
  Random random(25);
  const Floats x = random.normals(64);
  for (const Weights& w : one_of_every_kind(48, 64, random))
    for_each_level([&](Level level) {
      for (const bool packed : {false, true}) {
        if (packed && !w.packed) continue;
        const auto plan_of = [&](const MatmulOptions& o) {
          return packed ? lowbit::plan_matmul(*w.packed, o) : lowbit::plan_matmul(w.tensor, o);
        };
        CHECK(plan_of({}).compute == lowbit::automatic_compute(w.tensor.format()));
        for (const Compute compute : all_computes) {
          if (!has_compute(w.tensor.format(), compute)) continue;
          MatmulOptions o;
          o.compute = compute;
          const lowbit::MatmulPlan plan = plan_of(o);
          Floats y(48);
          const lowbit::MatmulPlan ran = run_product({x.data(), 1, 64}, w, packed, {y.data(), 1, 48}, o);
          for (const auto& p : {plan, ran}) {
            CHECK(p.format == w.tensor.format());
            CHECK(p.compute == compute);
            CHECK(p.level == level);
            CHECK(p.packed == packed);
          }
          CHECK(plan.native_bf16 == ran.native_bf16);
          CHECK(lowbit::to_string(plan) == lowbit::to_string(ran));
          const std::string text = lowbit::to_string(plan);
          for (const char* word : {lowbit::format_name(plan.format), lowbit::compute_name(compute), lowbit::level_name(level),
                                   packed ? "packed" : "canonical"})
            CHECK(text.find(word) != text.npos);
          CHECK((text.find("widened") != text.npos) == (compute == Compute::bf16 && !plan.native_bf16));
          if (packed) CHECK(plan.native_bf16 == lowbit::detail::kernels().native_bf16);
        }
      }
    });
}

}  // namespace matmul_test
