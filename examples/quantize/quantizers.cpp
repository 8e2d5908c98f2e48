// SPDX-License-Identifier: MIT
#include "examples/quantize/quantizers.hpp"

#include "lowbit/format/scale_search.hpp"

// What the search does is compiled twice where the compiler can: for the flags of the build, and for AVX2.  The library's text is
// inlined into both; its results do not depend on the instructions.  Plain quantization has a text of its own for AVX2, with the same
// results: no compiler makes of loops what eight lanes of a permute look up.
#if defined(__x86_64__) && defined(__GNUC__)
#define QUANTIZE_AVX2 1
#include <bit>
#include <immintrin.h>

#include "lowbit/base/float_environment.hpp"
#else
#define QUANTIZE_AVX2 0
#endif

namespace quantize {

using lowbit::Format;

namespace {

template <class Codebook>
[[gnu::flatten]] void plain(const float* x, std::size_t n, std::size_t block, std::uint8_t* packed, float* absmax) {
  lowbit::quantize_four_bit<Codebook>(x, n, block, lowbit::Producer::cuda, packed, absmax);
}
template <class Codebook>
[[gnu::flatten]] void search(const float* x, std::size_t n, std::size_t block, float* scales, std::span<const float> weights) {
  lowbit::search_scales<Codebook>(x, n, block, scales, weights);
}
template <class Codebook>
[[gnu::flatten]] void with(const float* scales, const float* x, std::size_t n, std::size_t block, std::uint8_t* packed) {
  lowbit::quantize_four_bit_with<Codebook>(scales, x, n, block, packed);
}

#if QUANTIZE_AVX2
template <class Codebook>
[[gnu::flatten, gnu::target("avx2")]] void search_avx2(const float* x, std::size_t n, std::size_t block, float* scales,
                                                       std::span<const float> weights) {
  lowbit::search_scales<Codebook>(x, n, block, scales, weights);
}

// The thresholds of a codebook as the levels of a binary search: level l has 2^l, in the order of the answers before it.
struct SearchLevels {
  explicit SearchLevels(const lowbit::detail::FourBitRule& rule) {
    for (std::size_t l = 0, step = 8; l < 4; ++l, step /= 2)
      for (std::size_t i = 0; i < (std::size_t{1} << l); ++i) levels[l][i] = rule.limits[step - 1 + 2 * step * i];
  }
  alignas(32) float levels[4][8] = {};
};

// How many thresholds are below each of eight values.
[[gnu::target("avx2")]] inline __m256i count_below(const __m256 (&levels)[4], __m256 v) {
  __m256i n = _mm256_setzero_si256();
  for (const __m256 level : levels) {
    const __m256 threshold = _mm256_permutevar8x32_ps(level, n);
    n = _mm256_sub_epi32(_mm256_add_epi32(n, n), _mm256_castps_si256(_mm256_cmp_ps(threshold, v, _CMP_LT_OQ)));
  }
  return n;
}

[[gnu::target("avx2")]] inline std::uint32_t largest_magnitude_avx2(const float* x, std::size_t n) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  const auto load = [&](std::size_t i) __attribute__((target("avx2"))) {
    return _mm256_and_si256(magnitude, _mm256_castps_si256(_mm256_loadu_ps(x + i)));
  };
  __m256i a = _mm256_setzero_si256(), b = a;
  for (std::size_t i = 0; i < n; i += 16) {
    a = _mm256_max_epi32(a, load(i));
    b = _mm256_max_epi32(b, load(i + 8));
  }
  a = _mm256_max_epi32(a, b);
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(h));
}

// As lowbit::quantize_four_bit with Producer::cuda: whole blocks of ordinary numbers here, the others there.
template <class Codebook>
[[gnu::target("avx2")]] void plain_avx2(const float* x, std::size_t n, std::size_t block, std::uint8_t* packed, float* absmax) {
  const lowbit::detail::FourBitRule& rule = Codebook::rule(lowbit::Producer::cuda);
  if (!lowbit::valid_block_size(block)) return plain<Codebook>(x, n, block, packed, absmax);  // which refuses it
  const lowbit::detail::DefaultFloatEnvironment environment;
  const SearchLevels search(rule);
  const __m256 levels[4] = {_mm256_load_ps(search.levels[0]), _mm256_load_ps(search.levels[1]), _mm256_load_ps(search.levels[2]),
                            _mm256_load_ps(search.levels[3])};
  const __m256i codes =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const void*>(rule.codes.data()))));
  for (std::size_t begin = 0; begin < n; begin += block, packed += block / 2, ++absmax) {
    const float* const in = x + begin;
    const std::size_t count = n - begin < block ? n - begin : block;
    const std::uint32_t largest = count == block ? largest_magnitude_avx2(in, count) : 0;
    if (largest < lowbit::detail::smallest_normal_bits || largest >= lowbit::detail::infinity_bits) [[unlikely]] {
      plain<Codebook>(in, count, block, packed, absmax);
      continue;
    }
    *absmax = std::bit_cast<float>(largest);
    const __m256 factor = _mm256_set1_ps(lowbit::quotient(1.0f, *absmax));
    for (std::size_t i = 0; i < block; i += 32) {
      const auto below = [&](std::size_t at) __attribute__((target("avx2"))) {
        return count_below(levels, _mm256_mul_ps(_mm256_loadu_ps(in + i + at), factor));
      };
      // Packing works in halves of a register: bytes come out in fours, 0 2 4 6 and 1 3 5 7.
      const __m256i counts =
          _mm256_packus_epi16(_mm256_packus_epi32(below(0), below(8)), _mm256_packus_epi32(below(16), below(24)));
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_shuffle_epi8(codes, counts), _mm256_set1_epi16(0x0110));
      const __m256i bytes = _mm256_packus_epi16(pairs, pairs);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<void*>(packed + i / 2)),
                       _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
    }
  }
}
bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}
#endif

}  // namespace

void quantize_four_bit(Format format, const float* x, std::size_t n, std::size_t block, std::uint8_t* packed, float* absmax) {
#if QUANTIZE_AVX2
  if (has_avx2())
    return format == Format::nf4 ? plain_avx2<lowbit::Nf4>(x, n, block, packed, absmax)
                                 : plain_avx2<lowbit::Fp4>(x, n, block, packed, absmax);
#endif
  format == Format::nf4 ? plain<lowbit::Nf4>(x, n, block, packed, absmax) : plain<lowbit::Fp4>(x, n, block, packed, absmax);
}
void search_scales(Format format, const float* x, std::size_t n, std::size_t block, float* scales,
                   std::span<const float> column_weights) {
#if QUANTIZE_AVX2
  if (has_avx2())
    return format == Format::nf4 ? search_avx2<lowbit::Nf4>(x, n, block, scales, column_weights)
                                 : search_avx2<lowbit::Fp4>(x, n, block, scales, column_weights);
#endif
  format == Format::nf4 ? search<lowbit::Nf4>(x, n, block, scales, column_weights)
                        : search<lowbit::Fp4>(x, n, block, scales, column_weights);
}
void quantize_four_bit_with(Format format, const float* scales, const float* x, std::size_t n, std::size_t block,
                            std::uint8_t* packed) {
  format == Format::nf4 ? with<lowbit::Nf4>(scales, x, n, block, packed) : with<lowbit::Fp4>(scales, x, n, block, packed);
}

}  // namespace quantize
