// SPDX-License-Identifier: MIT
// Packing: canonical bytes come back, whatever they are; what cannot be packed; packed bytes in the caller's memory, saved and mapped.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/matmul.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace packed_tensor_test {

using lowbit::Blockwise;
using lowbit::Compute;
using lowbit::FormatError;
using lowbit::Int8Tensor;
using lowbit::InvalidArgument;
using lowbit::PackedTensor;
using lowbit::Tensor;
using lowbit::TensorParts;
using lowbit_test::clone;
using lowbit_test::difference;
using lowbit_test::one_of_every_kind;
using lowbit_test::Random;
using lowbit_test::Sizes;
using lowbit_test::unsaid;
using lowbit_test::Weights;

namespace {

using Floats = std::vector<float>;
using Bytes = lowbit::AlignedBuffer<std::byte>;

constexpr std::size_t even_sizes[] = {1, 2, 16, 32, 64, 128};  // of which most kinds can be packed
constexpr std::size_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 77, 96, 100, 127, 128, 129};

Bytes copy_of_bytes(std::span<const std::byte> bytes) {
  Bytes copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

// x w^T for one row and for several, in every compute type: bits.
std::vector<std::uint32_t> products(const PackedTensor& w, Random random) {
  const Floats x = random.normals(3 * w.cols());
  Floats all;
  for (const Compute compute : lowbit_test::all_computes) {
    if (!lowbit_test::has_compute(w.format(), compute)) continue;
    for (const std::size_t m : Sizes{1, 3}) {
      Floats y(m * w.rows());
      lowbit::MatmulOptions options;
      options.compute = compute;
      lowbit::matmul(x.data(), m, w, y.data(), options);
      all.insert(all.end(), y.begin(), y.end());
    }
  }
  return lowbit_test::bits_of(all);
}

}  // namespace

TEST_CASE("packing and unpacking give the same bytes, for every format and odd sizes", "[pack]") {
  Random random(36);
  std::size_t packed = 0;
  for (int shape = 0; shape < 120; ++shape) {
    const std::size_t rows = random.one_of(sizes), cols = random.one_of(sizes);
    for (const Weights& w : one_of_every_kind(rows, cols, random)) {
      if (!w.packed) continue;
      ++packed;
      INFO(w.name << " " << rows << " x " << cols);
      const Tensor back = w.packed->unpack();
      CHECK(difference(w.tensor.parts(), back.parts()) == "");
      CHECK(w.packed->format() == w.tensor.format());
      CHECK(w.packed->rows() == rows);
      CHECK(w.packed->cols() == cols);
      CHECK(w.packed->block_size() == w.tensor.block_size());
      CHECK(w.packed->double_quantized() == w.tensor.double_quantized());
      CHECK(w.packed->element_bytes() == w.tensor.element_bytes());
      Floats rows_of_canonical(rows * cols), rows_of_packed(rows * cols);
      w.tensor.dequantize(rows_of_canonical.data());
      const std::size_t half = rows / 2;
      w.packed->dequantize_rows(half, rows, rows_of_packed.data() + half * cols);
      w.packed->dequantize_rows(0, half, rows_of_packed.data());
      CHECK(lowbit_test::bits_of(rows_of_packed) == lowbit_test::bits_of(rows_of_canonical));
      CHECK_THROWS_AS(w.packed->dequantize_rows(0, rows + 1, rows_of_packed.data()), lowbit::InvalidArgument);
    }
  }
  CHECK(packed > 800);
}

TEST_CASE("every byte is a code: packing keeps all bit patterns", "[pack]") {
  Random random(37);
  const auto scramble = [&](TensorParts& p) {
    for (std::uint8_t& b : p.codes) b = static_cast<std::uint8_t>(random.bits());
    for (std::uint8_t& b : p.scale_codes) b = static_cast<std::uint8_t>(random.bits());
    for (float& s : p.scales) s = std::bit_cast<float>(random.bits());  // NaN payloads, negative, subnormal, anything
    for (float& t : p.table) t = random.normal();
  };
  for (int i = 0; i < 30; ++i)
    for (const Weights& w : one_of_every_kind(random.one_of(sizes), random.one_of(even_sizes), random)) {
      TensorParts p = clone(w.tensor.parts());
      scramble(p);
      const Tensor t(std::move(p));
      if (!PackedTensor::packable(t)) continue;
      INFO(w.name << " " << t.rows() << " x " << t.cols());
      CHECK(difference(t.parts(), PackedTensor::pack(t).unpack().parts()) == "");
    }
}

TEST_CASE("double-quantized scales come back also where several codes decode alike", "[pack]") {
  Random random(38);
  for (const std::size_t block : Sizes{32, 64, 256})
    for (const std::size_t cols : Sizes{64, 128})
      for (int kind = 0; kind < 5; ++kind) {
        const std::size_t rows = 300;
        const Floats w = random.uneven(rows * cols);
        TensorParts p = clone(lowbit_test::four_bit_weights<lowbit::Nf4>(w, rows, cols, block, true).tensor.parts());
        for (std::uint8_t& c : p.scale_codes) c = static_cast<std::uint8_t>(random.bits());
        if (kind == 0) p.nested[0] = 0;                        // every code of the block is the offset
        if (kind == 1) p.nested[p.nested.size() - 1] = 0;      // only in the last nested block
        if (kind == 2) p.offset = 1e6f;                        // the sums round to few values
        if (kind == 3) p.nested[0] = -1;                       // descending
        if (kind == 4) p.nested_map[100] = p.nested_map[101];  // a map with equal entries
        const Tensor t(std::move(p));
        INFO("block " << block << ", cols " << cols << ", kind " << kind);
        CHECK(difference(t.parts(), PackedTensor::pack(t).unpack().parts()) == "");
      }
}

TEST_CASE("blocks that cross rows anywhere cannot be packed, and say so", "[pack]") {
  Random random(39);
  const Floats odd = random.normals(5 * 100), w = random.normals(5 * 96);
  for (const Weights& t : {lowbit_test::four_bit_weights<lowbit::Nf4>(odd, 5, 100, 64, true),
                           lowbit_test::four_bit_weights<lowbit::Fp4>(odd, 5, 100, 512, false),
                           lowbit_test::quantized<Int8Tensor<Blockwise<64>>>("int8", odd, 5, 100)}) {
    CHECK_FALSE(PackedTensor::packable(t.tensor));
    CHECK(unsaid<InvalidArgument>(
              [&] { PackedTensor::pack(t.tensor); },
              {lowbit::format_name(t.tensor.format()), "(5, 100)", std::to_string(t.tensor.block_size()), "cross rows"}) == "");
  }
  // Where they cross at multiples of 32, what shares a scale in every row is a record: 32 of 64 or 512 in rows of 96, 256 of 4096
  // in rows of 768.
  for (const std::size_t block : Sizes{64, 512})
    for (const bool doubled : {false, true}) {
      const Weights t = lowbit_test::four_bit_weights<lowbit::Nf4>(w, 5, 96, block, doubled);
      REQUIRE(t.packed.has_value());
      CHECK(t.packed->view().block == 32);
      CHECK(difference(t.tensor.parts(), t.packed->unpack().parts()) == "");
    }
  const Weights wide = lowbit_test::four_bit_weights<lowbit::Nf4>(random.uneven(48 * 768), 48, 768, 4096, true);
  REQUIRE(wide.packed.has_value());
  CHECK(wide.packed->view().block == 256);
  CHECK(difference(wide.tensor.parts(), wide.packed->unpack().parts()) == "");
  // Whole blocks in a row, whole rows in a block, and blocks that are no multiple of the layout's eight.
  CHECK(lowbit_test::four_bit_weights<lowbit::Nf4>(w, 5, 96, 32, true).packed.has_value());
  CHECK(lowbit_test::four_bit_weights<lowbit::Nf4>(w, 15, 32, 64, true).packed.has_value());
  CHECK(lowbit_test::quantized<Int8Tensor<Blockwise<24>>>("int8", w, 5, 96).packed.has_value());
  CHECK_FALSE(lowbit_test::quantized<Int8Tensor<Blockwise<12>>>("int8", w, 5, 96).packed.has_value());
  CHECK(lowbit_test::quantized<Int8Tensor<Blockwise<100>>>("int8", w, 9, 50).packed.has_value());
}

TEST_CASE("packed bytes are the same in the caller's memory, and mapped", "[pack]") {
  Random random(40);
  std::size_t kept = 0;
  for (int shape = 0; shape < 40; ++shape) {
    const std::size_t rows = random.one_of(sizes), cols = random.one_of(sizes);
    for (Weights& w : one_of_every_kind(rows, cols, random)) {
      if (!w.packed) continue;
      INFO(w.name << " " << rows << " x " << cols);
      if (w.tensor.double_quantized() && shape % 3 == 0) {
        TensorParts parts = clone(w.tensor.parts());
        parts.nested[0] = 0;  // its scale codes have to be kept
        w = Weights(w.name, Tensor(std::move(parts)));
        ++kept;
      }
      const std::size_t size = PackedTensor::packed_bytes(w.tensor);
      CHECK(w.packed->bytes().size() == size);
      Bytes memory(size);
      std::memset(memory.data(), 0xA5, size);
      const PackedTensor there = PackedTensor::pack_into(w.tensor, memory.span());
      CHECK(there.bytes().data() == memory.data());
      CHECK(std::memcmp(there.bytes().data(), w.packed->bytes().data(), size) == 0);
      const Bytes saved = copy_of_bytes(w.packed->bytes());
      const PackedTensor mapped = PackedTensor::map(saved.span());
      CHECK(mapped.view().data >= reinterpret_cast<const std::uint8_t*>(saved.data()));
      CHECK(mapped.view().data <= reinterpret_cast<const std::uint8_t*>(saved.end()));
      CHECK(difference(w.tensor.parts(), mapped.unpack().parts()) == "");
      CHECK(mapped.resident_bytes() == w.packed->resident_bytes());
      CHECK(mapped.double_quantized() == w.tensor.double_quantized());
      CHECK(products(mapped, random) == products(*w.packed, random));
    }
  }
  CHECK(kept > 10);
}

TEST_CASE("a file of packed bytes is mapped and multiplied where it lies", "[pack]") {
  Random random(41);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(random.uneven(100 * 192), 100, 192, 64, true);
  const lowbit_test::Folder folder;
  lowbit::io::write_atomically(folder / "weights.packed", w.packed->bytes());
  const lowbit::io::MappedFile file(folder / "weights.packed");
  const PackedTensor mapped = PackedTensor::map(file.bytes());
  CHECK(mapped.bytes().data() == file.bytes().data());
  CHECK(products(mapped, random) == products(*w.packed, random));
}

TEST_CASE("memory that packed bytes cannot stand in is refused", "[pack]") {
  Random random(42);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(random.uneven(50 * 64), 50, 64, 64, false);
  const std::size_t size = PackedTensor::packed_bytes(w.tensor);
  Bytes memory(size + 64);
  CHECK(unsaid<InvalidArgument>([&] { PackedTensor::pack_into(w.tensor, memory.span().first(size - 1)); },
                                {std::to_string(size), std::to_string(size - 1)}) == "");
  CHECK(unsaid<InvalidArgument>([&] { PackedTensor::pack_into(w.tensor, memory.span().subspan(4)); }, {"aligned to 64"}) == "");
  std::memcpy(memory.data() + 4, w.packed->bytes().data(), size);
  CHECK(unsaid<FormatError>([&] { PackedTensor::map(memory.span().subspan(4, size)); }, {"aligned to 64"}) == "");
}

TEST_CASE("bytes that are no packed tensor are refused, whatever they are", "[pack]") {
  Random random(43);
  std::size_t refused = 0, taken = 0;
  for (const Weights& w : one_of_every_kind(50, 64, random)) {
    if (!w.packed) continue;
    INFO(w.name);
    const std::span<const std::byte> whole = w.packed->bytes();
    for (std::size_t size = 0; size < whole.size(); size += size < 1300 ? 100 : 1000)
      CHECK(unsaid<FormatError>([&] { PackedTensor::map(copy_of_bytes(whole.first(size)).span()); }, {"packed tensor", "found"}) ==
            "");
    // Every bit of the fields in front, and bytes at random: an error, or a tensor that can be used.
    for (int i = 0; i < 700; ++i) {
      Bytes bytes = copy_of_bytes(whole);
      if (i < 8 * 80)
        bytes[static_cast<std::size_t>(i / 8)] ^= static_cast<std::byte>(1 << i % 8);
      else
        bytes[random.below(bytes.size())] = static_cast<std::byte>(random.bits());
      try {
        const PackedTensor p = PackedTensor::map(bytes.span());
        ++taken;
        products(p, random);
        p.unpack();
      } catch (const FormatError&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 1000);
  CHECK(taken > 100);
  const Weights w = lowbit_test::four_bit_weights<lowbit::Nf4>(random.uneven(50 * 64), 50, 64, 64, false);
  const auto with = [&](std::size_t at, const auto& value) {
    Bytes bytes = copy_of_bytes(w.packed->bytes());
    std::memcpy(bytes.data() + at, &value, sizeof value);
    PackedTensor::map(bytes.span());
  };
  CHECK(unsaid<FormatError>([&] { with(0, 'L'); }, {"lowbitPK"}) == "");
  CHECK(unsaid<FormatError>([&] { with(8, std::uint32_t{2}); }, {"expected 1 as version of the layout, found 2"}) == "");
  CHECK(unsaid<FormatError>([&] { with(12, 'x'); }, {"format"}) == "");
  CHECK(unsaid<FormatError>([&] { with(24, std::uint64_t{51} << 40); }, {"packed tensor", "shape"}) == "");
  CHECK(unsaid<FormatError>([&] { with(32, ~std::uint64_t{0}); }, {"packed tensor", "shape"}) == "");
  CHECK(unsaid<FormatError>([&] { with(40, std::uint64_t{48}); }, {"nf4", "48"}) == "");
}

}  // namespace packed_tensor_test
