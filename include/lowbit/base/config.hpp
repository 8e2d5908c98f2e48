// SPDX-License-Identifier: MIT
// What the compiler and its flags give us: version, inlining, the baseline level and the ABI namespace.
// This is the only file that looks at the compiler's instruction-set macros; everything else asks LOWBIT_BASELINE.
#pragma once

#define LOWBIT_VERSION_MAJOR 0
#define LOWBIT_VERSION_MINOR 1
#define LOWBIT_VERSION_PATCH 0
#define LOWBIT_VERSION "0.1.0"

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

// The same for a lambda: [&](...) LOWBIT_INLINE_LAMBDA { ... }.
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

// The highest level that the flags of the including file guarantee, in the order of kernel/level.hpp, and the name that goes into
// every mangled name whose code depends on them.  Two files of one program that were compiled with different flags then never share
// a kernel.
//   0 none   1 avx2   2 avxvnni   3 avx512   4 avx512vnni   5 avx512bf16
// LOWBIT_PORTABLE leaves out every x86 path and keeps what other processors get (for testing on x86).
#if defined(LOWBIT_PORTABLE) || !LOWBIT_X86
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

// Exceptions and fast-math change code too, so they are part of the name, as is the version: v0_1_0_kernels_built_for_avx2 is what a
// linker misses where kernels.cpp was compiled with other flags.
#define LOWBIT_ABI_NAME_(major, minor, patch, flags, exceptions, math) \
  v##major##_##minor##_##patch##_kernels_built_for_##flags##exceptions##math
#define LOWBIT_ABI_NAME(major, minor, patch, flags, exceptions, math) LOWBIT_ABI_NAME_(major, minor, patch, flags, exceptions, math)
#if LOWBIT_EXCEPTIONS
#define LOWBIT_EXCEPTIONS_NAME
#else
#define LOWBIT_EXCEPTIONS_NAME _noexcept
#endif
#if defined(__FAST_MATH__)
#define LOWBIT_MATH_NAME _fastmath
#else
#define LOWBIT_MATH_NAME
#endif
#define LOWBIT_ABI                                                                                                             \
  LOWBIT_ABI_NAME(LOWBIT_VERSION_MAJOR, LOWBIT_VERSION_MINOR, LOWBIT_VERSION_PATCH, LOWBIT_FLAGS_NAME, LOWBIT_EXCEPTIONS_NAME, \
                  LOWBIT_MATH_NAME)

namespace lowbit {
inline namespace LOWBIT_ABI {}
namespace detail {
inline namespace LOWBIT_ABI {}
}  // namespace detail
}  // namespace lowbit
