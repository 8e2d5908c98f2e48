// SPDX-License-Identifier: MIT
// Products drawn at random: weights of any format, block and shape, activations, epilogue, compute type, level, layout, executor.
// Each must lie within the bound derived for it (products of small integers: be exact), and must give the same bits again, by the
// rules of docs/design.md, in another executor, as a row by itself, with prepared input, from 16-bit activations, from a view of its
// bytes, and from packed bytes that were mapped.  A case is a function of its number, so that one that fails is run again by it.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "lowbit/lowbit.hpp"
#include "support/backward_executor.hpp"
#include "support/checked_product.hpp"

namespace {

using lowbit::Compute;
using lowbit::Format;
using lowbit::Level;
using lowbit_test::Epilogue;
using lowbit_test::EpilogueValues;
using lowbit_test::Random;
using Floats = std::vector<float>;

constexpr Format formats[] = {Format::f32, Format::f16, Format::bf16, Format::int8, Format::llm_int8, Format::nf4, Format::fp4};

// Sizes at the edges of registers, groups, panels and blocks, and any others.
std::size_t draw_size(Random& random, std::size_t most) {
  constexpr std::size_t edges[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512};
  std::size_t n = random.coin() ? random.one_of(edges) + random.below(3) : 1 + random.below(most);
  if (n > 1 && random.below(4) == 0) --n;
  return std::min(n, most);
}

struct Case {
  std::size_t m = 0, n = 0, k = 0;
  bool integral = false, packed = false;
  Compute compute = Compute::f32;
  Level level = Level::base;
  Epilogue epilogue;
  lowbit_test::OutlierRule outliers;
  lowbit_test::Weights weights{"", {}};
  Floats x;
};

// Weights that are integers, with scales of 1: no sum of their products with small integers is ever rounded.
lowbit::Tensor draw_integers(Format format, std::size_t n, std::size_t k, std::size_t block, Random& random) {
  lowbit::TensorParts p;
  p.format = format;
  p.rows = n;
  p.cols = k;
  p.block = block;
  if (lowbit::detail::element_bits(format) >= 16) {
    Floats w(n * k);
    for (float& v : w) v = static_cast<float>(random.below(17)) - 8;
    if (format == Format::f32) return lowbit::DenseTensor<float>::quantize(w.data(), n, k);
    if (format == Format::f16) return lowbit::DenseTensor<lowbit::Float16>::quantize(w.data(), n, k);
    return lowbit::DenseTensor<lowbit::BFloat16>::quantize(w.data(), n, k);
  }
  p.codes.reset(lowbit::detail::element_bytes(format, n * k));
  const bool four_bit = lowbit::detail::element_bits(format) == 4;
  for (std::uint8_t& c : p.codes) c = static_cast<std::uint8_t>(four_bit ? random.below(256) : random.below(255) - 127);
  if (four_bit && n * k % 2 != 0) p.codes[n * k / 2] &= 0xF0;
  p.scales.reset(lowbit::block_count(n * k, block));
  std::fill(p.scales.begin(), p.scales.end(), 1.0f);
  for (std::size_t i = 0; i < 16; ++i) p.table[i] = static_cast<float>(i) * 16 - 128 + (i == 0 ? 1.0f : 0.0f);  // -127 ... 112
  return lowbit::Tensor(std::move(p));
}

lowbit::Tensor draw_weights(Format format, std::size_t n, std::size_t k, std::size_t block, Random& random) {
  using namespace lowbit;
  const Floats w = random.uneven(n * k);
  switch (format) {
    case Format::f32: return DenseTensor<float>::quantize(w.data(), n, k);
    case Format::f16: return DenseTensor<Float16>::quantize(w.data(), n, k);
    case Format::bf16: return DenseTensor<BFloat16>::quantize(w.data(), n, k);
    case Format::llm_int8: return LlmInt8Tensor::quantize(w.data(), n, k);
    case Format::nf4: return std::move(lowbit_test::four_bit_weights<Nf4>(w, n, k, block, random.coin()).tensor);
    case Format::fp4: return std::move(lowbit_test::four_bit_weights<Fp4>(w, n, k, block, random.coin()).tensor);
    case Format::int8: break;
  }
  TensorParts p;
  p.format = Format::int8;
  p.rows = n;
  p.cols = k;
  p.block = block;
  p.codes.reset(n * k);
  p.scales.reset(block_count(n * k, block));
  quantize_int8(w.data(), n * k, block, reinterpret_cast<std::int8_t*>(p.codes.data()), p.scales.data());
  return Tensor(std::move(p));
}

Case draw(Random& random, const std::vector<Level>& levels) {
  Case c;
  const Format format = random.one_of(formats);
  const std::size_t bits = lowbit::detail::element_bits(format);
  constexpr std::size_t most_work = 24'000;
  c.k = draw_size(random, random.below(8) == 0 ? 1000 : 160);
  c.n = std::min(draw_size(random, random.below(8) == 0 ? 500 : 130), std::max<std::size_t>(1, most_work / c.k));
  c.m = std::min(draw_size(random, random.below(8) == 0 ? 150 : 20), std::max<std::size_t>(1, most_work / (c.n * c.k)));
  c.integral = format != Format::llm_int8 && random.below(4) == 0;  // its factor is no power of two
  std::size_t block = 0;
  if (bits == 4)
    block = random.one_of(lowbit_test::four_bit_blocks);
  else if (format == Format::llm_int8)
    block = c.k;
  else if (format == Format::int8)
    block = random.below(3) == 0 ? c.k : random.below(3) == 0 ? c.n * c.k : 1 + random.below(200);
  c.weights = {lowbit::format_name(format),
               c.integral ? draw_integers(format, c.n, c.k, block, random) : draw_weights(format, c.n, c.k, block, random)};
  do c.compute = random.one_of(lowbit_test::all_computes);
  while (!lowbit_test::has_compute(format, c.compute));
  c.level = levels[random.below(levels.size())];
  c.packed = c.weights.packed && random.coin();
  if (c.integral) {
    // One of 127 and others as large: the scale of the row is 1.  Weights and sums stay below 2^24 by their depth.
    c.x.resize(c.m * c.k);
    for (std::size_t i = 0; i < c.x.size(); ++i) c.x[i] = i % c.k == 0 ? 127.0f : static_cast<float>(random.below(255)) - 127.0f;
  } else {
    c.x = random.normals(c.m * c.k);
    if (random.below(7) == 0)
      for (std::size_t i = 0; i < c.k; ++i) c.x[i] *= 1e-38f;  // a row of subnormal numbers
    c.epilogue = lowbit_test::random_epilogue(random);
    if (format == Format::llm_int8 && c.compute == Compute::int8) {
      constexpr float thresholds[] = {0, 6, 1};
      c.outliers = {random.one_of(thresholds), random.coin()};
      if (c.outliers.threshold > 0) c.x[random.below(c.x.size())] = random.coin() ? 20.0f : -c.outliers.threshold;
    }
  }
  return c;
}

std::string describe(const Case& c) {
  const lowbit::Tensor& t = c.weights.tensor;
  return c.weights.name + (t.double_quantized() ? " double-quantized" : "") + " block " + std::to_string(t.block_size()) +
         (c.integral ? ", integers" : "") + ", m " + std::to_string(c.m) + ", n " + std::to_string(c.n) + ", k " +
         std::to_string(c.k) + ", " + lowbit::compute_name(c.compute) + ", " + lowbit::level_name(c.level) +
         (c.packed ? ", packed" : ", canonical") + lowbit_test::describe(c.epilogue) +
         (c.outliers.threshold > 0
              ? ", outliers from " + std::to_string(c.outliers.threshold) + (c.outliers.per_call ? " per call" : "")
              : "");
}

lowbit::WeightsView view_of(const lowbit::Tensor& t) {
  const lowbit::TensorParts& p = t.parts();
  lowbit::WeightsViewParts v;
  v.format = p.format;
  v.rows = p.rows;
  v.cols = p.cols;
  v.codes = p.codes.data();
  v.block = p.block;
  v.table = p.table.data();
  if (t.double_quantized()) {
    v.scale_codes = p.scale_codes.data();
    v.nested = p.nested.data();
    v.nested_map = p.nested_map.data();
    v.offset = p.offset;
  } else if (p.block != 0) {
    v.scales = p.scales.data();
  }
  return lowbit::WeightsView(v);
}

// The executors that cases choose from; made once in a process.
lowbit::Executor& draw_executor(Random& random) {
  static lowbit::SerialExecutor serial;
  static lowbit::ThreadPool pool(3);
  static lowbit_test::BackwardExecutor backward(64);
  switch (random.below(8)) {
    case 0: return pool;
    case 1:
    case 2: return backward;
    default: return serial;
  }
}

std::string first_difference(const Floats& y, const Floats& want) {
  for (std::size_t i = 0; i < want.size(); ++i)
    if (y.size() != want.size() || std::memcmp(&y[i], &want[i], 4) != 0) return "element " + std::to_string(i) + " has other bits";
  return "";
}

std::vector<lowbit_test::Bounded> expected_of(const Case& c) {
  if (c.integral) {
    std::vector<double> y(c.m * c.n);
    lowbit::reference_matmul(c.x.data(), c.m, c.weights.tensor, y.data());
    std::vector<lowbit_test::Bounded> exact;
    for (const double v : y) exact.push_back({v, 0});
    return exact;
  }
  if (c.level == Level::amx && c.compute == Compute::bf16 && c.packed)
    return lowbit_test::expected_bf16(c.x, c.m, c.weights.tensor, lowbit_test::take_apart(c.weights.tensor), &*c.weights.packed);
  return lowbit_test::expected_product(c.x, c.m, c.weights.tensor, c.compute, c.packed, c.outliers);
}

// The same rows in another way, which must give the same bits.
std::string check_ways(const Case& c, const lowbit::Weights& w, const lowbit::MatmulOptions& plain, Random& random) {
  lowbit::MatmulOptions options = plain;
  const lowbit::MatrixView<const float> x(c.x.data(), c.m, c.k);
  Floats want(c.m * c.n), y(want.size());
  lowbit::matmul(x, w, lowbit::MatrixView<float>(want.data(), c.m, c.n), options);
  const auto differs = [&](const char* way) {
    const std::string found = first_difference(y, want);
    return found.empty() ? found : way + (": " + found);
  };
  const lowbit::MatrixView<float> out(y.data(), c.m, c.n);

  options.executor = &draw_executor(random);
  lowbit::matmul(x, w, out, options);
  if (std::string d = differs("another executor"); !d.empty()) return d;
  if (!c.outliers.per_call) {
    const std::size_t first = random.below(c.m), rows = 1 + random.below(c.m - first);
    Floats part(rows * c.n);
    lowbit::matmul(lowbit::MatrixView<const float>(x.row(first), rows, c.k), w, lowbit::MatrixView<float>(part.data(), rows, c.n),
                   options);
    std::copy(part.begin(), part.end(), y.begin() + static_cast<std::ptrdiff_t>(first * c.n));
    if (std::string d = differs("a part of the rows"); !d.empty()) return d;
  }
  lowbit::PreparedInput prepared = lowbit::input_for(w, options);
  lowbit::prepare_input(x, prepared, *options.executor);
  lowbit::matmul(prepared, w, out, options);
  if (std::string d = differs("prepared input"); !d.empty()) return d;
  if (c.packed) {
    const std::span<const std::byte> bytes = c.weights.packed->bytes();
    lowbit::AlignedBuffer<std::byte> copy(bytes.size());
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    const lowbit::PackedTensor mapped = lowbit::PackedTensor::map(copy.span());
    lowbit::matmul(x, mapped, out, options);
    if (std::string d = differs("packed bytes, mapped"); !d.empty()) return d;
    if (std::string d = lowbit_test::difference(mapped.unpack().parts(), c.weights.tensor.parts()); !d.empty())
      return "unpacked: " + d;
  } else {
    lowbit::matmul(x, view_of(c.weights.tensor), out, options);
    if (std::string d = differs("a view"); !d.empty()) return d;
  }
  return "";
}

// 16-bit activations are widened: the same as the floats that they are.
template <class Half, class Encode>
std::string check_halves(const Case& c, const lowbit::Weights& w, const lowbit::MatmulOptions& options, const Encode& encode) {
  std::vector<Half> halves;
  Floats widened, want(c.m * c.n), y(want.size());
  for (const float v : c.x) {
    halves.push_back(encode(v));
    widened.push_back(lowbit::to_float(halves.back()));
  }
  lowbit::matmul(lowbit::MatrixView<const float>(widened.data(), c.m, c.k), w, lowbit::MatrixView<float>(want.data(), c.m, c.n),
                 options);
  lowbit::matmul(lowbit::MatrixView<const Half>(halves.data(), c.m, c.k), w, lowbit::MatrixView<float>(y.data(), c.m, c.n),
                 options);
  const std::string found = first_difference(y, want);
  return found.empty() ? found : "16-bit activations: " + found;
}

// "" or what is wrong with case `number`.
std::string run_case(std::uint64_t number, const std::vector<Level>& levels, bool say) {
  Random random(number * 0x9E3779B97F4A7C15u + 1);
  const Case c = draw(random, levels);
  if (say) std::printf("case %llu: %s\n", static_cast<unsigned long long>(number), describe(c).c_str());
  lowbit::set_level(c.level);
  const lowbit::Weights w = c.packed ? lowbit::Weights(*c.weights.packed) : lowbit::Weights(c.weights.tensor);
  lowbit::MatmulOptions options;
  options.compute = c.compute;
  options.outlier_threshold = c.outliers.threshold;
  options.outliers = c.outliers.per_call ? lowbit::Outliers::per_call : lowbit::Outliers::per_row;
  options.executor = &draw_executor(random);

  std::vector<lowbit_test::Bounded> expected = expected_of(c);
  const EpilogueValues values(c.m, c.n, random);
  values.follow(expected, c.epilogue);
  Floats y;
  std::string wrong = lowbit_test::run_with_gaps(c.x, c.m, w, options, c.epilogue, values, random.below(3), random.below(4), y);
  if (wrong.empty()) wrong = lowbit_test::outside(y, expected);
  if (wrong.empty()) wrong = check_ways(c, w, options, random);
  if (wrong.empty() && random.below(4) == 0)
    wrong = random.coin() ? check_halves<lowbit::Float16>(c, w, options, [](float v) { return lowbit::to_float16(v); })
                          : check_halves<lowbit::BFloat16>(c, w, options, [](float v) { return lowbit::to_bfloat16(v); });
  return wrong.empty() ? wrong : describe(c) + ": " + wrong;
}

struct Options {
  std::uint64_t seed = 1, cases = 0;
  double seconds = 0;
  unsigned jobs = 1;
};

struct Counts {
  std::atomic<std::uint64_t> done{0}, failed{0};
};

// Cases seed + job, seed + job + jobs, ...
void run_cases(const Options& options, unsigned job, Counts& counts) {
  const std::vector<Level> levels = lowbit::available_levels();
  const auto begin = std::chrono::steady_clock::now();
  const auto over = [&] {
    return options.seconds > 0 &&
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() >= options.seconds;
  };
  for (std::uint64_t i = job; (options.cases == 0 || i < options.cases) && !over(); i += options.jobs) {
    const std::uint64_t number = options.seed + i;
    std::string wrong;
    try {
      wrong = run_case(number, levels, options.cases == 1);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    ++counts.done;
    if (wrong.empty()) continue;
    ++counts.failed;
    std::printf("FAILED: %s\n  again: differential --seed %llu --cases 1\n", wrong.c_str(),
                static_cast<unsigned long long>(number));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Compares random products with the reference, and with each other bit for bit.\n"
      "Case n is the same wherever the same levels are.  Exit code: 0 all agree, 1 some do not.");
  app.add_option("--cases", options.cases, "How many cases; 0: as many as the time allows")->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long; 0: until all cases are run")->capture_default_str();
  app.add_option("--seed", options.seed, "The first case's number")->capture_default_str();
  app.add_option("--jobs", options.jobs, "Processes")->capture_default_str()->check(CLI::Range(1, 1024));
  CLI11_PARSE(app, argc, argv);
  if (options.cases == 0 && options.seconds <= 0) options.cases = 100'000;

  std::printf("levels:");
  for (const Level level : lowbit::available_levels()) std::printf(" %s", lowbit::level_name(level));
  std::printf("; cases from %llu\n", static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);

  // A level is a process's own, so cases share processors by processes.
  void* const shared = ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("mmap");
    return 2;
  }
  Counts& counts = *new (shared) Counts;
  std::vector<pid_t> children;
  for (unsigned job = 1; job < options.jobs; ++job) {
    const pid_t child = ::fork();
    if (child == 0) {
      run_cases(options, job, counts);
      std::_Exit(0);
    }
    if (child > 0) children.push_back(child);
  }
  run_cases(options, 0, counts);
  bool ended = children.size() + 1 == options.jobs;
  for (const pid_t child : children) {
    int status = 0;
    ended = ::waitpid(child, &status, 0) == child && status == 0 && ended;
  }
  if (!ended) std::printf("FAILED: a process was not started, or ended before its cases\n");
  std::printf("%llu cases, %llu failed\n", static_cast<unsigned long long>(counts.done.load()),
              static_cast<unsigned long long>(counts.failed.load()));
  return ended && counts.failed == 0 ? 0 : 1;
}
