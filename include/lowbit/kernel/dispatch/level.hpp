// SPDX-License-Identifier: MIT
// The instruction-set levels, one word each everywhere: namespace, enum, LOWBIT_ISA, test and benchmark names.
#pragma once
#include <array>
#include <string_view>

#include "lowbit/base/config.hpp"

namespace lowbit::inline LOWBIT_ABI {

// In the order of preference, which is not one of inclusion: a processor may have avxvnni and no avx512, or avx512 and no avxvnni
// (cpu_supports() asks for each).  x86-64's stand before arm64's, and no processor has both.
// `base` is what the compiler may use without flags: SSE2 on x86-64; on arm64 that is neon, and base is left out.
enum class Level { base, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon, neon_dot, neon_i8mm };

// Every level, in that order; cpu_supports() says which there are here.
inline constexpr std::array all_levels = {Level::base,       Level::avx2, Level::avxvnni, Level::avx512,   Level::avx512vnni,
                                          Level::avx512bf16, Level::amx,  Level::neon,    Level::neon_dot, Level::neon_i8mm};

// "avx2"; what LOWBIT_ISA takes.
constexpr const char* level_name(Level level) {
  switch (level) {
    case Level::base: return "base";
    case Level::avx2: return "avx2";
    case Level::avxvnni: return "avxvnni";
    case Level::avx512: return "avx512";
    case Level::avx512vnni: return "avx512vnni";
    case Level::avx512bf16: return "avx512bf16";
    case Level::amx: return "amx";
    case Level::neon: return "neon";
    case Level::neon_dot: return "neon_dot";
    case Level::neon_i8mm: return "neon_i8mm";
  }
  return "?";
}

}  // namespace lowbit::inline LOWBIT_ABI
