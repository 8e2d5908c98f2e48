// SPDX-License-Identifier: MIT
// The vocabulary of level avx2 (AVX2, FMA, F16C), in 256-bit registers.  Included by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
#include "lowbit/kernel/simd/strip256-inl.hpp"
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd {
  using vf = __m256;
  using vi = __m256i;
  using rf = vf;  // what arrays of registers are made of
  using ri = vi;
  struct floats16 {
    __m256 low, high;
  };
  using bytes16 = __m256i;
  static constexpr std::size_t lanes = 8;
  // 4 x 24 tile: 12 accumulators, 3 weights, 1 activation: all 16 registers.
  static constexpr std::size_t vector_registers = 16, rows = 4, sums = 12;
  static constexpr bool native_bf16 = false, dots_bytes = false;
  static constexpr bool pins_sums = false;  // see LOWBIT_PIN
  static constexpr bool minimal = false;
  static constexpr bool looks_up = true;
  static constexpr std::size_t lookup_rows = 2, lookup_pairs_rows = 2, lookup_bytes_rows = 2;

  static LOWBIT_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
  static LOWBIT_INLINE void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }  // into L2
  static LOWBIT_INLINE void prefetch_write(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_ET0); }

  static LOWBIT_INLINE vf zero() { return _mm256_setzero_ps(); }
  static LOWBIT_INLINE vf set1(float x) { return _mm256_set1_ps(x); }
  static LOWBIT_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
  static LOWBIT_INLINE void store(float* p, vf a) { _mm256_storeu_ps(p, a); }
  static LOWBIT_INLINE vi mask(std::size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static LOWBIT_INLINE vf load_n(const float* p, std::size_t n) { return _mm256_maskload_ps(p, mask(n)); }
  static LOWBIT_INLINE void store_n(float* p, vf a, std::size_t n) { _mm256_maskstore_ps(p, mask(n), a); }
  static LOWBIT_INLINE vf add(vf a, vf b) { return _mm256_add_ps(a, b); }
  static LOWBIT_INLINE vf sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
  static LOWBIT_INLINE vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
  static LOWBIT_INLINE vf div(vf a, vf b) { return _mm256_div_ps(a, b); }
  static LOWBIT_INLINE vf sqrt(vf a) { return _mm256_sqrt_ps(a); }
  static LOWBIT_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
  static LOWBIT_INLINE vf maximum(vf a, vf b) { return _mm256_max_ps(a, b); }
  static LOWBIT_INLINE vf minimum(vf a, vf b) { return _mm256_min_ps(a, b); }
  static LOWBIT_INLINE vf abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static LOWBIT_INLINE vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static LOWBIT_INLINE vf max_fraction(vf most, vf a) { return maximum(most, abs(sub(a, round(a)))); }
  static LOWBIT_INLINE bool any_greater(vf a, vf b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
  static LOWBIT_INLINE vf if_less(vf x, vf y, vf a, vf b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ)); }
  static LOWBIT_INLINE float reduce_add(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
  }
  static LOWBIT_INLINE float reduce_max(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
  }

  static LOWBIT_INLINE vi izero() { return _mm256_setzero_si256(); }
  static LOWBIT_INLINE vi iset1(std::int32_t x) { return _mm256_set1_epi32(x); }
  static LOWBIT_INLINE vi iload(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static LOWBIT_INLINE void istore(void* p, vi a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
  static LOWBIT_INLINE vi iadd(vi a, vi b) { return _mm256_add_epi32(a, b); }
  static LOWBIT_INLINE vi isub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
  static LOWBIT_INLINE vi imax(vi a, vi b) { return _mm256_max_epi32(a, b); }
  static LOWBIT_INLINE std::uint32_t igreater_mask(vi a, vi b) {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b))));
  }
  static LOWBIT_INLINE vi ikeep_less(vi a, vi limit) { return _mm256_and_si256(a, _mm256_cmpgt_epi32(limit, a)); }
  static LOWBIT_INLINE vi iand(vi a, vi b) { return _mm256_and_si256(a, b); }
  static LOWBIT_INLINE vi ior(vi a, vi b) { return _mm256_or_si256(a, b); }
  template <int N>
  static LOWBIT_INLINE vi shift_right(vi a) {
    return _mm256_srli_epi32(a, N);
  }
  static LOWBIT_INLINE vi shift_right(vi a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  template <int N>
  static LOWBIT_INLINE vi shift_left(vi a) {
    return _mm256_slli_epi32(a, N);
  }
  static LOWBIT_INLINE vf to_float(vi a) { return _mm256_cvtepi32_ps(a); }
  static LOWBIT_INLINE vi to_int(vf a) { return _mm256_cvtps_epi32(a); }
  static LOWBIT_INLINE vf as_float(vi a) { return _mm256_castsi256_ps(a); }
  static LOWBIT_INLINE vi as_int(vf a) { return _mm256_castps_si256(a); }
  static LOWBIT_INLINE std::int32_t ireduce_add(vi a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
  }
  static LOWBIT_INLINE std::int32_t ireduce_max(vi a) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
  }

  static LOWBIT_INLINE vf load_f16(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static LOWBIT_INLINE vf load_bf16(const std::uint16_t* p) {
    return as_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
  }
  static LOWBIT_INLINE vf load_i8(const std::int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static LOWBIT_INLINE void store_codes(std::int8_t* p, const vi* q, bool permute) {
    vi b = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    if (permute)
      b = _mm256_shuffle_epi8(b, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)));
    istore(p, b);
  }
  static LOWBIT_INLINE void store_codes(std::int16_t* p, const vi* q, bool) {
    istore(p, _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xD8));
    istore(p + 16, _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2], q[3]), 0xD8));
  }
  static LOWBIT_INLINE void store_u16(std::uint16_t* p, vi a) {
    a = _mm256_and_si256(a, _mm256_set1_epi32(0xFFFF));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
  }

  static LOWBIT_INLINE floats16 load_floats16(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  // vpermps reads 3 bits; the fourth, moved to the sign, chooses the half.
  static LOWBIT_INLINE vf lookup(const floats16& t, vi index) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, index), _mm256_permutevar8x32_ps(t.high, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  static LOWBIT_INLINE bytes16 load_bytes16(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static LOWBIT_INLINE vi lookup_bytes(const bytes16& t, vi index) {
    return _mm256_shuffle_epi8(t, _mm256_and_si256(index, _mm256_set1_epi8(15)));
  }

  // bf16 pairs from a table of 16 floats whose low halves are zero: there is no look-up of words.
  using pairs16 = floats16;
  static LOWBIT_INLINE pairs16 load_pairs(const CodebookTables& t) { return load_floats16(t.bf16.data()); }
  static LOWBIT_INLINE vi lookup_pairs(const pairs16& t, vi index) {
    return _mm256_or_si256(_mm256_srli_epi32(as_int(lookup(t, index)), 16), as_int(lookup(t, _mm256_srli_epi32(index, 16))));
  }

  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {  // assembly for the same reason as in avx512
#if defined(__GNUC__) || defined(__clang__)
    vi product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(product) : "x"(w), "x"(x));
    return acc;
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(w, x));
#endif
  }
  static constexpr std::size_t bytes_step = 16;
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a))),
                                                   _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)))));
  }

  // ---- what the rest of a transformer needs ----
  static LOWBIT_INLINE vf times_pow2(vf p, vf n) {
    return as_float(_mm256_add_epi32(as_int(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
  }
  static constexpr std::size_t strip_rows = 8;
  static LOWBIT_INLINE void transpose_strip(const float* from, std::size_t stride, float* to, std::size_t to_stride, float factor) {
    transpose_8x4(from, stride, to, to_stride, factor);
  }

  // ---- for rows of canonical weights ----
  // acc + the sum of the four products of every dword, bytes of w unsigned and of x signed, exact: pmaddubsw would saturate.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
    const vi even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const vi odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
  }
  static LOWBIT_INLINE vf keep(vf a) {
#if defined(__GNUC__) || defined(__clang__)
    __asm__("" : "+x"(a));
#endif
    return a;
  }
  static LOWBIT_INLINE vi load_u8(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static LOWBIT_INLINE vi load_u8_n(const std::uint8_t* p, std::size_t n) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, p, n);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes)));
  }
  struct floats256 {
    const float* t;
  };
  static LOWBIT_INLINE floats256 load_floats256(const float* p) { return {p}; }
  static LOWBIT_INLINE vf lookup(const floats256& table, vi index) { return _mm256_i32gather_ps(table.t, index, 4); }
  static LOWBIT_INLINE void store_twice(float* p, vf a) {
    _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)));
    _mm256_storeu_ps(p + 8, _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
  }
  static LOWBIT_INLINE vf spread(const float* p) {
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(two), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
  }
  static LOWBIT_INLINE void store_sums(float* p, vf a, vf b, vf c, vf d) {
    const vf ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)),
             cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256d ab_d = _mm256_castps_pd(ab), cd_d = _mm256_castps_pd(cd);
    const vf all =
        _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(ab_d, cd_d)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab_d, cd_d)));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
