// SPDX-License-Identifier: MIT
// The entry points of one level.  Taking an address is what makes a kernel be compiled: a level that only adds an instruction takes
// what it does not change from the level below.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

// What depends on a compute type, of each table.
template <Compute C, bool four_bit>
constexpr void add_kernels(GemmKernelsFor<four_bit>& k) {
  constexpr int c = static_cast<int>(C);
  if constexpr (four_bit) {
    k.gemm_packed[c] = &gemm_packed_four_bit<C>;
    k.gemm_canonical[c] = &gemm_canonical_four_bit<C>;
  } else {
    if constexpr (C == Compute::f32)
      k.gemm_packed[c] = &gemm_packed_f32;
    else if constexpr (C == Compute::bf16)
      k.gemm_packed[c] = &gemm_packed_bf16<simd>;
    else
      k.gemm_packed[c] = &gemm_packed_int8;
    k.gemm_canonical[c] = &gemm_canonical<C>;
  }
}
template <Compute C>
constexpr void add_kernels(Kernels& k) {
  if constexpr (C == Compute::f32) {
    k.quantize_rows = &quantize_rows;
    k.find_outliers = &find_outliers;
    k.finish_row = &finish_row;
    k.transpose = &transpose;
  } else if constexpr (C == Compute::bf16) {
    k.bf16_rows = &bf16_rows;
    k.native_bf16 = simd::native_bf16;
  } else {
    k.int8_words = ComputeInt8::words;
  }
}
template <class Table>
constexpr Table all_kernels() {
  Table k;
  add_kernels<Compute::f32>(k);
  add_kernels<Compute::int8>(k);
  add_kernels<Compute::bf16>(k);
  return k;
}
// Without a byte dot instruction packed int8 products gain little by wider registers: those of a narrower level are taken.
template <class Table>
constexpr Table kernels_with_int8_of(const Table& narrower) {
  constexpr int c = static_cast<int>(Compute::int8);
  Table k;
  add_kernels<Compute::f32>(k);
  add_kernels<Compute::bf16>(k);
  if constexpr (std::is_same_v<Table, Kernels>) {
    k.int8_words = narrower.int8_words;
  } else {
    k.gemm_canonical[c] =
        std::is_same_v<Table, GemmKernelsFor<true>> ? &gemm_canonical_four_bit<Compute::int8> : &gemm_canonical<Compute::int8>;
    k.gemm_packed[c] = narrower.gemm_packed[c];
  }
  return k;
}

template <class Table>
constexpr Table float_kernels() {
  Table k;
  if constexpr (std::is_same_v<Table, TransformerKernels>) {
    k.embed_rows = &embed_rows;
    k.layer_norm = &layer_norm;
    k.attention = &attention;
    k.append_kv = &append_kv;
    k.cached_attention = &cached_attention;
  } else {
    k.gelu = &gelu_array;
    k.exp2 = &exp2_array;
    k.decode_codes = &decode_codes;
    k.add_rows = &add_rows;
    k.layer_norm_backward = &layer_norm_backward;
    k.attention_backward = &attention_backward;
    k.gelu_backward = &gelu_backward;
    k.cross_entropy = &cross_entropy;
    k.adamw = &adamw;
  }
  return k;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA
