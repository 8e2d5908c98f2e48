// SPDX-License-Identifier: MIT
// Fails each allocation in turn, in everything that allocates: every time the caller must get std::bad_alloc, nothing may be leaked, no
// file left open, and the next call must give the bits of an undisturbed one.
#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/gguf.hpp>
#include <lowbit/io/hugging_face.hpp>
#include <lowbit/io/safetensors.hpp>
#include <lowbit/lowbit.hpp>

#include <fcntl.h>

#include <atomic>
#include <exception>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <vector>

// ---- the allocator ----
namespace {
std::atomic<long> live{0};
std::atomic<long> until_failure{-1};  // allocations that still succeed; negative: all
std::atomic<bool> failed{false};

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  if (until_failure.load() >= 0 && until_failure.fetch_sub(1) == 0) {
    failed = true;
    return nullptr;
  }
  size = (size + alignment - 1) / alignment * alignment;
  void* const p = std::aligned_alloc(alignment, size == 0 ? alignment : size);
  if (p != nullptr) ++live;
  return p;
}
void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  if (void* const p = allocate(size, alignment)) return p;
  throw std::bad_alloc();
}
void release(void* p) noexcept {
  if (p == nullptr) return;
  --live;
  std::free(p);
}
constexpr std::size_t usual = alignof(std::max_align_t);
}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { release(p); }

namespace {

int wrong = 0;

int open_files() {
  int count = 0;
  for (int file = 0; file < 256; ++file) count += fcntl(file, F_GETFD) != -1;
  return count;
}

// run() leaves its result in `out`, of a size that never changes, and gives back all else.
void fail_each(const std::string& name, std::size_t size, const std::function<void(unsigned char* out)>& run) {
  std::vector<unsigned char> expected(size), out(size);
  run(expected.data());  // also makes what a thread or the program keeps
  run(expected.data());
  const auto complain = [&](long at, const char* what) {
    std::printf("  %s, allocation %ld: %s\n", name.c_str(), at, what);
    ++wrong;
  };
  long at = 0;
  for (;; ++at) {
    const long before = live;
    const int files = open_files();
    bool caught = false;
    const char* problem = nullptr;
    failed = false;
    until_failure = at;
    try {
      run(out.data());
    } catch (const std::bad_alloc&) {
      caught = true;
    } catch (const std::exception&) {
      problem = "another exception than std::bad_alloc";
    }
    until_failure = -1;
    if (problem != nullptr) complain(at, problem);
    if (live != before) complain(at, live > before ? "leaked" : "released twice");
    if (open_files() != files) complain(at, "left a file open");
    if (!failed) break;
    if (!caught && problem == nullptr) {  // such as a thread that was not made
      if (std::memcmp(out.data(), expected.data(), size) != 0) complain(at, "went on, wrongly");
    }
    std::memset(out.data(), 0, size);
    run(out.data());
    if (std::memcmp(out.data(), expected.data(), size) != 0) complain(at, "the next call differs");
    if (wrong > 20) break;
  }
  std::printf("%-40s %4ld allocations failed in turn\n", name.c_str(), at);
  if (at == 0) {
    std::printf("  none: this tests nothing\n");
    ++wrong;
  }
}

constexpr std::size_t m = 9, n = 768, k = 100;  // blocks of 64 cross rows: block-offset classes
std::vector<float> w(n*k), x(m*k), w64(n * 128), x64(m * 128);

lowbit::ThreadPool& pool() {
  static lowbit::ThreadPool pool(3);
  return pool;
}

template <class W>
void product(const std::string& name, const W& weights, const float* rows, lowbit::ComputeOptions compute) {
  fail_each(name, m * weights.rows() * sizeof(float), [&](unsigned char* out) {
    lowbit::Workspace workspace;
    lowbit::matmul(rows, m, weights, reinterpret_cast<float*>(out), {compute, {}, {.executor = &pool(), .workspace = &workspace}});
  });
}

template <class Q>
void quantizer(const std::string& name, const Q& quantize) {
  fail_each("quantize " + name, w.size() * sizeof(float), [&](unsigned char* out) {
    const auto q = quantize();
    q.dequantize(reinterpret_cast<float*>(out));
  });
  const auto q = quantize();
  fail_each("pack " + name, w.size() * sizeof(float),
            [&](unsigned char* out) { lowbit::PackedTensor::pack(q).unpack().dequantize(reinterpret_cast<float*>(out)); });
  for (const lowbit::Compute compute : {lowbit::Compute::f32, lowbit::Compute::bf16, lowbit::Compute::int8}) {
    if (compute == lowbit::Compute::int8 && name == "f32") continue;
    const lowbit::ComputeOptions options{.compute = compute};
    product(name + " " + lowbit::compute_name(compute) + " canonical", q, x.data(), options);
    product(name + " " + lowbit::compute_name(compute) + " packed", lowbit::PackedTensor::pack(q), x.data(), options);
  }
}

// A GGUF file without tensors: a key with an array of texts, and one with an array of such arrays.
std::string gguf_image() {
  std::string image = "GGUF";
  const auto number = [&](std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) image += static_cast<char>(value >> (8 * i) & 255u);
  };
  const auto text = [&](const std::string& value) {
    number(value.size(), 8);
    image += value;
  };
  const auto texts = [&] {
    number(8, 4);
    number(3, 8);
    for (const char* value : {"a text of more than sixteen bytes", "", "another one that needs memory"}) text(value);
  };
  number(3, 4), number(0, 8), number(2, 8);
  text("texts"), number(9, 4), texts();
  text("nested"), number(9, 4), number(9, 4), number(2, 8), texts(), texts();
  return image;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  const std::string data = argc > 1 ? argv[1] : ".";
  std::uint32_t state = 1;
  const auto next = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f; };
  for (std::vector<float>* v : {&w, &x, &w64, &x64})
    for (float& value : *v) value = next();
  x[3] = x[k * 4 + 50] = 7;  // outliers

  fail_each("pool", sizeof(int), [](unsigned char* out) {
    lowbit::ThreadPool threads(4);
    std::atomic<int> sum{0};
    threads.run(100, [&](std::size_t i) { sum += static_cast<int>(i); });
    const int total = sum;
    std::memcpy(out, &total, sizeof total);
  });
  quantizer("NF4", [] { return lowbit::NF4Tensor<>::quantize(w.data(), n, k); });
  quantizer("FP4", [] { return lowbit::FP4Tensor<64, lowbit::PlainAbsmax>::quantize(w.data(), n, k); });
  quantizer("int8", [] { return lowbit::Int8Tensor<>::quantize(w.data(), n, k); });
  quantizer("f32", [] { return lowbit::DenseTensor<float>::quantize(w.data(), n, k); });
  {
    const auto q = lowbit::LlmInt8Tensor::quantize(w.data(), n, k);
    for (const lowbit::Outliers outliers : {lowbit::Outliers::per_row, lowbit::Outliers::per_call}) {
      const lowbit::ComputeOptions options{.compute = lowbit::Compute::int8, .outlier_threshold = 6.0f, .outliers = outliers};
      product("LLM.int8() canonical", q, x.data(), options);
      product("LLM.int8() packed", lowbit::PackedTensor::pack(q), x.data(), options);
    }
  }
  fail_each("Linear", m * n * sizeof(float), [](unsigned char* out) {
    const std::vector<float> bias(n, 0.5f);
    const lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w64.data(), n, 128), bias);
    lowbit::Workspace workspace;
    layer.forward(x64.data(), m, reinterpret_cast<float*>(out), {.activation = lowbit::gelu_tanh},
                  {.executor = &pool(), .workspace = &workspace});
  });
  {
    const lowbit::Linear first(lowbit::NF4Tensor<>::quantize(w64.data(), 64, 128)),
        second(lowbit::Int8Tensor<>::quantize(w.data(), n, 64));
    fail_each("two layers, prepared input", m * n * sizeof(float), [&](unsigned char* out) {
      lowbit::Workspace workspace;
      lowbit::PreparedInput between;
      second.shape(between);
      first.forward(x64.data(), m, nullptr, {.next = &between}, {.executor = &pool(), .workspace = &workspace});
      second.forward(between, {reinterpret_cast<float*>(out), m, n}, {}, {.executor = &pool(), .workspace = &workspace});
    });
  }
  fail_each("read a stream", sizeof(std::size_t), [&](unsigned char* out) {
    const std::size_t bytes = lowbit::io::read_stream(data + "/tiny_4bit.safetensors").size();
    std::memcpy(out, &bytes, sizeof bytes);
  });
  fail_each("load 4-bit", sizeof(std::size_t), [&](unsigned char* out) {
    const auto file = lowbit::io::SafeTensors::open(data + "/tiny_4bit.safetensors");
    std::size_t codes = 0;
    for (const std::string& name : file.names())
      if (name.ends_with("weight") && lowbit::io::is_four_bit(file, name)) {
        const auto q = lowbit::io::read_four_bit(file, name);
        codes += q.tensor.parts().codes.size() + q.tensor.parts().codes[0];
      }
    std::memcpy(out, &codes, sizeof codes);
  });
  fail_each("load LLM.int8()", sizeof(std::size_t), [&](unsigned char* out) {
    const auto file = lowbit::io::SafeTensors::open(data + "/tiny_8bit.safetensors");
    const std::size_t codes = lowbit::io::read_llm_int8(file, "layer").parts().codes.size();
    std::memcpy(out, &codes, sizeof codes);
  });
  fail_each("read config.json", sizeof(std::size_t), [](unsigned char* out) {
    const auto config = lowbit::io::parse_config(
        R"({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 4, "vocab_size": 5, "id2label": {"0": "a", "1": "b"},
            "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "eos_token_id": [1, 2, 3]})",
        "config.json");
    std::memcpy(out, &config.width, sizeof config.width);
  });
  const std::string gguf = gguf_image();
  fail_each("read GGUF keys", sizeof(std::size_t), [&](unsigned char* out) {
    const auto file = lowbit::io::Gguf::parse(std::as_bytes(std::span(gguf)), "memory");
    const std::size_t texts = file.keys().at("texts").size();
    std::memcpy(out, &texts, sizeof texts);
  });
  std::printf("%d wrong\n", wrong);
  return wrong == 0 ? 0 : 1;
}
