// SPDX-License-Identifier: MIT
// The vocabulary of level base over xsimd: SSE2 on x86-64, what the compiler's default is elsewhere (NEON on arm64); over arrays where
// xsimd knows no registers (riscv64) or is not there (lowbit_all.hpp).  The only file that names xsimd; it serves versions 8.1 to the
// newest.  Included by targets.hpp only, outside every target region.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#include "lowbit/kernel/simd/scalar-inl.hpp"
#elif LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#define LOWBIT_BASE_SSE2
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
namespace vectors = scalar;
template <class T>
using base_batch = scalar::batch<T>;
#else
namespace vectors = xsimd;
#if defined(LOWBIT_BASE_SSE2)
using base_arch = xsimd::sse2;  // by name: default_arch follows flags that make no level of ours (-mavx alone, say)
#else
using base_arch = xsimd::default_arch;
#endif
template <class T>
using base_batch = xsimd::batch<T, base_arch>;
#endif

struct simd {
  using vf = base_batch<float>;
  using vi = base_batch<std::int32_t>;
  using vu = base_batch<std::uint32_t>;
  using rf = typename vf::register_type;  // what arrays of registers are made of: g++ 12 keeps arrays of batches in memory
  using ri = typename vi::register_type;
  using floats16 = const float*;
  using bytes16 = const std::uint8_t*;
  static constexpr std::size_t lanes = vf::size;
  // 4 x 12 tile with 4 lanes: 12 accumulators, a weight, an activation and a product of 16 registers.
  static constexpr std::size_t vector_registers = 16, rows = 4, sums = 6;
  static_assert(48 % (3 * lanes) == 0, "lowbit needs vectors of 16, 32 or 64 bytes; set LOWBIT_PORTABLE or another -march");
  static constexpr bool native_bf16 = false, dots_bytes = false;
#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  static constexpr bool pins_sums = false;  // arrays stand in no register
#else
  static constexpr bool pins_sums = true;  // see LOWBIT_PIN
#endif
  static constexpr std::size_t lookup_rows = 0, lookup_pairs_rows = 0, lookup_bytes_rows = 0;
#if defined(LOWBIT_BASE_SSE2)
  static constexpr bool minimal = true;  // few processors end here: the fewest kernels, not the fastest
#else
  static constexpr bool minimal = false;
#endif
  static constexpr bool looks_up = false;  // whether there are look-ups in registers at all

  static LOWBIT_INLINE void prefetch([[maybe_unused]] const void* p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p);
#endif
  }
  static LOWBIT_INLINE void prefetch_far([[maybe_unused]] const void* p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p, 0, 2);
#endif
  }
  static LOWBIT_INLINE void prefetch_write([[maybe_unused]] const void* p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p, 1);
#endif
  }

  template <class To, class From>
  static LOWBIT_INLINE To bits(const From& a) {  // the template argument of bitwise_cast changed after xsimd 8
    using Scalar = typename To::value_type;
    if constexpr (requires {
                    { vectors::bitwise_cast<Scalar>(a) } -> std::same_as<To>;
                  })
      return vectors::bitwise_cast<Scalar>(a);
    else
      return vectors::bitwise_cast<To>(a);
  }

  static LOWBIT_INLINE vf zero() { return vf(0.0f); }
  static LOWBIT_INLINE vf set1(float x) { return vf(x); }
  static LOWBIT_INLINE vf load(const float* p) { return vf::load_unaligned(p); }
  static LOWBIT_INLINE void store(float* p, const vf& a) { a.store_unaligned(p); }
  static LOWBIT_INLINE vf load_n(const float* p, std::size_t n) {
    float t[lanes] = {};
    for (std::size_t i = 0; i < n; ++i) t[i] = p[i];
    return load(t);
  }
  static LOWBIT_INLINE void store_n(float* p, const vf& a, std::size_t n) {
    float t[lanes];
    store(t, a);
    for (std::size_t i = 0; i < n; ++i) p[i] = t[i];
  }
  static LOWBIT_INLINE vf add(const vf& a, const vf& b) { return a + b; }
  static LOWBIT_INLINE vf sub(const vf& a, const vf& b) { return a - b; }
  static LOWBIT_INLINE vf mul(const vf& a, const vf& b) { return a * b; }
#if defined(__aarch64__) && !defined(_MSC_VER) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  // xsimd's are estimates with Newton steps, as 32-bit NEON has nothing else.
  static LOWBIT_INLINE vf div(const vf& a, const vf& b) { return vf(vdivq_f32(a, b)); }
  static LOWBIT_INLINE vf sqrt(const vf& a) { return vf(vsqrtq_f32(a)); }
#else
  static LOWBIT_INLINE vf div(const vf& a, const vf& b) { return a / b; }
  static LOWBIT_INLINE vf sqrt(const vf& a) { return vectors::sqrt(a); }
#endif
  static LOWBIT_INLINE vf fma(const vf& a, const vf& b, const vf& c) { return vectors::fma(a, b, c); }
  static LOWBIT_INLINE vf maximum(const vf& a, const vf& b) { return (vectors::max)(a, b); }
  static LOWBIT_INLINE vf minimum(const vf& a, const vf& b) { return (vectors::min)(a, b); }
  static LOWBIT_INLINE vf abs(const vf& a) { return vectors::abs(a); }
  static LOWBIT_INLINE vi to_int(const vf& a) {
#if defined(LOWBIT_BASE_SSE2)
    return vi(_mm_cvtps_epi32(a));
#elif defined(__aarch64__) && !defined(_MSC_VER) && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
    return vi(vcvtnq_s32_f32(a));
#else
    return vectors::to_int(vectors::nearbyint(a));
#endif
  }
  static LOWBIT_INLINE vf to_float(const vi& a) { return vectors::to_float(a); }
  static LOWBIT_INLINE vf round(const vf& a) { return to_float(to_int(a)); }  // |a| < 2^31
  static LOWBIT_INLINE vf max_fraction(const vf& most, const vf& a) { return maximum(most, abs(sub(a, round(a)))); }
  static LOWBIT_INLINE bool any_greater(const vf& a, const vf& b) { return vectors::any(a > b); }
  static LOWBIT_INLINE vf if_less(const vf& x, const vf& y, const vf& a, const vf& b) { return vectors::select(x < y, a, b); }
  static LOWBIT_INLINE float reduce_add(const vf& a) {
    float t[lanes];
    store(t, a);
    for (std::size_t w = lanes / 2; w != 0; w /= 2)
      for (std::size_t i = 0; i < w; ++i) t[i] += t[i + w];
    return t[0];
  }
  static LOWBIT_INLINE float reduce_max(const vf& a) {
    float t[lanes];
    store(t, a);
    float r = t[0];
    for (std::size_t i = 1; i < lanes; ++i) r = t[i] > r ? t[i] : r;
    return r;
  }

  static LOWBIT_INLINE vi izero() { return vi(0); }
  static LOWBIT_INLINE vi iset1(std::int32_t x) { return vi(x); }
  static LOWBIT_INLINE vi iload(const void* p) { return vi::load_unaligned(static_cast<const std::int32_t*>(p)); }
  static LOWBIT_INLINE void istore(void* p, const vi& a) { a.store_unaligned(static_cast<std::int32_t*>(p)); }
  static LOWBIT_INLINE vi iadd(const vi& a, const vi& b) { return a + b; }
  static LOWBIT_INLINE vi isub(const vi& a, const vi& b) { return a - b; }
  static LOWBIT_INLINE vi imax(const vi& a, const vi& b) { return (vectors::max)(a, b); }
  static LOWBIT_INLINE std::uint32_t igreater_mask(const vi& a, const vi& b) {
    if (!vectors::any(a > b)) return 0;
    std::int32_t s[lanes], t[lanes];
    istore(s, a);
    istore(t, b);
    std::uint32_t mask = 0;
    for (std::size_t i = 0; i < lanes; ++i) mask |= static_cast<std::uint32_t>(s[i] > t[i]) << i;
    return mask;
  }
  // By the difference's sign, a and limit >= 0: xsimd 8.1's select() of integers does not compile for AVX-512 at -O0.
  static LOWBIT_INLINE vi ikeep_less(const vi& a, const vi& limit) { return a & ((a - limit) >> 31); }
  static LOWBIT_INLINE vi iand(const vi& a, const vi& b) { return a & b; }
  static LOWBIT_INLINE vi ior(const vi& a, const vi& b) { return a | b; }
  template <int N>
  static LOWBIT_INLINE vi shift_right(const vi& a) {
    return bits<vi>(bits<vu>(a) >> N);
  }
  static LOWBIT_INLINE vi shift_right(const vi& a, int n) { return bits<vi>(bits<vu>(a) >> n); }
  template <int N>
  static LOWBIT_INLINE vi shift_left(const vi& a) {
    return a << N;
  }
  static LOWBIT_INLINE vf as_float(const vi& a) { return bits<vf>(a); }
  static LOWBIT_INLINE vi as_int(const vf& a) { return bits<vi>(a); }
  static LOWBIT_INLINE std::int32_t ireduce_add(const vi& a) {
    std::int32_t t[lanes];
    istore(t, a);
    std::int32_t s = 0;
    for (const std::int32_t v : t) s += v;
    return s;
  }
  static LOWBIT_INLINE std::int32_t ireduce_max(const vi& a) {
    std::int32_t t[lanes];
    istore(t, a);
    std::int32_t r = t[0];
    for (const std::int32_t v : t) r = v > r ? v : r;
    return r;
  }

  // Exponents are rebased by integers; a subnormal gets the exponent of its scale, which is then taken off as a float.
  static LOWBIT_INLINE vf load_f16(const std::uint16_t* p) {
#if defined(LOWBIT_BASE_SSE2)
    const vi h(_mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128()));
#else
    std::int32_t t[lanes];
    for (std::size_t i = 0; i < lanes; ++i) t[i] = p[i];
    const vi h = iload(t);
#endif
    const vi magnitude = shift_left<13>(h & vi(0x7FFF)), rebase(112 << 23), smallest(113 << 23);
    const vi infinite = (vi(0) - shift_right<31>(vi(0x0F7FFFFF) - magnitude)) & rebase;  // 112 more for infinity and NaN
    const vf normal = as_float(magnitude + rebase + infinite);
    const vf subnormal = as_float(magnitude + smallest) - as_float(smallest);
    const vf value = if_less(normal, as_float(smallest), subnormal, normal);  // NaN: not less
    return as_float(as_int(value) | shift_left<16>(h & vi(0x8000)));
  }
  static LOWBIT_INLINE vf load_bf16(const std::uint16_t* p) {
#if defined(LOWBIT_BASE_SSE2)
    return vf(_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
#else
    float t[lanes];
    for (std::size_t i = 0; i < lanes; ++i) t[i] = lowbit::to_float(BFloat16{p[i]});
    return load(t);
#endif
  }
  static LOWBIT_INLINE vf load_i8(const std::int8_t* p) {
#if defined(LOWBIT_BASE_SSE2)
    std::int32_t four;
    std::memcpy(&four, p, 4);
    const __m128i b = _mm_cvtsi32_si128(four), w = _mm_unpacklo_epi8(b, b);
    return vf(_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(w, w), 24)));
#else
    float t[lanes];
    for (std::size_t i = 0; i < lanes; ++i) t[i] = static_cast<float>(p[i]);
    return load(t);
#endif
  }
  static LOWBIT_INLINE void store_codes(std::int8_t* p, const vi* q, bool permute) {
    std::int32_t t[4 * lanes];
    for (std::size_t j = 0; j < 4; ++j) istore(t + j * lanes, q[j]);
    for (std::size_t i = 0; i < 4 * lanes; ++i) p[permute ? i / 8 * 8 + int8_place(i % 8) : i] = static_cast<std::int8_t>(t[i]);
  }
  static LOWBIT_INLINE void store_codes(std::int16_t* p, const vi* q, bool) {
#if defined(LOWBIT_BASE_SSE2)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(q[0], q[1]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm_packs_epi32(q[2], q[3]));
#else
    std::int32_t t[4 * lanes];
    for (std::size_t j = 0; j < 4; ++j) istore(t + j * lanes, q[j]);
    for (std::size_t i = 0; i < 4 * lanes; ++i) p[i] = static_cast<std::int16_t>(t[i]);
#endif
  }
  static LOWBIT_INLINE void store_u16(std::uint16_t* p, const vi& a) {
    std::int32_t t[lanes];
    istore(t, a);
    for (std::size_t i = 0; i < lanes; ++i) p[i] = static_cast<std::uint16_t>(t[i]);
  }

  static LOWBIT_INLINE floats16 load_floats16(const float* p) { return p; }
  static LOWBIT_INLINE vf lookup(floats16 table, const vi& index) {
    std::int32_t i[lanes];
    float t[lanes];
    istore(i, index);
    for (std::size_t l = 0; l < lanes; ++l) t[l] = table[i[l] & 15];
    return load(t);
  }
  // Look-ups by the bytes p[4 l] of `lanes` dwords: the values of their low and of their high codes; words together, low code
  // below.
  static LOWBIT_INLINE void lookup_strided(const CodePair* pairs, const std::uint8_t* p, vf& low, vf& high) {
#if defined(LOWBIT_BASE_SSE2)
    const auto two = [&](std::size_t l) LOWBIT_INLINE_LAMBDA {
      const __m128 first = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pairs + p[4 * l])));
      return _mm_loadh_pi(first, reinterpret_cast<const __m64*>(pairs + p[4 * l + 4]));
    };
    const __m128 a = two(0), b = two(2);
    low = vf(_mm_shuffle_ps(a, b, 0x88));
    high = vf(_mm_shuffle_ps(a, b, 0xDD));
#else
    float t[2][lanes];
    for (std::size_t l = 0; l < lanes; ++l) {
      t[0][l] = pairs[p[4 * l]].low;
      t[1][l] = pairs[p[4 * l]].high;
    }
    low = load(t[0]);
    high = load(t[1]);
#endif
  }
  static LOWBIT_INLINE vi lookup_strided(const std::uint32_t* words, const std::uint8_t* p) {
    std::uint32_t t[lanes];
    for (std::size_t l = 0; l < lanes; ++l) t[l] = words[p[4 * l]];
    return iload(t);
  }
  static LOWBIT_INLINE bytes16 load_bytes16(const std::uint8_t* p) { return p; }
  static LOWBIT_INLINE vi lookup_bytes(bytes16 table, const vi& index) {
    std::uint8_t b[4 * lanes];
    istore(b, index);
    for (std::size_t l = 0; l < 4 * lanes; ++l) b[l] = table[b[l] & 15];
    return iload(b);
  }
  using pairs16 = const std::uint16_t*;
  static LOWBIT_INLINE pairs16 load_pairs(const CodebookTables& t) { return t.pairs.data(); }
  static LOWBIT_INLINE vi lookup_pairs(pairs16 table, const vi& index) {
    std::int32_t i[lanes];
    istore(i, index);
    for (std::size_t l = 0; l < lanes; ++l) i[l] = table[i[l] & 15] | static_cast<std::int32_t>(table[(i[l] >> 16) & 15]) << 16;
    return iload(i);
  }

#if defined(LOWBIT_BASE_SSE2)
  static LOWBIT_INLINE vi dot_codes(const vi& acc, const vi& w, const vi& x) { return acc + vi(_mm_madd_epi16(w, x)); }
  static constexpr std::size_t bytes_step = 16;
  static LOWBIT_INLINE vi dot_s8(const vi& acc, const std::int8_t* a, const std::int8_t* b) {
    const __m128i va = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                  vb = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
    const __m128i low = _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(va, va), 8), _mm_srai_epi16(_mm_unpacklo_epi8(vb, vb), 8));
    const __m128i high = _mm_madd_epi16(_mm_srai_epi16(_mm_unpackhi_epi8(va, va), 8), _mm_srai_epi16(_mm_unpackhi_epi8(vb, vb), 8));
    return vi(_mm_add_epi32(acc, _mm_add_epi32(low, high)));
  }
#else
  static LOWBIT_INLINE vi dot_codes(const vi& acc, const vi& w, const vi& x) {
    return acc + ((w << 16) >> 16) * ((x << 16) >> 16) + (w >> 16) * (x >> 16);
  }
  static constexpr std::size_t bytes_step = 4 * lanes;
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) {
    const vi va = iload(a), vb = iload(b);
    acc = acc + ((va << 24) >> 24) * ((vb << 24) >> 24);
    acc = acc + ((va << 16) >> 24) * ((vb << 16) >> 24);
    acc = acc + ((va << 8) >> 24) * ((vb << 8) >> 24);
    return acc + (va >> 24) * (vb >> 24);
  }
#endif

  // ---- what the rest of a transformer needs ----
  static LOWBIT_INLINE vf times_pow2(const vf& p, const vf& n) { return as_float(as_int(p) + shift_left<23>(to_int(n))); }
  // to (4, strip_rows) = from (strip_rows, 4) * factor, transposed.
  static constexpr std::size_t strip_rows = lanes;
  static LOWBIT_INLINE void transpose_strip(const float* from, std::size_t stride, float* to, std::size_t to_stride, float factor) {
    for (std::size_t j = 0; j < 4; ++j) {
      float t[lanes];
      for (std::size_t i = 0; i < lanes; ++i) t[i] = from[i * stride + j];
      store(to + j * to_stride, load(t) * vf(factor));
    }
  }

  // ---- for rows of canonical weights ----
  static LOWBIT_INLINE vf keep(const vf& a) {
    float t[lanes];
    store(t, a);
    for (float& v : t) v = rounded(v);
    return load(t);
  }
  static LOWBIT_INLINE vi load_u8(const std::uint8_t* p) { return load_u8_n(p, lanes); }
  static LOWBIT_INLINE vi load_u8_n(const std::uint8_t* p, std::size_t n) {
    std::int32_t t[lanes] = {};
    for (std::size_t i = 0; i < n; ++i) t[i] = p[i];
    return iload(t);
  }
  struct floats256 {
    const float* t;
  };
  static LOWBIT_INLINE floats256 load_floats256(const float* p) { return {p}; }
  static LOWBIT_INLINE vf lookup(const floats256& table, const vi& index) {
    std::int32_t i[lanes];
    float t[lanes];
    istore(i, index);
    for (std::size_t l = 0; l < lanes; ++l) t[l] = table.t[i[l]];
    return load(t);
  }
  static LOWBIT_INLINE void store_twice(float* p, const vf& a) {
    store(p, vectors::zip_lo(a, a));
    store(p + lanes, vectors::zip_hi(a, a));
  }
  // Look-ups of the two codes of a byte: pairs[byte] are two floats, or two 16-bit integers.
  static LOWBIT_INLINE vf lookup_pairs(const std::uint64_t* pairs, const std::uint8_t* p) {
#if defined(LOWBIT_BASE_SSE2)
    const __m128 low = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pairs + p[0])));
    return vf(_mm_loadh_pi(low, reinterpret_cast<const __m64*>(pairs + p[1])));
#else
    std::uint64_t t[lanes / 2];
    for (std::size_t i = 0; i < lanes / 2; ++i) t[i] = pairs[p[i]];
    float f[lanes];
    std::memcpy(f, t, sizeof f);
    return load(f);
#endif
  }
  static LOWBIT_INLINE vi lookup_pairs(const std::uint32_t* pairs, const std::uint8_t* p) {
#if defined(LOWBIT_BASE_SSE2)
    const auto one = [&](std::size_t i) LOWBIT_INLINE_LAMBDA { return _mm_cvtsi32_si128(static_cast<int>(pairs[p[i]])); };
    return vi(_mm_unpacklo_epi64(_mm_unpacklo_epi32(one(0), one(1)), _mm_unpacklo_epi32(one(2), one(3))));
#else
    std::uint32_t t[lanes];
    for (std::size_t i = 0; i < lanes; ++i) t[i] = pairs[p[i]];
    return iload(t);
#endif
  }
  // acc + low * low + high * high of the two 16-bit integers of every dword, exact.
  static LOWBIT_INLINE vi dot_s16(const vi& acc, const vi& w, const vi& x) {
#if defined(LOWBIT_BASE_SSE2)
    return vi(_mm_add_epi32(acc, _mm_madd_epi16(w, x)));
#else
    return acc + ((w << 16) >> 16) * ((x << 16) >> 16) + (w >> 16) * (x >> 16);
#endif
  }
  static LOWBIT_INLINE void store_sums(float* p, const vf& a, const vf& b, const vf& c, const vf& d) {
    p[0] = reduce_add(a);
    p[1] = reduce_add(b);
    p[2] = reduce_add(c);
    p[3] = reduce_add(d);
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
#undef LOWBIT_BASE_SSE2
