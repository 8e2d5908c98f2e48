// SPDX-License-Identifier: MIT
// Prints a checksum of what every kernel computes, for every format, compute type and layout, at every level that this processor
// has.  A change that claims to keep every bit runs it before and after:
//   tests/checksums >before; ...; tests/checksums | diff before -
// With --differences it prints instead, as a table, how far levels lie from the lowest one.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/gpt2/attention.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/qat/operators.hpp"

namespace {

using namespace lowbit;

// FNV-1a over whole floats, with its high bits mixed in.
std::uint64_t hash(std::uint64_t h, std::span<const float> values) {
  for (const float v : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &v, sizeof bits);
    h = (h ^ bits) * 0x100000001B3u;
    h ^= h >> 29;
  }
  return h;
}

// Xorshift: the same numbers on every machine, in [-1, 1).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(88172645463325252u + seed) {}
  std::vector<float> floats(std::size_t n, float scale = 1) {
    std::vector<float> values(n);
    for (float& v : values) v = scale * next();
    return values;
  }

 private:
  float next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<float>(static_cast<double>(state_ >> 11) / 9007199254740992.0 * 2 - 1);
  }
  std::uint64_t state_;
};

using Sums = std::map<std::string, std::uint64_t>;

struct Named {
  std::string name;
  Tensor tensor;
};
std::vector<Named> every_format(const std::vector<float>& w, std::size_t n, std::size_t k) {
  std::vector<Named> all;
  all.push_back({"f32", DenseTensor<float>::quantize(w.data(), n, k)});
  all.push_back({"f16", DenseTensor<Float16>::quantize(w.data(), n, k)});
  all.push_back({"bf16", DenseTensor<BFloat16>::quantize(w.data(), n, k)});
  all.push_back({"int8 row", Int8Tensor<>::quantize(w.data(), n, k)});
  all.push_back({"int8 block 64", Int8Tensor<Blockwise<64>>::quantize(w.data(), n, k)});
  all.push_back({"LLM.int8()", LlmInt8Tensor::quantize(w.data(), n, k)});
  all.push_back({"nf4", NF4Tensor<>::quantize(w.data(), n, k)});
  all.push_back({"nf4 plain", NF4Tensor<32, PlainAbsmax>::quantize(w.data(), n, k)});
  all.push_back({"fp4", FP4Tensor<>::quantize(w.data(), n, k)});
  all.push_back({"nf4 block 4096", NF4Tensor<4096>::quantize(w.data(), n, k)});
  return all;
}

// Products of (n, k) weights: every format, compute and layout, with all eight epilogues where they are small.
void products(std::size_t n, std::size_t k, Sums& sums) {
  Random random(n * 1000 + k);
  const std::vector<float> w = random.floats(n * k, 0.3f), bias = random.floats(n);
  const std::vector<Named> formats = every_format(w, n, k);
  for (const std::size_t m : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 16u, 17u, 52u, 131u}) {
    if (m > 60 && n > 150) continue;
    std::vector<float> x = random.floats(m * k);
    const std::vector<float> residual = random.floats(m * n);
    for (std::size_t r = 0; r < m; ++r)
      for (std::size_t c = 0; c < k; c += 37)
        if ((r + c) % 3 != 0) x[r * k + c] *= 9;  // outliers
    for (const Named& f : formats) {
      std::unique_ptr<PackedTensor> packed;
      if (PackedTensor::packable(f.tensor)) packed = std::make_unique<PackedTensor>(PackedTensor::pack(f.tensor));
      for (const Compute compute : {Compute::f32, Compute::bf16, Compute::int8}) {
        if (compute == Compute::int8 && f.tensor.block_size() == 0) continue;
        for (unsigned e = 0; e < 8; ++e) {
          if ((m > 9 || n > 150) && e % 7 != 0 && e != 2) continue;
          MatmulOptions o;
          o.compute = compute;
          if ((e & 1) != 0) o.bias = bias;
          if ((e & 2) != 0) o.activation = gelu_tanh;
          if ((e & 4) != 0) o.residual = {residual.data(), m, n};
          const auto add = [&](const auto& weights, const char* layout) {
            std::vector<float> y(m * n, -7.0f);
            matmul(x.data(), m, weights, y.data(), o);
            std::uint64_t& h = sums[f.name + ", " + layout + ", " + compute_name(compute)];
            h = hash(h, y);
          };
          add(f.tensor, "canonical");
          if (packed) add(*packed, "packed");
        }
      }
    }
  }
}

// Everything else: norms, activations, attention, and what training adds.
void operators(Sums& sums) {
  Random random(1);
  SerialExecutor serial;
  const std::vector<float> a = random.floats(40 * 100), b = random.floats(40 * 100), bias = random.floats(100);
  std::vector<float> out(a.size());
  const auto add = [&](const char* name, std::span<const float> values) { sums[name] = hash(sums[name], values); };
  qat::LayerNorm norm("norm", 100);
  for (std::size_t i = 0; i < 100; ++i) {
    norm.gain.value[i] = bias[i];
    norm.shift.value[i] = a[i];
  }
  norm.forward(a.data(), 40, 1e-5f, out.data(), serial);
  add("layer norm", out);
  norm.backward(a.data(), b.data(), 40, 1e-5f, out.data(), false, serial);
  add("layer norm, backward", out);
  add("layer norm, backward", norm.gain.gradient.span());
  qat::gelu(a.data(), a.size(), out.data(), serial);
  add("gelu", out);
  qat::gelu_backward(a.data(), b.data(), a.size(), out.data(), serial);
  add("gelu, backward", out);
  for (const std::size_t depth : {8u, 20u, 33u, 32u}) {
    const std::vector<std::size_t> offsets{0, 1, 6, 22, 43};
    const std::vector<float> qkv = random.floats(43 * 6 * depth), dout = random.floats(43 * 2 * depth);
    std::vector<float> y(43 * 2 * depth), dqkv(qkv.size());
    gpt2::attention(qkv.data(), offsets, 2, 2 * depth, y.data(), serial);
    add("attention", y);
    qat::attention_backward(qkv.data(), dout.data(), offsets, 2, 2 * depth, dqkv.data(), serial);
    add("attention, backward", dqkv);
  }
}

// Largest distance of a product from the first level's, in units of 2^-24 of the sum of its terms' magnitudes, by format, layout and
// compute type (rows) and level (columns).  0: the same bits.
void differences() {
  constexpr std::size_t n = 194, k = 1536;
  Random random(7);
  const std::vector<float> w = random.floats(n * k, 0.3f);
  const std::vector<Named> formats = every_format(w, n, k);
  std::map<std::string, std::vector<double>> table;
  std::vector<std::string> order;
  const std::vector<Level> levels = available_levels();
  for (const std::size_t m : {1u, 5u, 40u}) {
    const std::vector<float> x = random.floats(m * k);
    for (const Named& f : formats) {
      std::vector<float> values(n * k);
      f.tensor.dequantize(values.data());
      std::vector<double> magnitude(m * n);
      for (std::size_t r = 0; r < m; ++r)
        for (std::size_t c = 0; c < n; ++c)
          for (std::size_t i = 0; i < k; ++i)
            magnitude[r * n + c] += std::abs(static_cast<double>(x[r * k + i]) * static_cast<double>(values[c * k + i]));
      const PackedTensor packed = PackedTensor::pack(f.tensor);
      for (const Compute compute : {Compute::f32, Compute::bf16, Compute::int8}) {
        if (compute == Compute::int8 && f.tensor.block_size() == 0) continue;
        MatmulOptions o;
        o.compute = compute;
        const auto add = [&](const auto& weights, const char* layout) {
          const std::string name = f.name + " | " + layout + " | " + compute_name(compute);
          std::vector<double>& worst = table[name];
          if (worst.empty()) order.push_back(name);
          worst.resize(levels.size());
          std::vector<float> first(m * n), y(m * n);
          for (std::size_t l = 0; l < levels.size(); ++l) {
            set_level(levels[l]);
            matmul(x.data(), m, weights, (l == 0 ? first : y).data(), o);
            for (std::size_t i = 0; l != 0 && i < y.size(); ++i)
              worst[l] = (std::max)(worst[l],
                                    std::abs(static_cast<double>(y[i]) - static_cast<double>(first[i])) / (magnitude[i] * 0x1p-24));
          }
        };
        add(f.tensor, "canonical");
        add(packed, "packed");
      }
    }
  }
  std::printf("| weights | layout | compute |");
  for (const Level level : levels) std::printf(" %s |", level_name(level));
  std::printf("\n|---|---|---|");
  for (std::size_t l = 0; l < levels.size(); ++l) std::printf("---|");
  for (const std::string& name : order) {
    std::printf("\n| %s |", name.c_str());
    for (const double d : table[name]) d == 0 ? std::printf(" 0 |") : std::printf(" %.2g |", d);
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    if (argc > 2 || std::strcmp(argv[1], "--differences") != 0) {
      std::fprintf(stderr, "usage: %s [--differences]\n", argv[0]);
      return 2;
    }
    differences();
    return 0;
  }
  constexpr std::size_t shapes[][2] = {{48, 64}, {50, 100},  {97, 128}, {144, 768}, {200, 1030},
                                       {33, 77}, {388, 600}, {1, 1},    {101, 513}};
  for (const Level level : available_levels()) {
    set_level(level);
    Sums sums;
    for (const auto& [n, k] : shapes) products(n, k, sums);
    operators(sums);
    for (const auto& [name, sum] : sums)
      std::printf("%016llx  %s, %s\n", static_cast<unsigned long long>(sum), level_name(level), name.c_str());
  }
}
