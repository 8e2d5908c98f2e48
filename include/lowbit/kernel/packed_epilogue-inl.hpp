// SPDX-License-Identifier: MIT
// The epilogue of packed products: totals to results, by row and format scale, outliers, bias, activation and residual.
// Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// What is taken out of the int8 codes of a row and multiplied in float: sum over the outliers of x * code, for 48 columns.
inline void outlier_product(const std::uint8_t* panel, const OutlierRow& x, float* sum) {
  using S = simd;
  for (std::size_t c = 0; c < panel_cols; c += S::lanes) S::store(sum + c, S::zero());
  const typename S::vi byte = S::iset1(255), bias = S::iset1(128);
  for (std::size_t o = 0; o < x.count; ++o) {
    const std::size_t k = x.column[o], place = int8_place(k % group_k), dword = place / 4, position = place % 4;
    const std::uint8_t* q = panel + k / group_k * group_bytes(Element::int8) + dword * panel_cols * 4;
    const typename S::vf value = S::set1(x.value[o]);
    for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
      typename S::vi b = S::iload(q + c * 4);
      b = position == 0   ? b
          : position == 1 ? S::template shift_right<8>(b)
          : position == 2 ? S::template shift_right<16>(b)
                          : S::template shift_right<24>(b);
      S::store(sum + c, S::fma(value, S::to_float(S::isub(S::iand(b, byte), bias)), S::load(sum + c)));
    }
  }
}

inline void finish_rows(const PackedGemmArgs& a, std::size_t panel, std::size_t row, std::size_t rows, const float* total,
                        bool int8) {
  using S = simd;
  using V = typename S::vf;
  const std::size_t column = panel * panel_cols, cols = a.w.n - column < panel_cols ? a.w.n - column : panel_cols;
  const std::uint8_t* data = a.w.data + panel * a.w.panel_bytes();
  const float code_scale = a.w.scale_factor * (a.w.element == Element::four_bit && int8 ? a.w.codebook->byte_scale : 1.0f);
  const bool rescale = int8 || code_scale != 1.0f;
  const V outlier_scale = S::set1(a.w.scale_factor);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* t = total + r * panel_cols;
    const V row_scale = S::set1(int8 ? a.x.scale[row + r] * code_scale : code_scale);
    const float* residual = a.epilogue.residual ? a.epilogue.residual + (row + r) * a.epilogue.residual_stride + column : nullptr;
    const bool outliers = int8 && a.x.outliers && a.x.outliers[row + r].count != 0;
    float extra[panel_cols];
    if (outliers) outlier_product(data + panel_cols * 4, a.x.outliers[row + r], extra);
    for (std::size_t c = 0; c < cols; c += S::lanes) {
      const std::size_t n = cols - c < S::lanes ? cols - c : S::lanes;
      const bool whole = n == S::lanes;
      V f = S::load(t + c);
      if (rescale) f = S::mul(f, row_scale);
      if (outliers) f = S::fma(S::mul(S::load(extra + c), outlier_scale), S::load(reinterpret_cast<const float*>(data) + c), f);
      if (a.epilogue.bias)
        f = S::add(f, whole ? S::load(a.epilogue.bias + column + c) : S::load_n(a.epilogue.bias + column + c, n));
      if (a.epilogue.activation == Activation::gelu_tanh) f = gelu(f);
      if (residual) f = S::add(f, whole ? S::load(residual + c) : S::load_n(residual + c, n));
      if (a.y) {
        float* y = a.y + (row + r) * a.y_stride + column + c;
        whole ? S::store(y, f) : S::store_n(y, f, n);
      }
      if (a.epilogue.bf16) {
        std::uint16_t* y = a.epilogue.bf16 + (row + r) * a.epilogue.bf16_stride + column + c;
        if (whole) {
          S::store_u16(y, bf16_bits(f));
        } else {
          std::uint16_t bits[S::lanes];
          S::store_u16(bits, bf16_bits(f));
          std::memcpy(y, bits, n * sizeof(std::uint16_t));
        }
      }
    }
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
