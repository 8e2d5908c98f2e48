// SPDX-License-Identifier: MIT
#include "limits.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "executors.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/kernel/packed/tile_args.hpp"

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#include <immintrin.h>
#endif

namespace bench {

namespace {

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)

#define BENCH_TARGET(isa) __attribute__((target(isa), noinline))

// ---- arithmetic: sums that do not wait for each other, 12 where there are 16 registers and 24 where there are 32 (two
// instructions a cycle of up to 6 cycles' latency would want 12).  In assembly, so that no compiler keeps one of them in memory.
#define BENCH_OP(op, r, sum) op " %%" r "13, %%" r "12, %%" r sum "\n\t"
// clang-format off
#define BENCH_LOW(op, r)                                                                                    \
  BENCH_OP(op, r, "0") BENCH_OP(op, r, "1") BENCH_OP(op, r, "2") BENCH_OP(op, r, "3") BENCH_OP(op, r, "4")  \
  BENCH_OP(op, r, "5") BENCH_OP(op, r, "6") BENCH_OP(op, r, "7") BENCH_OP(op, r, "8") BENCH_OP(op, r, "9")  \
  BENCH_OP(op, r, "10") BENCH_OP(op, r, "11")
#define BENCH_HIGH(op, r)                                                                                        \
  BENCH_OP(op, r, "14") BENCH_OP(op, r, "15") BENCH_OP(op, r, "16") BENCH_OP(op, r, "17") BENCH_OP(op, r, "18")  \
  BENCH_OP(op, r, "19") BENCH_OP(op, r, "20") BENCH_OP(op, r, "21") BENCH_OP(op, r, "22") BENCH_OP(op, r, "23")  \
  BENCH_OP(op, r, "24") BENCH_OP(op, r, "25")
// clang-format on
#define BENCH_16_REGISTERS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"
#define BENCH_32_REGISTERS \
  BENCH_16_REGISTERS, "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25"
#define BENCH_ARITHMETIC(name, isa, instructions, ...)                                              \
  BENCH_TARGET(isa) void name(std::size_t times) {                                                  \
    __asm__ volatile("1:\n\t" instructions "dec %0\n\tjnz 1b" : "+r"(times) : : "cc", __VA_ARGS__); \
  }
constexpr double instructions_per_turn = 24;

BENCH_ARITHMETIC(fma_avx2, "avx2,fma", BENCH_LOW("vfmadd231ps", "ymm") BENCH_LOW("vfmadd231ps", "ymm"), BENCH_16_REGISTERS)
BENCH_ARITHMETIC(fma_avx512, "avx512f", BENCH_LOW("vfmadd231ps", "zmm") BENCH_HIGH("vfmadd231ps", "zmm"), BENCH_32_REGISTERS)
BENCH_ARITHMETIC(dot_int8, "avx512f", BENCH_LOW("vpdpbusd", "zmm") BENCH_HIGH("vpdpbusd", "zmm"), BENCH_32_REGISTERS)
BENCH_ARITHMETIC(dot_bf16, "avx512f", BENCH_LOW("vdpbf16ps", "zmm") BENCH_HIGH("vdpbf16ps", "zmm"), BENCH_32_REGISTERS)

BENCH_ARITHMETIC(lookup_f32, "avx512f", BENCH_LOW("vpermps", "zmm") BENCH_HIGH("vpermps", "zmm"), BENCH_32_REGISTERS)
BENCH_ARITHMETIC(lookup_bf16, "avx512f", BENCH_LOW("vpermw", "zmm") BENCH_HIGH("vpermw", "zmm"), BENCH_32_REGISTERS)
BENCH_ARITHMETIC(lookup_int8, "avx512f", BENCH_LOW("vpshufb", "zmm") BENCH_HIGH("vpshufb", "zmm"), BENCH_32_REGISTERS)
BENCH_ARITHMETIC(lookup_int8_vpermb, "avx512f", BENCH_LOW("vpermb", "zmm") BENCH_HIGH("vpermb", "zmm"), BENCH_32_REGISTERS)

// ---- what a block of 64 k of 4-bit codes takes in a tile of 48 columns: dots, shifts, look-ups, and the block's end, where every
// sum is scaled, added to its total and started again.  No weights, activations or totals are read or written.
// clang-format off
#define BENCH_TILE(name, body)                                                                                                \
  BENCH_TARGET("avx512f") void name(std::size_t times) {                                                                      \
    __asm__ volatile("1:\n\t" body "dec %0\n\tjnz 1b" : "+r"(times) : : "cc", BENCH_32_REGISTERS, "xmm26", "xmm27", "xmm28", \
                     "xmm29", "xmm30", "xmm31");                                                                              \
  }
#define BENCH_REPEAT(times, body) ".rept " times "\n\t" body ".endr\n\t"
#define BENCH_SUMS_4(op, a, b, c, d) op(a) op(b) op(c) op(d)
#define BENCH_SUMS_0_TO_7(op) BENCH_SUMS_4(op, "0", "1", "2", "3") BENCH_SUMS_4(op, "4", "5", "6", "7")
#define BENCH_SUMS_8_TO_15(op) BENCH_SUMS_4(op, "8", "9", "10", "11") BENCH_SUMS_4(op, "12", "13", "14", "15")
#define BENCH_SUMS_16_TO_23(op) BENCH_SUMS_4(op, "16", "17", "18", "19") BENCH_SUMS_4(op, "20", "21", "22", "23")
// f32, 8 rows: sums 0 to 23, table 24, x 25, codes 26, shifted 27, weights 28, scale 29, total 30.  A step: for each of
// three registers of columns a look-up, after a shift in all steps but the first, and its dots.
#define BENCH_FMA(r) "vfmadd231ps %%zmm25, %%zmm28, %%zmm" r "\n\t"
#define BENCH_SCALE(r) "vfmadd132ps %%zmm29, %%zmm30, %%zmm" r "\n\t"
#define BENCH_SHIFT "vpsrld $4, %%zmm26, %%zmm27\n\t"
#define BENCH_VPERMPS "vpermps %%zmm24, %%zmm27, %%zmm28\n\t"
#define BENCH_F32_STEP(look) look BENCH_SUMS_0_TO_7(BENCH_FMA) look BENCH_SUMS_8_TO_15(BENCH_FMA) look BENCH_SUMS_16_TO_23(BENCH_FMA)
BENCH_TILE(tile_f32,
           BENCH_REPEAT("8", BENCH_F32_STEP(BENCH_VPERMPS) BENCH_REPEAT("7", BENCH_F32_STEP(BENCH_SHIFT BENCH_VPERMPS)))
           BENCH_SUMS_0_TO_7(BENCH_SCALE) BENCH_SUMS_8_TO_15(BENCH_SCALE) BENCH_SUMS_16_TO_23(BENCH_SCALE))
// bf16 and int8, 4 rows, whose totals have registers as well.  A step:
#define BENCH_STEP_4(look, dot)                                                                                          \
  look BENCH_SUMS_4(dot, "0", "1", "2", "3") look BENCH_SUMS_4(dot, "4", "5", "6", "7") look BENCH_SUMS_4(dot, "8", "9", "10", "11")
#define BENCH_TOTALS_4(op)                                                                              \
  op("0", "12") op("1", "13") op("2", "14") op("3", "15") op("4", "16") op("5", "17") op("6", "18") op("7", "19") op("8", "20") \
  op("9", "21") op("10", "22") op("11", "23")
// bf16: sums 0 to 11, totals 12 to 23, and as f32.
#define BENCH_VPERMW "vpermw %%zmm24, %%zmm27, %%zmm28\n\t"
#define BENCH_BF16(r) "vdpbf16ps %%zmm25, %%zmm28, %%zmm" r "\n\t"
#define BENCH_FLOAT_TOTAL(sum, total) \
  "vfmadd231ps %%zmm" sum ", %%zmm29, %%zmm" total "\n\tvpxord %%zmm" sum ", %%zmm" sum ", %%zmm" sum "\n\t"
#define BENCH_BF16_TILE(name, step, totals)                                                                                         \
  BENCH_TILE(name, BENCH_REPEAT("8", step(BENCH_VPERMW, BENCH_BF16) BENCH_REPEAT("3", step(BENCH_SHIFT BENCH_VPERMW, BENCH_BF16))) \
                   totals(BENCH_FLOAT_TOTAL))
BENCH_BF16_TILE(tile_bf16, BENCH_STEP_4, BENCH_TOTALS_4)
// int8: sums 0 to 11, totals 12 to 23, table 24, x 25, codes 26, index 27, weights 28, scale 29, mask 30, scratch 31.
#define BENCH_INT8(r) "vpdpbusd %%zmm25, %%zmm28, %%zmm" r "\n\t"
#define BENCH_LOW_CODES "vpandd %%zmm30, %%zmm26, %%zmm27\n\tvpshufb %%zmm27, %%zmm24, %%zmm28\n\t"
#define BENCH_HIGH_CODES \
  "vpsrld $4, %%zmm26, %%zmm27\n\tvpandd %%zmm30, %%zmm27, %%zmm27\n\tvpshufb %%zmm27, %%zmm24, %%zmm28\n\t"
#define BENCH_INT8_TOTAL(sum, total)                                                                         \
  "vsubps %%zmm29, %%zmm" sum ", %%zmm31\n\tvfmadd231ps %%zmm31, %%zmm29, %%zmm" total "\n\t"           \
  "vmovaps %%zmm25, %%zmm" sum "\n\t"
#define BENCH_INT8_TILE(name, step, totals, low, high) \
  BENCH_TILE(name, BENCH_REPEAT("8", step(low, BENCH_INT8) step(high, BENCH_INT8)) totals(BENCH_INT8_TOTAL))
BENCH_INT8_TILE(tile_int8, BENCH_STEP_4, BENCH_TOTALS_4, BENCH_LOW_CODES, BENCH_HIGH_CODES)
// The same without masks.
#define BENCH_VPERMB "vpermb %%zmm24, %%zmm27, %%zmm28\n\t"
BENCH_INT8_TILE(tile_int8_vpermb, BENCH_STEP_4, BENCH_TOTALS_4, BENCH_VPERMB, BENCH_SHIFT BENCH_VPERMB)
// One and two rows: every look-up serves as many dots, over as many registers of columns as kernels take (two panels, four for one
// row of bf16).  Registers as with 4 rows.
#define BENCH_STEP_2(look, dot)                                                                                          \
  look dot("0") dot("1") look dot("2") dot("3") look dot("4") dot("5") look dot("6") dot("7") look dot("8") dot("9")      \
  look dot("10") dot("11")
#define BENCH_STEP_1(look, dot) look dot("0") look dot("1") look dot("2") look dot("3") look dot("4") look dot("5")
#define BENCH_STEP_1_WIDE(look, dot) BENCH_STEP_1(look, dot) \
  look dot("6") look dot("7") look dot("8") look dot("9") look dot("10") look dot("11")
#define BENCH_TOTALS_1(op) op("0", "12") op("1", "13") op("2", "14") op("3", "15") op("4", "16") op("5", "17")
#define BENCH_F32_TILE(name, step, totals)                                                                                          \
  BENCH_TILE(name, BENCH_REPEAT("8", step(BENCH_VPERMPS, BENCH_FMA) BENCH_REPEAT("7", step(BENCH_SHIFT BENCH_VPERMPS, BENCH_FMA))) \
                   totals(BENCH_FLOAT_TOTAL))
BENCH_F32_TILE(tile_f32_2, BENCH_STEP_2, BENCH_TOTALS_4)
BENCH_F32_TILE(tile_f32_1, BENCH_STEP_1, BENCH_TOTALS_1)
BENCH_BF16_TILE(tile_bf16_2, BENCH_STEP_2, BENCH_TOTALS_4)
BENCH_BF16_TILE(tile_bf16_1, BENCH_STEP_1_WIDE, BENCH_TOTALS_4)
BENCH_INT8_TILE(tile_int8_2, BENCH_STEP_2, BENCH_TOTALS_4, BENCH_LOW_CODES, BENCH_HIGH_CODES)
BENCH_INT8_TILE(tile_int8_1, BENCH_STEP_1, BENCH_TOTALS_1, BENCH_LOW_CODES, BENCH_HIGH_CODES)
BENCH_INT8_TILE(tile_int8_vpermb_2, BENCH_STEP_2, BENCH_TOTALS_4, BENCH_VPERMB, BENCH_SHIFT BENCH_VPERMB)
BENCH_INT8_TILE(tile_int8_vpermb_1, BENCH_STEP_1, BENCH_TOTALS_1, BENCH_VPERMB, BENCH_SHIFT BENCH_VPERMB)
// clang-format on

// ---- tile instructions, of `rows` rows.  Six sums, one x, one of weights.
#define BENCH_DOT(op, sum) op " %%tmm7, %%tmm6, %%tmm" sum "\n\t"
#define BENCH_SIX(op) \
  BENCH_DOT(op, "0") BENCH_DOT(op, "1") BENCH_DOT(op, "2") BENCH_DOT(op, "3") BENCH_DOT(op, "4") BENCH_DOT(op, "5")
BENCH_ARITHMETIC(tile_dots_int8, "avx512f", BENCH_REPEAT("4", BENCH_SIX("tdpbusd")), "memory")
BENCH_ARITHMETIC(tile_dots_bf16, "avx512f", BENCH_REPEAT("4", BENCH_SIX("tdpbf16ps")), "memory")

// Calls f() with every tile register of this thread set to so many rows of 64 bytes, those of weights to 16.
template <class F>
void with_tiles(std::size_t rows, const F& f) {
  lowbit::detail::TileConfiguration c, before;
  c.palette = 1;
  for (std::size_t t = 0; t < 8; ++t) {
    c.bytes[t] = 64;
    c.rows[t] = static_cast<std::uint8_t>(t == 7 ? 16 : rows);
  }
  __asm__ volatile("sttilecfg %0\n\tldtilecfg %1" : "=m"(before) : "m"(c) : "memory");
  f();
  if (before.palette == 0)
    __asm__ volatile("tilerelease" : : : "memory");
  else
    __asm__ volatile("ldtilecfg %0" : : "m"(before) : "memory");
}

// NF4 in int8 compute: 16 columns by 768 k, decoded to L1 once for `tiles` tiles of rows, whose x is in L1 too; the sums of every 64 k
// are stored, and 16 rows of them scaled and added to totals in registers.
constexpr std::size_t tile_blocks = 12;
#define BENCH_TILE_BLOCK(name, sum)                                                                                       \
  inline void name(void* sums, const void* x, const void* weights) {                                                      \
    __asm__ volatile("tilezero %%tmm" sum "\n\ttileloadd (%1,%3,1), %%tmm6\n\ttileloadd (%2,%4,1), %%tmm7\n\t" BENCH_DOT( \
                         "tdpbssd", sum) "tilestored %%tmm" sum ", (%0,%4,1)"                                             \
                     :                                                                                                    \
                     : "r"(sums), "r"(x), "r"(weights), "r"(64 * tile_blocks), "r"(std::size_t{64})                       \
                     : "memory");                                                                                         \
  }
BENCH_TILE_BLOCK(tile_block_0, "0")
BENCH_TILE_BLOCK(tile_block_1, "1")
BENCH_TARGET("avx512f") void tile_nf4(std::size_t times, std::size_t tiles) {
  alignas(64) static thread_local std::uint8_t codes[tile_blocks * 512], weights[tile_blocks * 1024], x[16 * 64 * tile_blocks],
      sums[4096];
  const __m512 table = _mm512_set1_ps(1.0f), scale = _mm512_set1_ps(0.5f);
  for (std::size_t i = 0; i < times; ++i) {
    for (std::size_t from = 0; from < sizeof codes; from += 64)
      __asm__ volatile(
          "vmovdqa64 (%0), %%zmm30\n\tvpermb %2, %%zmm30, %%zmm31\n\tvmovdqa64 %%zmm31, (%1)\n\t"
          "vpsrld $4, %%zmm30, %%zmm30\n\tvpermb %2, %%zmm30, %%zmm31\n\tvmovdqa64 %%zmm31, 64(%1)"
          :
          : "r"(codes + from), "r"(weights + 2 * from), "v"(table)
          : "xmm30", "xmm31", "memory");
    for (std::size_t t = 0; t < tiles; ++t) {
      __m512 total[16] = {};
      for (std::size_t b = 0; b < tile_blocks; ++b) {
        std::uint8_t* at = sums + b % 4 * 1024;
        const std::uint8_t* done = sums + (b + 2) % 4 * 1024;  // stored two blocks ago
        if (b % 2 == 0)
          tile_block_0(at, x + b * 64, weights + b * 1024);
        else
          tile_block_1(at, x + b * 64, weights + b * 1024);
#if defined(__GNUC__)
#pragma GCC unroll 16
#endif
        for (std::size_t r = 0; r < 16; ++r)
          __asm__ volatile("vcvtdq2ps (%1), %%zmm30\n\tvfmadd231ps %%zmm30, %2, %0"
                           : "+v"(total[r])
                           : "r"(done + r * 64), "v"(scale)
                           : "xmm30", "memory");
      }
    }
  }
}

// Level avx512bf16 looks bytes up with vpermb.
bool looks_up_with_vpermb() { return lowbit::active_level() >= lowbit::Level::avx512bf16; }

// What kernels take for m rows of x: so many rows and registers of columns at a time.
struct Tile {
  void (*run)(std::size_t);
  double rows, registers;
};
Tile tile_of(Arithmetic what, std::size_t m) {
  const bool vpermb = looks_up_with_vpermb();
  switch (what) {
    case Arithmetic::f32: return m == 1 ? Tile{tile_f32_1, 1, 6} : m < 4 ? Tile{tile_f32_2, 2, 6} : Tile{tile_f32, 8, 3};
    case Arithmetic::bf16: return m == 1 ? Tile{tile_bf16_1, 1, 12} : m < 4 ? Tile{tile_bf16_2, 2, 6} : Tile{tile_bf16, 4, 3};
    case Arithmetic::int8: break;
  }
  if (m == 1) return {vpermb ? tile_int8_vpermb_1 : tile_int8_1, 1, 6};
  if (m < 4) return {vpermb ? tile_int8_vpermb_2 : tile_int8_2, 2, 6};
  return {vpermb ? tile_int8_vpermb : tile_int8, 4, 3};
}

struct Loop {
  void (*run)(std::size_t) = nullptr;
  double operations = 0;      // per instruction
  std::size_t tile_rows = 0;  // 0: no tile instruction
};
// Whether kernels multiply m rows by tiles.
bool in_tiles(Arithmetic what, std::size_t m, bool four_bit) {
  using namespace lowbit::detail;
  if (lowbit::active_level() < lowbit::Level::amx || what == Arithmetic::f32) return false;
  return what == Arithmetic::bf16 || m >= (four_bit ? tile_rows_four_bit : tile_rows_int8);
}
Loop loop_of(Arithmetic what, std::size_t m) {
  const lowbit::Level level = lowbit::active_level();
  if (in_tiles(what, m, false)) {
    const std::size_t rows = lowbit::detail::tile_rows_of(m);
    const double products = static_cast<double>(rows) * 16 * 16;
    return what == Arithmetic::bf16 ? Loop{tile_dots_bf16, 4 * products, rows} : Loop{tile_dots_int8, 8 * products, rows};
  }
  switch (what) {
    case Arithmetic::f32:
      if (level >= lowbit::Level::avx512) return {fma_avx512, 32};
      return level >= lowbit::Level::avx2 ? Loop{fma_avx2, 16} : Loop{};
    case Arithmetic::bf16: return level >= lowbit::Level::avx512bf16 ? Loop{dot_bf16, 64} : Loop{};
    case Arithmetic::int8: return level >= lowbit::Level::avx512vnni ? Loop{dot_int8, 128} : Loop{};
  }
  return {};
}

// ---- reading: 512 bytes a turn from each of several streams, asked for some way ahead.
using Reader = void (*)(const char*, std::size_t);
#define BENCH_READER(name, isa, move, r, step)                                                                                  \
  template <int Streams, int Ahead>                                                                                             \
  BENCH_TARGET(isa)                                                                                                             \
  void name(const char* data, std::size_t bytes) {                                                                              \
    const std::size_t part = bytes / Streams / 512 * 512;                                                                       \
    for (std::size_t i = 0; i < part; i += 512)                                                                                 \
      for (int s = 0; s < Streams; ++s) {                                                                                       \
        const char* at = data + static_cast<std::size_t>(s) * part + i;                                                         \
        if (Ahead != 0)                                                                                                         \
          for (int line = 0; line < 512; line += 64) _mm_prefetch(at + Ahead + line, _MM_HINT_T0);                              \
        for (int half = 0; half < 512; half += 8 * step)                                                                        \
          __asm__ volatile(move " (%0), %%" r "0\n\t" move " %c1(%0), %%" r "1\n\t" move " 2*%c1(%0), %%" r "2\n\t" move        \
                                " 3*%c1(%0), %%" r "3\n\t" move " 4*%c1(%0), %%" r "4\n\t" move " 5*%c1(%0), %%" r "5\n\t" move \
                                " 6*%c1(%0), %%" r "6\n\t" move " 7*%c1(%0), %%" r "7"                                          \
                           :                                                                                                    \
                           : "r"(at + half), "i"(step)                                                                          \
                           : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory");                         \
      }                                                                                                                         \
  }
BENCH_READER(read_16, "sse2", "movaps", "xmm", 16)
BENCH_READER(read_32, "avx2", "vmovaps", "ymm", 32)
BENCH_READER(read_64, "avx512f", "vmovaps", "zmm", 64)

struct Pattern {
  const char* label;
  Reader by_16, by_32, by_64;
};
#define BENCH_PATTERN(label, streams, ahead) \
  Pattern { label, read_16<streams, ahead>, read_32<streams, ahead>, read_64<streams, ahead> }
const std::array patterns = {BENCH_PATTERN("plain loads", 1, 0),
                             BENCH_PATTERN("prefetch 2 KiB ahead", 1, 2048),
                             BENCH_PATTERN("prefetch 6 KiB ahead", 1, 6144),
                             BENCH_PATTERN("prefetch 10 KiB ahead", 1, 10240),
                             BENCH_PATTERN("2 streams", 2, 0),
                             BENCH_PATTERN("2 streams, prefetch 6 KiB ahead", 2, 6144),
                             BENCH_PATTERN("4 streams, prefetch 4 KiB ahead", 4, 4096)};
Reader reader_of(const Pattern& p) {
  const lowbit::Level level = lowbit::active_level();
  return level >= lowbit::Level::avx512 ? p.by_64 : level >= lowbit::Level::avx2 ? p.by_32 : p.by_16;
}

constexpr std::size_t dram_bytes = std::size_t{256} << 20, slack = std::size_t{2} << 20;  // slack: for what is asked for ahead

// Written once, so that every page is there.
const char* memory() {
  static const std::unique_ptr<char, void (*)(void*)> all = [] {
    std::unique_ptr<char, void (*)(void*)> p(static_cast<char*>(std::aligned_alloc(std::size_t{2} << 20, dram_bytes + slack)),
                                             std::free);
    std::fill_n(p.get(), dram_bytes + slack, char{1});
    return p;
  }();
  return all.get();
}

#endif

}  // namespace

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)

namespace {

Contender on_threads_of(const Problem& p) {
  Contender c;
  c.threads = p.threads;
  c.enter = [threads = p.threads] { gather(threads); };
  return c;
}

}  // namespace

Contender arithmetic_limit(Arithmetic what, const Problem& p) {
  Contender c = on_threads_of(p);
  c.operations = p.operations();
  const Loop loop = loop_of(what, p.m);
  if (loop.run == nullptr) return c;
  const double share = c.operations / static_cast<double>(p.threads) / loop.operations / instructions_per_turn;
  const std::size_t turns = static_cast<std::size_t>(share) + 1;
  c.operations = static_cast<double>(turns * p.threads) * instructions_per_turn * loop.operations;
  const auto run = [=](std::size_t) {
    if (loop.tile_rows == 0) return loop.run(turns);
    with_tiles(loop.tile_rows, [&] { loop.run(turns); });
  };
  c.ways.push_back({"registers", [=](std::size_t) { executor(p.threads).run(p.threads, run); }});
  return c;
}

constexpr double nf4_bytes = 0.5 + 4.0 / 64;  // half a byte a code, and a float for 64 of them

Contender tile_limit(Arithmetic what, const Problem& p) {
  Contender c = on_threads_of(p);
  if (loop_of(what, p.m).run == nullptr || lowbit::active_level() < lowbit::Level::avx512) return c;
  if (in_tiles(what, p.m, true)) {
    if (what == Arithmetic::bf16) return c;  // its weights are decoded once for all rows: bound by the dots alone
    const std::size_t rows = lowbit::detail::tile_rows_of(p.m), tiles = (p.m + rows - 1) / rows;
    const double turn = 2.0 * 16 * 64 * static_cast<double>(tile_blocks * rows * tiles);
    const std::size_t turns = static_cast<std::size_t>(p.operations() / static_cast<double>(p.threads) / turn) + 1;
    c.operations = static_cast<double>(turns * p.threads) * turn;
    const auto run = [=](std::size_t) { with_tiles(rows, [&] { tile_nf4(turns, tiles); }); };
    c.ways.push_back({"level 1", [=](std::size_t) { executor(p.threads).run(p.threads, run); }});
    return c;
  }
  const Tile tile = tile_of(what, p.m);
  const double weights = 64 * 16 * tile.registers, block = 2 * weights * tile.rows;
  const std::size_t blocks = static_cast<std::size_t>(p.operations() / static_cast<double>(p.threads) / block) + 1;
  c.operations = static_cast<double>(blocks * p.threads) * block;
  if (p.m == 1) c.bytes = static_cast<double>(blocks * p.threads) * weights * nf4_bytes;
  c.ways.push_back({"registers", [=](std::size_t) { executor(p.threads).run(p.threads, [&](std::size_t) { tile.run(blocks); }); }});
  return c;
}

Contender lookup_limit(Arithmetic what, const Problem& p) {
  Contender c = on_threads_of(p);
  if (lowbit::active_level() < lowbit::Level::avx512) return c;
  const auto lookup_of_bytes = looks_up_with_vpermb() ? lookup_int8_vpermb : lookup_int8;
  const Loop loop = what == Arithmetic::f32    ? Loop{lookup_f32, 16}
                    : what == Arithmetic::bf16 ? Loop{lookup_bf16, 32}
                                               : Loop{lookup_of_bytes, 64};
  const double weights = static_cast<double>(p.n) * static_cast<double>(p.k) / static_cast<double>(p.threads);
  const std::size_t turns = static_cast<std::size_t>(weights / loop.operations / instructions_per_turn) + 1;
  c.bytes = static_cast<double>(turns * p.threads) * instructions_per_turn * loop.operations * nf4_bytes;
  c.ways.push_back({"registers", [=](std::size_t) { executor(p.threads).run(p.threads, [&](std::size_t) { loop.run(turns); }); }});
  return c;
}

Contender read_limit(Memory where, const Problem& p) {
  Contender c = on_threads_of(p);
  // What a thread reads in a call, and how far the calls go before they come back.
  const std::size_t piece = where == Memory::l2 ? std::size_t{512} << 10 : std::size_t{4} << 20;
  const std::size_t range = where == Memory::l3 ? std::size_t{8} << 20 : dram_bytes;
  const int times = where == Memory::l2 ? 16 : 1;
  c.bytes = static_cast<double>(piece * p.threads) * times;
  if (where == Memory::dram) c.lap = range / (piece * p.threads);
  const auto start = [=](std::size_t call, std::size_t task) {
    if (where != Memory::l2) return memory() + (call * p.threads + task) * piece % range;
    static std::atomic<std::size_t> threads = 0;
    thread_local const std::size_t mine = threads++;  // a task may come to any thread, and an L2 belongs to one
    return memory() + mine * piece % range;
  };
  for (const Pattern& pattern : patterns)
    c.ways.push_back({pattern.label, [=, read = reader_of(pattern)](std::size_t call) {
                        executor(p.threads).run(p.threads, [&](std::size_t task) {
                          for (int i = 0; i < times; ++i) read(start(call, task), piece);
                        });
                      }});
  return c;
}

Contender handover_limit(const Problem& p) {
  Contender c = on_threads_of(p);
  if (p.threads < 2 || usable_processors() < 2) return c;  // two threads on one processor would wait for the system every time
  constexpr int turns = 1000;
  c.bytes = 64.0 * 2 * turns;
  c.ways.push_back({"one line", [=](std::size_t) {
                      alignas(64) std::atomic<int> line = 0;
                      executor(p.threads).run(2, [&](std::size_t task) {
                        for (int i = static_cast<int>(task); i < 2 * turns; i += 2) {
                          while (line.load(std::memory_order_acquire) != i) {
                          }
                          line.store(i + 1, std::memory_order_release);
                        }
                      });
                    }});
  return c;
}

#else

Contender arithmetic_limit(Arithmetic, const Problem&) { return {}; }
Contender tile_limit(Arithmetic, const Problem&) { return {}; }
Contender lookup_limit(Arithmetic, const Problem&) { return {}; }
Contender read_limit(Memory, const Problem&) { return {}; }
Contender handover_limit(const Problem&) { return {}; }

#endif

}  // namespace bench
