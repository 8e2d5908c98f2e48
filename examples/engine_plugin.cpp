// SPDX-License-Identifier: MIT
// Inside an engine: its arena holds the packed weights, its threads run the layer, each with a workspace of its own.  Once a thread
// has made its largest call, a call allocates nothing; the program counts, and fails if one does.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <span>
#include <thread>
#include <vector>

#include <lowbit/lowbit.hpp>

namespace {
thread_local std::size_t allocations = 0;  // by this thread
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto a = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (bytes + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes) { return operator new(bytes, std::align_val_t(alignof(std::max_align_t))); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

constexpr std::size_t width = 256, inner = 1024, most_rows = 8, threads = 2, calls = 200;

// The engine's memory, handed out from the front.
alignas(lowbit::PackedTensor::alignment) std::byte arena[1 << 19];
std::span<std::byte> free_part(arena);
std::span<std::byte> take(std::size_t bytes) {
  const auto taken = free_part.first(bytes);
  free_part = free_part.subspan((bytes + 63) / 64 * 64);
  return taken;
}

// Packs the weights into it; what they were made from is not needed any more.
lowbit::Linear layer(const lowbit::Tensor& w) {
  return lowbit::Linear(lowbit::PackedTensor::pack_into(w, take(lowbit::PackedTensor::packed_bytes(w))));
}

}  // namespace

int main() {
  const std::vector<float> w(inner * width, 0.02f), x(most_rows * width, 1.0f);
  const lowbit::Linear up = layer(lowbit::NF4Tensor<>::quantize(w.data(), inner, width));
  const lowbit::Linear down = layer(lowbit::NF4Tensor<>::quantize(w.data(), width, inner));

  std::atomic<std::size_t> counted = 0;
  const auto serve = [&] {
    lowbit::Workspace workspace;
    lowbit::SerialExecutor here;  // the product stays in this thread; own_executor.cpp spreads it over several
    std::vector<float> hidden(most_rows * inner), y(most_rows * width);
    const auto forward = [&](std::size_t rows) {
      up.forward(x.data(), rows, hidden.data(), {.activation = lowbit::gelu_tanh}, {&here, &workspace});
      down.forward(hidden.data(), rows, y.data(), {}, {&here, &workspace});
    };
    forward(most_rows);
    const std::size_t before = allocations;
    for (std::size_t i = 0; i < calls; ++i) forward(1 + i % most_rows);
    counted += allocations - before;
  };
  std::vector<std::thread> team;
  for (std::size_t i = 0; i < threads; ++i) team.emplace_back(serve);
  for (std::thread& thread : team) thread.join();
  std::printf("%zu threads, %zu calls each: %zu allocations\n", threads, calls, counted.load());
  return counted == 0 ? 0 : 1;
}
