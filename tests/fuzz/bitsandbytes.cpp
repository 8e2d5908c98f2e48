// SPDX-License-Identifier: MIT
// Quantized weights in bitsandbytes' layout, and int8 with scales by row: copied, viewed in place, decoded, and multiplied as views.
#include <vector>

#include "fuzz/safetensors_mutator.hpp"
#include "lowbit/io/stored_weights.hpp"
#include "lowbit/matmul.hpp"

namespace io = lowbit::io;

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  static constexpr const char* names[] = {"w",
                                          "w.absmax",
                                          "w.quant_map",
                                          "w.nested_absmax",
                                          "w.nested_quant_map",
                                          "w.quant_state.bitsandbytes__nf4",
                                          "w.quant_state.bitsandbytes__fp4",
                                          "m.weight",
                                          "m.SCB",
                                          "m.weight_format",
                                          "m.weight_scale"};
  return lowbit_fuzz::SafeTensorsMutator(seed)(data, size, max_size, names);
}

namespace {

// Products of weights that came from nowhere: any result, no byte that is not theirs.
void multiply(const io::TensorSource& source, const io::StoredWeight& w) {
  const lowbit::WeightsView view = w.kind == io::StoredWeight::Kind::four_bit ? io::view_four_bit(source, w.name)
                                                                              : io::view_llm_int8(source, io::module_name(w.name));
  if (view.rows() > 4096 || view.cols() > 4096) return;  // sizes without bytes
  const std::vector<float> x(2 * view.cols(), 0.5f);
  std::vector<float> y(2 * view.rows());
  lowbit::SerialExecutor executor;
  for (const lowbit::Compute compute : {lowbit::Compute::f32, lowbit::Compute::int8}) {
    lowbit::MatmulOptions options;
    options.compute = compute;
    options.executor = &executor;
    lowbit::matmul(x.data(), 2, view, y.data(), options);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Aligned as a mapped file is, and not a byte longer.
  const std::vector<std::byte> bytes(lowbit_fuzz::bytes_of(data, size).begin(), lowbit_fuzz::bytes_of(data, size).end());
  lowbit_fuzz::reads("file", [&] {
    const io::SafeTensors file = io::SafeTensors::parse(bytes, "file");
    for (const io::StoredWeight& w : io::stored_weights(file)) {
      if (w.kind == io::StoredWeight::Kind::plain) continue;
      lowbit_fuzz::reads("file", [&] {
        const lowbit::Tensor t = io::read_quantized(file, w);
        std::vector<float> values(t.size());
        t.dequantize(values.data());
      });
      if (w.kind != io::StoredWeight::Kind::int8) lowbit_fuzz::reads("file", [&] { multiply(file, w); });
    }
  });
  return 0;
}
