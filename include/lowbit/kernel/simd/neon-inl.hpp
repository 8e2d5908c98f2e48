// SPDX-License-Identifier: MIT
// The vocabulary of level neon: arm64 without extensions.  32 registers of 4 floats, true division, look-ups by tbl, and products by
// one element of x, which need it in lane 0 alone.  Included by targets.hpp only.
//
// Assembly where g++ 12 makes two instructions of one: dup and fmla of a product by an element, movi and ins of a load of 4 bytes.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd {
  using vf = float32x4_t;
  using vi = int32x4_t;
  using rf = vf;  // what arrays of registers are made of
  using ri = vi;
  using floats16 = uint8x16x4_t;  // 16 floats, as bytes
  using bytes16 = uint8x16_t;
  using pairs16 = uint8x16x2_t;  // 16 words
  static constexpr std::size_t lanes = 4;
  // 8 x 12 tile: 24 sums, 3 weights, 1 activation and what look-ups need of the 32 registers.
  static constexpr std::size_t vector_registers = 32, rows = 8, sums = 12;
  static constexpr bool native_bf16 = false, dots_bytes = false;
  static constexpr bool pins_sums = false;  // dots are volatile: they stay where they stand
  static constexpr bool minimal = false;
  static constexpr bool looks_up = true;
  static constexpr std::size_t lookup_rows = 1, lookup_pairs_rows = 4, lookup_bytes_rows = 2;

  static LOWBIT_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
  static LOWBIT_INLINE void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into L2
  static LOWBIT_INLINE void prefetch_write(const void* p) { __builtin_prefetch(p, 1); }

  static LOWBIT_INLINE vf zero() { return vdupq_n_f32(0); }
  static LOWBIT_INLINE vf set1(float x) { return vdupq_n_f32(x); }
  static LOWBIT_INLINE vf load(const float* p) { return vld1q_f32(p); }
  static LOWBIT_INLINE void store(float* p, vf a) { vst1q_f32(p, a); }
  static LOWBIT_INLINE vf load_n(const float* p, std::size_t n) {
    float t[lanes] = {};
    for (std::size_t i = 0; i < n; ++i) t[i] = p[i];
    return load(t);
  }
  static LOWBIT_INLINE void store_n(float* p, vf a, std::size_t n) {
    float t[lanes];
    store(t, a);
    for (std::size_t i = 0; i < n; ++i) p[i] = t[i];
  }
  static LOWBIT_INLINE vf add(vf a, vf b) { return vaddq_f32(a, b); }
  static LOWBIT_INLINE vf sub(vf a, vf b) { return vsubq_f32(a, b); }
  static LOWBIT_INLINE vf mul(vf a, vf b) { return vmulq_f32(a, b); }
  static LOWBIT_INLINE vf div(vf a, vf b) { return vdivq_f32(a, b); }
  static LOWBIT_INLINE vf sqrt(vf a) { return vsqrtq_f32(a); }
  static LOWBIT_INLINE vf fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
  static LOWBIT_INLINE vf if_less(vf x, vf y, vf a, vf b) { return vbslq_f32(vcltq_f32(x, y), a, b); }
  // The second of two where they do not compare, as on x86.
  static LOWBIT_INLINE vf maximum(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static LOWBIT_INLINE vf minimum(vf a, vf b) { return if_less(a, b, a, b); }
  static LOWBIT_INLINE vf abs(vf a) { return vabsq_f32(a); }
  static LOWBIT_INLINE vf round(vf a) { return vrndnq_f32(a); }
  static LOWBIT_INLINE vf max_fraction(vf most, vf a) { return vmaxq_f32(most, vabdq_f32(a, vrndnq_f32(a))); }
  static LOWBIT_INLINE bool any_greater(vf a, vf b) { return vmaxvq_u32(vcgtq_f32(a, b)) != 0; }
  static LOWBIT_INLINE float reduce_add(vf a) {
    const float32x2_t s = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
  }
  static LOWBIT_INLINE float reduce_max(vf a) { return vmaxvq_f32(a); }

  // Products by lane 0 of x.
  static constexpr bool by_element = true;
  static LOWBIT_INLINE vf element(const float* p) {
    vf x;
    __asm__("ldr %s0, %1" : "=w"(x) : "m"(*p));
    return x;
  }
  static LOWBIT_INLINE vi element(const std::int32_t* p) {
    vi x;
    __asm__("ldr %s0, %1" : "=w"(x) : "m"(*p));
    return x;
  }
  // Four words from memory, whatever a register holds: a move would take a pipe that dots want.
  static LOWBIT_INLINE vi reload(const std::int32_t* p) {
    vi x;
    __asm__ volatile("ldr %q0, %1" : "=w"(x) : "m"(*reinterpret_cast<const std::int32_t(*)[4]>(p)));
    return x;
  }
  static LOWBIT_INLINE vf fma_element(vf w, vf x, vf acc) {
    __asm__ volatile("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }

  static LOWBIT_INLINE vi izero() { return vdupq_n_s32(0); }
  static LOWBIT_INLINE vi iset1(std::int32_t x) { return vdupq_n_s32(x); }
  static LOWBIT_INLINE vi iload(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const std::uint8_t*>(p))); }
  static LOWBIT_INLINE void istore(void* p, vi a) { vst1q_u8(static_cast<std::uint8_t*>(p), bytes(a)); }
  static LOWBIT_INLINE vi iadd(vi a, vi b) { return vaddq_s32(a, b); }
  static LOWBIT_INLINE vi isub(vi a, vi b) { return vsubq_s32(a, b); }
  static LOWBIT_INLINE vi imax(vi a, vi b) { return vmaxq_s32(a, b); }
  static LOWBIT_INLINE std::uint32_t igreater_mask(vi a, vi b) {
    const uint32x4_t bit =
        vshlq_u32(vdupq_n_u32(1), vcombine_s32(vcreate_s32(std::uint64_t{1} << 32), vcreate_s32(std::uint64_t{3} << 32 | 2)));
    return vaddvq_u32(vandq_u32(vcgtq_s32(a, b), bit));
  }
  static LOWBIT_INLINE vi ikeep_less(vi a, vi limit) { return vandq_s32(a, vreinterpretq_s32_u32(vcltq_s32(a, limit))); }
  static LOWBIT_INLINE vi iand(vi a, vi b) { return vandq_s32(a, b); }
  static LOWBIT_INLINE vi ior(vi a, vi b) { return vorrq_s32(a, b); }
  template <int N>
  static LOWBIT_INLINE vi shift_right(vi a) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), N));
  }
  static LOWBIT_INLINE vi shift_right(vi a, int n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
  }
  template <int N>
  static LOWBIT_INLINE vi shift_left(vi a) {
    return vshlq_n_s32(a, N);
  }
  static LOWBIT_INLINE vf to_float(vi a) { return vcvtq_f32_s32(a); }
  static LOWBIT_INLINE vi to_int(vf a) { return vcvtnq_s32_f32(a); }  // half to even, whatever the control register says
  static LOWBIT_INLINE vf as_float(vi a) { return vreinterpretq_f32_s32(a); }
  static LOWBIT_INLINE vi as_int(vf a) { return vreinterpretq_s32_f32(a); }
  static LOWBIT_INLINE std::int32_t ireduce_add(vi a) { return vaddvq_s32(a); }
  static LOWBIT_INLINE std::int32_t ireduce_max(vi a) { return vmaxvq_s32(a); }

  static LOWBIT_INLINE vf load_f16(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static LOWBIT_INLINE vf load_bf16(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  static LOWBIT_INLINE vf load_i8(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, 4);
    const int8x8_t b = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(b))));
  }
  static LOWBIT_INLINE int16x8_t narrow(vi a, vi b) { return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)); }
  // 4 * lanes codes from 4 registers, in order or in the order int8_k inside eights.
  static LOWBIT_INLINE void store_codes(std::int8_t* p, const vi* q, bool permute) {
    int8x16_t b = vcombine_s8(vqmovn_s16(narrow(q[0], q[1])), vqmovn_s16(narrow(q[2], q[3])));
    if (permute) {
      const uint8x16_t order = vcombine_u8(vcreate_u8(0x0703060205010400), vcreate_u8(0x0F0B0E0A0D090C08));
      b = vqtbl1q_s8(b, order);
    }
    vst1q_s8(p, b);
  }
  static LOWBIT_INLINE void store_codes(std::int16_t* p, const vi* q, bool) {
    vst1q_s16(p, narrow(q[0], q[1]));
    vst1q_s16(p + 8, narrow(q[2], q[3]));
  }
  // The low half of every dword.
  static LOWBIT_INLINE void store_u16(std::uint16_t* p, vi a) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(a))); }

  // Table look-ups read the low 4 bits of a dword, a word or a byte, and ignore the rest.
  static LOWBIT_INLINE uint8x16_t bytes(vi a) { return vreinterpretq_u8_s32(a); }
  static LOWBIT_INLINE floats16 load_floats16(const float* p) {
    const std::uint8_t* b = reinterpret_cast<const std::uint8_t*>(p);
    return {{vld1q_u8(b), vld1q_u8(b + 16), vld1q_u8(b + 32), vld1q_u8(b + 48)}};
  }
  static LOWBIT_INLINE vf lookup(const floats16& t, vi index) {
    const vi code = vandq_s32(index, vdupq_n_s32(15));
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, bytes(vmlaq_s32(vdupq_n_s32(0x03020100), code, vdupq_n_s32(0x04040404)))));
  }
  alignas(16) static constexpr std::int32_t nibble_mask[4] = {0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F};
  static LOWBIT_INLINE bytes16 load_bytes16(const std::uint8_t* p) { return vld1q_u8(p); }
  static LOWBIT_INLINE vi lookup_bytes(bytes16 t, vi index) {
    return vreinterpretq_s32_u8(vqtbl1q_u8(t, vandq_u8(bytes(index), bytes(reload(nibble_mask)))));
  }
  static LOWBIT_INLINE vi lookup_high_nibbles(bytes16 t, vi index) {
    return vreinterpretq_s32_u8(vqtbl1q_u8(t, vshrq_n_u8(bytes(index), 4)));
  }
  static LOWBIT_INLINE pairs16 load_pairs(const CodebookTables& t) {
    const std::uint8_t* b = reinterpret_cast<const std::uint8_t*>(t.pairs.data());
    return {{vld1q_u8(b), vld1q_u8(b + 16)}};
  }
  static LOWBIT_INLINE vi lookup_pairs(const pairs16& t, vi index) {
    const uint16x8_t code = vandq_u16(vreinterpretq_u16_s32(index), vdupq_n_u16(15));
    return vreinterpretq_s32_u8(vqtbl2q_u8(t, vreinterpretq_u8_u16(vmlaq_u16(vdupq_n_u16(0x0100), code, vdupq_n_u16(0x0202)))));
  }

  // acc + the sum of the two products of the 16-bit words of every dword; x stands in lane 0.
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) {
    vi low, high;
    __asm__ volatile(
        "smull %1.4s, %3.4h, %4.4h\n\tsmull2 %2.4s, %3.8h, %4.8h\n\taddp %1.4s, %1.4s, %2.4s\n\tadd %0.4s, %0.4s, %1.4s"
        : "+w"(acc), "=&w"(low), "=&w"(high)
        : "w"(w), "w"(vdupq_laneq_s32(x, 0)));
    return acc;
  }
  // acc + sum of bytes_step signed products in some order, exact.
  static constexpr std::size_t bytes_step = 16;
  static LOWBIT_INLINE vi dot_s8(vi acc, const std::int8_t* a, const std::int8_t* b) {
    const int8x16_t va = vld1q_s8(a), vb = vld1q_s8(b);
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(va), vget_low_s8(vb)));
    return vpadalq_s16(acc, vmull_high_s8(va, vb));
  }

  // ---- what the rest of a transformer needs ----
  static LOWBIT_INLINE vf times_pow2(vf p, vf n) { return as_float(vaddq_s32(as_int(p), vshlq_n_s32(to_int(n), 23))); }
  static constexpr std::size_t strip_rows = 4;
  static LOWBIT_INLINE void transpose_strip(const float* from, std::size_t stride, float* to, std::size_t to_stride, float factor) {
    float32x4x4_t r = {{load(from), load(from + stride), load(from + 2 * stride), load(from + 3 * stride)}};
    const vf a = vtrn1q_f32(r.val[0], r.val[1]), b = vtrn2q_f32(r.val[0], r.val[1]), c = vtrn1q_f32(r.val[2], r.val[3]),
             d = vtrn2q_f32(r.val[2], r.val[3]);
    const auto leave = [&](std::size_t j, float64x2_t column)
                           LOWBIT_INLINE_LAMBDA { store(to + j * to_stride, vmulq_n_f32(vreinterpretq_f32_f64(column), factor)); };
    leave(0, vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(c)));
    leave(1, vtrn1q_f64(vreinterpretq_f64_f32(b), vreinterpretq_f64_f32(d)));
    leave(2, vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(c)));
    leave(3, vtrn2q_f64(vreinterpretq_f64_f32(b), vreinterpretq_f64_f32(d)));
  }

  // ---- for rows of canonical weights ----
  // acc + the sum of the four products of every dword, bytes of w unsigned and of x signed, exact.
  static LOWBIT_INLINE vi dot_u8s8(vi acc, vi w, vi x) {
    const uint8x16_t a = bytes(w);
    const int8x16_t b = vreinterpretq_s8_s32(x);
    const int32x4_t low =
        vpaddq_s32(vmull_s16(vreinterpret_s16_u16(vget_low_u16(vmovl_u8(vget_low_u8(a)))), vget_low_s16(vmovl_s8(vget_low_s8(b)))),
                   vmull_high_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a))), vmovl_s8(vget_low_s8(b))));
    const int32x4_t high =
        vpaddq_s32(vmull_s16(vreinterpret_s16_u16(vget_low_u16(vmovl_high_u8(a))), vget_low_s16(vmovl_high_s8(b))),
                   vmull_high_s16(vreinterpretq_s16_u16(vmovl_high_u8(a)), vmovl_high_s8(b)));
    return vaddq_s32(acc, vpaddq_s32(low, high));
  }
  // Keeps a value as it was rounded: compilers contract intrinsics too.
  static LOWBIT_INLINE vf keep(vf a) {
    __asm__("" : "+w"(a));
    return a;
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
  static LOWBIT_INLINE vf lookup(const floats256& table, vi index) {
    std::int32_t i[lanes];
    float t[lanes];
    istore(i, index);
    for (std::size_t l = 0; l < lanes; ++l) t[l] = table.t[i[l]];
    return load(t);
  }
  // Every lane twice in a row: 2 * lanes floats.
  static LOWBIT_INLINE void store_twice(float* p, vf a) {
    store(p, vzip1q_f32(a, a));
    store(p + lanes, vzip2q_f32(a, a));
  }
  // lanes / 4 floats, each in four lanes.
  static LOWBIT_INLINE vf spread(const float* p) { return vld1q_dup_f32(p); }
  // The sums of four registers.
  static LOWBIT_INLINE void store_sums(float* p, vf a, vf b, vf c, vf d) {
    store(p, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
