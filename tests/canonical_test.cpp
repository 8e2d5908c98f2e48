// SPDX-License-Identifier: MIT
// Products on canonical weights where they are cut: rows that begin anywhere in a group, in a byte, in a block; batches of rows,
// steps and tiles that do not come out even; memory that ends where the tensor ends.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#include <unistd.h>
#define LOWBIT_TEST_GUARD 1
#endif

#include "lowbit/matmul.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"
#include "support/tolerance.hpp"

namespace canonical_test {

using lowbit::Compute;
using lowbit::Level;
using lowbit::MatmulOptions;
using lowbit_test::all_computes;
using lowbit_test::bits_of;
using lowbit_test::expected_product;
using lowbit_test::for_each_level;
using lowbit_test::four_bit_weights;
using lowbit_test::outside;
using lowbit_test::Random;
using lowbit_test::run_product;
using lowbit_test::Sizes;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;

template <class Visit>
void for_each_compute(const Weights& w, const Visit& visit) {
  for (const Compute compute : all_computes) {
    if (!lowbit_test::has_compute(w.tensor.format(), compute)) continue;
    INFO(w.name << ", " << lowbit::compute_name(compute));
    MatmulOptions options;
    options.compute = compute;
    options.outlier_threshold = 0;
    visit(options);
  }
}

}  // namespace

TEST_CASE("4-bit rows that begin anywhere, of any length, in batches of any size", "[canonical]") {
  Random random(31);
  for (const std::size_t k : Sizes{1, 2, 31, 33, 36, 40, 48, 95, 100, 127, 128, 129, 160, 192, 250, 255, 256, 257, 320, 1000, 1600})
    for (int round = 0; round < 3; ++round) {
      const std::size_t n = round == 0 ? 1 : round == 1 ? 4 * random.below(6) + random.below(4) + 1 : 35, m = random.below(9) + 1;
      const Floats x = random.normals(m * k), values = random.uneven(n * k);
      const Weights w =
          random.coin() ? four_bit_weights<lowbit::Nf4>(values, n, k, random.one_of(lowbit_test::four_bit_blocks), random.coin())
                        : four_bit_weights<lowbit::Fp4>(values, n, k, random.one_of(lowbit_test::four_bit_blocks), random.coin());
      INFO("m " << m << ", n " << n << ", k " << k);
      for_each_compute(w, [&](const MatmulOptions& options) {
        const auto expected = expected_product(x, m, w.tensor, options.compute, false);
        for_each_level([&](Level) { CHECK(outside(run_product(x, m, w, false, options), expected) == ""); });
      });
    }
}

TEST_CASE("canonical products: the same bits alone, in a batch, and on several threads", "[canonical]") {
  Random random(32);
  struct Shape {
    std::size_t n, k, block;
  };
  for (const Shape& s : {Shape{37, 768, 64}, {18, 768, 4096}, {21, 100, 64}, {33, 33, 32}, {9, 1600, 128}, {20, 96, 512}}) {
    const std::size_t m = 33;
    const Floats x = random.normals(m * s.k), values = random.uneven(s.n * s.k);
    const Weights w = four_bit_weights<lowbit::Nf4>(values, s.n, s.k, s.block, true);
    INFO("n " << s.n << ", k " << s.k);
    for_each_compute(w, [&](MatmulOptions options) {
      for_each_level([&](Level) {
        lowbit::SerialExecutor serial;
        options.executor = &serial;
        const Floats all = run_product(x, m, w, false, options);
        for (const std::size_t rows : Sizes{1, 2, 3, 7}) {
          const std::size_t first = random.below(m - rows + 1);
          const auto at = [](std::size_t i) { return static_cast<std::ptrdiff_t>(i); };
          const Floats part(x.begin() + at(first * s.k), x.begin() + at((first + rows) * s.k));
          const Floats want(all.begin() + at(first * s.n), all.begin() + at((first + rows) * s.n));
          CHECK(bits_of(run_product(part, rows, w, false, options)) == bits_of(want));
        }
        for (const std::size_t threads : Sizes{2, 3}) {
          lowbit::ThreadPool pool(threads);
          options.executor = &pool;
          CHECK(bits_of(run_product(x, m, w, false, options)) == bits_of(all));
        }
      });
    });
  }
}

TEST_CASE("a block that is NaN reaches the rows that it touches and no other", "[canonical]") {
  Random random(33);
  for (const std::size_t k : Sizes{32, 96, 100, 768}) {
    const std::size_t n = 11, m = 3, block = 32;
    const Floats x = random.normals(m * k);
    Floats values = random.normals(n * k);
    lowbit::TensorParts parts = four_bit_weights<lowbit::Nf4>(values, n, k, block, false).tensor.take_parts();
    const std::size_t bad = 5 * k / block + 1;
    parts.scales[bad] = std::numeric_limits<float>::quiet_NaN();
    const Weights w("nf4", lowbit::Tensor(std::move(parts)));
    INFO("k " << k);
    for_each_compute(w, [&](const MatmulOptions& options) {
      for_each_level([&](Level) {
        const Floats y = run_product(x, m, w, false, options);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const std::size_t row = i % n;
          const bool touched = row * k < (bad + 1) * block && (row + 1) * k > bad * block;
          CHECK(lowbit::is_nan_bits(y[i]) == touched);
        }
      });
    });
  }
}

TEST_CASE("int8 compute: where scales hold for blocks, rows may be deeper than an int32 sum", "[canonical]") {
  const std::size_t k = lowbit::detail::largest_int8_depth + 4321, n = 2, m = 1;
  Random random(34);
  Floats x(m * k), values(n * k);
  for (float& v : x) v = 127;  // one sign: the sum over a row would overflow
  for (float& v : values) v = random.coin() ? 1.0f : 0.999f;
  std::vector<Weights> all;
  all.push_back(four_bit_weights<lowbit::Nf4>(values, n, k, 64, true));
  all.push_back(lowbit_test::quantized<lowbit::Int8Tensor<lowbit::Blockwise<64>>>("int8 block 64", values, n, k));
  MatmulOptions options;
  options.compute = Compute::int8;
  for (const Weights& w : all) {
    const auto expected = expected_product(x, m, w.tensor, Compute::int8, false);
    INFO(w.name);
    for_each_level([&](Level) { CHECK(outside(run_product(x, m, w, false, options), expected) == ""); });
  }
}

#ifdef LOWBIT_TEST_GUARD
namespace {

// A copy of some bytes directly before a page that nobody may read.
class Guarded {
 public:
  Guarded(const void* data, std::size_t bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page + page;
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(base_ != MAP_FAILED);
    begin_ = static_cast<std::uint8_t*>(base_) + size_ - page - bytes;
    if (bytes != 0) std::memcpy(begin_, data, bytes);
    REQUIRE(mprotect(static_cast<std::uint8_t*>(base_) + size_ - page, page, PROT_NONE) == 0);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, size_); }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(begin_);
  }

 private:
  void* base_ = nullptr;
  std::uint8_t* begin_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace

TEST_CASE("no byte beyond the weights, their scales or x is read", "[canonical]") {
  Random random(35);
  const std::size_t m = 3;
  for (const std::size_t k : Sizes{1, 7, 32, 33, 64, 100, 128, 160, 768})
    for (const std::size_t n : Sizes{1, 4, 17, 22}) {
      const Floats x = random.normals(m * k);
      for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
        const lowbit::TensorParts& parts = w.tensor.parts();
        const Guarded codes(parts.codes.data(), parts.codes.size_bytes()), scales(parts.scales.data(), parts.scales.size_bytes()),
            scale_codes(parts.scale_codes.data(), parts.scale_codes.size_bytes()),
            nested(parts.nested.data(), parts.nested.size_bytes()), gx(x.data(), x.size() * 4);
        lowbit::WeightsViewParts view;
        view.format = parts.format;
        view.rows = n;
        view.cols = k;
        view.codes = codes.as<std::uint8_t>();
        view.block = parts.block;
        if (!parts.scales.empty()) view.scales = scales.as<float>();
        if (!parts.scale_codes.empty()) view.scale_codes = scale_codes.as<std::uint8_t>();
        if (!parts.nested.empty()) view.nested = nested.as<float>();
        view.offset = parts.offset;
        const lowbit::WeightsView weights(view);
        for_each_compute(w, [&](const MatmulOptions& options) {
          for_each_level([&](Level) {
            Floats y(m * n);
            lowbit::matmul({gx.as<float>(), m, k}, weights, {y.data(), m, n}, options);
            CHECK(bits_of(y) == bits_of(run_product(x, m, w, false, options)));
          });
        });
      }
    }
}
#endif

}  // namespace canonical_test
