// SPDX-License-Identifier: MIT
// The scales of canonical 4-bit weights, one for every group of 32 elements: blocks hold 32 or more, so a scale holds for whole
// groups whatever the block.  Double-quantized scales are decoded here, with their two promised roundings.
// Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// Weights are asked for this many bytes ahead, line after line, whatever the order in which they are read: memory delivers one
// stream faster than four.  Scales are few, and asked for about as early.
inline constexpr std::size_t codes_ahead = 8192, scales_ahead = 512, line_bytes = 64;
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

// The scales of groups [first, first + count) of the whole tensor.  One float before `out` and 2 * lanes behind its end are
// written too.
inline void group_scales(const CanonicalWeights& w, std::size_t first, std::size_t count, float* out) {
  using S = simd;
  using V = typename S::vf;
  if (count == 0) return;
  const std::size_t copies = w.block / CanonicalPlan::group;  // groups of a block
  const std::size_t last = (first + count - 1) / copies + 1;
  std::size_t b = first / copies;
  if (copies > 2) {
    for (std::size_t g = first; b < last; ++b) {
      const float s = w.scales ? w.scales[b] : rounded(rounded(w.map[w.scale_codes[b]] * w.nested[b / w.nested_block]) + w.offset);
      const std::size_t end = (b + 1) * copies < first + count ? (b + 1) * copies : first + count;
      for (; g < end; g += S::lanes) S::store(out + (g - first), S::set1(s));
      g = end;
    }
    return;
  }
  out -= first % copies;
  const auto put = [&](V s) LOWBIT_INLINE_LAMBDA {
    if (copies == 1)
      S::store(out, s);
    else
      S::store_twice(out, s);
  };
  if (w.scales) {
    for (; b + S::lanes <= last; b += S::lanes, out += S::lanes * copies) {
      prefetch(w.scales + b + scales_ahead);
      put(S::load(w.scales + b));
    }
    if (b < last) put(S::load_n(w.scales + b, last - b));
    return;
  }
  const auto map = S::load_floats256(w.map);
  const V offset = S::set1(w.offset);
  while (b < last) {
    const std::size_t stop = (b / w.nested_block + 1) * w.nested_block, end = stop < last ? stop : last;
    const V nested = S::set1(w.nested[b / w.nested_block]);
    const auto decode = [&](typename S::vi code)
                            LOWBIT_INLINE_LAMBDA { return S::add(S::keep(S::mul(S::lookup(map, code), nested)), offset); };
    for (; b + S::lanes <= end; b += S::lanes, out += S::lanes * copies) {
      prefetch(w.scale_codes + b + scales_ahead);
      put(decode(S::load_u8(w.scale_codes + b)));
    }
    if (b < end) put(decode(S::load_u8_n(w.scale_codes + b, end - b)));
    out += (end - b) * copies;
    b = end;
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
