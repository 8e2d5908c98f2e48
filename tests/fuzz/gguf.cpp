// SPDX-License-Identifier: MIT
// GGUF: the file, its tensors decoded, and the model and the tokenizer in it.
#include <utility>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "lowbit/gpt2/gguf.hpp"

namespace io = lowbit::io;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lowbit_fuzz::reads("file", [&] {
    io::Gguf file = io::Gguf::parse(lowbit_fuzz::bytes_of(data, size), "file");
    for (const io::GgufTensor& t : file.tensors()) {
      lowbit_fuzz::touch(t.data);
      lowbit_fuzz::expect(&file.at(t.name) == &t, "a tensor under its name");
      lowbit_fuzz::reads("file", [&] {
        const lowbit::Tensor tensor = io::read_gguf(t);
        std::vector<float> values(tensor.size());
        tensor.dequantize(values.data());
      });
    }
    const lowbit::gpt2::GgufParameters model(std::move(file));
    lowbit_fuzz::reads("file", [&] { model.floats("wte.weight", model.config().vocab, model.config().width); });
    lowbit_fuzz::reads("file", [&] { model.linear("h.0.attn.c_attn", 3 * model.config().width, model.config().width); });
    model.tokenizer().require_fits(model.config().vocab, "file");
  });
  return 0;
}
