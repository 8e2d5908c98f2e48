// SPDX-License-Identifier: MIT
// What this processor and its operating system can run, by our own cpuid and xgetbv: compilers' helpers differ in the names
// they know, and xsimd 8.1's detection does not ask whether the operating system saves the wide registers.
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

#include "lowbit/kernel/dispatch/level.hpp"

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#if LOWBIT_ARM64
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
extern "C" __declspec(dllimport) int __stdcall IsProcessorFeaturePresent(unsigned long);  // windows.h brings macros
#endif
#endif
#if LOWBIT_TILES && !defined(LOWBIT_TILE_MODEL)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lowbit::detail::inline LOWBIT_ABI {

struct CpuidResult {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, 0, 0);
  if (leaf > static_cast<std::uint32_t>(out[0])) return r;
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<std::uint32_t>(out[0]), static_cast<std::uint32_t>(out[1]), static_cast<std::uint32_t>(out[2]),
       static_cast<std::uint32_t>(out[3])};
#else
  if (std::cmp_greater(leaf, __get_cpuid_max(0, nullptr))) return r;  // an int, or unsigned, by compiler
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
#endif
  return r;
}
// The register state that the operating system saves (XCR0).  Call only where cpuid says OSXSAVE.
inline std::uint64_t xcr0() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}
#endif

#if LOWBIT_TILES && !defined(LOWBIT_TILE_MODEL)
// Asks Linux for the tile registers' state (ARCH_REQ_XCOMP_PERM of XTILEDATA); true if this process, with threads and children made
// later, may use them.  Asking again changes nothing.  Refused where a signal stack is too small for that state, or by a filter of
// system calls.
inline bool permit_tiles() { return syscall(SYS_arch_prctl, 0x1023L, 18L) == 0; }
#endif

// What find() returned at the first call; not 0.  Several threads may ask the processor at the same time: unlike the lock of a
// static variable, which another thread may hold, that goes well in a child made by fork().
template <class Find>
inline unsigned once(std::atomic<unsigned>& kept, const Find& find) {
  unsigned value = kept.load(std::memory_order_relaxed);
  if (value == 0) kept.store(value = find(), std::memory_order_relaxed);
  return value;
}

#if LOWBIT_ARM64
struct ArmFeatures {
  bool dotprod = false, i8mm = false, bf16 = false;
};
// As the operating system tells them; none where it has no way to.  Numbers, as old headers lack the names.
inline ArmFeatures arm_features() {
#if defined(__linux__)
  const unsigned long cap = getauxval(16), cap2 = getauxval(26);  // AT_HWCAP, AT_HWCAP2
  return {(cap >> 20 & 1u) != 0, (cap2 >> 13 & 1u) != 0, (cap2 >> 14 & 1u) != 0};
#elif defined(__APPLE__)
  const auto has = [](const char* name) {  // an older system does not know the name
    int value = 0;
    std::size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  return {has("hw.optional.arm.FEAT_DotProd"), has("hw.optional.arm.FEAT_I8MM"), has("hw.optional.arm.FEAT_BF16")};
#elif defined(_WIN32)
  return {IsProcessorFeaturePresent(43) != 0, IsProcessorFeaturePresent(66) != 0, IsProcessorFeaturePresent(68) != 0};
#else
  return {};
#endif
}
#endif

// One bit per level, in the order of the enum.
inline unsigned detect_cpu_levels() {
  const auto with = [](Level l) { return 1u << static_cast<unsigned>(l); };
#if LOWBIT_ARM64
  const ArmFeatures has = arm_features();
  return with(Level::base) | with(Level::neon) | (has.dotprod ? with(Level::neon_dot) : 0u) |
         (has.dotprod && has.i8mm && has.bf16 ? with(Level::neon_i8mm) : 0u);
#else
  unsigned levels = with(Level::base);
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
  const auto bit = [](std::uint32_t word, int i) { return ((word >> i) & 1u) != 0; };
  const CpuidResult f1 = cpuid(1, 0), f7 = cpuid(7, 0), f71 = f7.eax >= 1 ? cpuid(7, 1) : CpuidResult{};
  if (!bit(f1.ecx, 27)) return levels;  // OSXSAVE
  const std::uint64_t saved = xcr0();
  const bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xE6) == 0xE6;
  const bool avx2 = ymm && bit(f1.ecx, 28) && bit(f7.ebx, 5) && bit(f1.ecx, 12) && bit(f1.ecx, 29);  // avx, avx2, fma, f16c
  if (!avx2) return levels;
  levels |= with(Level::avx2);
#if defined(LOWBIT_TILE_MODEL)
  levels |= with(Level::amx);
#endif
  if (bit(f71.eax, 4)) levels |= with(Level::avxvnni);
  const bool avx512 =
      zmm && bit(f7.ebx, 16) && bit(f7.ebx, 17) && bit(f7.ebx, 28) && bit(f7.ebx, 30) && bit(f7.ebx, 31);  // f dq cd bw vl
  if (!avx512) return levels;
  levels |= with(Level::avx512);
  if (!bit(f7.ecx, 11)) return levels;  // avx512_vnni
  levels |= with(Level::avx512vnni);
  if (!bit(f71.eax, 5) || !bit(f7.ecx, 1)) return levels;  // avx512_bf16 avx512_vbmi
  levels |= with(Level::avx512bf16);
#if LOWBIT_TILES && !defined(LOWBIT_TILE_MODEL)
  const bool tiles = (saved & 0x60000) == 0x60000 && bit(f7.edx, 22) && bit(f7.edx, 24) && bit(f7.edx, 25);  // bf16 tile int8
  if (tiles && permit_tiles()) levels |= with(Level::amx);
#endif
#endif
  return levels;
#endif
}

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Whether this machine can run a level.  Thread safe; asked once.
inline bool cpu_supports(Level level) {
  static std::atomic<unsigned> kept{0};
  const unsigned levels = detail::once(kept, detail::detect_cpu_levels);
  return ((levels >> static_cast<unsigned>(level)) & 1u) != 0;
}

// The best level that this machine can run.  Thread safe.
inline Level cpu_level() {
  Level best = Level::base;
  for (const Level l : all_levels)
    if (cpu_supports(l)) best = l;
  return best;
}

// Whether bf16 compute gains speed at level avx512bf16: whether the processor's vdpbf16ps does at least what two float FMAs do in
// the same time.  AMD's does (Zen 4 and 5).  Intel's takes so long that the float FMA is twice as fast: measured on Emerald
// Rapids, 82 against 166 GFLOP/s of one core; there float or int8 compute is the faster choice.  Thread safe.
inline bool cpu_has_fast_bf16() {
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
  static std::atomic<unsigned> kept{0};
  return detail::once(kept, [] {
           const bool fast = cpu_supports(Level::avx512bf16) && detail::cpuid(0, 0).ebx != 0x756E6547u;  // "Genu"(ineIntel)
           return fast ? 2u : 1u;
         }) == 2;
#else
  return false;
#endif
}

// Whether kernels that wait for memory should ask for their weights ahead of time.  AMD family 19h (Zen 3 and 4) follows a few
// long streams by itself, and a request holds one of the few places for misses of L1 until memory has answered: measured on Zen 4,
// one row of NF4 from memory, 22 GB/s without and 16 with.  Emerald Rapids gains by asking, and Zen 5 did with shorter streams.
// Thread safe.
inline bool cpu_wants_prefetch() {
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
  static std::atomic<unsigned> kept{0};
  return detail::once(kept, [] {
           const std::uint32_t signature = detail::cpuid(1, 0).eax;
           const std::uint32_t family = (signature >> 8 & 0xF) + (signature >> 20 & 0xFF);
           const bool wants = detail::cpuid(0, 0).ebx != 0x68747541u || family != 0x19;  // "Auth"(enticAMD)
           return wants ? 2u : 1u;
         }) == 2;
#else
  return true;
#endif
}

}  // namespace lowbit::inline LOWBIT_ABI
