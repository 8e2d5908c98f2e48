// SPDX-License-Identifier: MIT
// The product on canonical weights, as files hold them: any depth, blocks that cross rows, no copy, not a byte read beyond the
// tensor.  Included once per instruction set, by targets.hpp only.
//
// The order of summation of one output stands at the top of four_bit-inl.hpp and rows-inl.hpp; it depends on
// neither m nor the other rows nor threads.
#ifndef LOWBIT_ISA
#include "lowbit/kernel/dispatch/editor.hpp"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// How a level multiplies rows of 4-bit codes.
template <class S, Compute C>
struct FourBitRows {
  using type = RowsF32<S>;
};
template <class S>
struct FourBitRows<S, Compute::bf16> {
  using type = RowsBf16<S>;
};
template <class S>
struct FourBitRows<S, Compute::int8> {
  using type = std::conditional_t<byte_pairs<S>, RowsInt16<S>, RowsInt8<S>>;
};

template <Compute C>
void gemm_canonical_four_bit(const CanonicalGemmArgs& a) {
  if constexpr (C == Compute::bf16 && !simd::native_bf16) {
    const CodebookTables codebook = rounded_codebook(*a.w.codebook);
    CanonicalGemmArgs rounded = a;
    rounded.w.codebook = &codebook;
    gemm_canonical_four_bit<Compute::f32>(rounded);
  } else {
    gemm_four_bit<typename FourBitRows<simd, C>::type>(a, CanonicalPlan(a.w, a.m));
  }
}
template <Compute C>
void gemm_canonical(const CanonicalGemmArgs& a) {
  gemm_rows<C>(a, CanonicalPlan(a.w, a.m));
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
