// SPDX-License-Identifier: MIT
// The entry points of one level.  Taking an address is what makes a kernel be compiled: a level that only adds an instruction takes
// what it does not change from the level below.  Included once per instruction set, by targets.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

template <Compute C>
constexpr void add_four_bit_kernels(Kernels& k) {
  k.gemm_packed[1][static_cast<int>(C)] = &gemm_packed_four_bit<C>;
  k.gemm_canonical[1][static_cast<int>(C)] = &gemm_canonical_four_bit<C>;
}
template <Level L>
constexpr void add_f32_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::f32>(k);
  k.gemm_packed[0][static_cast<int>(Compute::f32)] = &gemm_packed_f32;
  k.gemm_canonical[0][static_cast<int>(Compute::f32)] = &gemm_canonical<Compute::f32>;
  k.quantize_rows = &quantize_rows;
  k.find_outliers = &find_outliers;
  k.embed_rows = &embed_rows;
  k.layer_norm = &layer_norm;
  k.attention = &attention;
  k.finish_row = &finish_row;
  k.gelu = &gelu_array;
  k.exp2 = &exp2_array;
  k.transpose = &transpose;
  k.decode_codes = &decode_codes;
  k.add_rows = &add_rows;
  k.layer_norm_backward = &layer_norm_backward;
  k.attention_backward = &attention_backward;
  k.gelu_backward = &gelu_backward;
  k.cross_entropy = &cross_entropy;
  k.adamw = &adamw;
}
template <Level L>
constexpr void add_int8_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::int8>(k);
  k.gemm_packed[0][static_cast<int>(Compute::int8)] = &gemm_packed_int8;
  k.gemm_canonical[0][static_cast<int>(Compute::int8)] = &gemm_canonical<Compute::int8>;
  k.int8_words = ComputeInt8::words;
}
template <Level L>
constexpr void add_bf16_kernels(Kernels& k) {
  add_four_bit_kernels<Compute::bf16>(k);
  k.gemm_packed[0][static_cast<int>(Compute::bf16)] = &gemm_packed_bf16;
  k.gemm_canonical[0][static_cast<int>(Compute::bf16)] = &gemm_canonical<Compute::bf16>;
  k.bf16_rows = &bf16_rows;
  k.native_bf16 = simd::native_bf16;
}

template <Level L>
constexpr Kernels all_kernels() {
  Kernels k;
  k.level = L;
  add_f32_kernels<L>(k);
  add_int8_kernels<L>(k);
  add_bf16_kernels<L>(k);
  return k;
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
