// SPDX-License-Identifier: MIT
// Packed weights whose blocks begin at other places in other rows: what the layout keeps, and that products with them obey the same
// rules as all others (values, epilogues, one order of summation, prepared input).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/matmul.hpp"
#include "support/backward_executor.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace block_offsets_test {

using lowbit::Compute;
using lowbit::Level;
using lowbit::MatmulOptions;
using lowbit::MatrixView;
using lowbit::PackedTensor;
using lowbit_test::all_computes;
using lowbit_test::bits_of;
using lowbit_test::Bounded;
using lowbit_test::for_each_level;
using lowbit_test::four_bit_weights;
using lowbit_test::outside;
using lowbit_test::quantized;
using lowbit_test::Random;
using lowbit_test::run_product;
using lowbit_test::Sizes;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

// Number of classes, copies of x, rows that fill their panels or not, blocks shorter and longer than a row and than a chunk.
std::vector<Weights> block_offset_weights(Random& random) {
  const auto values = [&](std::size_t n, std::size_t k) { return random.uneven(n * k); };
  std::vector<Weights> all;
  all.push_back(four_bit_weights<lowbit::Nf4>(values(768, 100), 768, 100, 64, true));     // 16 classes, 2 copies
  all.push_back(four_bit_weights<lowbit::Nf4>(values(601, 100), 601, 100, 64, false));    // some columns of a panel stay empty
  all.push_back(four_bit_weights<lowbit::Nf4>(values(381, 72), 381, 72, 64, true));       // 8 classes, whole groups
  all.push_back(four_bit_weights<lowbit::Fp4>(values(1057, 33), 1057, 33, 32, true));     // 32 classes, 8 copies; odd in all
  all.push_back(four_bit_weights<lowbit::Nf4>(values(300, 24), 300, 24, 64, false));      // blocks longer than a row
  all.push_back(four_bit_weights<lowbit::Nf4>(values(2053, 520), 2053, 520, 512, true));  // a block is several chunks
  all.push_back(quantized<lowbit::Int8Tensor<lowbit::Blockwise<24>>>("int8", values(230, 100), 230, 100));
  all.push_back(quantized<lowbit::Int8Tensor<lowbit::Blockwise<32>>>("int8", values(190, 1032), 190, 1032));  // 4 classes
  all.push_back(quantized<lowbit::Int8Tensor<lowbit::Blockwise<1048>>>("int8", values(4193, 24), 4193, 24));  // 131 classes
  return all;
}
std::string describe(const Weights& w) {
  return w.name + " " + std::to_string(w.tensor.rows()) + " x " + std::to_string(w.tensor.cols());
}

}  // namespace

TEST_CASE("rows in block-offset classes are packed, keep their bytes, and take the room that is said") {
  Random random(71);
  for (const Weights& w : block_offset_weights(random)) {
    INFO(describe(w));
    REQUIRE(w.packed.has_value());
    CHECK(w.packed->view().block_offsets);
    const lowbit::Tensor back = w.packed->unpack();
    const lowbit::TensorParts &a = w.tensor.parts(), &b = back.parts();
    const auto same = [](const auto& x, const auto& y) {
      return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size_bytes()) == 0);
    };
    CHECK(same(a.codes, b.codes));
    CHECK(same(a.scales, b.scales));
    CHECK(same(a.scale_codes, b.scale_codes));
    CHECK(same(a.nested, b.nested));
    CHECK(a.offset == b.offset);
    CHECK(a.block == b.block);
    // Moved, it is what it was.
    PackedTensor moved = PackedTensor::pack(w.tensor);
    const PackedTensor there = std::move(moved);
    const Floats x = random.normals(w.tensor.cols());
    Floats y(w.tensor.rows()), z(w.tensor.rows());
    lowbit::matmul(x.data(), 1, there, y.data());
    lowbit::matmul(x.data(), 1, *w.packed, z.data());
    CHECK(bits_of(y) == bits_of(z));
  }
  // Too few rows to fill the panels of all classes.
  const Floats few = random.normals(500 * 100);
  CHECK_FALSE(four_bit_weights<lowbit::Nf4>(few, 500, 100, 64, true).packed.has_value());
  CHECK(four_bit_weights<lowbit::Nf4>(random.normals(512 * 100), 512, 100, 64, true).packed.has_value());
}

TEST_CASE("rows in block-offset classes: every compute type is within its derived bound, whatever follows") {
  Random random(72);
  for (const Weights& w : block_offset_weights(random)) {
    const std::size_t n = w.tensor.rows(), k = w.tensor.cols();
    for (const std::size_t m : Sizes{1, 2, 5, 34}) {
      if (m > 5 && k > 500) continue;  // the reference takes its time
      const Floats x = random.normals(m * k), bias = random.normals(n), residual = random.normals(m * n);
      for (const Compute compute : all_computes) {
        INFO(describe(w) << ", m " << m << ", " << lowbit::compute_name(compute));
        const lowbit_test::ExpectedAtLevels expected = lowbit_test::expected_at_levels(x, m, w, compute, true);
        for_each_level([&](Level level) {
          const std::vector<Bounded>& plain = expected.at(level);
          std::vector<Bounded> all = plain;
          for (std::size_t i = 0; i < all.size(); ++i)
            all[i] = lowbit_test::plus(lowbit_test::gelu_tanh(lowbit_test::plus(all[i], bias[i % n])), residual[i]);
          MatmulOptions options;
          options.compute = compute;
          CHECK(outside(run_product(x, m, w, true, options), plain) == "");
          const std::size_t x_stride = k + 3, y_stride = n + 5;
          Floats strided(m * x_stride, std::nanf("")), y(m * y_stride, -5.0f);
          for (std::size_t r = 0; r < m; ++r) {
            std::copy_n(&x[r * k], k, &strided[r * x_stride]);
            std::copy_n(&residual[r * n], n, &y[r * y_stride]);
          }
          options.bias = bias;
          options.activation = lowbit::gelu_tanh;
          options.residual = {y.data(), m, n, y_stride};
          run_product({strided.data(), m, k, x_stride}, w, true, {y.data(), m, n, y_stride}, options);
          Floats inside;
          for (std::size_t r = 0; r < m; ++r) {
            inside.insert(inside.end(), &y[r * y_stride], &y[r * y_stride] + n);
            for (std::size_t c = n; c < y_stride; ++c) CHECK(y[r * y_stride + c] == -5.0f);
          }
          CHECK(outside(inside, all) == "");
        });
      }
    }
  }
}

TEST_CASE("rows in block-offset classes: batches and threads change no bit") {
  Random random(73);
  const std::size_t m = 70;
  lowbit::ThreadPool pool(3);
  lowbit_test::BackwardExecutor backward(32);
  for (const Weights& w : block_offset_weights(random)) {
    const std::size_t n = w.tensor.rows(), k = w.tensor.cols();
    const Floats x = random.normals(m * k);
    for (const Compute compute : all_computes)
      for_each_level([&](Level) {
        INFO(describe(w) << ", " << lowbit::compute_name(compute));
        lowbit::SerialExecutor serial;
        MatmulOptions options;
        options.compute = compute;
        options.executor = &serial;
        const Floats all = run_product(x, m, w, true, options);
        options.executor = &pool;
        CHECK(bits_of(run_product(x, m, w, true, options)) == bits_of(all));
        options.executor = &backward;
        CHECK(bits_of(run_product(x, m, w, true, options)) == bits_of(all));
        std::size_t wrong = 0;
        for (const std::size_t rows : Sizes{1, 2, 3, 4, 9, 33}) {
          const std::size_t first = random.below(m - rows + 1);
          const Floats part(x.begin() + static_cast<std::ptrdiff_t>(first * k),
                            x.begin() + static_cast<std::ptrdiff_t>((first + rows) * k));
          const Floats y = run_product(part, rows, w, true, options);
          for (std::size_t i = 0; i < y.size(); ++i) wrong += y[i] != all[first * n + i];
        }
        CHECK(wrong == 0);
      });
  }
}

TEST_CASE("rows in block-offset classes: a row that holds a NaN is the only one that suffers") {
  Random random(74);
  for (const Weights& w : block_offset_weights(random)) {
    const std::size_t n = w.tensor.rows(), k = w.tensor.cols(), m = 3;
    const Floats good = random.normals(m * k);
    Floats x = good;
    x[k + k - 1] = std::nanf("");
    for (const Compute compute : all_computes)
      for_each_level([&](Level) {
        INFO(describe(w) << ", " << lowbit::compute_name(compute));
        MatmulOptions options;
        options.compute = compute;
        const Floats want = run_product(good, m, w, true, options), y = run_product(x, m, w, true, options);
        std::size_t wrong = 0;
        for (std::size_t c = 0; c < n; ++c) wrong += y[c] != want[c] || y[2 * n + c] != want[2 * n + c] || !std::isnan(y[n + c]);
        CHECK(wrong == 0);
      });
  }
}

TEST_CASE("rows in block-offset classes: input is prepared once, by the product in front as well") {
  Random random(75);
  lowbit::ThreadPool pool(2);
  for (const Weights& second : block_offset_weights(random)) {
    const std::size_t m = 9, k = second.tensor.cols(), front = 40;
    const Weights first = four_bit_weights<lowbit::Nf4>(random.uneven(k * front), k, front, 64, false);
    const Floats x = random.normals(m * front);
    for (const Compute compute : all_computes)
      for_each_level([&](Level) {
        INFO(describe(second) << ", " << lowbit::compute_name(compute));
        MatmulOptions options;
        options.compute = compute;
        options.executor = &pool;
        const Floats between = run_product(x, m, first, false, options), want = run_product(between, m, second, true, options);
        for (const bool keep_y : {false, true}) {
          lowbit::PreparedInput next = lowbit::input_for(*second.packed, options);
          MatmulOptions leave = options;
          leave.next = &next;
          Floats y(m * k), z(m * second.tensor.rows());
          lowbit::matmul(MatrixView<const float>(x.data(), m, front), first.tensor,
                         keep_y ? MatrixView<float>(y.data(), m, k) : MatrixView<float>(), leave);
          lowbit::matmul(next, *second.packed, MatrixView<float>(z.data(), m, second.tensor.rows()), options);
          CHECK(bits_of(z) == bits_of(want));
          // And leaves its own result to a product behind.
          const std::size_t n = second.tensor.rows(),
                            last = n == 300 ? 512 : 20;  // 512 rows of 300 are in block-offset classes as well
          const Weights third = four_bit_weights<lowbit::Nf4>(random.uneven(last * n), last, n, 64, false);
          const bool packed = third.packed.has_value();
          const Floats behind_want = run_product(want, m, third, packed, options);
          lowbit::PreparedInput behind =
              packed ? lowbit::input_for(*third.packed, options) : lowbit::input_for(third.tensor, options);
          leave.next = &behind;
          lowbit::matmul(next, *second.packed, keep_y ? MatrixView<float>(z.data(), m, n) : MatrixView<float>(), leave);
          Floats out(m * last);
          const MatrixView<float> out_view(out.data(), m, last);
          packed ? lowbit::matmul(behind, *third.packed, out_view, options)
                 : lowbit::matmul(behind, third.tensor, out_view, options);
          CHECK(bits_of(out) == bits_of(behind_want));
        }
        // Input in another form is refused.
        const Weights other = four_bit_weights<lowbit::Nf4>(random.uneven(8 * k), 8, k, 64, false);
        lowbit::PreparedInput wrong = lowbit::input_for(other.tensor, options);
        lowbit::prepare_input({between.data(), m, k}, wrong, pool);
        Floats z(m * second.tensor.rows());
        CHECK_THROWS_AS(lowbit::matmul(wrong, *second.packed, MatrixView<float>(z.data(), m, second.tensor.rows()), options),
                        lowbit::InvalidArgument);
      });
  }
}

TEST_CASE("rows in block-offset classes: weights of other row counts share the input") {
  Random random(76);
  lowbit::ThreadPool pool(2);
  const std::size_t k = 72, m = 5;
  const Weights few = four_bit_weights<lowbit::Nf4>(random.uneven(384 * k), 384, k, 64, true),
                many = four_bit_weights<lowbit::Nf4>(random.uneven(768 * k), 768, k, 64, true);
  REQUIRE(few.packed.has_value());
  REQUIRE(many.packed.has_value());
  CHECK(few.packed->view().class_count == 8);
  CHECK(many.packed->view().class_count == 16);
  const Floats x = random.normals(m * k);
  for (const Compute compute : all_computes)
    for_each_level([&](Level) {
      MatmulOptions options;
      options.compute = compute;
      options.executor = &pool;
      lowbit::PreparedInput input = lowbit::input_for(*few.packed, options);
      lowbit::prepare_input({x.data(), m, k}, input, pool);
      for (const Weights* w : {&few, &many}) {
        const std::size_t n = w->tensor.rows();
        Floats y(m * n);
        lowbit::matmul(input, *w->packed, MatrixView<float>(y.data(), m, n), options);
        CHECK(bits_of(y) == bits_of(run_product(x, m, *w, true, options)));
      }
    });
}

}  // namespace block_offsets_test
