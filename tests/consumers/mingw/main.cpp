// SPDX-License-Identifier: MIT
// On Windows: quantizes, multiplies on all threads at every level, writes a safetensors file, maps it, and meets the system's refusals.
// Arguments: a folder to write in.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/bitsandbytes_writer.hpp>
#include <lowbit/io/file_writer.hpp>
#include <lowbit/io/folder_writer.hpp>
#include <lowbit/io/safetensors_writer.hpp>
#include <lowbit/lowbit.hpp>

// After lowbit, as it is: what it leaves must go with this file's macros and declarations.
#include <windows.h>

std::size_t windows_first();

namespace {

int failures = 0;
void check(bool ok, const char* what) {
  if (ok) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

std::vector<float> ramp(std::size_t n, unsigned seed) {
  std::vector<float> v(n);
  for (float& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int>(seed >> 16) % 200 - 100) / 64.0f;
  }
  return v;
}

template <class T>
std::string message_of(T action) {
  try {
    action();
  } catch (const lowbit::IoError& e) {
    return e.what();
  }
  return "";
}

void products() {
  const std::size_t n = 192, k = 256;
  const std::vector<float> w = ramp(n * k, 1), bias = ramp(n, 3);
  lowbit::ThreadPool pool(4);
  for (const lowbit::Level level : lowbit::available_levels()) {
    lowbit::set_level(level);
    for (const lowbit::Compute compute : {lowbit::Compute::f32, lowbit::Compute::bf16, lowbit::Compute::int8})
      for (const std::size_t m : {1, 2, 3, 4, 8, 37}) {
        const std::vector<float> x = ramp(m * k, 2);
        const lowbit::NF4Tensor<> tensor = lowbit::NF4Tensor<>::quantize(w.data(), n, k);
        lowbit::Linear layer(lowbit::NF4Tensor<>::quantize(w.data(), n, k), bias, {{.compute = compute}});
        std::vector<float> y(m * n), decoded(n * k), serial(m * n);
        layer.forward(x.data(), m, y.data(), {}, {.executor = &pool});
        lowbit::SerialExecutor one;
        layer.forward(x.data(), m, serial.data(), {}, {.executor = &one});
        check(std::memcmp(y.data(), serial.data(), y.size() * sizeof(float)) == 0, "threads change bits");
        tensor.dequantize(decoded.data());
        double worst = 0, largest = 0;
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < n; ++j) {
            double sum = bias[j];
            for (std::size_t l = 0; l < k; ++l) sum += static_cast<double>(x[i * k + l]) * static_cast<double>(decoded[j * k + l]);
            worst = (std::max)(worst, std::abs(sum - static_cast<double>(y[i * n + j])));
            largest = (std::max)(largest, std::abs(sum));
          }
        // int8 activations are off by at most half of 1/127 of their largest, 1.5625, in each of 256 terms of at most 1.5625.
        const double bound = compute == lowbit::Compute::f32    ? 1e-3
                             : compute == lowbit::Compute::bf16 ? 256 * 2.44 / 128
                                                                : 256 * 0.0098;
        if (!(worst <= bound))
          std::printf("%s %s m=%d: off by %g\n", lowbit::level_name(level), lowbit::compute_name(compute), static_cast<int>(m),
                      worst);
        check(worst <= bound, "product");
        check(largest > 1, "product: nothing was compared");
      }
    std::printf("%s ", lowbit::level_name(level));
  }
  std::printf("on %d processors\n", static_cast<int>(lowbit::available_processors()));
}

void files(const std::filesystem::path& folder) {
  namespace io = lowbit::io;
  // A name that no code page of eight bits holds.
  const std::filesystem::path path = folder / L"\u0416\u6f22 weights.safetensors";
  const std::vector<float> w = ramp(64 * 128, 7);
  const auto tensor = lowbit::NF4Tensor<>::quantize(w.data(), 64, 128);
  io::StateDict state;
  io::add_four_bit(state, "w", tensor, "float32");
  for (int i = 0; i < 2; ++i) {  // the second time it replaces
    io::write_safetensors(path, state.tensors);
    const io::SafeTensors file = io::SafeTensors::open(path);
    const io::FourBitState read = io::read_four_bit(file, "w");
    check(read.tensor.parts().codes.size() == tensor.parts().codes.size() &&
              std::memcmp(read.tensor.parts().codes.data(), tensor.parts().codes.data(), tensor.parts().codes.size()) == 0,
          "codes read back");
    // Windows does not replace a file that is mapped; nothing is lost and nothing left behind.
    const std::string refused = message_of([&] { io::write_safetensors(path, state.tensors); });
    check(refused.find("cannot replace") != refused.npos, "a mapped file is replaced, or the refusal is silent");
  }
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++entries;
  check(entries == 1, "a temporary file was left");
  check(message_of([&] { io::MappedFile(folder / "none"); }).find("cannot open") != std::string::npos, "a missing file");
  check(message_of([&] { io::MappedFile{folder}; }).find("cannot open") != std::string::npos, "a folder");
  io::write_atomically(folder / "empty", "");
  check(io::MappedFile(folder / "empty").size() == 0, "an empty file");
  io::write_folder_atomically(folder / "model", [](const std::filesystem::path& at) { io::write_atomically(at / "a", "one\n"); });
  io::write_folder_atomically(folder / "model", [](const std::filesystem::path& at) { io::write_atomically(at / "a", "two\n"); });
  check(io::read_text(folder / "model" / "a") == "two\n" && io::read_stream(folder / "model" / "a") == "two\n",
        "a folder replaced");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    products();
    files(argv[1]);
    check(windows_first() != 0, "the file that includes windows.h first");
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures != 0;
}
