// SPDX-License-Identifier: MIT
// The safetensors reader: what it accepts covers the file, and written again and read again it is the same.
#include <cstring>
#include <vector>

#include "fuzz/safetensors_mutator.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"

namespace io = lowbit::io;
using lowbit_fuzz::expect;

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  static constexpr const char* names[] = {"a", "b", "__metadata__", ""};
  return lowbit_fuzz::SafeTensorsMutator(seed)(data, size, max_size, names);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lowbit_fuzz::reads("file", [&] {
    const io::SafeTensors file = io::SafeTensors::parse(lowbit_fuzz::bytes_of(data, size), "file");
    std::uint64_t length = 0;
    std::memcpy(&length, data, 8);
    std::size_t covered = 8 + length;
    std::vector<io::TensorToWrite> list;
    for (const io::TensorView& t : file.tensors()) {
      lowbit_fuzz::touch(t.data);
      covered += t.data.size();
      expect(&file.at(t.name) == &t, "a tensor under its name");
      expect(io::byte_size(t.dtype, t.shape) == t.data.size(), "as many bytes as the shape takes");
      list.push_back({t.name, t.dtype, t.shape, t.data});
    }
    expect(covered == size, "tensors that cover the file");
    const std::vector<std::byte> again = io::serialize_safetensors(list, file.metadata());
    const io::SafeTensors second = io::SafeTensors::parse(again, "again");
    expect(second.metadata() == file.metadata() && second.names() == file.names(), "the same when written and read again");
    for (const io::TensorView& t : file.tensors()) {
      const io::TensorView& u = second.at(t.name);
      expect(u.dtype == t.dtype && u.shape == t.shape && u.data.size() == t.data.size(), "the same tensor again");
      expect(t.data.empty() || std::memcmp(u.data.data(), t.data.data(), t.data.size()) == 0, "the same bytes again");
    }
  });
  return 0;
}
