// SPDX-License-Identifier: MIT
// The memory that products work in: no allocation once a call has been made, in whichever workspace; what it holds, and gives back.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/products.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // sees std::free() of what it knows as operator new's
#endif

namespace {

std::atomic<std::size_t> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* p = alignment <= alignof(std::max_align_t) ? std::malloc(bytes == 0 ? 1 : bytes)
                                                   : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes, 0); }
void* operator new[](std::size_t bytes) { return counted(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t a) { return counted(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return counted(bytes, static_cast<std::size_t>(a)); }
// Also those that do not throw (std::stable_sort's): a sanitizer's own would be freed by ours.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes == 0 ? 1 : bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes == 0 ? 1 : bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

using lowbit::Compute;
using lowbit::MatmulOptions;
using lowbit::MatrixView;
using lowbit::Workspace;
using lowbit_test::bits_of;
using lowbit_test::Sizes;

namespace {

// A product of every format, compute type and layout, with everything that an option can add: use(name, call), call(workspace,
// executor) being one product.
template <class Use>
void for_each_product(const Use& use) {
  lowbit_test::Random random(61);
  constexpr std::size_t k = 192, n = 100, most = 32;
  const std::vector<float> x = random.normals(most * k, 3), bias = random.normals(n), residual = random.normals(most * n);
  std::vector<lowbit_test::Weights> kinds = lowbit_test::one_of_every_kind(n, k, random);
  const std::vector<float> odd = random.uneven(768 * 100);  // in block-offset classes
  kinds.push_back(lowbit_test::four_bit_weights<lowbit::Nf4>(odd, 768, 100, 64, false));
  std::vector<float> y(most * 768);
  for (const lowbit_test::Weights& w : kinds)
    for (const Compute compute : lowbit_test::all_computes)
      for (const bool packed : {false, true})
        for (const bool per_call : {false, true}) {
          if (!lowbit_test::has_compute(w.tensor.format(), compute) || (packed && !w.packed)) continue;
          const bool llm = w.tensor.format() == lowbit::Format::llm_int8, wide = w.tensor.rows() != n;
          if (per_call && !llm) continue;
          for (const std::size_t m : Sizes{1, 32}) {
            MatmulOptions o;
            o.compute = compute;
            o.outlier_threshold = 2;
            o.outliers = per_call ? lowbit::Outliers::per_call : lowbit::Outliers::per_row;
            o.round_activations_to_fp16 = per_call;
            if (!wide) o.bias = bias;
            if (!wide) o.residual = {residual.data(), m, n};
            o.activation = lowbit::gelu_tanh;
            INFO(w.name << ", " << compute_name(compute) << (packed ? ", packed" : ", canonical") << (per_call ? ", per call" : "")
                        << ", m " << m);
            use([&](Workspace* workspace, lowbit::Executor& executor) {
              o.workspace = workspace;
              o.executor = &executor;
              const lowbit::Input rows(x.data(), m, w.tensor.cols());
              const lowbit::Output out(y.data(), m, w.tensor.rows());
              packed ? lowbit::matmul(rows, *w.packed, out, o) : lowbit::matmul(rows, w.tensor, out, o);
              return lowbit::MatrixView<const float>(y.data(), m, w.tensor.rows());
            });
          }
        }
}

}  // namespace

TEST_CASE("a product allocates nothing once it has been called") {
  lowbit::SerialExecutor serial;
  lowbit::ThreadPool pool(3);
  for_each_product([&](const auto& call) {
    Workspace mine;
    for (Workspace* workspace : {static_cast<Workspace*>(nullptr), &mine}) {
      call(workspace, serial);
      const std::size_t before = allocations;
      for (int i = 0; i < 3; ++i) call(workspace, serial);
      CHECK(allocations == before);
    }
    // On several threads a slot is warm once a task has been in it, whichever thread that is.
    int quiet = 0;
    for (int i = 0; i < 1000 && quiet < 5; ++i) {
      const std::size_t before = allocations;
      call(&mine, pool);
      quiet = allocations == before ? quiet + 1 : 0;
    }
    CHECK(quiet == 5);
  });
}

TEST_CASE("a workspace of the caller's changes no bit, and the thread's own is not touched") {
  lowbit::ThreadPool pool(2);
  for_each_product([&](const auto& call) {
    const auto copy = [](const MatrixView<const float>& y) { return std::vector<float>(y.data, y.data + y.rows * y.cols); };
    const std::vector<float> expected = copy(call(nullptr, pool));
    lowbit::ThreadWorkspace()->release();
    Workspace mine;
    CHECK(bits_of(copy(call(&mine, pool))) == bits_of(expected));
    CHECK(mine.size_bytes() > 0);
    CHECK(lowbit::ThreadWorkspace()->size_bytes() == 0);
  });
}

TEST_CASE("a workspace refuses a second call while one works in it") {
  struct Nested final : lowbit::Executor {
    std::function<void()> inner;
    std::size_t concurrency() const override { return 1; }
    void run(std::size_t count, lowbit::TaskRef task) override {
      inner();
      for (std::size_t i = 0; i < count; ++i) task(i);
    }
  };
  const std::vector<float> values(64 * 64, 1.0f), x(64, 1.0f);
  std::vector<float> y(64), z(64);
  const lowbit::Linear layer(lowbit::Int8Tensor<>::quantize(values.data(), 64, 64));
  lowbit::SerialExecutor serial;
  Workspace workspace;
  Nested nested;
  std::string found;
  nested.inner = [&] {
    try {
      layer.forward(x.data(), 1, z.data(), {}, {&serial, &workspace});
    } catch (const lowbit::InvalidArgument& e) {
      found = e.what();
    }
  };
  layer.forward(x.data(), 1, y.data(), {}, {&nested, &workspace});
  CHECK(found.find("another call works in this workspace") != found.npos);
  CHECK(bits_of(y) != bits_of(z));  // z was not touched
  CHECK_NOTHROW(layer.forward(x.data(), 1, z.data(), {}, {&serial, &workspace}));
  CHECK(bits_of(z) == bits_of(y));
}

TEST_CASE("a workspace says what it holds, grows to its largest call and gives everything back") {
  lowbit_test::Random random(62);
  const std::size_t n = 96, k = 128, most = 200;
  const std::vector<float> values = random.normals(n * k), x = random.normals(most * k);
  std::vector<float> y(most * n);
  const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(values.data(), n, k), {}, {{.compute = Compute::int8}});
  lowbit::SerialExecutor serial;
  Workspace workspace;
  CHECK(workspace.size_bytes() == 0);
  std::size_t held = 0;
  for (const std::size_t m : Sizes{1, 50, most}) {
    layer.forward(x.data(), m, y.data(), {}, {&serial, &workspace});
    CHECK(workspace.size_bytes() >= std::max(held, m * k));  // a byte per activation at least
    held = workspace.size_bytes();
  }
  layer.forward(x.data(), 1, y.data(), {}, {&serial, &workspace});
  CHECK(workspace.size_bytes() == held);
  workspace.release();
  CHECK(workspace.size_bytes() == 0);
  layer.forward(x.data(), 1, y.data(), {}, {&serial, &workspace});
  CHECK((workspace.size_bytes() > 0 && workspace.size_bytes() < held));
}
