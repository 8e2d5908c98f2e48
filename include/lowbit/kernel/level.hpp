// SPDX-License-Identifier: MIT
// The instruction-set levels, one word each everywhere: namespace, enum, LOWBIT_ISA, test and benchmark names.
#pragma once
#include <array>
#include <string_view>

#include "lowbit/base/config.hpp"

namespace lowbit {

// Every level includes the ones before it.  `base` is what the compiler may use without flags: SSE2 on x86-64, NEON on arm64.
enum class Level { base, avx2, avx512, avx512vnni, avx512bf16 };

inline constexpr std::array all_levels = {Level::base, Level::avx2, Level::avx512, Level::avx512vnni, Level::avx512bf16};

constexpr const char* level_name(Level level) {
  switch (level) {
    case Level::base: return "base";
    case Level::avx2: return "avx2";
    case Level::avx512: return "avx512";
    case Level::avx512vnni: return "avx512vnni";
    case Level::avx512bf16: return "avx512bf16";
  }
  return "?";
}

}  // namespace lowbit
