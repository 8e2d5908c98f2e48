// SPDX-License-Identifier: MIT
#include "products.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "executors.hpp"
#include "limits.hpp"
#include "lowbit/lowbit.hpp"
#include "oracle.hpp"
#include "peers.hpp"

namespace bench {

namespace {

using lowbit::Compute;
using lowbit::PackedTensor;
using lowbit::Tensor;

// Deterministic values, roughly normal: a sum of four uniforms.
std::vector<float> values(std::size_t n, float deviation, std::uint32_t seed) {
  std::vector<float> v(n);
  for (float& x : v) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      seed = seed * 1664525u + 1013904223u;
      sum += static_cast<float>(seed >> 8) * (2.0f / 16777216.0f) - 1.0f;
    }
    x = sum * deviation * 0.8660254f;
  }
  return v;
}

Tensor make_tensor(const std::string& format, const float* w, std::size_t n, std::size_t k) {
  using namespace lowbit;
  if (format == "f32") return DenseTensor<float>::quantize(w, n, k);
  if (format == "f16") return DenseTensor<Float16>::quantize(w, n, k);
  if (format == "bf16") return DenseTensor<BFloat16>::quantize(w, n, k);
  if (format == "int8") return Int8Tensor<>::quantize(w, n, k);
  if (format == "llm_int8") return LlmInt8Tensor::quantize(w, n, k);
  if (format == "nf4" || format == "nf4_canonical") return NF4Tensor<>::quantize(w, n, k);
  if (format == "nf4_plain") return NF4Tensor<64, PlainAbsmax>::quantize(w, n, k);
  if (format == "nf4_b32") return NF4Tensor<32>::quantize(w, n, k);
  if (format == "nf4_b128") return NF4Tensor<128>::quantize(w, n, k);
  if (format == "nf4_b4096") return NF4Tensor<4096>::quantize(w, n, k);
  if (format == "fp4") return FP4Tensor<>::quantize(w, n, k);
  throw std::invalid_argument("no format is called " + format);
}

// Copies of a weight matrix that calls go round.  Whoever reads them shares the place where the last call ended, so that nobody
// meets in a cache what somebody else has just read.
template <class T>
struct Copies {
  std::vector<T> all;
  std::size_t calls = 0;
  const T& next() { return all[calls++ % all.size()]; }
  // Until there are as many as `p` wants.
  template <class Make>
  void fill(const Problem& p, const Make& make) {
    do all.push_back(make());
    while (all.size() < copies_of(p, all.front().resident_bytes()));
  }
};

// One weight matrix, in the forms that somebody asked for.
struct Weights {
  std::vector<float> w;
  std::map<std::string, std::shared_ptr<const Tensor>> tensors;
  std::map<std::pair<std::string, bool>, std::shared_ptr<Copies<PackedTensor>>> packed;  // by format, and whether cold
  std::map<std::pair<std::string, bool>, std::shared_ptr<Copies<Tensor>>> canonical;
};
using Shape = std::pair<std::size_t, std::size_t>;
std::map<Shape, Weights>& all_weights() {
  static std::map<Shape, Weights> all;
  return all;
}
Weights& weights_of(const Problem& p) {
  Weights& weights = all_weights()[{p.n, p.k}];
  if (weights.w.empty()) weights.w = values(p.n * p.k, 0.02f, 1);
  return weights;
}
std::shared_ptr<const Tensor> tensor_of(const Problem& p, const std::string& format) {
  Weights& weights = weights_of(p);
  auto& tensor = weights.tensors[format];
  if (!tensor) tensor = std::make_shared<const Tensor>(make_tensor(format, weights.w.data(), p.n, p.k));
  return tensor;
}
std::shared_ptr<Copies<PackedTensor>> packed_of(const Problem& p, const std::string& format) {
  auto& copies = weights_of(p).packed[{format, p.cold}];
  if (!copies) {
    copies = std::make_shared<Copies<PackedTensor>>();
    copies->fill(p, [&] { return PackedTensor::pack(*tensor_of(p, format)); });
  }
  return copies;
}
std::shared_ptr<Copies<Tensor>> canonical_of(const Problem& p, const std::string& format) {
  auto& copies = weights_of(p).canonical[{format, p.cold}];
  if (!copies) {
    copies = std::make_shared<Copies<Tensor>>();
    copies->fill(p, [&] { return Tensor(lowbit_test::clone(tensor_of(p, format)->parts())); });
  }
  return copies;
}

// In LLM.int8()'s case 1 % of the columns are outliers, as in a middle layer of a trained GPT-2 small.
std::shared_ptr<const std::vector<float>> activations_of(const Problem& p, bool outliers) {
  auto x = std::make_shared<std::vector<float>>(values(p.m * p.k, 1.0f, 2));
  if (outliers)
    for (std::size_t r = 0; r < p.m; ++r)
      for (std::size_t c = 50; c < p.k; c += 100) (*x)[r * p.k + c] = c % 200 == 50 ? 8.0f : -8.0f;
  return x;
}

Compute compute_of(const std::string& name) {
  for (const Compute c : {Compute::f32, Compute::bf16, Compute::int8})
    if (name == lowbit::compute_name(c)) return c;
  throw std::invalid_argument("no compute type is called " + name);
}

// Runs every way once and compares.
void check(Contender& c, const Oracle& oracle, std::span<float> y) {
  for (const Way& way : c.ways) {
    std::fill(y.begin(), y.end(), std::numeric_limits<float>::quiet_NaN());
    c.enter();
    way.call(0);
    if (c.wrong.empty()) c.wrong = find_wrong(oracle, y.data());
  }
}

// The level that the run began with: cases at forced levels leave another behind.
lowbit::Level first_level() {
  static const lowbit::Level level = lowbit::active_level();
  return level;
}

Contender lowbit_product(const Case& c) {
  const Problem& p = c.problem;
  const Compute compute = compute_of(c.compute);
  const bool llm = c.format == "llm_int8";
  const auto tensor = tensor_of(p, c.format);
  const auto x = activations_of(p, llm);
  const auto y = std::make_shared<lowbit::AlignedBuffer<float>>(p.m * p.n);
  const auto bias = std::make_shared<const std::vector<float>>(values(p.n, 0.1f, 3));
  const auto residual =
      std::make_shared<const std::vector<float>>(c.epilogue == "bias_residual" ? values(p.m * p.n, 1.0f, 4) : std::vector<float>());
  lowbit::MatmulOptions options;
  options.compute = compute;
  options.executor = &executor(p.threads);
  if (!c.epilogue.empty()) options.bias = *bias;
  if (c.epilogue == "bias_gelu") options.activation = lowbit::Activation::gelu_tanh;
  if (c.epilogue == "bias_residual") options.residual = {residual->data(), p.m, p.n};

  Contender contender;
  contender.threads = p.threads;
  contender.operations = p.operations();
  const auto at = c.impl.find('@');
  const lowbit::Level level = at == c.impl.npos ? first_level() : lowbit::level_from_name(c.impl.substr(at + 1));
  contender.enter = [level, threads = p.threads] {
    lowbit::set_level(level);
    gather(threads);
  };
  const auto multiply = [=](const auto& w) {
    // What the spans of the options point to is kept by the capture.
    static_cast<void>(bias), static_cast<void>(residual);
    lowbit::matmul(x->data(), p.m, w, y->data(), options);
  };
  const auto add = [&](const char* label, const auto& copies) {
    contender.bytes = static_cast<double>(copies->all.front().resident_bytes());
    contender.lap = copies->all.size();
    contender.ways.push_back({label, [=](std::size_t) { multiply(copies->next()); }});
  };
  if (c.format != "nf4_canonical" && PackedTensor::packable(*tensor))
    add("packed", packed_of(p, c.format));
  else
    add("canonical", canonical_of(p, c.format));

  const bool folded = level == lowbit::Level::amx && c.format != "nf4_canonical";
  Oracle oracle{p.m, p.n, p.k, {}, {}, lowbit_test::product_roundings(p.k, tensor->block_size()), {}};
  oracle.x = [&](std::size_t r, std::span<double> out) {
    activations_as_computed(x->data() + r * p.k, p.k, *tensor, compute, options.outlier_threshold, out);
  };
  oracle.w = [&](std::size_t r, std::span<double> out) { weights_as_computed(*tensor, compute, folded, r, out); };
  if (!c.epilogue.empty())
    oracle.epilogue = [&](lowbit_test::Bounded v, std::size_t r, std::size_t col) {
      v = lowbit_test::plus(v, (*bias)[col]);
      return residual->empty() ? lowbit_test::gelu_tanh(v) : lowbit_test::plus(v, (*residual)[r * p.n + col]);
    };
  check(contender, oracle, {y->data(), y->size()});
  return contender;
}

Contender peer_product(const Case& c) {
  const Problem& p = c.problem;
  const Weights& weights = weights_of(p);
  const auto x = activations_of(p, false);
  const auto y = std::make_shared<lowbit::AlignedBuffer<float>>(p.m * p.n);
  Operands o;
  o.problem = p;
  o.x = x->data();
  o.w = weights.w.data();
  o.y = y->data();
  Oracle oracle{p.m, p.n, p.k, {}, {}, p.k + 8, {}};
  oracle.x = [&](std::size_t r, std::span<double> out) { std::copy_n(o.x + r * p.k, p.k, out.begin()); };
  oracle.w = [&](std::size_t r, std::span<double> out) { std::copy_n(o.w + r * p.k, p.k, out.begin()); };

  Contender contender;
  std::vector<std::uint8_t> codes;
  std::shared_ptr<const Tensor> int8;
  if (c.impl != "onednn") {
    contender = c.impl == "eigen" ? eigen::product(o) : openblas::product(o);
  } else if (c.compute == "f32") {
    contender = onednn::product(onednn::Type::f32, o);
  } else if (c.compute == "bf16") {
    contender = onednn::product(onednn::Type::bf16, o);
    oracle.x = [&](std::size_t r, std::span<double> out) {
      std::copy_n(o.x + r * p.k, p.k, out.begin());
      round_to_bf16(out);
    };
    oracle.w = [&](std::size_t r, std::span<double> out) {
      std::copy_n(o.w + r * p.k, p.k, out.begin());
      round_to_bf16(out);
    };
  } else {
    for (const float v : *x) codes.push_back(static_cast<std::uint8_t>(std::clamp(std::lround(v * 32 + 128), 0l, 255l)));
    int8 = tensor_of(p, "int8");
    o.x_codes = codes.data();
    o.w_codes = reinterpret_cast<const std::int8_t*>(int8->parts().codes.data());
    o.w_scales = int8->parts().scales.data();
    contender = onednn::product(onednn::Type::u8s8, o);
    oracle.x = [&](std::size_t r, std::span<double> out) { std::copy_n(o.x_codes + r * p.k, p.k, out.begin()); };
    oracle.w = [&](std::size_t r, std::span<double> out) { weights_as_computed(*int8, Compute::f32, false, r, out); };
  }
  check(contender, oracle, {y->data(), y->size()});
  // The operands live as long as the ways that read them.
  for (Way& way : contender.ways) way.call = [call = std::move(way.call), x, y](std::size_t i) { call(i); };
  return contender;
}

Contender limit(const Case& c) {
  const Arithmetic arithmetic = c.format == "f32" ? Arithmetic::f32 : c.format == "bf16" ? Arithmetic::bf16 : Arithmetic::int8;
  if (c.compute == "lookup") return lookup_limit(arithmetic, c.problem);
  if (c.compute == "handover") return handover_limit(c.problem);
  if (c.compute == "nf4_tile") return tile_limit(arithmetic, c.problem);
  if (c.format == "f32" || c.format == "bf16" || c.format == "int8") return arithmetic_limit(arithmetic, c.problem);
  if (c.format == "l2") return read_limit(Memory::l2, c.problem);
  if (c.format == "l3") return read_limit(Memory::l3, c.problem);
  if (c.format == "dram") return read_limit(Memory::dram, c.problem);
  throw std::invalid_argument("no limit is called " + c.format);
}

}  // namespace

std::string Case::name() const {
  const Problem& p = problem;
  return impl + "/" + format + "/" + compute + "/" + std::to_string(p.n) + "x" + std::to_string(p.k) + "x" + std::to_string(p.m) +
         "/t" + std::to_string(p.threads) +
         (p.m != 1 ? ""
          : p.cold ? "/cold"
                   : "/hot") +
         (epilogue.empty() ? "" : "/" + epilogue);
}

bool exists(const Case& c) {
  if (c.impl == "limit") return !limit(c).ways.empty();
  if (c.impl == "onednn") return !onednn::version().empty();
  if (c.impl.starts_with("openblas")) return !openblas::version().empty();
  const std::vector<lowbit::Level> levels = lowbit::available_levels();
  return !c.impl.starts_with("lowbit@") ||
         std::any_of(levels.begin(), levels.end(), [&](lowbit::Level l) { return c.impl.substr(7) == lowbit::level_name(l); });
}

Contender prepare(const Case& c) {
  lowbit::set_level(first_level());
  Contender contender = c.impl.starts_with("lowbit") ? lowbit_product(c) : c.impl == "limit" ? limit(c) : peer_product(c);
  contender.maker = c.impl;
  return contender;
}

void forget_operands_except(const std::vector<Case>& cases) {
  std::erase_if(all_weights(), [&](const auto& entry) {
    return std::none_of(cases.begin(), cases.end(), [&](const Case& c) { return entry.first == Shape{c.problem.n, c.problem.k}; });
  });
}

}  // namespace bench
