// SPDX-License-Identifier: MIT
// Compiled once per layout of the standard library's and nlohmann-json's types: LAYOUT is the name of this copy.  A checkpoint and a
// document are written and read, whose readers hold containers, strings and JSON.  Without LAYOUT: the program that calls all.
#if defined(LAYOUT)

#include <lowbit/io/bitsandbytes.hpp>
#include <lowbit/io/bitsandbytes_writer.hpp>
#include <lowbit/io/json.hpp>
#include <lowbit/io/safetensors_writer.hpp>

#include <string>
#include <vector>

extern "C" bool LAYOUT() {
  const std::vector<float> w(64 * 64, 0.25f);
  const auto tensor = lowbit::NF4Tensor<>::quantize(w.data(), 64, 64);
  lowbit::io::StateDict state;
  lowbit::io::add_four_bit(state, "w", tensor, "float32");
  const auto bytes = lowbit::io::serialize_safetensors(state.tensors);
  const auto files = lowbit::io::SafeTensors::parse(bytes, "memory");
  std::vector<float> read(w.size());
  lowbit::io::read_four_bit(files, "w").tensor.dequantize(read.data());

  const std::string text = R"({"a":{"b":[1,{"c":2},[]]},"d":[[[3]]]})";
  const lowbit::io::Json document = lowbit::io::parse_json(text, "memory");
  const lowbit::io::Json copy = document;
  return read == w && files.names().size() == state.tensors.size() && copy.dump() == text && document["a"]["b"][1]["c"] == 2;
}

#else

#include <cstdio>

#define LAYOUT_OF(name) extern "C" bool layout_##name();
LAYOUTS
#undef LAYOUT_OF

int main() {
  bool right = true;
#define LAYOUT_OF(name) std::printf("%-16s %s\n", #name, layout_##name() ? "right" : (right = false, "WRONG"));
  for (int i = 0; i < 2; ++i) {
    LAYOUTS
  }
  return right ? 0 : 1;
}

#endif
