// SPDX-License-Identifier: MIT
// The epilogue of packed products: totals to results, by row and format scale, outliers, bias, activation and residual.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// What is taken out of the int8 codes of up to R rows and multiplied in float, where they take out the same columns: sum [rows]
// [panel_cols] = the sum over the outliers of x * code.  Codes are decoded once for all rows; rows that are not there repeat the last.
template <std::size_t R>
LOWBIT_INLINE void outlier_products(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows, float* sum) {
  using S = simd;
  constexpr std::size_t V = 3;  // registers of columns at a time
  const typename S::vi byte = S::iset1(255), bias = S::iset1(128);
  const float* values[R];
  for (std::size_t r = 0; r < R; ++r) values[r] = x[r < rows ? r : rows - 1].value;
  for (std::size_t c = 0; c < panel_cols; c += V * S::lanes) {
    typename S::vf acc[R][V];
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) { LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = S::zero(); }
    for (std::size_t o = 0; o < x[0].count; ++o) {
      const std::uint32_t byte_of_column = x[0].column[o], position = byte_of_column % 4;
      const std::uint8_t* q = panel + (byte_of_column - position) + c * 4;
      typename S::vf code[V];
      LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
        const typename S::vi b = S::shift_right(S::iload(q + v * S::lanes * 4), static_cast<int>(8 * position));
        code[v] = S::to_float(S::isub(S::iand(b, byte), bias));
      }
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const typename S::vf value = S::set1(values[r][o]);
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = S::fma(value, code[v], acc[r][v]);
      }
    }
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
      if (r < rows) {
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) S::store(sum + r * panel_cols + c + v * S::lanes, acc[r][v]);
      }
    }
  }
}
inline constexpr std::size_t outlier_rows = simd::vector_registers == 32 ? 8 : 4;
// The same for the first of `rows` rows and those behind it that share its columns, at most outlier_rows; returns how many they
// are.
LOWBIT_NOINLINE inline std::size_t outlier_sums(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows, float* sum) {
  const auto shares = [&](std::size_t r) {
    return x[r].count == x[0].count && std::memcmp(x[r].column, x[0].column, x[0].count * sizeof(std::uint32_t)) == 0;
  };
  std::size_t same = 1;
  while (same < rows && same < outlier_rows && shares(same)) ++same;
  if (same == 1)
    outlier_products<1>(panel, x, same, sum);
  else if (same <= 4)
    outlier_products<4>(panel, x, same, sum);
  else
    outlier_products<outlier_rows>(panel, x, same, sum);
  return same;
}

// Stands for a bias or a residual that is not there: x + (-0.0) is x, zeros and their signs included.
alignas(64) inline constexpr auto nothing_to_add = [] {
  std::array<float, panel_cols> zeros{};
  for (float& z : zeros) z = -0.0f;
  return zeros;
}();

// total * row_scale + outliers + bias; sum: of the outliers, which the format's factor and the column's scale belong to.
LOWBIT_INLINE simd::vf with_outliers(simd::vf total, simd::vf row_scale, simd::vf sum, float factor, simd::vf scale,
                                     simd::vf bias) {
  using S = simd;
  return S::keep(S::add(S::fma(S::mul(sum, S::set1(factor)), scale, S::keep(S::mul(total, row_scale))), bias));
}

// y = activation(total * scales + outliers + bias) + residual for rows [row, row + rows) of panel number `index`, which stands at
// `panel`; total [rows][panel_cols].
template <bool Int8, bool Activated>
LOWBIT_NOINLINE void finish_tile(const PackedGemmArgs& a, const std::uint8_t* panel, std::size_t index, std::size_t row,
                                 std::size_t rows, const float* total) {
  using S = simd;
  using V = typename S::vf;
  const std::size_t column = index * panel_cols, cols = a.w.n - column < panel_cols ? a.w.n - column : panel_cols;
  const bool whole = cols == panel_cols;
  const float* bias = a.epilogue.bias ? a.epilogue.bias + column : nothing_to_add.data();
  float tail[panel_cols];
  if (!whole && a.epilogue.bias) {
    std::memset(tail, 0, sizeof tail);
    std::memcpy(tail, bias, cols * sizeof(float));
    bias = tail;
  }
  const float* scale = reinterpret_cast<const float*>(panel);
  float extras[Int8 ? outlier_rows * panel_cols : 1];
  const float* extra = extras;
  std::size_t extras_end = 0;
  for (std::size_t r = 0; r < rows; ++r, total += panel_cols) {
    const V row_scale = S::set1(result_scale(a.w, a.x, Int8 ? Compute::int8 : Compute::f32, row + r));
    const bool outliers = Int8 && a.x.outliers && a.x.outliers[row + r].count != 0;
    if (outliers && r >= extras_end) {
      extras_end = r + outlier_sums(panel + a.w.head_bytes(), a.x.outliers + row + r, rows - r, extras);
      extra = extras;
    } else if (outliers) {
      extra += panel_cols;
    }
    const auto value = [&](std::size_t c, V residual) LOWBIT_INLINE_LAMBDA {
      if (!Activated && !outliers) return finished(S::load(total + c), row_scale, S::load(bias + c), residual);
      const V f = outliers ? with_outliers(S::load(total + c), row_scale, S::load(extra + c), a.w.scale_factor, S::load(scale + c),
                                           S::load(bias + c))
                           : S::keep(S::add(S::keep(S::mul(S::load(total + c), row_scale)), S::load(bias + c)));
      return S::add(Activated ? S::keep(activate(a.epilogue.activation, f)) : f, residual);
    };
    const float* residual =
        a.epilogue.residual ? a.epilogue.residual + (row + r) * a.epilogue.residual_stride + column : nothing_to_add.data();
    float* y = a.y ? a.y + (row + r) * a.y_stride + column : nullptr;
    std::uint16_t* bits = a.epilogue.bf16 ? a.epilogue.bf16 + (row + r) * a.epilogue.bf16_stride + column : nullptr;
    if (whole) {
      LOWBIT_NO_UNROLL for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
        const V f = value(c, S::load(residual + c));
        if (y) S::store(y + c, f);
        if (bits) store_bf16(bits + c, f);
      }
    } else {
      for (std::size_t c = 0; c < cols; c += S::lanes) {
        const std::size_t n = cols - c < S::lanes ? cols - c : S::lanes;
        const V f = value(c, S::load_n(residual + c, n));
        if (y) S::store_n(y + c, f, n);
        if (bits) {
          std::uint16_t t[S::lanes];
          store_bf16(t, f);
          std::memcpy(bits + c, t, n * sizeof(std::uint16_t));
        }
      }
    }
  }
}
// finish_tile, of the level that this one extends where it would be the same: every tile of every level ends here.
template <bool Int8>
inline void finish_rows(const PackedGemmArgs& a, const std::uint8_t* panel, std::size_t index, std::size_t row, std::size_t rows,
                        const float* total) {
#if defined(LOWBIT_ISA_EXTENDS)
  if constexpr (Int8 || simd::native_bf16 == LOWBIT_ISA_EXTENDS::simd::native_bf16)
    return LOWBIT_ISA_EXTENDS::finish_rows<Int8>(a, panel, index, row, rows, total);
#endif
  if (a.sums) return;  // who asked for sums finishes them
  if (simd::minimal || a.epilogue.activation != Activation::none)
    finish_tile<Int8, true>(a, panel, index, row, rows, total);
  else
    finish_tile<Int8, simd::minimal>(a, panel, index, row, rows, total);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
