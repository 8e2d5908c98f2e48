// SPDX-License-Identifier: MIT
// Products by tile instructions (level amx), on the processor's or, under LOWBIT_TILE_MODEL, on the software model: what other
// levels' tests, which run at this one too, do not look at.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/kernel/packed/tile_args.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tiles_test {

using lowbit::Compute;
using lowbit::Level;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::Weights;
using Floats = std::vector<float>;

namespace {

struct AtLevel {
  explicit AtLevel(Level level) { lowbit::set_level(level); }
  ~AtLevel() { lowbit::set_level(before); }
  Level before = lowbit::active_level();
};
bool has_tiles() {
  if (lowbit::cpu_supports(Level::amx)) return true;
  WARN("this processor has no tile instructions: nothing checked");
  return false;
}
Floats product_at(Level level, const Floats& x, std::size_t m, const Weights& w, Compute compute) {
  const AtLevel at(level);
  lowbit::MatmulOptions options;
  options.compute = compute;
  return lowbit_test::run_product(x, m, w, true, options);
}
bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
std::uint64_t checksum(const Floats& values) {
  std::uint64_t h = 0xCBF29CE484222325u;
  for (const float v : values) h = (h ^ std::bit_cast<std::uint32_t>(v)) * 0x100000001B3u;
  return h;
}

}  // namespace

TEST_CASE("tiles give the integer products of the vector levels to the bit, at every number of rows") {
  if (!has_tiles()) return;
  Random random(91);
  const Level vectors = lowbit::cpu_supports(Level::avx512vnni) ? Level::avx512vnni : Level::avx2;
  for (const std::size_t k : Sizes{24, 64, 72, 100, 200, 320})
    for (const std::size_t m : Sizes{1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 47, 50, 65}) {
      const std::size_t n = m % 2 == 0 ? 48 : 101;
      Floats x = random.normals(m * k);
      for (std::size_t i = 0; i < x.size(); i += 29) x[i] *= 9;  // outliers
      for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
        if (!w.packed || !lowbit_test::has_compute(w.tensor.format(), Compute::int8)) continue;
        INFO(w.name << ", " << n << " x " << k << ", m " << m);
        CHECK(same_bits(product_at(Level::amx, x, m, w, Compute::int8), product_at(vectors, x, m, w, Compute::int8)));
      }
    }
}

TEST_CASE("integer products by tiles in several parts of k and of rows are those of the vector levels") {
  if (!has_tiles()) return;
  using lowbit_test::four_bit_weights;
  Random random(94);
  const Level vectors = lowbit::cpu_supports(Level::avx512vnni) ? Level::avx512vnni : Level::avx2;
  const auto check = [&](const Weights& w, const Sizes& rows) {
    if (!lowbit_test::has_compute(w.tensor.format(), Compute::int8)) return;
    REQUIRE(w.packed);
    const std::size_t k = w.tensor.cols(), most = *std::max_element(rows.begin(), rows.end());
    const Floats x = random.normals(most * k), want = product_at(vectors, x, most, w, Compute::int8);
    for (const std::size_t m : rows) {
      INFO(w.name << ", " << w.tensor.rows() << " x " << k << ", m " << m);
      const Floats got =
          product_at(Level::amx, Floats(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(m * k)), m, w, Compute::int8);
      CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0);
    }
  };
  const Sizes rows{12, 30, 64, 65, 150};
  const std::size_t n = 101;
  for (const std::size_t k : Sizes{776, 1632})
    for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random))
      if (w.packed) check(w, rows);
  // Several chunks in a block.
  for (const std::size_t block : Sizes{512, 4096})
    check(four_bit_weights<lowbit::Nf4>(random.uneven(n * 1024), n, 1024, block, false), rows);
  // Block-offset classes: steps of several pieces that reach beyond the last k, in the last part of k and in one before.
  check(four_bit_weights<lowbit::Nf4>(random.uneven(264 * 40), 264, 40, 64, false), Sizes{12, 20});
  check(lowbit_test::quantized<lowbit::Int8Tensor<lowbit::Blockwise<96>>>("int8 block 96", random.uneven(400 * 776), 400, 776),
        Sizes{6, 20});
}

TEST_CASE("pieces of a panel of more than 4 GiB are found where they stand") {
  if (sizeof(std::size_t) < 8) return;
  lowbit::detail::PackedWeights w;  // a layout alone
  w.n = 1;
  w.block = 131072;
  w.k = 700 * w.block;
  w.element = lowbit::detail::Element::int8;
  w.scaled = true;
  std::vector<lowbit::detail::TilePiece> pieces(w.blocks());
  const lowbit::detail::TilePieces all(w, pieces.data());
  REQUIRE(all.count == w.blocks());
  REQUIRE(w.panel_bytes() / 2 > 0x7FFFFFFFu);
  CHECK(pieces.back().scale == w.record_begin(w.blocks() - 1));
  CHECK(pieces.back().codes == w.panel_bytes() - w.block / 8 * lowbit::detail::group_bytes(w.element));
}

TEST_CASE("bf16 products by tiles do not depend on the number of rows") {
  if (!has_tiles()) return;
  Random random(92);
  for (const std::size_t k : Sizes{40, 64, 100, 768}) {
    const std::size_t n = 50, most = 70;
    const Floats x = random.normals(most * k);
    for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
      if (!w.packed) continue;
      INFO(w.name << ", k " << k);
      const Floats all = product_at(Level::amx, x, most, w, Compute::bf16);
      for (const std::size_t m : Sizes{1, 2, 7, 16, 17, 35, 64}) {
        const Floats some =
            product_at(Level::amx, Floats(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(m * k)), m, w, Compute::bf16);
        CHECK(std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("products by tiles do not depend on the number of threads, nor on the cut of rows among them") {
  if (!has_tiles()) return;
  const AtLevel at(Level::amx);
  Random random(95);
  const std::size_t k = 224, n = 100, m = 200;
  Floats x = random.normals(m * k), bias = random.normals(n), residual = random.normals(m * n);
  for (std::size_t i = 0; i < x.size(); i += 29) x[i] *= 9;  // outliers
  const lowbit::Tensor after = lowbit::DenseTensor<lowbit::BFloat16>::quantize(random.normals(n * n).data(), n, n);
  const lowbit::PackedTensor packed_after = lowbit::PackedTensor::pack(after);
  for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
    if (!w.packed) continue;
    for (const Compute compute : {Compute::bf16, Compute::int8}) {
      if (!lowbit_test::has_compute(w.tensor.format(), compute)) continue;
      INFO(w.name << " in " << lowbit::compute_name(compute));
      // The result with a bias and a residual, straight from the kernel, or with all that may follow a product, and what another
      // product makes of it.  The residual is y itself, so a result that is made twice shows.
      const auto results = [&](bool followed, std::size_t threads, std::size_t rows_of_call) {
        lowbit::ThreadPool pool(threads);
        lowbit::PreparedInput next = lowbit::input_for(packed_after, {.compute = Compute::bf16});
        Floats y = residual, z(m * n);
        for (std::size_t row = 0; row < m; row += rows_of_call) {
          const std::size_t rows = std::min(rows_of_call, m - row);
          float* const to = y.data() + row * n;
          lowbit::MatmulOptions options({.compute = compute}, {.residual = {to, rows, n}}, {&pool}, bias);
          if (followed) options.activation = lowbit::Activation::relu, options.next = &next;
          lowbit::matmul({x.data() + row * k, rows, k}, *w.packed, {to, rows, n}, options);
          if (!followed) continue;
          lowbit::matmul(next, packed_after, {z.data() + row * n, rows, n}, {{.compute = Compute::bf16}, {}, {&pool}});
        }
        y.insert(y.end(), z.begin(), z.end());
        return y;
      };
      for (const bool followed : {false, true}) {
        const Floats uncut = results(followed, 1, 100);
        for (const std::size_t threads : Sizes{1, 2, 5}) CHECK(same_bits(results(followed, threads, m), uncut));
      }
    }
  }
}

// The same numbers wherever the test runs: the model's, which the processor must give too.
TEST_CASE("the tile instructions' sums of bfloat16 are the model's") {
  if (!has_tiles()) return;
  std::uint32_t state = 12345;
  const auto next = [&] { return state = state * 1664525u + 1013904223u, state >> 8; };
  const auto floats = [&](std::size_t count, std::uint32_t least, std::uint32_t exponents) {
    Floats values(count);
    for (float& v : values)  // bfloat16 numbers
      v = std::bit_cast<float>((next() & 1u) << 31 | (least + next() % exponents) << 23 | (next() & 0x7Fu) << 16);
    return values;
  };
  const std::size_t m = 37, n = 96, k = 200;
  struct Range {
    std::uint32_t least, exponents;
    std::uint64_t sum;
  };
  // Sums that cancel and round, sums that are subnormal, operands that are.
  for (const Range& range : {Range{122, 6, 0x46eb06d83528d244}, Range{107, 40, 0x30c17444d779e222},
                             Range{58, 10, 0xe5119622e81340f1}, Range{0, 130, 0x5553b49badcbc473}}) {
    const Floats x = floats(m * k, range.least, range.exponents);
    const Weights w =
        lowbit_test::quantized<lowbit::DenseTensor<lowbit::BFloat16>>("bf16", floats(n * k, range.least, range.exponents), n, k);
    INFO("exponents from " << range.least);
    CHECK(checksum(product_at(Level::amx, x, m, w, Compute::bf16)) == range.sum);
  }
}

TEST_CASE("a product leaves the thread's tile registers configured as it found them") {
  if (!has_tiles()) return;
#if LOWBIT_TILES
  using lowbit::detail::TileConfiguration;
  Random random(93);
  const std::size_t m = 20, n = 48, k = 64;
  const Floats x = random.normals(m * k);
  const auto same = [](const TileConfiguration& a, const TileConfiguration& b) { return std::memcmp(&a, &b, sizeof a) == 0; };
  TileConfiguration mine;
  mine.palette = 1;
  for (std::size_t t = 0; t < 8; ++t) {
    mine.rows[t] = static_cast<std::uint8_t>(t + 1);
    mine.bytes[t] = static_cast<std::uint16_t>(8 * (t + 1));
  }
  for (const Weights& w : lowbit_test::one_of_every_kind(n, k, random)) {
    if (!w.packed) continue;
    for (const Compute compute : {Compute::bf16, Compute::int8}) {
      if (!lowbit_test::has_compute(w.tensor.format(), compute)) continue;
      for (const TileConfiguration& before : {TileConfiguration{}, mine}) {
        lowbit::detail::set_tile_configuration(before);
        product_at(Level::amx, x, m, w, compute);
        CHECK(same(lowbit::detail::tile_configuration(), before));
      }
    }
  }
  lowbit::detail::set_tile_configuration({});
#endif
}

}  // namespace tiles_test
