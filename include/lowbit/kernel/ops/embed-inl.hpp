// SPDX-License-Identifier: MIT
// Rows of a dense table as floats: embeddings.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

LOWBIT_INLINE simd::vf load_element(const float* p, bool) { return simd::load(p); }
LOWBIT_INLINE simd::vf load_element(const std::uint16_t* p, bool f16) { return f16 ? simd::load_f16(p) : simd::load_bf16(p); }

template <class T>
inline void embed_rows_of(const EmbedRowsArgs& a) {
  using S = simd;
  using V = typename S::vf;
  const bool f16 = a.element == Element::f16;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const T* row = static_cast<const T*>(a.table) + (a.ids ? static_cast<std::size_t>(a.ids[r]) : r) * a.n;
    float* out = a.out + r * a.n;
    std::size_t i = 0;
    for (; i + S::lanes <= a.n; i += S::lanes) {
      const V v = load_element(row + i, f16);
      S::store(out + i, a.add ? S::add(S::load(out + i), v) : v);
    }
    if (i < a.n) {
      T tail[S::lanes] = {};
      std::memcpy(tail, row + i, (a.n - i) * sizeof(T));
      const V v = load_element(tail, f16);
      S::store_n(out + i, a.add ? S::add(S::load_n(out + i, a.n - i), v) : v, a.n - i);
    }
  }
}

inline void embed_rows(const EmbedRowsArgs& a) {
  a.element == Element::f32 ? embed_rows_of<float>(a) : embed_rows_of<std::uint16_t>(a);
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
