// SPDX-License-Identifier: MIT
// Rows of canonical 4-bit weights times rows of x, straight from the bytes of the file.  A row is read in steps of 8 * lanes codes
// (level base: one group of 32) and never unpacked: a dword holds 8 codes in a row, the look-ups of a register read the low
// 4 bits of its dwords, so that shifting the same dwords right by 4 i gives one code of each.  x is put into that order beforehand.
// Included once per instruction set, by targets.hpp.
//
// Order of summation of one output: steps in order; in a step every lane sums its 8 products by fma (int8: exactly), and adds the
// sum times its group's scale to the lane's total; the lanes are added up at the end.  A lane's 8 codes lie in one group of 32 and
// so in one block, because reading starts at a group: where a row begins inside of one, x begins with zeros.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// Levels that look 16 values up in registers, against those that look the two codes of a byte up in memory.
template <class S>
inline constexpr bool byte_pairs = requires {
  requires std::is_pointer_v<typename S::floats16>;
};

// Has every element of a row of k, `lead` behind the beginning of a step, put where it belongs: those of whole eights together.
template <class One, class Eight>
LOWBIT_INLINE void for_eights(std::size_t k, std::size_t lead, const One& one, const Eight& eight) {
  std::size_t i = 0;
  for (; i < k && (i + lead) % 8 != 0; ++i) one(i);
  for (; i + 8 <= k; i += 8) eight(i);
  for (; i < k; ++i) one(i);
}
// Bytes 0, 2, 4 and 6.
inline std::uint32_t every_second_byte(std::uint64_t v) {
  v &= 0x00FF00FF00FF00FFu;
  v = (v | v >> 8) & 0x0000FFFF0000FFFFu;
  return static_cast<std::uint32_t>(v | v >> 16);
}

// ---- float sums ------------------------------------------------------------------------------------------------------
// In bfloat16 compute without the instruction, codebook and x are floats that were rounded before.
template <class S>
struct RowsF32 {
  using acc = typename S::vf;
  using operand = typename S::vf;
  using total = typename S::vf;
  using scale = typename S::vf;
  static constexpr bool pairs = byte_pairs<S>;
  static constexpr std::size_t step = pairs ? 32 : 8 * S::lanes, operands = step / S::lanes, x_bytes = step * 4;
  struct Table {
    const std::uint64_t* pairs;
    typename S::floats16 values;
  };

  static void fill_pairs(const CodebookTables& t, void* out) {
    const float* v = t.f32.data();
    for (std::size_t i = 0; i < 256; ++i) std::memcpy(static_cast<float*>(out) + 2 * i, &v[i >> 4], 4);
    for (std::size_t i = 0; i < 256; ++i) std::memcpy(static_cast<float*>(out) + 2 * i + 1, &v[i & 15], 4);
  }
  static LOWBIT_INLINE Table table(const CodebookTables& t, const void* p) {
    return {static_cast<const std::uint64_t*>(p), S::load_floats16(t.f32.data())};
  }
  static LOWBIT_INLINE operand get(const std::uint8_t* p, std::size_t i, const Table& t) {
    if constexpr (byte_pairs<S>) {
      return S::lookup_pairs(t.pairs, p + i * S::lanes / 2);
    } else {
      const typename S::vi codes = S::iload(p);
      switch (i) {
        case 0: return S::lookup(t.values, codes);
        case 1: return S::lookup(t.values, S::template shift_right<4>(codes));
        case 2: return S::lookup(t.values, S::template shift_right<8>(codes));
        case 3: return S::lookup(t.values, S::template shift_right<12>(codes));
        case 4: return S::lookup(t.values, S::template shift_right<16>(codes));
        case 5: return S::lookup(t.values, S::template shift_right<20>(codes));
        case 6: return S::lookup(t.values, S::template shift_right<24>(codes));
        default: return S::lookup(t.values, S::template shift_right<28>(codes));
      }
    }
  }
  static LOWBIT_INLINE operand load_x(const std::uint8_t* x, std::size_t i) {
    return S::load(reinterpret_cast<const float*>(x) + i * S::lanes);
  }
  static LOWBIT_INLINE acc start(const std::uint8_t*) { return S::zero(); }
  static LOWBIT_INLINE acc dot(const acc& a, const operand& w, const operand& x) { return S::fma(w, x, a); }
  static LOWBIT_INLINE scale load_scale(const float* p) {
    if constexpr (byte_pairs<S>)
      return S::set1(*p);
    else
      return S::spread(p);
  }
  static LOWBIT_INLINE total zero() { return S::zero(); }
  static LOWBIT_INLINE total add(const total& t, const acc& a, const scale& s) { return S::fma(a, s, t); }

  // One row of x; `lead` zeros first.  out is zero.
  static void prepare(const void* row, std::size_t k, std::size_t lead, std::uint8_t* out) {
    auto* o = reinterpret_cast<float*>(out);
    const auto value = [&](std::size_t i) LOWBIT_INLINE_LAMBDA { return static_cast<const float*>(row)[i]; };
    const auto place = [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
      const std::size_t e = i + lead, in = e % step;
      return pairs ? e : e - in + ((in % 8) ^ 1) * S::lanes + in / 8;
    };
    for_eights(
        k, lead, [&](std::size_t i) LOWBIT_INLINE_LAMBDA { o[place(i)] = value(i); },
        [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
          float* first = o + place(i) - (pairs ? 0 : S::lanes);
          LOWBIT_UNROLL for (std::size_t j = 0; j < 8; ++j) first[pairs ? j : (j ^ 1) * S::lanes] = value(i + j);
        });
  }
};

// The bfloat16 dot instruction: word t of a dword shifted right by 4 i is code 4 t + (i ^ 1) of the eight.
template <class S>
struct RowsBf16 {
  using acc = typename S::vf;
  using operand = typename S::vi;
  using total = typename S::vf;
  using scale = typename S::vf;
  static constexpr bool pairs = false;
  static constexpr std::size_t step = 8 * S::lanes, operands = 4, x_bytes = step * 2;
  using Table = typename S::pairs16;

  static LOWBIT_INLINE Table table(const CodebookTables& t, const void*) { return S::load_pairs(t); }
  static LOWBIT_INLINE operand get(const std::uint8_t* p, std::size_t i, const Table& t) {
    const typename S::vi codes = S::iload(p);
    switch (i) {
      case 0: return S::lookup_pairs(t, codes);
      case 1: return S::lookup_pairs(t, S::template shift_right<4>(codes));
      case 2: return S::lookup_pairs(t, S::template shift_right<8>(codes));
      default: return S::lookup_pairs(t, S::template shift_right<12>(codes));
    }
  }
  static LOWBIT_INLINE operand load_x(const std::uint8_t* x, std::size_t i) { return S::iload(x + i * S::lanes * 4); }
  static LOWBIT_INLINE acc start(const std::uint8_t*) { return S::zero(); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::dot_bf16(a, w, x); }
  static LOWBIT_INLINE scale load_scale(const float* p) { return S::spread(p); }
  static LOWBIT_INLINE total zero() { return S::zero(); }
  static LOWBIT_INLINE total add(total t, acc a, scale s) { return S::fma(a, s, t); }

  static void prepare(const void* row, std::size_t k, std::size_t lead, std::uint8_t* out) {
    const auto* x = static_cast<const std::uint16_t*>(row);
    const auto place = [&](std::size_t i) LOWBIT_INLINE_LAMBDA {  // in bytes
      const std::size_t e = i + lead, in = e % step;
      return (e - in + ((in % 4) ^ 1) * 2 * S::lanes + in / 8 * 2 + in % 8 / 4) * 2;
    };
    for_eights(
        k, lead, [&](std::size_t i) LOWBIT_INLINE_LAMBDA { std::memcpy(out + place(i), x + i, 2); },
        [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
          std::uint8_t* first = out + place(i) - 4 * S::lanes;
          LOWBIT_UNROLL for (std::size_t j = 0; j < 4; ++j) {
            const std::uint32_t two = x[i + j] | static_cast<std::uint32_t>(x[i + j + 4]) << 16;
            std::memcpy(first + (j ^ 1) * 4 * S::lanes, &two, 4);
          }
        });
  }
};

// ---- integer sums ----------------------------------------------------------------------------------------------------
// Bytes looked up in registers: the low codes of all bytes, then the high ones, as unsigned operands (code + 128).  A lane's sum
// starts at what that adds, -128 times the sum of its eight x, which stands behind the step's x.
template <class S>
struct RowsInt8 {
  using acc = typename S::vi;
  using operand = typename S::vi;
  using total = typename S::vf;
  using scale = typename S::vf;
  static constexpr bool pairs = false;
  static constexpr std::size_t step = 8 * S::lanes, operands = 2, x_bytes = 12 * S::lanes;
  using Table = typename S::bytes16;

  static LOWBIT_INLINE Table table(const CodebookTables& t, const void*) { return S::load_bytes16(t.bytes.data()); }
  static LOWBIT_INLINE operand get(const std::uint8_t* p, std::size_t i, const Table& t) {
    const typename S::vi codes = S::iload(p);
    return S::lookup_bytes(t, i == 0 ? codes : S::template shift_right<4>(codes));
  }
  static LOWBIT_INLINE operand load_x(const std::uint8_t* x, std::size_t i) { return S::iload(x + i * S::lanes * 4); }
  static LOWBIT_INLINE acc start(const std::uint8_t* x) { return S::iload(x + 8 * S::lanes); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::dot_u8s8(a, w, x); }
  static LOWBIT_INLINE scale load_scale(const float* p) { return S::spread(p); }
  static LOWBIT_INLINE total zero() { return S::zero(); }
  static LOWBIT_INLINE total add(const total& t, acc a, const scale& s) { return S::fma(S::to_float(a), s, t); }

  static void prepare(const void* row, std::size_t k, std::size_t lead, std::uint8_t* out) {
    const auto* x = static_cast<const std::int8_t*>(row);
    for_eights(
        k, lead,
        [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
          const std::size_t in = (i + lead) % step;
          std::uint8_t* o = out + (i + lead) / step * x_bytes;
          std::memcpy(o + (in % 2 == 0 ? 4 * S::lanes : 0) + in / 2, x + i, 1);
          std::int32_t sum;
          std::memcpy(&sum, o + 8 * S::lanes + in / 8 * 4, 4);
          sum -= 128 * x[i];
          std::memcpy(o + 8 * S::lanes + in / 8 * 4, &sum, 4);
        },
        [&](std::size_t i) LOWBIT_INLINE_LAMBDA {
          const std::size_t in = (i + lead) % step;
          std::uint8_t* o = out + (i + lead) / step * x_bytes + in / 2;
          std::uint64_t eight;
          std::memcpy(&eight, x + i, 8);
          const std::uint32_t low = every_second_byte(eight >> 8), high = every_second_byte(eight);
          const std::int32_t sum = -128 * sum_of_eight(x + i);
          std::memcpy(o, &low, 4);
          std::memcpy(o + 4 * S::lanes, &high, 4);
          std::memcpy(o + 8 * S::lanes, &sum, 4);
        });
  }
};
// Pairs of 16-bit integers looked up in memory.
template <class S>
struct RowsInt16 {
  using acc = typename S::vi;
  using operand = typename S::vi;
  using total = typename S::vf;
  using scale = typename S::vf;
  static constexpr bool pairs = true;
  static constexpr std::size_t step = 32, operands = 16 / S::lanes, x_bytes = 64;
  using Table = const std::uint32_t*;

  static void fill_pairs(const CodebookTables& t, void* out) {
    const auto value = [&](std::size_t code) { return static_cast<std::int16_t>(t.bytes[code] - 128); };
    for (std::size_t i = 0; i < 256; ++i) {
      const std::int16_t two[2] = {value(i >> 4), value(i & 15)};
      std::memcpy(static_cast<std::uint32_t*>(out) + i, two, 4);
    }
  }
  static LOWBIT_INLINE Table table(const CodebookTables&, const void* p) { return static_cast<const std::uint32_t*>(p); }
  static LOWBIT_INLINE operand get(const std::uint8_t* p, std::size_t i, Table t) { return S::lookup_pairs(t, p + i * S::lanes); }
  static LOWBIT_INLINE operand load_x(const std::uint8_t* x, std::size_t i) { return S::iload(x + i * S::lanes * 4); }
  static LOWBIT_INLINE acc start(const std::uint8_t*) { return S::izero(); }
  static LOWBIT_INLINE acc dot(const acc& a, const operand& w, const operand& x) { return S::dot_s16(a, w, x); }
  static LOWBIT_INLINE scale load_scale(const float* p) { return S::set1(*p); }
  static LOWBIT_INLINE total zero() { return S::zero(); }
  static LOWBIT_INLINE total add(const total& t, const acc& a, const scale& s) { return S::fma(S::to_float(a), s, t); }

  static void prepare(const void* row, std::size_t k, std::size_t lead, std::uint8_t* out) {
    for (std::size_t i = 0; i < k; ++i) {
      const std::int16_t v = static_cast<const std::int8_t*>(row)[i];
      std::memcpy(out + 2 * (i + lead), &v, 2);
    }
  }
};

// ---- micro-kernel ------------------------------------------------------------------------------------------------------------
// R rows of weights times M rows of x.
struct FourBitTile {
  static constexpr std::size_t rows = 4;
  const std::uint8_t* codes;  // the group in which the first row begins
  std::size_t code_stride;    // bytes from row to row
  const std::uint8_t* tail;   // null, or a copy of the last step of every row, one after the other
  const float* scales;        // of groups
  std::size_t scale_stride;   // floats from row to row
  std::size_t steps;
  const std::uint8_t* x;  // prepared
  std::size_t x_stride;
  const CodebookTables* codebook;
  const void* pairs;
  float* out;  // of row m of x and row r of weights: out[m * CanonicalPlan::batch + r]
};

template <class C, std::size_t R, std::size_t M>
LOWBIT_NOINLINE void four_bit_tile(const FourBitTile& t) {
  constexpr std::size_t bytes = C::step / 2, groups = C::step / CanonicalPlan::group;
  const auto table = C::table(*t.codebook, t.pairs);
  typename C::total total[R][M];
  LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) total[r][m] = C::zero();
  const std::uint8_t* x = t.x;
  const float* scales = t.scales;
  const std::size_t scale_stride = t.scale_stride, x_stride = t.x_stride;
  const std::uint8_t* codes = t.codes;
  // at least codes_ahead for every row; without steps there may be no codes to be ahead of
  const std::uint8_t* ahead = codes + (t.steps == 0 ? 0 : codes_ahead + (R - 1) * t.code_stride);
  std::size_t stride = t.code_stride;
  std::size_t left = t.steps - (t.tail ? 1 : 0);
  for (bool tail = false;; tail = true) {
    for (; left != 0; --left, codes += bytes, scales += groups, x += C::x_bytes, ahead += R * bytes) {
      prefetch_lines<R * bytes>(ahead);
      typename C::acc acc[R][M];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) acc[r][m] =
          C::start(x + m * x_stride);
      LOWBIT_UNROLL for (std::size_t i = 0; i < C::operands; ++i) {
        typename C::operand w[R];
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) w[r] = C::get(codes + r * stride, i, table);
        LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) {
          const typename C::operand xv = C::load_x(x + m * x_stride, i);
          LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) acc[r][m] = C::dot(acc[r][m], w[r], xv);
        }
      }
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const typename C::scale scale = C::load_scale(scales + r * scale_stride);
        LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) total[r][m] = C::add(total[r][m], acc[r][m], scale);
      }
    }
    if (tail || !t.tail) break;
    codes = t.tail;
    stride = bytes;
    left = 1;
  }
  LOWBIT_UNROLL for (std::size_t m = 0; m < M; ++m) {
    float* out = t.out + m * CanonicalPlan::batch;
    float sums[4];
    constexpr std::size_t last = R - 1;
    simd::store_sums(sums, total[0][m], total[last < 1 ? last : 1][m], total[last < 2 ? last : 2][m], total[last][m]);
    std::memcpy(out, sums, R * sizeof(float));
  }
}

template <class C, std::size_t R>
inline void four_bit_tiles(FourBitTile& t, std::size_t rows) {  // changes t: a copy would wait for its stores
  while (rows != 0) {
    const std::size_t m = rows >= max_x_rows ? max_x_rows : 1;  // totals of R x m live in registers
    m == 1 ? four_bit_tile<C, R, 1>(t) : four_bit_tile<C, R, max_x_rows>(t);
    t.x += m * t.x_stride;
    t.out += m * CanonicalPlan::batch;
    rows -= m;
  }
}

// ---- the loops ------------------------------------------------------------------------------------------------------
template <class C>
inline void gemm_four_bit(const CanonicalGemmArgs& a, const CanonicalPlan& plan) {
  constexpr std::size_t bytes = C::step / 2, groups = C::step / CanonicalPlan::group, B = CanonicalPlan::batch,
                        G = CanonicalPlan::group;
  const CanonicalWeights& w = a.w;
  const auto* codes = static_cast<const std::uint8_t*>(w.codes);
  const std::uint8_t* end_of_codes = codes + (w.n * w.k + 1) / 2;
  const std::size_t leads = plan.leads;
  void* pairs = a.scratch;
  auto* result = reinterpret_cast<float*>(a.scratch + CanonicalPlan::table_bytes);
  auto* scales = reinterpret_cast<float*>(a.scratch + CanonicalPlan::table_bytes + plan.result_bytes()) + 16;
  float* own_scales = scales + CanonicalPlan::batch * plan.scale_slots + 128;
  std::uint8_t* x = a.scratch + CanonicalPlan::table_bytes + plan.result_bytes() + plan.scale_bytes();
  if constexpr (C::pairs) C::fill_pairs(*w.codebook, pairs);
  // Rows that are no whole number of steps need scales of their own, with zeros behind the last group.
  const bool flat = w.k % C::step == 0;
  const std::size_t x_stride = leads * plan.row_bytes;

  for (std::size_t m = 0; m < a.m; m += plan.rows) {
    const std::size_t rows = a.m - m < plan.rows ? a.m - m : plan.rows;
    std::uint32_t prepared = 0;
    for (std::size_t n = a.row_begin; n < a.row_end; n += B) {
      const std::size_t count = a.row_end - n < B ? a.row_end - n : B;
      const std::size_t first_group = n * w.k / G;
      group_scales(w, first_group, w.k == 0 ? 0 : ((n + count) * w.k - 1) / G + 1 - first_group, scales);
      const auto tile = [&](std::size_t first, std::size_t height) {
        FourBitTile t;
        const std::size_t begin = (n + first) * w.k, lead = begin % G;
        t.codes = codes + begin / G * (G / 2);
        t.code_stride = w.k / 2;  // rows that are taken together begin at groups
        t.steps = (lead + w.k + C::step - 1) / C::step;
        t.codebook = w.codebook;
        t.pairs = pairs;
        t.scale_stride = w.k / G;
        t.scales = scales + (begin / G - first_group);
        if (!flat) {
          const std::size_t used = (lead + w.k + G - 1) / G;
          for (std::size_t r = 0; r < height; ++r) {
            const float* s = t.scales + r * t.scale_stride;
            float* o = own_scales + r * plan.scale_slots;
            for (std::size_t g = 0; g < t.steps * groups; ++g) o[g] = g < used ? s[g] : 0.0f;
          }
          t.scales = own_scales;
          t.scale_stride = plan.scale_slots;
        }
        // The last step may reach beyond the tensor: then it is read from a copy.
        std::uint8_t tail[FourBitTile::rows * bytes];
        t.tail = nullptr;
        if (static_cast<std::size_t>(end_of_codes - t.codes) < (height - 1) * t.code_stride + t.steps * bytes) {
          std::memset(tail, 0, sizeof tail);
          for (std::size_t r = 0; r < height; ++r) {
            const std::uint8_t* p = t.codes + r * t.code_stride + (t.steps - 1) * bytes;
            const auto left = static_cast<std::size_t>(end_of_codes - p);
            std::memcpy(tail + r * bytes, p, left < bytes ? left : bytes);
          }
          t.tail = tail;
        }
        const std::size_t place = leads == 1 ? 0 : lead * leads / G;
        std::uint8_t* px = x + place * plan.row_bytes;
        if ((prepared >> place & 1u) == 0) {
          prepared |= 1u << place;
          for (std::size_t r = 0; r < rows; ++r) {
            std::memset(px + r * x_stride, 0, t.steps * C::x_bytes);
            C::prepare(static_cast<const std::uint8_t*>(a.x.data) + (m + r) * a.x.stride_bytes, w.k, lead, px + r * x_stride);
          }
        }
        t.x = px;
        t.x_stride = x_stride;
        t.out = result + first;
        if (height == 4)
          four_bit_tiles<C, 4>(t, rows);
        else
          four_bit_tiles<C, 1>(t, rows);
      };
      std::size_t first = 0;
      if (leads == 1)
        for (; first + 4 <= count; first += 4) tile(first, 4);
      for (; first < count; ++first) tile(first, 1);
      const float code_scale = w.scale_factor * (a.x.scale ? w.codebook->byte_scale : 1.0f);
      for (std::size_t r = 0; r < rows; ++r)
        finish_columns(a.epilogue, a.y + (m + r) * a.y_stride, m + r, n, count, result + r * B,
                       a.x.scale ? a.x.scale[m + r] * code_scale : code_scale, nullptr);
    }
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
