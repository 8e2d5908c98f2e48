// SPDX-License-Identifier: MIT
// The epilogue of packed products: totals to results, by row and format scale, outliers, bias, activation and residual.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// What is taken out of the int8 codes of up to R rows and multiplied in float, where they take out the same columns: sum over the
// outliers of x * code.  Codes are decoded once for all rows; rows that are not there repeat the last.  use(r, c, sum): the sum of
// row r in the lanes from column c of the panel on.
template <std::size_t R, class Use>
LOWBIT_INLINE void outlier_products(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows, const Use& use) {
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
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) use(r, c + v * S::lanes, typename S::vf(acc[r][v]));
      }
    }
  }
}
inline constexpr std::size_t outlier_rows = simd::vector_registers == 32 ? 8 : 4;
// The same for the first of `rows` rows and those behind it that share its columns, at most outlier_rows; returns how many they
// are.
template <class Use>
LOWBIT_INLINE std::size_t shared_outlier_products(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows,
                                                  const Use& use) {
  const auto shares = [&](std::size_t r) {
    return x[r].count == x[0].count && std::memcmp(x[r].column, x[0].column, x[0].count * sizeof(std::uint32_t)) == 0;
  };
  std::size_t same = 1;
  while (same < rows && same < outlier_rows && shares(same)) ++same;
  if (same == 1)
    outlier_products<1>(panel, x, same, use);
  else if (same <= 4)
    outlier_products<4>(panel, x, same, use);
  else
    outlier_products<outlier_rows>(panel, x, same, use);
  return same;
}
// Into sum [rows][panel_cols].
LOWBIT_NOINLINE inline std::size_t outlier_sums(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows, float* sum) {
  return shared_outlier_products(panel, x, rows, [&](std::size_t r, std::size_t c, simd::vf s) LOWBIT_INLINE_LAMBDA {
    simd::store(sum + r * panel_cols + c, s);
  });
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

// y = total * scales + outliers + bias + residual for the first of `rows` rows and those behind it that share its outlier columns;
// returns how many they are.
LOWBIT_NOINLINE inline std::size_t finish_outliers(const PackedGemmArgs& a, const std::uint8_t* panel, const float* bias,
                                                   std::size_t column, std::size_t row, std::size_t rows, const float* total) {
  using S = simd;
  const float* scale = reinterpret_cast<const float*>(panel);
  const float* residual = a.epilogue.residual ? a.epilogue.residual + row * a.epilogue.residual_stride + column : nullptr;
  float* y = a.y + row * a.y_stride + column;
  // Held here: a store to y might change them, for all the compiler knows.
  const std::size_t y_stride = a.y_stride, residual_stride = a.epilogue.residual_stride;
  const float factor = a.w.scale_factor;
  float row_scales[outlier_rows];
  for (std::size_t r = 0; r < outlier_rows && r < rows; ++r) row_scales[r] = result_scale(a.w, a.x, Compute::int8, row + r);
  return shared_outlier_products(panel + a.w.head_bytes(), a.x.outliers + row, rows,
                                 [&](std::size_t r, std::size_t c, S::vf extra) LOWBIT_INLINE_LAMBDA {
                                   S::vf f = with_outliers(S::load(total + r * panel_cols + c), S::set1(row_scales[r]), extra,
                                                           factor, S::load(scale + c), S::load(bias + c));
                                   if (residual) f = S::add(f, S::load(residual + r * residual_stride + c));
                                   S::store(y + r * y_stride + c, f);
                                 });
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
    if constexpr (Int8 && !Activated) {
      if (whole && !a.epilogue.bf16 && a.x.outliers && a.x.outliers[row + r].count != 0) {
        const std::size_t done = finish_outliers(a, panel, bias, column, row + r, rows - r, total) - 1;
        r += done;
        total += done * panel_cols;
        continue;
      }
    }
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
template <bool Int8>
inline void finish_rows(const PackedGemmArgs& a, const std::uint8_t* panel, std::size_t index, std::size_t row, std::size_t rows,
                        const float* total) {
  if (a.sums) return;  // who asked for sums finishes them
  if (a.epilogue.activation != Activation::none)
    finish_tile<Int8, true>(a, panel, index, row, rows, total);
  else
    finish_tile<Int8, false>(a, panel, index, row, rows, total);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
