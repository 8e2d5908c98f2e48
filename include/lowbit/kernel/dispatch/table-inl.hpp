// SPDX-License-Identifier: MIT
// The entry points of one level.  Taking an address is what makes a kernel be compiled: a level that only adds an instruction takes
// what it does not change from the level below.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {

template <Compute C>
constexpr void add_four_bit_kernels(Kernels& k) {
  k.gemm_packed[1][static_cast<int>(C)] = &gemm_packed_four_bit<C>;
  k.gemm_canonical[1][static_cast<int>(C)] = &gemm_canonical_four_bit<C>;
}
constexpr void add_f32_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::f32>(k);
  k.gemm_packed[0][static_cast<int>(Compute::f32)] = &gemm_packed_f32;
  k.gemm_canonical[0][static_cast<int>(Compute::f32)] = &gemm_canonical<Compute::f32>;
  k.quantize_rows = &quantize_rows;
  k.find_outliers = &find_outliers;
  k.finish_row = &finish_row;
  k.transpose = &transpose;
}
constexpr void add_int8_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::int8>(k);
  k.gemm_packed[0][static_cast<int>(Compute::int8)] = &gemm_packed_int8;
  k.gemm_canonical[0][static_cast<int>(Compute::int8)] = &gemm_canonical<Compute::int8>;
  k.int8_words = ComputeInt8::words;
}
constexpr void add_bf16_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::bf16>(k);
  k.gemm_packed[0][static_cast<int>(Compute::bf16)] = &gemm_packed_bf16<simd>;
  k.gemm_canonical[0][static_cast<int>(Compute::bf16)] = &gemm_canonical<Compute::bf16>;
  k.bf16_rows = &bf16_rows;
  k.native_bf16 = simd::native_bf16;
}
constexpr Kernels all_kernels(Level level) {
  Kernels k;
  k.level = level;
  add_f32_kernels(k);
  add_int8_kernels(k);
  add_bf16_kernels(k);
  return k;
}
// Without a byte dot instruction packed int8 products gain little by wider registers: those of a narrower level are taken.
constexpr Kernels kernels_with_int8_of(const Kernels& narrower, Level level) {
  Kernels k;
  k.level = level;
  add_f32_kernels(k);
  add_bf16_kernels(k);
  constexpr int c = static_cast<int>(Compute::int8);
  k.gemm_canonical[0][c] = &gemm_canonical<Compute::int8>;
  k.gemm_canonical[1][c] = &gemm_canonical_four_bit<Compute::int8>;
  for (int four_bit = 0; four_bit < 2; ++four_bit) k.gemm_packed[four_bit][c] = narrower.gemm_packed[four_bit][c];
  k.int8_words = narrower.int8_words;
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
