// SPDX-License-Identifier: MIT
#include "examples/quantize/quantizers.hpp"

#include "lowbit/format/scale_search.hpp"

// Twice where the compiler can: for the flags of the build, and for AVX2.  The library's text is inlined into both; its results do not
// depend on the instructions.
#if (defined(__x86_64__) && defined(__GNUC__)) && !defined(__AVX2__)
#define QUANTIZE_AVX2 1
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
template <class Codebook>
[[gnu::flatten, gnu::target("avx2")]] void plain_avx2(const float* x, std::size_t n, std::size_t block, std::uint8_t* packed,
                                                      float* absmax) {
  lowbit::quantize_four_bit<Codebook>(x, n, block, lowbit::Producer::cuda, packed, absmax);
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
