// SPDX-License-Identifier: MIT
// The Eigen adapter: every kind of row-major argument goes in and out in place, and computes what plain pointers compute.
#include <cstring>
#include <type_traits>
#include <vector>

#include <lowbit/eigen.hpp>

#include "lowbit/tensor/nf4_tensor.hpp"
#include "support/catch.hpp"

namespace eigen_test {

using lowbit::MatrixRef;
using lowbit::RowMajorMatrix;

namespace {

// Deterministic values in [-1, 1] that no two places share.
RowMajorMatrix values(Eigen::Index rows, Eigen::Index cols, float seed) {
  RowMajorMatrix m(rows, cols);
  for (Eigen::Index r = 0; r < rows; ++r)
    for (Eigen::Index c = 0; c < cols; ++c) m(r, c) = std::sin(seed + 0.37f * static_cast<float>(r * cols + c));
  return m;
}
bool same(const RowMajorMatrix& a, const RowMajorMatrix& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
}

}  // namespace

TEST_CASE("matrices, maps, strided maps, references and blocks give the bits of plain pointers", "[eigen]") {
  const Eigen::Index tokens = 5, in = 128, out = 77;
  const RowMajorMatrix w = values(out, in, 1.0f), x = values(tokens, in, 2.0f);
  const auto nf4 = lowbit::quantize<lowbit::NF4Tensor<>>(w);
  RowMajorMatrix expected(tokens, out);
  lowbit::matmul(x.data(), 5, nf4, expected.data());

  RowMajorMatrix y = RowMajorMatrix::Zero(tokens, out);
  lowbit::matmul(x, nf4, y);
  CHECK(same(y, expected));

  std::vector<float> memory(5 * 100, -1.0f);
  Eigen::Map<RowMajorMatrix, 0, Eigen::OuterStride<>> strided(memory.data(), tokens, out, Eigen::OuterStride<>(100));
  lowbit::matmul(x, nf4, strided);
  CHECK(same(strided, expected));
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t c = 77; c < 100; ++c) CHECK(memory[r * 100 + c] == -1.0f);

  RowMajorMatrix wide_x = RowMajorMatrix::Constant(tokens, in + 9, 7.0f), wide_y = RowMajorMatrix::Constant(tokens, out + 4, 3.0f);
  wide_x.rightCols(in) = x;
  lowbit::matmul(wide_x.rightCols(in), nf4, wide_y.middleCols(2, out));
  CHECK(same(wide_y.middleCols(2, out), expected));
  CHECK((wide_y.leftCols(2).array() == 3.0f).all());
  CHECK((wide_y.rightCols(2).array() == 3.0f).all());

  MatrixRef reference(y);
  y.setZero();
  lowbit::matmul(x, lowbit::PackedTensor::pack(nf4), reference);
  CHECK((y - expected).cwiseAbs().maxCoeff() < 128 * 1.2e-7f * 128);  // another order of summation: k eps sum |x||w|, |x||w| <= 1
}

TEST_CASE("what would need a copy does not bind", "[eigen]") {
  using ColumnMajor = Eigen::MatrixXf;
  STATIC_REQUIRE(std::is_constructible_v<MatrixRef, RowMajorMatrix&>);
  STATIC_REQUIRE(!std::is_constructible_v<MatrixRef, ColumnMajor&>);
  STATIC_REQUIRE(!std::is_constructible_v<MatrixRef, const RowMajorMatrix&>);
}

TEST_CASE("weights of a block are quantized as the same weights on their own", "[eigen]") {
  const RowMajorMatrix big = values(40, 200, 3.0f);
  const RowMajorMatrix part = big.block(3, 5, 20, 96);
  const auto from_block = lowbit::quantize<lowbit::NF4Tensor<>>(big.block(3, 5, 20, 96)),
             alone = lowbit::quantize<lowbit::NF4Tensor<>>(part);
  CHECK(same(lowbit::dequantize(from_block), lowbit::dequantize(alone)));
  CHECK((lowbit::dequantize(alone) - part).cwiseAbs().maxCoeff() <
        0.16f);  // half the widest gap of the table, 0.304, and absmax' 8 bits
}

TEST_CASE("shapes that do not match are refused", "[eigen]") {
  const auto nf4 = lowbit::quantize<lowbit::NF4Tensor<>>(values(64, 64, 1.0f));
  RowMajorMatrix y(2, 64), narrow(2, 63);
  CHECK_THROWS_AS(lowbit::matmul(values(2, 63, 1.0f), nf4, y), lowbit::InvalidArgument);
  CHECK_THROWS_AS(lowbit::matmul(values(2, 64, 1.0f), nf4, narrow), lowbit::InvalidArgument);
}

}  // namespace eigen_test
