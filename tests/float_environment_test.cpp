// SPDX-License-Identifier: MIT
// Results and codes do not depend on the floating-point environment of the caller, nor on which thread computed them, and the
// caller's environment is as it was.
#include <cfenv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "lowbit/gpt2/attention.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/qat/operators.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/products.hpp"

#if LOWBIT_X86
#include <xmmintrin.h>
#endif

namespace float_environment_test {

namespace {

using Bytes = std::vector<std::uint8_t>;

template <class Range>
void append(Bytes& all, const Range& values) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(values.data());
  all.insert(all.end(), p, p + values.size() * sizeof(values[0]));
}

// Made before the environment changes.
struct Inputs {
  static constexpr std::size_t m = 19, k = 96, n = 80;
  std::vector<float> x, w, bias, qkv;

  Inputs() {
    lowbit_test::Random random(7);
    x = random.uneven(m * k);
    w = random.uneven(n * k);
    bias = random.uneven(n);
    qkv = random.uneven(12 * 48);
    for (std::size_t i = 0; i < x.size(); i += 7) x[i] *= 1e-38f;  // subnormal numbers
    for (std::size_t i = 0; i < 64; ++i) w[i] *= 1e-38f;
  }
};

// Everything that rounds, in one string of bytes: quantizers, scales, products with their epilogues, norms, attention.
Bytes results(const Inputs& in, lowbit::Executor& executor) {
  using namespace lowbit;
  using lowbit_test::quantized;
  constexpr std::size_t m = Inputs::m, k = Inputs::k, n = Inputs::n;
  Bytes all;
  std::vector<float> y(m * n);
  std::vector<lowbit_test::Weights> kinds;
  kinds.push_back(quantized<DenseTensor<float>>("f32", in.w, n, k));
  kinds.push_back(quantized<DenseTensor<Float16>>("f16", in.w, n, k));
  kinds.push_back(quantized<DenseTensor<BFloat16>>("bf16", in.w, n, k));
  kinds.push_back(quantized<Int8Tensor<PerRow>>("int8 per row", in.w, n, k));
  kinds.push_back(quantized<Int8Tensor<Blockwise<24>>>("int8 block 24", in.w, n, k));
  kinds.push_back(quantized<LlmInt8Tensor>("LLM.int8()", in.w, n, k));
  for (const bool twice : {false, true}) {
    kinds.push_back(lowbit_test::four_bit_weights<Nf4>(in.w, n, k, 64, twice));
    kinds.push_back(lowbit_test::four_bit_weights<Fp4>(in.w, n, k, 32, twice));
  }
  for (const lowbit_test::Weights& weights : kinds) {
    const TensorParts& parts = weights.tensor.parts();
    append(all, parts.codes);
    append(all, parts.scales);
    append(all, parts.scale_codes);
    append(all, parts.nested);
    std::vector<float> decoded(n * k);
    weights.tensor.dequantize(decoded.data());
    append(all, decoded);
    const auto multiply = [&](const auto& tensor) {
      for (const Compute compute : {Compute::f32, Compute::bf16, Compute::int8}) {
        if (compute == Compute::int8 && parts.block == 0) continue;
        for (const Activation activation : {Activation::none, Activation::gelu_tanh}) {
          MatmulOptions options;
          options.bias = in.bias;
          options.activation = activation;
          options.compute = compute;
          options.executor = &executor;
          matmul(in.x.data(), m, tensor, y.data(), options);
          append(all, y);
        }
      }
    };
    multiply(weights.tensor);
    if (weights.packed) {
      multiply(*weights.packed);
      append(all, weights.packed->unpack().parts().scale_codes);
    }
  }
  std::vector<float> out(12 * 16), x = in.x;
  gpt2::attention(in.qkv.data(), std::vector<std::size_t>{0, 5, 12}, 2, 16, out.data(), executor);
  append(all, out);
  qat::gelu(x.data(), x.size(), x.data(), executor);
  append(all, x);
  std::vector<float> dx(12 * 48), dqkv(12 * 48);
  qat::LayerNorm norm("norm", 48);
  for (float& g : norm.gain.gradient) g = 0.1f;
  for (float& g : norm.shift.gradient) g = 0.3f;
  norm.backward(in.qkv.data(), in.x.data(), 12, 1e-5f, dx.data(), false, executor);
  append(all, dx);
  append(all, norm.gain.gradient);
  append(all, norm.shift.gradient);
  qat::Dropout{0.3f, 5}.apply(in.x.data(), in.w.data(), dx.size(), dx.data(), executor);
  append(all, dx);
  qat::gelu_backward(in.qkv.data(), in.x.data(), dx.size(), dx.data(), executor);
  append(all, dx);
  qat::attention_backward(in.qkv.data(), in.x.data(), std::vector<std::size_t>{0, 5, 12}, 2, 16, dqkv.data(), executor);
  append(all, dqkv);
  const ErrorStatistics error = error_statistics(in.w.data(), y.data(), 1000);
  append(all, std::vector<double>{error.max, error.rms, error.snr_db, error.cosine});
  return all;
}

struct Environment {
  const char* name;
  void (*enter)();
};

const Environment environments[] = {
    {"towards zero", [] { std::fesetround(FE_TOWARDZERO); }},
    {"upward", [] { std::fesetround(FE_UPWARD); }},
    {"downward", [] { std::fesetround(FE_DOWNWARD); }},
#if LOWBIT_X86
    {"subnormal numbers flushed", [] { _mm_setcsr(_mm_getcsr() | 0x8040u); }},
    {"traps", [] { _mm_setcsr(_mm_getcsr() & ~0x1E80u); }},  // all but of inexact results
#endif
#if defined(__aarch64__)
    {"subnormal numbers flushed", [] { __asm__ volatile("msr fpcr, %0" ::"r"(std::uint64_t{1} << 24)); }},
#endif
};

struct Restore {
  std::fenv_t saved;
  Restore() { std::fegetenv(&saved); }
  ~Restore() { std::fesetenv(&saved); }
};

}  // namespace

TEST_CASE("the caller's floating-point environment changes no bit and is left as it was") {
  const Inputs in;
  lowbit::SerialExecutor serial;
  lowbit_test::for_each_level([&](lowbit::Level) {
    const Bytes want = results(in, serial);
    for (const Environment& e : environments) {
      INFO(e.name);
      Bytes in_place, in_threads;
      int rounding = -1, expected = -2;
#if LOWBIT_X86
      unsigned control = 0, entered = 1;
#endif
      {
        const Restore restore;
        e.enter();
        expected = std::fegetround();
        lowbit::ThreadPool pool(3);  // its threads begin with this environment
#if LOWBIT_X86
        entered = _mm_getcsr() & ~0x3Fu;
#endif
        in_place = results(in, serial);
        in_threads = results(in, pool);
        rounding = std::fegetround();
#if LOWBIT_X86
        control = _mm_getcsr() & ~0x3Fu;
#endif
      }
      CHECK((in_place == want));
      CHECK((in_threads == want));
      CHECK(rounding == expected);
#if LOWBIT_X86
      CHECK(control == entered);
#endif
    }
  });
}

TEST_CASE("a task runs in the default floating-point environment, whoever runs it") {
  const Restore restore;
  std::fesetround(FE_UPWARD);
  lowbit::ThreadPool pool(2);
  lowbit::SerialExecutor serial;
  const volatile float one = 1, little = 1e-10f;
  for (lowbit::Executor* executor : {static_cast<lowbit::Executor*>(&pool), static_cast<lowbit::Executor*>(&serial)}) {
    std::vector<float> sums(16, -1);
    executor->run(16, [&](std::size_t i) { sums[i] = one + little; });
    for (const float sum : sums) CHECK(sum == 1);
    const float here = one + little;
    CHECK(here > 1);
  }
}

}  // namespace float_environment_test
