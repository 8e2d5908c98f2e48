// SPDX-License-Identifier: MIT
// The vocabulary of level avx512 (F, BW, CD, DQ, VL): what kernels say, in 512-bit registers.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
#include "lowbit/kernel/simd/strip256-inl.hpp"
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd {
  using vf = __m512;
  using vi = __m512i;
  using rf = vf;  // what arrays of registers are made of
  using ri = vi;
  using floats16 = __m512;  // a table of 16 floats
  using bytes16 = __m512i;  // a table of 16 bytes
  static constexpr std::size_t lanes = 16;
  // 8 x 48 tile: 24 accumulators, 3 weights, 1 activation, 1 table of the 32 registers.
  static constexpr std::size_t vector_registers = 32, rows = 8, sums = 12;
  static constexpr bool native_bf16 = false, dots_bytes = false;
  static constexpr bool pins_sums = false;  // see LOWBIT_PIN
  static constexpr bool minimal = false;
  static constexpr bool looks_up = true;  // see simd_base
  // Up to this many rows 4-bit codes are looked up in registers, as floats, pairs of bfloat16 or bytes; above, decoded into memory.
  static constexpr std::size_t lookup_rows = any_rows, lookup_pairs_rows = lookup_rows;
  static constexpr std::size_t lookup_bytes_rows = 8;  // as words, which take most of the look-up

  static LOWBIT_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
  static LOWBIT_INLINE void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }  // into L2
  static LOWBIT_INLINE void prefetch_write(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_ET0); }

  static LOWBIT_INLINE vf zero() { return _mm512_setzero_ps(); }
  static LOWBIT_INLINE vf set1(float x) { return _mm512_set1_ps(x); }
  static LOWBIT_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
  static LOWBIT_INLINE void store(float* p, vf a) { _mm512_storeu_ps(p, a); }
  static LOWBIT_INLINE __mmask16 mask(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static LOWBIT_INLINE vf load_n(const float* p, std::size_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static LOWBIT_INLINE void store_n(float* p, vf a, std::size_t n) { _mm512_mask_storeu_ps(p, mask(n), a); }
  static LOWBIT_INLINE vf add(vf a, vf b) { return _mm512_add_ps(a, b); }
  static LOWBIT_INLINE vf sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
  static LOWBIT_INLINE vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
  static LOWBIT_INLINE vf div(vf a, vf b) { return _mm512_div_ps(a, b); }
  static LOWBIT_INLINE vf sqrt(vf a) { return _mm512_sqrt_ps(a); }
  static LOWBIT_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
  static LOWBIT_INLINE vf maximum(vf a, vf b) { return _mm512_max_ps(a, b); }
  static LOWBIT_INLINE vf minimum(vf a, vf b) { return _mm512_min_ps(a, b); }
  static LOWBIT_INLINE vf abs(vf a) { return _mm512_abs_ps(a); }
  static LOWBIT_INLINE vf round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // The largest magnitude of `most` and of a's distance to the nearest integer.
  static LOWBIT_INLINE vf max_fraction(vf most, vf a) { return _mm512_range_ps(most, _mm512_reduce_ps(a, 0), 0xB); }
  static LOWBIT_INLINE bool any_greater(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
  // a where x < y, else b.
  static LOWBIT_INLINE vf if_less(vf x, vf y, vf a, vf b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
  }
  static LOWBIT_INLINE float reduce_add(vf a) { return _mm512_reduce_add_ps(a); }
  static LOWBIT_INLINE float reduce_max(vf a) { return _mm512_reduce_max_ps(a); }

  static LOWBIT_INLINE vi izero() { return _mm512_setzero_si512(); }
  static LOWBIT_INLINE vi iset1(std::int32_t x) { return _mm512_set1_epi32(x); }
  static LOWBIT_INLINE vi iload(const void* p) { return _mm512_loadu_si512(p); }
  static LOWBIT_INLINE void istore(void* p, vi a) { _mm512_storeu_si512(p, a); }
  static LOWBIT_INLINE vi iadd(vi a, vi b) { return _mm512_add_epi32(a, b); }
  static LOWBIT_INLINE vi isub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
  static LOWBIT_INLINE vi imax(vi a, vi b) { return _mm512_max_epi32(a, b); }
  // Bit i: a > b in lane i.
  static LOWBIT_INLINE std::uint32_t igreater_mask(vi a, vi b) {
    std::uint32_t bits = _mm512_cmpgt_epi32_mask(a, b);
#if defined(__GNUC__) && !defined(__clang__)
    // g++ 12 with -O1 -fsanitize=undefined spills the mask as 16 bits and reads 32 back
    __asm__("movzwl %w0, %0" : "+r"(bits));
#endif
    return bits;
  }
  // a where a < limit, else 0.
  static LOWBIT_INLINE vi ikeep_less(vi a, vi limit) { return _mm512_maskz_mov_epi32(_mm512_cmplt_epi32_mask(a, limit), a); }
  static LOWBIT_INLINE vi iand(vi a, vi b) { return _mm512_and_si512(a, b); }
  static LOWBIT_INLINE vi ior(vi a, vi b) { return _mm512_or_si512(a, b); }
  template <int N>
  static LOWBIT_INLINE vi shift_right(vi a) {
    return _mm512_srli_epi32(a, N);
  }
  static LOWBIT_INLINE vi shift_right(vi a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  template <int N>
  static LOWBIT_INLINE vi shift_left(vi a) {
    return _mm512_slli_epi32(a, N);
  }
  static LOWBIT_INLINE vf to_float(vi a) { return _mm512_cvtepi32_ps(a); }
  static LOWBIT_INLINE vi to_int(vf a) { return _mm512_cvtps_epi32(a); }
  static LOWBIT_INLINE vf as_float(vi a) { return _mm512_castsi512_ps(a); }
  static LOWBIT_INLINE vi as_int(vf a) { return _mm512_castps_si512(a); }
  static LOWBIT_INLINE std::int32_t ireduce_add(vi a) { return _mm512_reduce_add_epi32(a); }
  static LOWBIT_INLINE std::int32_t ireduce_max(vi a) { return _mm512_reduce_max_epi32(a); }

  static LOWBIT_INLINE vf load_f16(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static LOWBIT_INLINE vf load_bf16(const std::uint16_t* p) {
    return as_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
  }
  static LOWBIT_INLINE vf load_i8(const std::int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  // 4 * lanes codes from 4 registers, in order or in the order int8_k inside eights.
  static LOWBIT_INLINE void store_codes(std::int8_t* p, const vi* q, bool permute) {
    const vi in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    vi b = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    b = _mm512_permutexvar_epi32(in_order, b);
    if (permute)
      b = _mm512_shuffle_epi8(b, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)));
    _mm512_storeu_si512(p, b);
  }
  static LOWBIT_INLINE void store_codes(std::int16_t* p, const vi* q, bool) {
    const vi in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi64(in_order, _mm512_packs_epi32(q[0], q[1])));
    _mm512_storeu_si512(p + 32, _mm512_permutexvar_epi64(in_order, _mm512_packs_epi32(q[2], q[3])));
  }
  // The low half of every dword.
  static LOWBIT_INLINE void store_u16(std::uint16_t* p, vi a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a));
  }

  // Table look-ups read the low 4 bits of a dword, or of every byte, and ignore the rest.
  static LOWBIT_INLINE floats16 load_floats16(const float* p) { return _mm512_loadu_ps(p); }
  static LOWBIT_INLINE vf lookup(const floats16& t, vi index) { return _mm512_permutexvar_ps(index, t); }
  static LOWBIT_INLINE bytes16 load_bytes16(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static LOWBIT_INLINE vi lookup_bytes(const bytes16& t, vi index) {
    return _mm512_shuffle_epi8(t, _mm512_and_si512(index, _mm512_set1_epi8(15)));
  }
  // bf16 pairs: both words of every dword are looked up in a table of 16 words that stands twice.
  using pairs16 = __m512i;
  static LOWBIT_INLINE pairs16 load_pairs(const CodebookTables& t) { return _mm512_loadu_si512(t.pairs.data()); }
  static LOWBIT_INLINE vi lookup_pairs(const pairs16& t, vi index) { return _mm512_permutexvar_epi16(index, t); }

  // acc + the sum of the products of every dword: two of 16-bit words, or (dots_bytes) four of bytes, w unsigned and x signed.
  // Assembly, because g++ 12 copies and spills the accumulators of integer intrinsics (8 x 48: a fifth of the speed).
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {
#if defined(__GNUC__) || defined(__clang__)
    vi product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+v"(acc), "=&v"(product) : "v"(w), "v"(x));
    return acc;
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(w, x));
#endif
  }
  // acc + sum of bytes_step signed products in some order, exact.
  static constexpr std::size_t bytes_step = 32;
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a))),
                                                   _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)))));
  }

  // ---- what the rest of a transformer needs ----
  // p * 2^n where n is integral, and p, the result and 2^n are normal.  NaN in p stays.
  static LOWBIT_INLINE vf times_pow2(vf p, vf n) { return _mm512_scalef_ps(p, n); }
  static constexpr std::size_t strip_rows = 8;
  static LOWBIT_INLINE void transpose_strip(const float* from, std::size_t stride, float* to, std::size_t to_stride, float factor) {
    transpose_8x4(from, stride, to, to_stride, factor);
  }

  // ---- for rows of canonical weights ----
  // acc + the sum of the four products of every dword, bytes of w unsigned and of x signed, exact: pmaddubsw would saturate.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
    const vi even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
    const vi odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
    return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
  }
  // Keeps a value as it was rounded: g++ contracts intrinsics too.
  static LOWBIT_INLINE vf keep(vf a) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("" : "+v"(a));
#endif
    return a;
  }
  // lanes bytes into dwords; n < lanes of them, zero beyond.
  static LOWBIT_INLINE vi load_u8(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static LOWBIT_INLINE vi load_u8_n(const std::uint8_t* p, std::size_t n) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask(n), p));
  }
  // A table of 256 floats: eight look-ups among 32, and a tree of choices by the upper bits.
  struct floats256 {
    __m512 t[16];
  };
  static LOWBIT_INLINE floats256 load_floats256(const float* p) {
    floats256 r;
    for (std::size_t i = 0; i < 16; ++i) r.t[i] = _mm512_loadu_ps(p + 16 * i);
    return r;
  }
  static LOWBIT_INLINE vf lookup(const floats256& table, vi index) {
    const __mmask16 bit5 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32)),
                    bit6 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64)),
                    bit7 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(128));
    const auto among32 = [&](std::size_t i)
                             LOWBIT_INLINE_LAMBDA { return _mm512_permutex2var_ps(table.t[2 * i], index, table.t[2 * i + 1]); };
    const auto among64 = [&](std::size_t i)
                             LOWBIT_INLINE_LAMBDA { return _mm512_mask_blend_ps(bit5, among32(2 * i), among32(2 * i + 1)); };
    return _mm512_mask_blend_ps(bit7, _mm512_mask_blend_ps(bit6, among64(0), among64(1)),
                                _mm512_mask_blend_ps(bit6, among64(2), among64(3)));
  }
  // Every lane twice in a row: 2 * lanes floats.
  static LOWBIT_INLINE void store_twice(float* p, vf a) {
    _mm512_storeu_ps(p, _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), a));
    _mm512_storeu_ps(p + 16,
                     _mm512_permutexvar_ps(_mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15), a));
  }
  // lanes / 4 floats, each in four lanes.
  static LOWBIT_INLINE vf spread(const float* p) {
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                 _mm512_castps128_ps512(_mm_loadu_ps(p)));
  }
  // The sums of four registers.
  static LOWBIT_INLINE void store_sums(float* p, vf a, vf b, vf c, vf d) {
    const vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)),
             cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d ab_d = _mm512_castps_pd(ab), cd_d = _mm512_castps_pd(cd);
    const vf all =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_d, cd_d)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab_d, cd_d)));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
