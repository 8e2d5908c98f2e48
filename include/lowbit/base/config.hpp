// SPDX-License-Identifier: MIT
// What the compiler and its flags give us: version, inlining, the baseline level and the ABI namespace.
// This is the only file that looks at the compiler's instruction-set macros; everything else asks LOWBIT_BASELINE.
#pragma once
#include <version>  // which standard library it is

#define LOWBIT_VERSION_MAJOR 0
#define LOWBIT_VERSION_MINOR 2
#define LOWBIT_VERSION_PATCH 0
#define LOWBIT_VERSION "0.2.0"

// Sanitizers do not look into kernels, unless LOWBIT_SANITIZE_KERNELS is defined, as in our own tests: with their checks in every
// unrolled step g++ 12 takes more than ten minutes for a file, without them half of one.  What calls kernels is checked.
#if defined(LOWBIT_SANITIZE_KERNELS) || !(defined(__GNUC__) || defined(__clang__))
#define LOWBIT_NO_SANITIZE
#else
#define LOWBIT_NO_SANITIZE __attribute__((no_sanitize("address", "undefined")))
#endif

// Always inlined, also at -O0: vector values must never cross a function that is emitted (docs/design.md, "Run-time dispatch").
#if defined(_MSC_VER) && !defined(__clang__)
#define LOWBIT_INLINE __forceinline
#define LOWBIT_NOINLINE __declspec(noinline)
#else
#define LOWBIT_INLINE inline LOWBIT_NO_SANITIZE __attribute__((always_inline))
#define LOWBIT_NOINLINE LOWBIT_NO_SANITIZE __attribute__((noinline))
#endif

// What runs once or never, such as the making of messages: compiled small, which is also fast.
#if defined(__GNUC__) || defined(__clang__)
#define LOWBIT_COLD __attribute__((cold))
#else
#define LOWBIT_COLD
#endif

// LOWBIT_INLINE for a lambda: [&](...) LOWBIT_INLINE_LAMBDA { ... }.
#if defined(__GNUC__) || defined(__clang__)
#define LOWBIT_INLINE_LAMBDA LOWBIT_NO_SANITIZE __attribute__((always_inline))
#else
#define LOWBIT_INLINE_LAMBDA
#endif

// LOWBIT_KERNELS_EXTERN, a program's own choice: kernels, and the functions that are marked LOWBIT_FUNCTION, are compiled in the one
// file that defines LOWBIT_KERNELS_DEFINE (cmake/kernels.cpp) and only declared in the others.
#if defined(LOWBIT_KERNELS_DEFINE)
#define LOWBIT_DECLARED_ONLY 0
#define LOWBIT_FUNCTION
#elif defined(LOWBIT_KERNELS_EXTERN)
#define LOWBIT_DECLARED_ONLY 1
#define LOWBIT_FUNCTION
#else
#define LOWBIT_DECLARED_ONLY 0
#define LOWBIT_FUNCTION inline
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define LOWBIT_X86 1
#else
#define LOWBIT_X86 0
#endif

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define LOWBIT_EXCEPTIONS 1
#else
#define LOWBIT_EXCEPTIONS 0
#endif

// GCC for Windows keeps registers of 32 and 64 bytes on a stack that it aligns to 16 (its bug 54412), and moves them by instructions
// that fail there.  LOWBIT_UNALIGNED_MOVES says that the file is assembled with -Wa,-muse-unaligned-vector-move, which takes others;
// our CMake targets do so.  Without it products run on 16-byte registers.
#if defined(__MINGW32__) && !defined(__clang__) && !defined(LOWBIT_UNALIGNED_MOVES) && !defined(LOWBIT_PORTABLE)
#define LOWBIT_PORTABLE
#endif

// arm64 with levels of its own, whose dots are assembly.
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(LOWBIT_PORTABLE) && (defined(__GNUC__) || defined(__clang__)) && \
    !defined(__AARCH64EB__)
#define LOWBIT_ARM64 1
#else
#define LOWBIT_ARM64 0
#endif

// Tile instructions (AMX): where the operating system can be asked for them and the compiler takes their assembly.
// LOWBIT_TILE_MODEL, for tests: level amx computes with a software model of them and AVX2 (kernel/simd/tile_model-inl.hpp).
#if LOWBIT_X86 && !defined(LOWBIT_PORTABLE) && (defined(__linux__) || defined(LOWBIT_TILE_MODEL)) && \
    (defined(__GNUC__) || defined(__clang__))
#define LOWBIT_TILES 1
#else
#define LOWBIT_TILES 0
#endif

// The highest level that the flags of the including file guarantee, in the order of kernel/level.hpp, and its name, which goes into
// every mangled name.  Two files of one program that were compiled with different flags then never share a function.
//   0 none   1 avx2   2 avxvnni   3 avx512   4 avx512vnni   5 avx512bf16   7 neon
// (amx is never guaranteed: the operating system is asked at run time)
// LOWBIT_PORTABLE leaves out every x86 path and keeps what other processors get (for testing on x86).
#if LOWBIT_ARM64
#define LOWBIT_BASELINE 7
#define LOWBIT_FLAGS_NAME neon
#elif defined(LOWBIT_PORTABLE) || !LOWBIT_X86
#define LOWBIT_BASELINE 0
#define LOWBIT_FLAGS_NAME portable
#elif defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__) && \
    defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LOWBIT_BASELINE 5
#define LOWBIT_FLAGS_NAME avx512bf16
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LOWBIT_BASELINE 4
#define LOWBIT_FLAGS_NAME avx512vnni
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LOWBIT_BASELINE 3
#define LOWBIT_FLAGS_NAME avx512
#elif defined(__AVXVNNI__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LOWBIT_BASELINE 2
#define LOWBIT_FLAGS_NAME avxvnni
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LOWBIT_BASELINE 1
#define LOWBIT_FLAGS_NAME avx2
#elif defined(__AVX__)
#define LOWBIT_BASELINE 0
#define LOWBIT_FLAGS_NAME avx
#elif defined(__SSE4_1__)
#define LOWBIT_BASELINE 0
#define LOWBIT_FLAGS_NAME sse4
#else
#define LOWBIT_BASELINE 0
#define LOWBIT_FLAGS_NAME plain
#endif

// What else changes code: every instruction set that compilers use by themselves, three to an octal digit, exceptions, fast-math,
// the layout of other libraries' types, and the version.  A linker misses names in v0_2_0_kernels_built_for_avx2_... where the
// kernels, or a function that takes a type of ours, were compiled with other flags.
#define LOWBIT_BIT(macro) LOWBIT_BIT_(macro)  // 1 if the macro is defined as 1 (or as RISC-V's 1000000, or as 3), else 0
#define LOWBIT_BIT_(value) LOWBIT_BIT_SECOND(LOWBIT_BIT_OF_##value 1, 0)
#define LOWBIT_BIT_OF_1 0,
#define LOWBIT_BIT_OF_3 0,
#define LOWBIT_BIT_OF_1000000 0,
#define LOWBIT_BIT_SECOND(...) LOWBIT_BIT_SECOND_(__VA_ARGS__, 0)
#define LOWBIT_BIT_SECOND_(first, second, ...) second
#define LOWBIT_DIGIT(a, b, c) LOWBIT_DIGIT_(LOWBIT_BIT(a), LOWBIT_BIT(b), LOWBIT_BIT(c))
#define LOWBIT_DIGIT_(a, b, c) LOWBIT_DIGIT_OF(a, b, c)
#define LOWBIT_DIGIT_OF(a, b, c) LOWBIT_DIGIT_##a##b##c
#define LOWBIT_DIGIT_000 0
#define LOWBIT_DIGIT_001 1
#define LOWBIT_DIGIT_010 2
#define LOWBIT_DIGIT_011 3
#define LOWBIT_DIGIT_100 4
#define LOWBIT_DIGIT_101 5
#define LOWBIT_DIGIT_110 6
#define LOWBIT_DIGIT_111 7
#define LOWBIT_JOIN(...) LOWBIT_JOIN_(__VA_ARGS__)
#define LOWBIT_JOIN_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o) a##b##c##d##e##f##g##h##i##j##k##l##m##n##o
#if defined(_MSC_VER) && !defined(__clang__)
#define LOWBIT_FEATURES 0
#elif defined(__x86_64__) || defined(__i386__)
#define LOWBIT_FEATURES                                                                                                          \
  LOWBIT_JOIN(                                                                                                                   \
      LOWBIT_DIGIT(__SSE3__, __SSSE3__, __SSE4_1__), LOWBIT_DIGIT(__SSE4_2__, __POPCNT__, __AVX__),                              \
      LOWBIT_DIGIT(__F16C__, __FMA__, __AVX2__), LOWBIT_DIGIT(__BMI__, __BMI2__, __LZCNT__),                                     \
      LOWBIT_DIGIT(__MOVBE__, __AVXVNNI__, __GFNI__), LOWBIT_DIGIT(__AVX512F__, __AVX512CD__, __AVX512BW__),                     \
      LOWBIT_DIGIT(__AVX512DQ__, __AVX512VL__, __AVX512IFMA__), LOWBIT_DIGIT(__AVX512VBMI__, __AVX512VBMI2__, __AVX512BITALG__), \
      LOWBIT_DIGIT(__AVX512VPOPCNTDQ__, __AVX512VNNI__, __AVX512BF16__), LOWBIT_DIGIT(__AVX512FP16__, __APX_F__, __CMPCCXADD__), \
      LOWBIT_DIGIT(__FMA4__, __XOP__, __TBM__), LOWBIT_DIGIT(__PRFCHW__, __PREFETCHWT1__, __3dNOW__),                            \
      LOWBIT_DIGIT(__SSE4A__, __AVXIFMA__, __SSE2__), LOWBIT_DIGIT(__AVX512ER__, __EVEX512__, __AVX10_2__),                      \
      LOWBIT_DIGIT(__AVXVNNIINT8__, __AVXVNNIINT16__, __AVXNECONVERT__))
#elif defined(__aarch64__)
#if defined(__ARM_FEATURE_RCPC) && __ARM_FEATURE_RCPC >= 3
#define LOWBIT_RCPC3 1
#endif
#define LOWBIT_FEATURES                                                                                             \
  LOWBIT_JOIN(LOWBIT_DIGIT(__ARM_FEATURE_SVE, __ARM_FEATURE_SVE2, __ARM_FEATURE_SME),                               \
              LOWBIT_DIGIT(__ARM_FEATURE_DOTPROD, __ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_BF16_VECTOR_ARITHMETIC), \
              LOWBIT_DIGIT(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, __ARM_FEATURE_FP16_FML, __ARM_FEATURE_QRDMX),      \
              LOWBIT_DIGIT(__ARM_FEATURE_ATOMICS, __ARM_FEATURE_MOPS, __ARM_FEATURE_CRC32),                         \
              LOWBIT_DIGIT(__ARM_FEATURE_SHA3, __ARM_FEATURE_COMPLEX, __ARM_FEATURE_JCVT),                          \
              LOWBIT_DIGIT(__ARM_FEATURE_FRINT, __ARM_FEATURE_PAUTH, __ARM_FEATURE_RCPC),                           \
              LOWBIT_DIGIT(__ARM_FEATURE_SVE2p1, __ARM_FEATURE_SVE_B16B16, __ARM_FEATURE_SME2),                     \
              LOWBIT_DIGIT(LOWBIT_RCPC3, __ARM_FEATURE_LSE128, __ARM_FEATURE_CSSC),                                 \
              LOWBIT_DIGIT(__ARM_FEATURE_FAMINMAX, __ARM_FEATURE_MEMORY_TAGGING, __ARM_NEON), , , , , , )
#elif defined(__riscv)
#define LOWBIT_FEATURES                                                                                                           \
  LOWBIT_JOIN(LOWBIT_DIGIT(__riscv_vector, __riscv_zba, __riscv_zbb),                                                             \
              LOWBIT_DIGIT(__riscv_zbs, __riscv_zicond, __riscv_compressed), LOWBIT_DIGIT(__riscv_zfh, __riscv_zfa, __riscv_zbc), \
              LOWBIT_DIGIT(__riscv_zbkb, __riscv_zvbb, __riscv_zvfh),                                                             \
              LOWBIT_DIGIT(__riscv_zicbop, __riscv_zacas, __riscv_misaligned_fast), , , , , , , , , , )
#else
#define LOWBIT_FEATURES 0
#endif
// Registers that the flags say are so long, in bits: exactly (SVE), or at least (RISC-V).
#if defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define LOWBIT_REGISTERS_NAME LOWBIT_REGISTERS(__ARM_FEATURE_SVE_BITS)
#elif defined(__riscv_v_min_vlen)
#define LOWBIT_REGISTERS_NAME LOWBIT_REGISTERS(__riscv_v_min_vlen)
#else
#define LOWBIT_REGISTERS_NAME
#endif
#define LOWBIT_REGISTERS(bits) LOWBIT_REGISTERS_(bits)
#define LOWBIT_REGISTERS_(bits) _of_##bits
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(__FAST_MATH__)
#define LOWBIT_MATH_NAME _finitemath
#elif defined(__FAST_MATH__)
#define LOWBIT_MATH_NAME _fastmath
#else
#define LOWBIT_MATH_NAME
#endif
#if defined(LOWBIT_TILE_MODEL)
#if LOWBIT_BASELINE > 2 || !LOWBIT_TILES
#error "LOWBIT_TILE_MODEL: expected x86-64, GCC or clang, and no -march beyond AVX2"
#endif
#define LOWBIT_TILES_NAME _tile_model
#else
#define LOWBIT_TILES_NAME
#endif
#if LOWBIT_EXCEPTIONS
#define LOWBIT_EXCEPTIONS_NAME
#else
#define LOWBIT_EXCEPTIONS_NAME _noexcept
#endif
// Containers, strings and JSON documents are in our types, so what lays them out in another way is in the name: another standard
// library, libstdc++'s debug mode and its strings of before C++11, and what nlohmann-json is asked to keep beside each value.
#if defined(_LIBCPP_VERSION)
#define LOWBIT_LIBRARY_NAME _libcxx
#elif defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#define LOWBIT_LIBRARY_NAME _oldstrings
#else
#define LOWBIT_LIBRARY_NAME
#endif
#if defined(_GLIBCXX_DEBUG)
#define LOWBIT_CONTAINERS_NAME _debugmode
#else
#define LOWBIT_CONTAINERS_NAME
#endif
#if defined(JSON_DIAGNOSTICS) && JSON_DIAGNOSTICS
#define LOWBIT_JSON_NAME _jsondiagnostics
#else
#define LOWBIT_JSON_NAME
#endif
#define LOWBIT_NAME(...) LOWBIT_NAME_(__VA_ARGS__)
#define LOWBIT_NAME_(major, minor, patch, flags, tiles, exceptions, math, library, containers, json, features, registers) \
  v##major##_##minor##_##patch##_kernels_built_for_##flags##tiles##exceptions##math##library##containers##json##_##features##registers
#define LOWBIT_VERSION_NAME(major, minor, patch) LOWBIT_VERSION_NAME_(major, minor, patch)
#define LOWBIT_VERSION_NAME_(major, minor, patch) v##major##_##minor##_##patch

// The namespace, inside lowbit and each of its rooms, of everything: a type or function of files with other flags or of another
// version is another one (docs/design.md, "Run-time dispatch", rule 3).
#define LOWBIT_ABI                                                                                                     \
  LOWBIT_NAME(LOWBIT_VERSION_MAJOR, LOWBIT_VERSION_MINOR, LOWBIT_VERSION_PATCH, LOWBIT_FLAGS_NAME, LOWBIT_TILES_NAME,  \
              LOWBIT_EXCEPTIONS_NAME, LOWBIT_MATH_NAME, LOWBIT_LIBRARY_NAME, LOWBIT_CONTAINERS_NAME, LOWBIT_JSON_NAME, \
              LOWBIT_FEATURES, LOWBIT_REGISTERS_NAME)
// The namespace of what all files of a program share whatever their flags, as one file throws what another catches: the errors.
// Nothing in it may have a body that depends on flags.
#define LOWBIT_ABI_OF_ALL_FLAGS LOWBIT_VERSION_NAME(LOWBIT_VERSION_MAJOR, LOWBIT_VERSION_MINOR, LOWBIT_VERSION_PATCH)
