// SPDX-License-Identifier: MIT
// The only file that opens target regions: every level's vocabulary and kernels are included here, each in its own namespace.
// Levels that stand below the one that the compiler's flags guarantee (kernel/dispatch/level.hpp) are left out; that one needs no region.
#pragma once
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "lowbit/base/error.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/base/rounding.hpp"
#include "lowbit/kernel/dispatch/tables.hpp"
#include "lowbit/kernel/dispatch/cpu.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// A level's table: Kernels, or the products with weights of 4-bit elements or of others (GemmKernelsFor).  Null where this build leaves
// the level out; it says nothing about the processor.  Thread safe.
template <class Table>
const Table* table_of(Level level);
// The float kernels (TransformerKernels, TrainingKernels) of a level that kernels_of() has; they use no instruction beyond AVX2's and
// AVX-512's first ones.
template <class Table>
const Table* float_kernels_of(Level level);

#if LOWBIT_DECLARED_ONLY
extern template const Kernels* table_of(Level level);
extern template const GemmKernelsFor<false>* table_of(Level level);
extern template const GemmKernelsFor<true>* table_of(Level level);
extern template const TransformerKernels* float_kernels_of(Level level);
extern template const TrainingKernels* float_kernels_of(Level level);
#endif
inline const Kernels* kernels_of(Level level) { return table_of<Kernels>(level); }
template <bool four_bit>
const GemmKernels* gemm_kernels_of(Level level) {
  return table_of<GemmKernelsFor<four_bit>>(level);
}

#if LOWBIT_TILES
// How this thread's tile registers are configured, palette 0 where they are not; only where the processor supports level amx.
LOWBIT_FUNCTION TileConfiguration tile_configuration();
LOWBIT_FUNCTION void set_tile_configuration(const TileConfiguration& c);
#endif

}  // namespace lowbit::detail::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#include <immintrin.h>
#endif
#if LOWBIT_ARM64
#include <arm_neon.h>
#endif
#if LOWBIT_BASELINE == 0
#include <xsimd/xsimd.hpp>
#endif

// A region compiles its functions for an instruction set that the file as a whole was not compiled for.  MSVC needs none.
#define LOWBIT_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define LOWBIT_QUIET_BEGIN
#define LOWBIT_QUIET_END
#define LOWBIT_TARGET_BEGIN(isa) LOWBIT_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define LOWBIT_TARGET_END LOWBIT_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
// GCC 12 reports values in its own avx512fintrin.h as uninitialized, and at -O0, where its intrinsics are macros, their casts.
#define LOWBIT_QUIET_BEGIN                                      \
  LOWBIT_PRAGMA(GCC diagnostic push)                            \
  LOWBIT_PRAGMA(GCC diagnostic ignored "-Wmaybe-uninitialized") \
  LOWBIT_PRAGMA(GCC diagnostic ignored "-Wuninitialized")       \
  LOWBIT_PRAGMA(GCC diagnostic ignored "-Wsign-conversion") LOWBIT_PRAGMA(GCC diagnostic ignored "-Wold-style-cast")
#define LOWBIT_QUIET_END LOWBIT_PRAGMA(GCC diagnostic pop)
#define LOWBIT_TARGET_BEGIN(isa) LOWBIT_PRAGMA(GCC push_options) LOWBIT_PRAGMA(GCC target(isa)) LOWBIT_QUIET_BEGIN
#define LOWBIT_TARGET_END LOWBIT_QUIET_END LOWBIT_PRAGMA(GCC pop_options)
#else
#define LOWBIT_QUIET_BEGIN
#define LOWBIT_QUIET_END
#define LOWBIT_TARGET_BEGIN(isa)
#define LOWBIT_TARGET_END
#endif
// Loops over registers must be unrolled, or their arrays go to memory; the loops around them must not be.
#if defined(__clang__)
#define LOWBIT_UNROLL LOWBIT_PRAGMA(clang loop unroll(full))
#define LOWBIT_NO_UNROLL LOWBIT_PRAGMA(clang loop unroll(disable))
#elif defined(__GNUC__)
#define LOWBIT_UNROLL LOWBIT_PRAGMA(GCC unroll 32)
#define LOWBIT_NO_UNROLL LOWBIT_PRAGMA(GCC unroll 1)
#else
#define LOWBIT_UNROLL
#define LOWBIT_NO_UNROLL
#endif
// Holds a register's value here, so that what makes it is not put off: compilers that load everything first and multiply later run
// out of registers.
#if (defined(__GNUC__) || defined(__clang__)) && LOWBIT_X86
#define LOWBIT_PIN(a) __asm__ volatile("" : "+x"(a))
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
#define LOWBIT_PIN(a) __asm__ volatile("" : "+w"(a))
#else
#define LOWBIT_PIN(a)
#endif
#define LOWBIT_ISA_AVX2 "avx2,fma,f16c"
#define LOWBIT_ISA_AVXVNNI LOWBIT_ISA_AVX2 ",avxvnni"
#define LOWBIT_ISA_AVX512 "avx2,fma,f16c,avx512f,avx512cd,avx512bw,avx512dq,avx512vl"
#define LOWBIT_ISA_AVX512VNNI LOWBIT_ISA_AVX512 ",avx512vnni"
#define LOWBIT_ISA_AVX512BF16 LOWBIT_ISA_AVX512VNNI ",avx512bf16,avx512vbmi"
#if defined(LOWBIT_TILE_MODEL)
#define LOWBIT_ISA_AMX LOWBIT_ISA_AVX2
#define LOWBIT_ISA_AMX_SIMD "lowbit/kernel/simd/tile_model-inl.hpp"
#else
#define LOWBIT_ISA_AMX LOWBIT_ISA_AVX512BF16  // tile instructions are assembly, of which the compiler knows nothing
#define LOWBIT_ISA_AMX_SIMD "lowbit/kernel/simd/amx-inl.hpp"
#endif

// What a region of arm64 must allow beside its own instructions: whatever the file's flags allow, or g++ could not inline the file's
// functions there.  clang adds to the flags; so does "+dotprod" for g++, but the assembler that comes with g++ 12 (binutils 2.40) refuses
// dots below armv8.2.  Where macros do not say that the flags are armv8.2 or later, "arch=" takes the flags' place, and all that they may
// allow is named again: by its macro, or, of what has none, always, as g++ makes no code of it by itself (of pauth only to protect
// returns).  mops has no macro in g++ 12 and would make code; docs/consumers.md says what is left out for it.
#if defined(__clang__)
#define LOWBIT_ISA_NEON_DOT "dotprod"
#define LOWBIT_ISA_NEON_I8MM "dotprod,i8mm,bf16"
#elif defined(__ARM_FEATURE_JCVT) /* armv8.3 */ || \
    (defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_QRDMX))
#define LOWBIT_ISA_NEON_DOT "+dotprod"
#define LOWBIT_ISA_NEON_I8MM "+dotprod+i8mm+bf16"
#else
#if defined(__ARM_FEATURE_PAC_DEFAULT)
#define LOWBIT_ISA_NEON_PAUTH
#else
#define LOWBIT_ISA_NEON_PAUTH "+pauth"
#endif
#define LOWBIT_NAME_IF(macro, name) LOWBIT_NAME_IF_(LOWBIT_BIT(macro), name)
#define LOWBIT_NAME_IF_(bit, name) LOWBIT_NAME_IF_BIT(bit, name)
#define LOWBIT_NAME_IF_BIT(bit, name) LOWBIT_NAME_IF_##bit(name)
#define LOWBIT_NAME_IF_0(name) ""
#define LOWBIT_NAME_IF_1(name) name
// clang-format off
#define LOWBIT_ISA_NEON_OF_FLAGS \
  "+rcpc+profile+memtag+sb+ssbs+predres+flagm" LOWBIT_ISA_NEON_PAUTH \
  LOWBIT_NAME_IF(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, "+fp16") LOWBIT_NAME_IF(__ARM_FEATURE_FP16_FML, "+fp16fml") \
  LOWBIT_NAME_IF(__ARM_FEATURE_MATMUL_INT8, "+i8mm") LOWBIT_NAME_IF(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC, "+bf16") \
  LOWBIT_NAME_IF(__ARM_FEATURE_CRYPTO, "+crypto") LOWBIT_NAME_IF(__ARM_FEATURE_AES, "+aes") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SHA2, "+sha2") LOWBIT_NAME_IF(__ARM_FEATURE_SHA3, "+sha3") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SM4, "+sm4") LOWBIT_NAME_IF(__ARM_FEATURE_RNG, "+rng") \
  LOWBIT_NAME_IF(__ARM_FEATURE_TME, "+tme") LOWBIT_NAME_IF(__ARM_FEATURE_LS64, "+ls64") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SVE, "+sve") LOWBIT_NAME_IF(__ARM_FEATURE_SVE_MATMUL_FP32, "+f32mm") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SVE_MATMUL_FP64, "+f64mm") LOWBIT_NAME_IF(__ARM_FEATURE_SVE2, "+sve2") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SVE2_AES, "+sve2-aes") LOWBIT_NAME_IF(__ARM_FEATURE_SVE2_BITPERM, "+sve2-bitperm") \
  LOWBIT_NAME_IF(__ARM_FEATURE_SVE2_SHA3, "+sve2-sha3") LOWBIT_NAME_IF(__ARM_FEATURE_SVE2_SM4, "+sve2-sm4")
// clang-format on
#define LOWBIT_ISA_NEON_DOT "arch=armv8.2-a+dotprod" LOWBIT_ISA_NEON_OF_FLAGS
#define LOWBIT_ISA_NEON_I8MM "arch=armv8.2-a+dotprod+i8mm+bf16" LOWBIT_ISA_NEON_OF_FLAGS
#endif

// ---- the levels ----
#if LOWBIT_BASELINE == 0
#define LOWBIT_ISA base
#define LOWBIT_ISA_RANK 0
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/base-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#include "lowbit/kernel/dispatch/region-inl.hpp"
#endif

#if LOWBIT_ARM64
#define LOWBIT_ISA neon
#define LOWBIT_ISA_RANK 7
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/neon-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#include "lowbit/kernel/dispatch/region-inl.hpp"

#define LOWBIT_ISA neon_dot
#define LOWBIT_ISA_RANK 8
#define LOWBIT_ISA_TARGET LOWBIT_ISA_NEON_DOT
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/neon_dot-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#define LOWBIT_ISA_EXTENDS neon
#include "lowbit/kernel/dispatch/region-inl.hpp"

#define LOWBIT_ISA neon_i8mm
#define LOWBIT_ISA_RANK 9
#define LOWBIT_ISA_TARGET LOWBIT_ISA_NEON_I8MM
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/neon_i8mm-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#define LOWBIT_ISA_EXTENDS neon
#include "lowbit/kernel/dispatch/region-inl.hpp"
#endif

#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#if LOWBIT_BASELINE <= 2
#define LOWBIT_ISA avx2
#define LOWBIT_ISA_RANK 1
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AVX2
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/avx2-inl.hpp"
#define LOWBIT_ISA_EMITTED LOWBIT_BASELINE <= 1
#include "lowbit/kernel/dispatch/region-inl.hpp"

#define LOWBIT_ISA avxvnni
#define LOWBIT_ISA_RANK 2
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AVXVNNI
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/avxvnni-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#if LOWBIT_BASELINE <= 1
#define LOWBIT_ISA_EXTENDS avx2
#endif
#include "lowbit/kernel/dispatch/region-inl.hpp"
#endif

#define LOWBIT_ISA avx512
#define LOWBIT_ISA_RANK 3
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AVX512
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/avx512-inl.hpp"
#define LOWBIT_ISA_EMITTED LOWBIT_BASELINE <= 3
#include "lowbit/kernel/dispatch/region-inl.hpp"

#define LOWBIT_ISA avx512vnni
#define LOWBIT_ISA_RANK 4
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AVX512VNNI
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/avx512vnni-inl.hpp"
#define LOWBIT_ISA_EMITTED LOWBIT_BASELINE <= 4
#if LOWBIT_BASELINE <= 3
#define LOWBIT_ISA_EXTENDS avx512
#endif
#include "lowbit/kernel/dispatch/region-inl.hpp"

#define LOWBIT_ISA avx512bf16
#define LOWBIT_ISA_RANK 5
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AVX512BF16
#define LOWBIT_ISA_SIMD "lowbit/kernel/simd/avx512bf16-inl.hpp"
#define LOWBIT_ISA_EMITTED 1
#if LOWBIT_BASELINE <= 4
#define LOWBIT_ISA_EXTENDS avx512vnni
#endif
#include "lowbit/kernel/dispatch/region-inl.hpp"

#if LOWBIT_TILES
#define LOWBIT_ISA amx
#define LOWBIT_ISA_RANK 6
#define LOWBIT_ISA_TARGET LOWBIT_ISA_AMX
#define LOWBIT_ISA_SIMD LOWBIT_ISA_AMX_SIMD
#define LOWBIT_ISA_EMITTED 1
#if !defined(LOWBIT_TILE_MODEL)
#define LOWBIT_ISA_EXTENDS avx512bf16
#elif LOWBIT_BASELINE <= 1
#define LOWBIT_ISA_EXTENDS avx2
#endif
#define LOWBIT_ISA_TILES
#include "lowbit/kernel/dispatch/region-inl.hpp"
#endif
#endif

namespace lowbit::detail::inline LOWBIT_ABI {

// ---- the tables ----
// A level that adds instructions takes the other kernels of the one that it extends, where that is emitted.
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#if LOWBIT_BASELINE <= 2
template <class Table>
constexpr Table avxvnni_kernels() {
#if LOWBIT_BASELINE <= 1
  Table t = avx2::all_kernels<Table>();
  avxvnni::add_kernels<Compute::int8>(t);
  return t;
#else
  return avxvnni::all_kernels<Table>();
#endif
}
#endif
#if LOWBIT_BASELINE <= 3
template <class Table>
constexpr Table avx512_kernels() {
#if LOWBIT_BASELINE <= 1
  return avx512::kernels_with_int8_of(avx2::all_kernels<Table>());
#else
  return avx512::all_kernels<Table>();
#endif
}
#endif
#if LOWBIT_BASELINE <= 4
template <class Table>
constexpr Table avx512vnni_kernels() {
#if LOWBIT_BASELINE <= 3
  Table t = avx512_kernels<Table>();
  avx512vnni::add_kernels<Compute::int8>(t);
  return t;
#else
  return avx512vnni::all_kernels<Table>();
#endif
}
#endif
template <class Table>
constexpr Table avx512bf16_kernels() {
#if LOWBIT_BASELINE <= 4
  Table t = avx512vnni_kernels<Table>();
  avx512bf16::add_kernels<Compute::bf16>(t);
  if constexpr (std::is_same_v<Table, GemmKernelsFor<true>>) avx512bf16::add_kernels<Compute::int8>(t);  // its look-ups
  return t;
#else
  return avx512bf16::all_kernels<Table>();
#endif
}
#if LOWBIT_TILES
template <class Table>
#if defined(LOWBIT_TILE_MODEL)
inline constexpr Table amx_vectors = amx::all_kernels<Table>();
#else
inline constexpr Table amx_vectors = avx512bf16_kernels<Table>();
#endif
#endif
#endif

#if LOWBIT_ARM64
template <class Table>
constexpr Table neon_dot_kernels() {
  Table t = neon::all_kernels<Table>();
  neon_dot::add_kernels<Compute::int8>(t);
  return t;
}
template <class Table>
constexpr Table neon_i8mm_kernels() {
  Table t = neon::all_kernels<Table>();
  neon_i8mm::add_kernels<Compute::int8>(t);
  neon_i8mm::add_kernels<Compute::bf16>(t);
  return t;
}
#endif

template <Level level, class Table>
constexpr Table at_level(Table t) {
  if constexpr (std::is_same_v<Table, Kernels>) t.level = level;
  return t;
}
template <class Table>
const Table* table_of(Level level) {
  switch (level) {
#if LOWBIT_ARM64
    case Level::neon: {
      static constexpr Table t = at_level<Level::neon>(neon::all_kernels<Table>());
      return &t;
    }
    case Level::neon_dot: {
      static constexpr Table t = at_level<Level::neon_dot>(neon_dot_kernels<Table>());
      return &t;
    }
    case Level::neon_i8mm: {
      static constexpr Table t = at_level<Level::neon_i8mm>(neon_i8mm_kernels<Table>());
      return &t;
    }
#endif
#if LOWBIT_BASELINE == 0
    case Level::base: {
      static constexpr Table t = at_level<Level::base>(base::all_kernels<Table>());
      return &t;
    }
#endif
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#if LOWBIT_BASELINE <= 1
    case Level::avx2: {
      static constexpr Table t = at_level<Level::avx2>(avx2::all_kernels<Table>());
      return &t;
    }
#endif
#if LOWBIT_BASELINE <= 2
    case Level::avxvnni: {
      static constexpr Table t = at_level<Level::avxvnni>(avxvnni_kernels<Table>());
      return &t;
    }
#endif
#if LOWBIT_BASELINE <= 3
    case Level::avx512: {
      static constexpr Table t = at_level<Level::avx512>(avx512_kernels<Table>());
      return &t;
    }
#endif
#if LOWBIT_BASELINE <= 4
    case Level::avx512vnni: {
      static constexpr Table t = at_level<Level::avx512vnni>(avx512vnni_kernels<Table>());
      return &t;
    }
#endif
    case Level::avx512bf16: {
      static constexpr Table t = at_level<Level::avx512bf16>(avx512bf16_kernels<Table>());
      return &t;
    }
#if LOWBIT_TILES
    case Level::amx: {
      static constexpr Table t = at_level<Level::amx>(amx::tile_kernels<Table, amx_vectors<Table>>());
      return &t;
    }
#endif
#endif
    default: return nullptr;
  }
}

template <class Table>
const Table* float_kernels_of([[maybe_unused]] Level level) {
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE)
#if LOWBIT_BASELINE <= 3
  namespace wide = avx512;
#elif LOWBIT_BASELINE == 4
  namespace wide = avx512vnni;
#else
  namespace wide = avx512bf16;
#endif
  static constexpr Table of_512_bits = wide::float_kernels<Table>();
#if defined(LOWBIT_TILE_MODEL)
  if (level == Level::amx) level = Level::avx2;
#endif
  if (level >= Level::avx512) return &of_512_bits;
#if LOWBIT_BASELINE <= 2
#if LOWBIT_BASELINE <= 1
  namespace half = avx2;
#else
  namespace half = avxvnni;
#endif
  static constexpr Table of_256_bits = half::float_kernels<Table>();
  if (level >= Level::avx2) return &of_256_bits;
#endif
#endif
#if LOWBIT_ARM64
  static constexpr Table of_neon = neon::float_kernels<Table>();
  return &of_neon;
#elif LOWBIT_BASELINE == 0
  static constexpr Table of_base = base::float_kernels<Table>();
  return &of_base;
#else
  return nullptr;
#endif
}

#if LOWBIT_TILES
LOWBIT_FUNCTION TileConfiguration tile_configuration() {
  TileConfiguration c;
  amx::tiles::store_configuration(c);
  return c;
}
LOWBIT_FUNCTION void set_tile_configuration(const TileConfiguration& c) {
  c.palette == 0 ? amx::tiles::release() : amx::tiles::configure(c);
}
#endif

#if defined(LOWBIT_KERNELS_DEFINE)
template const Kernels* table_of(Level level);
template const GemmKernelsFor<false>* table_of(Level level);
template const GemmKernelsFor<true>* table_of(Level level);
template const TransformerKernels* float_kernels_of(Level level);
template const TrainingKernels* float_kernels_of(Level level);
#endif

}  // namespace lowbit::detail::inline LOWBIT_ABI

#endif
