// SPDX-License-Identifier: MIT
// Input that was prepared before, by itself or by the product in front: the same bits as a product that prepares its own.
#include <cstddef>
#include <vector>

#include "lowbit/product/input.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace prepared_input_test {

using lowbit::Compute;
using lowbit::InvalidArgument;
using lowbit::Level;
using lowbit::MatmulOptions;
using lowbit::MatrixView;
using lowbit::PreparedInput;
using lowbit_test::bits_of;
using lowbit_test::for_each_level;
using lowbit_test::has_compute;
using lowbit_test::one_of_every_kind;
using lowbit_test::Random;
using lowbit_test::run_product;
using lowbit_test::Sizes;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

// use(weights) with the packed or the canonical form.
template <class Use>
auto with_layout(const Weights& w, bool packed, const Use& use) {
  return packed ? use(*w.packed) : use(w.tensor);
}

MatmulOptions options_for(Compute compute, lowbit::Executor& executor, bool variant) {
  MatmulOptions o;
  o.compute = compute;
  o.executor = &executor;
  o.outlier_threshold = 2;  // what LLM.int8() alone reads
  o.outliers = variant ? lowbit::Outliers::per_call : lowbit::Outliers::per_row;
  o.round_activations_to_fp16 = variant;
  return o;
}

}  // namespace

TEST_CASE("prepared input gives the bits of input that is not, in every form, and is filled again and again") {
  Random random(51);
  lowbit::ThreadPool pool(3);
  for (const std::size_t k : Sizes{61, 64, 192})
    for (const Weights& w : one_of_every_kind(50, k, random))
      for (const Compute compute : lowbit_test::all_computes) {
        if (!has_compute(w.tensor.format(), compute)) continue;
        for (const bool packed : {false, true}) {
          if (packed && !w.packed) continue;
          INFO(w.name << ", " << k << " deep, " << compute_name(compute) << (packed ? ", packed" : ", canonical"));
          for_each_level([&](Level) {
            const MatmulOptions options = options_for(compute, pool, random.coin());
            PreparedInput input = with_layout(w, packed, [&](const auto& weights) { return input_for(weights, options); });
            CHECK(input.compute() == compute);
            CHECK(input.cols() == k);
            for (const std::size_t m : Sizes{40, 1, 7}) {
              const Floats x = random.normals(m * k, 2);
              lowbit::prepare_input({x.data(), m, k}, input, pool);
              CHECK(input.rows() == m);
              Floats y(m * 50, -1.0f);
              const auto plan = with_layout(w, packed, [&](const auto& weights) {
                return matmul(input, weights, MatrixView<float>(y.data(), m, 50), options);
              });
              CHECK(plan.compute == compute);
              CHECK(bits_of(y) == bits_of(run_product(x, m, w, packed, options)));
            }
          });
        }
      }
}

TEST_CASE("a product leaves its result prepared for the next one, with y and without") {
  Random random(52);
  lowbit::ThreadPool pool(2);
  const std::size_t k = 40, n = 61, out = 30;  // n is no multiple of 8: the next input has padding
  const std::vector<Weights> firsts = one_of_every_kind(n, k, random), seconds = one_of_every_kind(out, n, random);
  for (const Weights& first : firsts)
    for (const Weights& second : seconds) {
      const Compute compute = random.one_of(lowbit_test::all_computes), then = random.one_of(lowbit_test::all_computes);
      const bool packed = first.packed && random.coin(), then_packed = second.packed && random.coin(), keep_y = random.coin();
      if (!has_compute(first.tensor.format(), compute) || !has_compute(second.tensor.format(), then)) continue;
      INFO(first.name << ' ' << compute_name(compute) << (packed ? " packed" : "") << ", then " << second.name << ' '
                      << compute_name(then) << (then_packed ? " packed" : ""));
      const std::size_t m = 1 + random.below(40);
      const Floats x = random.normals(m * k, 3), bias = random.normals(n);
      for_each_level([&](Level) {
        MatmulOptions options = options_for(compute, pool, false);
        options.bias = bias;
        options.activation = lowbit::gelu_tanh;
        const Floats expected_y = run_product(x, m, first, packed, options);
        const MatmulOptions then_options = options_for(then, pool, true);
        const Floats expected = run_product(expected_y, m, second, then_packed, then_options);

        PreparedInput next = with_layout(second, then_packed, [&](const auto& w) { return input_for(w, then_options); });
        options.next = &next;
        Floats y(m * n, -1.0f), z(m * out, -1.0f);
        with_layout(first, packed, [&](const auto& w) {
          return matmul(MatrixView<const float>(x.data(), m, k), w,
                        keep_y ? MatrixView<float>(y.data(), m, n) : MatrixView<float>(), options);
        });
        CHECK(next.rows() == m);
        if (keep_y) CHECK(bits_of(y) == bits_of(expected_y));
        with_layout(second, then_packed,
                    [&](const auto& w) { return matmul(next, w, MatrixView<float>(z.data(), m, out), then_options); });
        CHECK(bits_of(z) == bits_of(expected));
      });
    }
}

TEST_CASE("input that was prepared for another product is refused") {
  Random random(53);
  const std::size_t k = 128, n = 9, m = 3;
  const Floats weights = random.normals(n * k), x = random.normals(m * k);
  const auto nf4 = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(weights.data(), n, k));
  const auto nf4_long = lowbit::PackedTensor::pack(lowbit::NF4Tensor<128>::quantize(weights.data(), n, k));
  const auto int8 = lowbit::PackedTensor::pack(lowbit::Int8Tensor<>::quantize(weights.data(), n, k));
  MatmulOptions as_int8;
  as_int8.compute = Compute::int8;
  Floats y(m * n);
  const MatrixView<float> result(y.data(), m, n);

  PreparedInput input = input_for(nf4, as_int8);
  lowbit::prepare_input({x.data(), m, k}, input);
  CHECK_NOTHROW(matmul(input, nf4, result, as_int8));
  CHECK(unsaid<InvalidArgument>([&] { matmul(input, nf4, result, {{.compute = Compute::f32}}); },
                                {"prepared for another product", "int8", "f32"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { matmul(input, nf4_long, result, as_int8); }, {"prepared for another product"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { matmul(input, int8, result, as_int8); }, {"prepared for another product"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { lowbit::prepare_input({x.data(), m, k - 1}, input); }, {"(3, 127)", "depth of 128"}) == "");
  MatmulOptions to_itself = as_int8;
  to_itself.next = &input;
  CHECK_THROWS_AS(matmul(input, nf4, result, to_itself), InvalidArgument);
  CHECK(unsaid<InvalidArgument>([&] { lowbit::prepare_input(MatrixView<const float>(nullptr, m, k), input); },
                                {"(3, 128)", "null"}) == "");
  PreparedInput wrong_depth = input_for(nf4, as_int8);
  MatmulOptions next = as_int8;
  next.next = &wrong_depth;
  CHECK(unsaid<InvalidArgument>([&] { matmul(x.data(), m, nf4, y.data(), next); }, {"128 columns"}) == "");
}

TEST_CASE("a product cannot leave its result where it reads its input") {
  Random random(55);
  const std::size_t k = 64, m = 3;
  const Floats weights = random.normals(k * k), x = random.normals(m * k);
  const auto square = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(weights.data(), k, k));
  for (const Compute compute : lowbit_test::all_computes) {
    PreparedInput input = input_for(square, {.compute = compute});
    lowbit::prepare_input({x.data(), m, k}, input);
    MatmulOptions options;
    options.compute = compute;
    options.next = &input;
    Floats y(m * k);
    CHECK(unsaid<InvalidArgument>([&] { matmul(input, square, {y.data(), m, k}, options); }, {"next is the input itself"}) == "");
  }
}

TEST_CASE("a product of no rows leaves no rows for the next one, whatever was there before") {
  Random random(54);
  const std::size_t k = 64, n = 64;
  const Floats weights = random.normals(n * k), x = random.normals(5 * k);
  const auto w = lowbit::PackedTensor::pack(lowbit::NF4Tensor<>::quantize(weights.data(), n, k));
  PreparedInput next = input_for(w);
  MatmulOptions options;
  options.next = &next;
  matmul(MatrixView<const float>(x.data(), 5, k), w, {}, options);
  CHECK(next.rows() == 5);
  matmul(MatrixView<const float>(x.data(), 0, k), w, {}, options);
  CHECK(next.rows() == 0);
}

}  // namespace prepared_input_test
