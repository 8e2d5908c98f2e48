// SPDX-License-Identifier: MIT
// The product on canonical weights, as files hold them: any depth, blocks that cross rows, no copy.  One row of weights is decoded
// into scratch at a time and shared by all rows of x.  Included once per instruction set, by targets.hpp only.
//
// Order of summation of one output: spans (the part of a block inside the row) in order; inside a span lane by lane, k after k, by
// fma; a span's lanes times its scale are added to the total's lanes, which are summed at the end.  Independent of m and threads.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// Row `n` of the codes as floats.  bf16: rounded to bfloat16.
inline const float* decode_row(const CanonicalWeights& w, std::size_t n, bool bf16, float* out) {
  using S = simd;
  const std::size_t begin = n * w.k;
  std::size_t i = 0;
  switch (w.element) {
    case Element::f32: {
      const float* p = static_cast<const float*>(w.codes) + begin;
      if (!bf16) return p;
      for (; i < w.k; ++i) out[i] = to_float(to_bfloat16(p[i]));
      break;
    }
    case Element::f16: {
      const auto* p = static_cast<const std::uint16_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::load_f16(p + i));
      for (; i < w.k; ++i) out[i] = to_float(Float16{p[i]});
      if (bf16)
        for (i = 0; i < w.k; ++i) out[i] = to_float(to_bfloat16(out[i]));
      break;
    }
    case Element::bf16: {
      const auto* p = static_cast<const std::uint16_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::load_bf16(p + i));
      for (; i < w.k; ++i) out[i] = to_float(BFloat16{p[i]});
      break;
    }
    case Element::int8: {
      const auto* p = static_cast<const std::int8_t*>(w.codes) + begin;
      for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::load_i8(p + i));
      for (; i < w.k; ++i) out[i] = static_cast<float>(p[i]);
      break;
    }
    case Element::four_bit: {
      const auto* p = static_cast<const std::uint8_t*>(w.codes);
      const float* values = bf16 ? w.codebook->bf16.data() : w.codebook->f32.data();
      const auto table = S::load_floats16(values);
      const auto code = [&](std::size_t e) { return e % 2 == 0 ? p[e / 2] >> 4 : p[e / 2] & 15; };
      if (begin % 2 == 0)
        // the vector load of avx512 reads 8 bytes, exactly the 16 codes it needs
        for (; i + S::lanes <= w.k; i += S::lanes) S::store(out + i, S::lookup(table, S::load_nibbles(p + (begin + i) / 2)));
      for (; i < w.k; ++i) out[i] = values[code(begin + i)];
      break;
    }
  }
  return out;
}

inline const std::int8_t* decode_row_int8(const CanonicalWeights& w, std::size_t n, std::int8_t* out) {
  const std::size_t begin = n * w.k;
  if (w.element == Element::int8) return static_cast<const std::int8_t*>(w.codes) + begin;
  const auto* p = static_cast<const std::uint8_t*>(w.codes);
  const auto code = [&](std::size_t e) { return e % 2 == 0 ? p[e / 2] >> 4 : p[e / 2] & 15; };
  for (std::size_t i = 0; i < w.k; ++i)
    out[i] = static_cast<std::int8_t>(w.codebook->bytes[static_cast<std::size_t>(code(begin + i))] - 128);
  return out;
}

// The scale of every block that row `n` touches.  Both roundings of double quantization are promised.
inline void row_scales(const CanonicalWeights& w, std::size_t n, float* out) {
  const std::size_t first = n * w.k / w.block, last = (n * w.k + w.k - 1) / w.block;
  for (std::size_t b = first; b <= last; ++b)
    out[b - first] = w.scales ? w.scales[b] : rounded(rounded(w.map[w.scale_codes[b]] * w.nested[b / w.nested_block]) + w.offset);
}

struct SpanArgs {
  const void* w;                // decoded row: floats, or int8 codes
  const void* x;                // first row
  std::size_t x_stride;         // bytes
  std::size_t k, block, phase;  // phase: elements of the first block that lie before the row
  const float* scales;          // null: none
  float* out;                   // [R]
};

template <bool Int8, std::size_t R>
LOWBIT_NOINLINE void dot_rows(const SpanArgs& a) {
  using S = simd;
  using V = typename S::vf;
  V total[R];
  float rest[R];  // int8 tails are exact integers
  for (std::size_t r = 0; r < R; ++r) total[r] = S::zero(), rest[r] = 0;
  std::size_t span = 0;
  for (std::size_t k = 0; k < a.k; ++span) {
    std::size_t length = a.block == 0 ? a.k : a.block - (span == 0 ? a.phase : 0);
    length = length < a.k - k ? length : a.k - k;
    const float scale = a.scales ? a.scales[span] : 1.0f;
    if constexpr (Int8) {
      const std::int8_t* w = static_cast<const std::int8_t*>(a.w) + k;
      typename S::vi acc[R];
      std::int32_t tail[R];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r] = S::izero(), tail[r] = 0;
      std::size_t i = 0;
      for (; i + S::bytes_step <= length; i += S::bytes_step)
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r] =
            S::dot_s8(acc[r], w + i, static_cast<const std::int8_t*>(a.x) + r * a.x_stride + k + i);
      for (; i < length; ++i)
        for (std::size_t r = 0; r < R; ++r) tail[r] += w[i] * (static_cast<const std::int8_t*>(a.x) + r * a.x_stride)[k + i];
      for (std::size_t r = 0; r < R; ++r) rest[r] += static_cast<float>(S::ireduce_add(acc[r]) + tail[r]) * scale;
    } else {
      const float* w = static_cast<const float*>(a.w) + k;
      const auto x = [&](std::size_t r) LOWBIT_INLINE_LAMBDA {
        return reinterpret_cast<const float*>(static_cast<const std::uint8_t*>(a.x) + r * a.x_stride) + k;
      };
      V acc[R];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r] = S::zero();
      std::size_t i = 0;
      for (; i + S::lanes <= length; i += S::lanes) {
        const V wv = S::load(w + i);
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r] = S::fma(wv, S::load(x(r) + i), acc[r]);
      }
      if (i < length) {
        const V wv = S::load_n(w + i, length - i);
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r] = S::fma(wv, S::load_n(x(r) + i, length - i), acc[r]);
      }
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) total[r] = S::fma(acc[r], S::set1(scale), total[r]);
    }
    k += length;
  }
  for (std::size_t r = 0; r < R; ++r) a.out[r] = Int8 ? rest[r] : S::reduce_add(total[r]);
}

inline float gelu_scalar(float x) {
  float t[simd::lanes] = {x};
  simd::store(t, gelu(simd::load(t)));
  return t[0];
}

template <Compute C>
void gemm_canonical(const CanonicalGemmArgs& a) {
  constexpr bool int8 = C == Compute::int8;
  const CanonicalWeights& w = a.w;
  auto* row_scratch = reinterpret_cast<float*>(a.scratch);
  auto* scales = reinterpret_cast<float*>(a.scratch + (w.k * 4 + 64) / 64 * 64 + 64);
  for (std::size_t n = a.row_begin; n < a.row_end; ++n) {
    SpanArgs s{};
    const void* row = nullptr;
    if constexpr (int8)
      row = decode_row_int8(w, n, reinterpret_cast<std::int8_t*>(row_scratch));
    else
      row = decode_row(w, n, C == Compute::bf16, row_scratch);
    s.w = row;
    s.k = w.k;
    s.block = w.block;
    if (w.block != 0 && w.k != 0) {
      row_scales(w, n, scales);
      s.scales = scales;
      s.phase = n * w.k % w.block;
    }
    s.x_stride = a.x.stride_bytes;
    const float code_scale = w.scale_factor * (int8 && w.element == Element::four_bit ? w.codebook->byte_scale : 1.0f);
    for (std::size_t m = 0; m < a.m; m += 4) {
      float out[4];
      s.out = out;
      s.x = static_cast<const std::uint8_t*>(a.x.data) + m * a.x.stride_bytes;
      const std::size_t rows = a.m - m < 4 ? a.m - m : 4;
      switch (rows) {
        case 1: dot_rows<int8, 1>(s); break;
        case 2: dot_rows<int8, 2>(s); break;
        case 3: dot_rows<int8, 3>(s); break;
        default: dot_rows<int8, 4>(s); break;
      }
      for (std::size_t r = 0; r < rows; ++r) {
        float f = out[r] * (int8 ? a.x.scale[m + r] * code_scale : code_scale);
        if (int8 && a.x.outliers)
          for (std::size_t o = 0; o < a.x.outliers[m + r].count; ++o) {
            const std::size_t k = a.x.outliers[m + r].column[o];
            const float value =
                static_cast<float>(static_cast<const std::int8_t*>(row)[k]) * (scales[(s.phase + k) / w.block] * w.scale_factor);
            f += a.x.outliers[m + r].value[o] * value;
          }
        if (a.epilogue.bias) f += a.epilogue.bias[n];
        if (a.epilogue.activation == Activation::gelu_tanh) f = gelu_scalar(f);
        if (a.epilogue.residual) f += a.epilogue.residual[(m + r) * a.epilogue.residual_stride + n];
        a.y[(m + r) * a.y_stride + n] = f;
      }
    }
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
