// SPDX-License-Identifier: MIT
#include "models.hpp"

#include <string>

#include "lowbit/gpt2/model.hpp"
#include "lowbit/lowbit.hpp"

namespace four_models {

namespace {

using lowbit::Compute;
using lowbit::Format;

using NF4 = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;
using FP4 = lowbit::FP4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;

// `rest`: everything but the linear weights.  The paper's float and from-scratch rows keep it in float32, bitsandbytes' in float16.
template <class Weights>
lowbit::gpt2::Transformer make(const lowbit::gpt2::ParameterSource& source, Format rest, lowbit::LinearOptions linear,
                               const typename Weights::Options& quantize = {}) {
  return lowbit::gpt2::Model<Weights>(source, {.quantize = quantize, .linear = linear, .rest = rest});
}

}  // namespace

Compute four_bit_compute(const Tuning& tuning) {
  const bool fast_bf16 = lowbit::active_level() >= lowbit::Level::avx512bf16 && lowbit::cpu_has_fast_bf16();
  return tuning.compute.value_or(fast_bf16 ? Compute::bf16 : Compute::int8);
}

lowbit::gpt2::Transformer make_model(const ModelKind& kind, const lowbit::gpt2::ParameterSource& source, const Tuning& tuning) {
  lowbit::FourBitOptions four_bit;
  four_bit.block_size = tuning.four_bit_block;
  four_bit.double_quantized = tuning.double_quantized;
  if (kind.id == "fp32") return make<lowbit::DenseTensor<float>>(source, Format::f32, {.compute = Compute::f32});
  if (kind.id == "int8_scratch" || kind.id == "int8")
    return make<lowbit::Int8Tensor<>>(source, Format::f32, {.compute = Compute::int8});
  if (kind.id == "int8_bnb")
    return make<lowbit::LlmInt8Tensor>(
        source, Format::f16, {.compute = Compute::int8, .outlier_threshold = tuning.int8_threshold, .outliers = tuning.outliers});
  if (kind.id == "nf4_bnb") return make<NF4>(source, Format::f16, {.compute = four_bit_compute(tuning)}, four_bit);
  if (kind.id == "nf4_f32") return make<NF4>(source, Format::f16, {.compute = Compute::f32}, four_bit);
  if (kind.id == "nf4_int8") return make<NF4>(source, Format::f16, {.compute = Compute::int8}, four_bit);
  if (kind.id == "fp4") return make<FP4>(source, Format::f16, {.compute = four_bit_compute(tuning)}, four_bit);
  if (kind.id == "bf16") return make<lowbit::DenseTensor<lowbit::BFloat16>>(source, Format::f16, {.compute = Compute::bf16});
  lowbit::raise<lowbit::InvalidArgument>("no model has the id " + std::string(kind.id));
}

}  // namespace four_models
