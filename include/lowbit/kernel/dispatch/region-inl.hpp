// SPDX-License-Identifier: MIT
// One level: its vocabulary and, where it is emitted, its kernels, compiled for its instruction set.  Included by targets.hpp only,
// once per level, with
//   LOWBIT_ISA         the level's name
//   LOWBIT_ISA_RANK    its place in the order of LOWBIT_BASELINE
//   LOWBIT_ISA_TARGET  what the compiler calls its instructions
//   LOWBIT_ISA_SIMD    the file of its vocabulary
//   LOWBIT_ISA_EMITTED whether its kernels are wanted, or only the vocabulary, which another level extends
//   LOWBIT_ISA_EXTENDS where it is defined, the emitted level whose functions serve this one too where the instructions that it adds
//                      change nothing
//   LOWBIT_ISA_TILES   where it is defined, tile instructions
#if LOWBIT_ISA_RANK > LOWBIT_BASELINE
LOWBIT_TARGET_BEGIN(LOWBIT_ISA_TARGET)
#else
LOWBIT_QUIET_BEGIN
#endif
#include LOWBIT_ISA_SIMD
#if LOWBIT_ISA_EMITTED
#include "lowbit/kernel/dispatch/kernels-inl.hpp"
#if defined(LOWBIT_ISA_TILES)
#include "lowbit/kernel/packed/tiles-inl.hpp"
#endif
#endif
#if LOWBIT_ISA_RANK > LOWBIT_BASELINE
LOWBIT_TARGET_END
#else
LOWBIT_QUIET_END
#endif
#undef LOWBIT_ISA
#undef LOWBIT_ISA_RANK
#undef LOWBIT_ISA_TARGET
#undef LOWBIT_ISA_SIMD
#undef LOWBIT_ISA_EMITTED
#undef LOWBIT_ISA_EXTENDS
#undef LOWBIT_ISA_TILES
