// SPDX-License-Identifier: MIT
// The vocabulary of level amx: avx512bf16, and the tile instructions.  Included by targets.hpp only.
//
// Assembly, all of it: g++ 12's _tile_loadconfig names 8 of the 64 bytes as its operand, so that -O3 drops the stores of the others,
// and its _tile_loadd names no memory at all.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : avx512bf16::simd {
  // 32 weights of 16 columns, times the columns' scales, as pairs of bfloat16: step i of 4 at out + i * stride.  Every dword of
  // codes is spread over two lanes first, of the even and of the odd k, so that one conversion leaves the pairs in order.
  static constexpr bool scales_pairs = true;
  static LOWBIT_INLINE void store_scaled_pairs(std::uint8_t* out, std::size_t stride, const floats16& table, vi codes, vf scale) {
    const vi low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), high = _mm512_add_epi32(low, iset1(8));
    const vi odd = _mm512_set1_epi64(std::int64_t{16} << 32);
    const vi a = _mm512_srlv_epi32(_mm512_permutexvar_epi32(low, codes), odd),
             b = _mm512_srlv_epi32(_mm512_permutexvar_epi32(high, codes), odd);
    const vf scale_a = _mm512_permutexvar_ps(low, scale), scale_b = _mm512_permutexvar_ps(high, scale);
    LOWBIT_UNROLL for (int i = 0; i < 4; ++i) {
      const vf wa = mul(lookup(table, shift_right(a, 4 * i)), scale_a), wb = mul(lookup(table, shift_right(b, 4 * i)), scale_b);
      vi pairs;
      __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(pairs) : "v"(wa), "v"(wb));
      istore(out + static_cast<std::size_t>(i) * stride, pairs);
    }
  }
};

// The tile registers of this thread: 16 rows of 64 bytes each at most.
struct tiles {
  static inline void store_configuration(TileConfiguration& c) { __asm__ volatile("sttilecfg %0" : "=m"(c)); }
  static inline void configure(const TileConfiguration& c) { __asm__ volatile("ldtilecfg %0" : : "m"(c) : "memory"); }
  static inline void release() { __asm__ volatile("tilerelease" : : : "memory"); }
  template <int T>
  static LOWBIT_INLINE void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static LOWBIT_INLINE void load(const void* p, std::size_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static LOWBIT_INLINE void store(void* p, std::size_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(T) : "memory");
  }
  // sums C += rows X times columns W: bytes of x are signed.
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot_signed_unsigned() {
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(X), "i"(W));
  }
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot_signed() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(X), "i"(W));
  }
  template <int C, int X, int W>
  static LOWBIT_INLINE void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(X), "i"(W));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
