// SPDX-License-Identifier: MIT
// A quantized layer between Eigen matrices: Ref and Map in and out, bias and GELU fused, no copies.
#include <cmath>
#include <cstdio>
#include <vector>

#include <lowbit/eigen.hpp>
#include <lowbit/lowbit.hpp>

namespace {

// y (tokens, out) = gelu(x (tokens, in) * w^T + bias).
void layer(const lowbit::ConstMatrixRef& x, const lowbit::PackedTensor& w, const Eigen::VectorXf& bias, lowbit::MatrixRef y) {
  const lowbit::ComputeOptions exact{.compute = lowbit::Compute::f32};  // to compare with Eigen; {} takes what is fast here
  const lowbit::Epilogue gelu{.activation = lowbit::gelu_tanh};
  lowbit::matmul(x, w, y, {exact, gelu, /*call=*/{}, bias.data()});
}

}  // namespace

int main() {
  const Eigen::Index tokens = 8, in = 256, out = 384;
  const lowbit::RowMajorMatrix weights = lowbit::RowMajorMatrix::Random(out, in) * 0.05f;
  const Eigen::VectorXf bias = Eigen::VectorXf::Random(out);
  const auto nf4 = lowbit::quantize<lowbit::NF4Tensor<>>(weights);
  const auto packed = lowbit::PackedTensor::pack(nf4);

  // A matrix, memory of somebody else's through Map, and a block of columns of a wider matrix: all in place.
  const lowbit::RowMajorMatrix x = lowbit::RowMajorMatrix::Random(tokens, in);
  std::vector<float> memory(static_cast<std::size_t>(tokens * out));
  Eigen::Map<lowbit::RowMajorMatrix> y(memory.data(), tokens, out);
  lowbit::RowMajorMatrix wide = lowbit::RowMajorMatrix::Zero(tokens, 2 * out);
  layer(x, packed, bias, y);
  layer(x, packed, bias, wide.rightCols(out));

  // The same with Eigen, on the decoded weights.
  const lowbit::RowMajorMatrix sum = (x * lowbit::dequantize(nf4).transpose()).rowwise() + bias.transpose();
  const lowbit::RowMajorMatrix expected =
      sum.unaryExpr([](float v) { return 0.5f * v * (1 + std::tanh(0.79788456f * (v + 0.044715f * v * v * v))); });
  const float mapped = (y - expected).cwiseAbs().maxCoeff(), block = (wide.rightCols(out) - expected).cwiseAbs().maxCoeff();
  const bool untouched = wide.leftCols(out).isZero(0);
  std::printf("largest difference from Eigen: %.1e (Map), %.1e (block of a wider matrix); left half untouched: %s\n",
              static_cast<double>(mapped), static_cast<double>(block), untouched ? "yes" : "NO");
  return mapped < 1e-5f && block < 1e-5f && untouched ? 0 : 1;
}
