// SPDX-License-Identifier: MIT
// The scales of canonical 4-bit weights, one for every group of 32 elements: blocks hold 32 or more, so a scale holds for whole
// groups whatever the block.  Double-quantized scales are decoded here, with their two promised roundings.
// Included once per instruction set, by targets.hpp.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// The most rows of x that one row of canonical weights is multiplied with at a time.
inline constexpr std::size_t max_x_rows = simd::minimal ? 1 : 2;

// Codes are asked for this many bytes ahead, line after line, whatever the order in which four rows are read.  Scales are few, and
// asked for earlier.  Cold on Zen 5, 8 KiB ahead are 5 to 20 % slower.
inline constexpr std::size_t codes_ahead = 4096, scales_ahead = 512, line_bytes = 64;
LOWBIT_INLINE void prefetch(const void* p) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p);
#else
  static_cast<void>(p);
#endif
}
// The lines that begin in Bytes bytes from p on (at least one).
template <std::size_t Bytes>
LOWBIT_INLINE void prefetch_lines(const std::uint8_t* p) {
  prefetch(p);
  for (std::size_t i = line_bytes; i < Bytes; i += line_bytes) prefetch(p + i);
}

// The scales of groups [first, first + count) of the whole tensor.  Three floats before `out` and 4 * lanes behind its end are
// written too.
inline void group_scales(const CanonicalWeights& w, std::size_t first, std::size_t count, float* out) {
#if defined(LOWBIT_ISA_EXTENDS)
  if constexpr (simd::lanes == LOWBIT_ISA_EXTENDS::simd::lanes) return LOWBIT_ISA_EXTENDS::group_scales(w, first, count, out);
#endif
  using S = simd;
  using V = typename S::vf;
  if (count == 0) return;
  const std::size_t copies = w.block / CanonicalPlan::group;  // groups of a block
  const std::size_t end_group = first + count, last = (end_group - 1) / copies + 1;
  std::size_t b = first / copies;
  // the scales of blocks b .. b + n, n <= lanes
  const auto put = [&](V s, std::size_t n) LOWBIT_INLINE_LAMBDA {
    const std::ptrdiff_t at = copies > 4 ? 0 : static_cast<std::ptrdiff_t>(b * copies) - static_cast<std::ptrdiff_t>(first);
    float* o = out + at;
    if (copies == 1) {
      S::store(o, s);
    } else if (copies == 2) {
      S::store_twice(o, s);
    } else if (copies == 4) {
      float twice[2 * S::lanes];
      S::store_twice(twice, s);
      S::store_twice(o, S::load(twice));
      S::store_twice(o + 2 * S::lanes, S::load(twice + S::lanes));
    } else {
      float one[S::lanes];
      S::store(one, s);
      for (std::size_t i = 0; i < n; ++i) {
        std::size_t g = (b + i) * copies, end = g + copies;
        g = g < first ? first : g;
        end = end < end_group ? end : end_group;
        for (; g < end; g += S::lanes) S::store(out + (g - first), S::set1(one[i]));
      }
    }
    b += n;
  };
  if (w.scales) {
    while (b + S::lanes <= last) {
      prefetch(w.scales + b + scales_ahead);
      put(S::load(w.scales + b), S::lanes);
    }
    if (b < last) put(S::load_n(w.scales + b, last - b), last - b);
    return;
  }
  const auto map = S::load_floats256(w.map);
  const V offset = S::set1(w.offset);
  while (b < last) {  // a run under one nested scale
    const std::size_t stop = (b / w.nested_block + 1) * w.nested_block, end = stop < last ? stop : last;
    const V nested = S::set1(w.nested[b / w.nested_block]);
    const auto decode = [&](typename S::vi code)
                            LOWBIT_INLINE_LAMBDA { return S::add(S::keep(S::mul(S::lookup(map, code), nested)), offset); };
    while (b + S::lanes <= end) {
      prefetch(w.scale_codes + b + scales_ahead);
      put(decode(S::load_u8(w.scale_codes + b)), S::lanes);
    }
    if (b < end) put(decode(S::load_u8_n(w.scale_codes + b, end - b)), end - b);
  }
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
