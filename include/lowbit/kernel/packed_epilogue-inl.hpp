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

// What is taken out of the int8 codes of up to R rows and multiplied in float, where they take out the same columns: sum over the
// outliers of x * code.  Codes are decoded once for all rows.  use(r, c, sums): row r's V sums from column c of the panel on.
template <std::size_t R, class Use>
LOWBIT_INLINE void outlier_products(const std::uint8_t* panel, const OutlierRow* x, std::size_t rows, const Use& use) {
  using S = simd;
  constexpr std::size_t V = 3;  // registers of columns at a time
  const typename S::vi byte = S::iset1(255), bias = S::iset1(128);
  const float* values[R];
  for (std::size_t r = 0; r < R; ++r) values[r] = x[r < rows ? r : rows - 1].value;  // who is not there repeats the last
  for (std::size_t c = 0; c < panel_cols; c += V * S::lanes) {
    typename S::vf acc[R][V];
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) { LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = S::zero(); }
    for (std::size_t o = 0; o < x[0].count; ++o) {
      const std::size_t k = x[0].column[o], place = int8_place(k % group_k), dword = place / 4, position = place % 4;
      const std::uint8_t* q = panel + k / group_k * group_bytes(Element::int8) + (dword * panel_cols + c) * 4;
      typename S::vf code[V];
      LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) {
        typename S::vi b = S::iload(q + v * S::lanes * 4);
        b = position == 0   ? b
            : position == 1 ? S::template shift_right<8>(b)
            : position == 2 ? S::template shift_right<16>(b)
                            : S::template shift_right<24>(b);
        code[v] = S::to_float(S::isub(S::iand(b, byte), bias));
      }
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const typename S::vf value = S::set1(values[r][o]);
        LOWBIT_UNROLL for (std::size_t v = 0; v < V; ++v) acc[r][v] = S::fma(value, code[v], acc[r][v]);
      }
    }
    LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
      if (r < rows) use(r, c, acc[r]);
    }
  }
}
inline constexpr std::size_t outlier_rows = simd::vector_registers == 32 ? 8 : 4;
// How many of `rows` rows, the first and those behind it, take out the same columns; at most outlier_rows.
inline std::size_t same_outliers(const OutlierRow* x, std::size_t rows) {
  std::size_t same = 1;
  while (same < rows && same < outlier_rows && x[same].count == x[0].count &&
         std::memcmp(x[same].column, x[0].column, x[0].count * sizeof(std::uint32_t)) == 0)
    ++same;
  return same;
}

// Stands for a bias or a residual that is not there: x + (-0.0) is x, zeros and their signs included.
alignas(64) inline constexpr auto nothing_to_add = [] {
  std::array<float, panel_cols> zeros{};
  for (float& z : zeros) z = -0.0f;
  return zeros;
}();

// y = activation(total * scales + outliers + bias) + residual for rows [row, row + rows) of panel number `index`, which stands at
// `panel`; total [rows][panel_cols].
template <bool Int8, Activation A>
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
  // The results of `count` registers of row r from column c on; extra: sums of its outliers, or null.
  const auto finish = [&](std::size_t r, std::size_t c, std::size_t count, const V* extra) LOWBIT_INLINE_LAMBDA {
    const V row_scale = S::set1(result_scale(a.w, a.x, Int8 ? Compute::int8 : Compute::f32, row + r));
    const float* sums = total + r * panel_cols;
    const float* residual =
        a.epilogue.residual ? a.epilogue.residual + (row + r) * a.epilogue.residual_stride + column : nothing_to_add.data();
    float* y = a.y ? a.y + (row + r) * a.y_stride + column : nullptr;
    std::uint16_t* bits = a.epilogue.bf16 ? a.epilogue.bf16 + (row + r) * a.epilogue.bf16_stride + column : nullptr;
    const auto value = [&](std::size_t i, std::size_t at, V residue) LOWBIT_INLINE_LAMBDA {
      if (A == Activation::none && !extra) return finished(S::load(sums + at), row_scale, S::load(bias + at), residue);
      V f = S::keep(S::mul(S::load(sums + at), row_scale));
      if (extra) f = S::fma(S::mul(extra[i], S::set1(a.w.scale_factor)), S::load(scale + at), f);
      f = S::keep(S::add(f, S::load(bias + at)));
      return S::add(A == Activation::gelu_tanh ? S::keep(gelu(f)) : f, residue);
    };
    LOWBIT_UNROLL for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = c + i * S::lanes;
      if (whole) {
        const V f = value(i, at, S::load(residual + at));
        if (y) S::store(y + at, f);
        if (bits) S::store_u16(bits + at, bf16_bits(f));
      } else if (at < cols) {
        const std::size_t n = cols - at < S::lanes ? cols - at : S::lanes;
        const V f = value(i, at, S::load_n(residual + at, n));
        if (y) S::store_n(y + at, f, n);
        if (bits) {
          std::uint16_t t[S::lanes];
          S::store_u16(t, bf16_bits(f));
          std::memcpy(bits + at, t, n * sizeof(std::uint16_t));
        }
      }
    }
  };
  for (std::size_t r = 0; r < rows;) {
    const OutlierRow* outliers = Int8 && a.x.outliers && a.x.outliers[row + r].count != 0 ? a.x.outliers + row + r : nullptr;
    if (!outliers) {
      finish(r++, 0, panel_cols / S::lanes, nullptr);
      continue;
    }
    const std::size_t same = same_outliers(outliers, rows - r);
    const auto use = [&](std::size_t i, std::size_t c, const auto& sums) LOWBIT_INLINE_LAMBDA {
      constexpr std::size_t count = std::extent_v<std::remove_reference_t<decltype(sums)>>;
      V extra[count];
      LOWBIT_UNROLL for (std::size_t v = 0; v < count; ++v) extra[v] = sums[v];
      finish(r + i, c, count, extra);
    };
    const std::uint8_t* codes = panel + a.w.head_bytes();
    if (same == 1)
      outlier_products<1>(codes, outliers, same, use);
    else if (same == 2)
      outlier_products<2>(codes, outliers, same, use);
    else if (same <= 4)
      outlier_products<4>(codes, outliers, same, use);
    else
      outlier_products<outlier_rows>(codes, outliers, same, use);
    r += same;
  }
}
template <bool Int8>
inline void finish_rows(const PackedGemmArgs& a, const std::uint8_t* panel, std::size_t index, std::size_t row, std::size_t rows,
                        const float* total) {
  if (a.sums) return;  // who asked for sums finishes them
  if (a.epilogue.activation == Activation::gelu_tanh)
    finish_tile<Int8, Activation::gelu_tanh>(a, panel, index, row, rows, total);
  else
    finish_tile<Int8, Activation::none>(a, panel, index, row, rows, total);
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
