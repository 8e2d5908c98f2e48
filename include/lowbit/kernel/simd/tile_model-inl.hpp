// SPDX-License-Identifier: MIT
// The vocabulary of level amx under LOWBIT_TILE_MODEL: avx2, and the tile instructions (palette 1) in software, so that the level's
// code runs and is checked on machines without them.  Included by targets.hpp only.
//
// Bit for bit what an Emerald Rapids computes, payloads of NaN aside (64,000 tiles of each dot instruction).  tdpbf16ps takes
// subnormal operands as zero and leaves no subnormal, whatever the control register says, and rounds to nearest even.  An element
// sums its even and its odd k in two chains of fused multiply-adds that start at 0, adds the chains to each other, and that to the
// sum: which is rounded once per instruction.  What a processor would refuse raises an error here.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

struct simd : avx2::simd {
  static constexpr bool native_bf16 = true, dots_bytes = true, scales_pairs = false;
  static LOWBIT_INLINE vi dot_codes(vi acc, vi w, vi x) { return dot_u8s8(acc, w, x); }
  static LOWBIT_INLINE bool any_subnormal(vf) { return true; }  // no instruction that would flush them: round as integers
  static LOWBIT_INLINE void store_bf16(std::uint16_t*, vf) {}
  static LOWBIT_INLINE vf dot_bf16(vf acc, vi w, vi x) {
    const vi high = iset1(static_cast<std::int32_t>(0xFFFF0000u));
    acc = fma(as_float(shift_left<16>(w)), as_float(shift_left<16>(x)), acc);
    return fma(as_float(iand(w, high)), as_float(iand(x, high)), acc);
  }
};

class TileModel {
 public:
  const TileConfiguration& configuration() const { return configuration_; }
  void configure(const TileConfiguration& c) {
    for (std::size_t t = 0; t < 8; ++t) check(c.palette == 1 && c.bytes[t] <= 64 && c.rows[t] <= 16);
    configuration_ = c;
    std::memset(tile_, 0, sizeof tile_);
  }
  void release() {
    configuration_ = {};
    std::memset(tile_, 0, sizeof tile_);
  }
  void zero(std::size_t t) {
    check(configuration_.palette == 1);
    std::memset(tile_[t], 0, sizeof tile_[t]);
  }
  void load(std::size_t t, const void* p, std::size_t stride) {
    zero(t);
    for (std::size_t r = 0; r < configuration_.rows[t]; ++r)
      std::memcpy(tile_[t][r], static_cast<const std::uint8_t*>(p) + r * stride, configuration_.bytes[t]);
  }
  void store(std::size_t t, void* p, std::size_t stride) const {
    check(configuration_.palette == 1);
    for (std::size_t r = 0; r < configuration_.rows[t]; ++r)
      std::memcpy(static_cast<std::uint8_t*>(p) + r * stride, tile_[t][r], configuration_.bytes[t]);
  }
  template <bool SignedWeights>
  void dot_bytes(std::size_t c, std::size_t x, std::size_t w) {
    dot(c, x, w, [&](std::uint32_t& sum, const std::uint8_t* row, std::size_t column, std::size_t dwords) {
      for (std::size_t i = 0; i < 4 * dwords; ++i) {
        const std::uint8_t code = tile_[w][i / 4][4 * column + i % 4];
        const int weight = SignedWeights ? static_cast<std::int8_t>(code) : code;
        sum += static_cast<std::uint32_t>(static_cast<std::int8_t>(row[i]) * weight);
      }
    });
  }
  void dot_bf16(std::size_t c, std::size_t x, std::size_t w) {
    dot(c, x, w, [&](std::uint32_t& sum, const std::uint8_t* row, std::size_t column, std::size_t dwords) {
      float even = 0, odd = 0;
      for (std::size_t i = 0; i < dwords; ++i) {
        const std::uint8_t* weight = tile_[w][i] + 4 * column;
        even = fused(value(row + 4 * i), value(weight), even);
        odd = fused(value(row + 4 * i + 2), value(weight + 2), odd);
      }
      const float both = flush(rounded(even + odd));
      sum = std::bit_cast<std::uint32_t>(flush(rounded(flush(std::bit_cast<float>(sum)) + both)));
    });
  }

 private:
  static constexpr float smallest = std::numeric_limits<float>::min();
  static void check(bool allowed) {
    if (!allowed) raise<Error>("tile model: the processor would refuse this instruction");
  }
  static float magnitude(float v) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) & 0x7FFFFFFFu); }
  static float zero_of(float v) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) & 0x80000000u); }
  static float flush(float v) { return magnitude(v) < smallest ? zero_of(v) : v; }
  static float value(const std::uint8_t* bf16) {
    return flush(std::bit_cast<float>(static_cast<std::uint32_t>(bf16[0] | bf16[1] << 8) << 16));
  }
  // Of flushed operands.  Whether the result is tiny is decided after rounding to 24 bits, as if there were no smallest exponent.
  static float fused(float a, float b, float c) {
    const float r = std::fma(a, b, c);
    if (r == 0 || !(magnitude(r) <= smallest)) return r;
    const float far = std::fma(a * 0x1p64f, b, c * 0x1p64f);  // the same sum where subnormal numbers are far away
    return magnitude(far) < smallest * 0x1p64f ? zero_of(r) : r;
  }
  template <class Add>
  void dot(std::size_t c, std::size_t x, std::size_t w, const Add& add) {
    const TileConfiguration& t = configuration_;
    check(t.palette == 1 && c != x && c != w && x != w && t.rows[c] == t.rows[x] && t.bytes[c] == t.bytes[w] &&
          t.bytes[x] == 4 * t.rows[w] && t.bytes[c] % 4 == 0);
    for (std::size_t m = 0; m < 16; ++m)
      for (std::size_t n = 0; n < 16; ++n) {
        std::uint32_t sum = 0;
        std::memcpy(&sum, tile_[c][m] + 4 * n, 4);
        if (m < t.rows[c] && n < t.bytes[c] / 4u)
          add(sum, tile_[x][m], n, t.rows[w]);
        else
          sum = 0;
        std::memcpy(tile_[c][m] + 4 * n, &sum, 4);
      }
  }

  TileConfiguration configuration_{};
  std::uint8_t tile_[8][16][64] = {};
};
inline constinit thread_local TileModel tile_model;

struct tiles {
  static void store_configuration(TileConfiguration& c) { c = tile_model.configuration(); }
  static void configure(const TileConfiguration& c) { tile_model.configure(c); }
  static void release() { tile_model.release(); }
  template <int T>
  static void zero() {
    tile_model.zero(T);
  }
  template <int T>
  static void load(const void* p, std::size_t stride) {
    tile_model.load(T, p, stride);
  }
  template <int T>
  static void store(void* p, std::size_t stride) {
    tile_model.store(T, p, stride);
  }
  template <int C, int X, int W>
  static void dot_signed_unsigned() {
    tile_model.dot_bytes<false>(C, X, W);
  }
  template <int C, int X, int W>
  static void dot_signed() {
    tile_model.dot_bytes<true>(C, X, W);
  }
  template <int C, int X, int W>
  static void dot_bf16() {
    tile_model.dot_bf16(C, X, W);
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
