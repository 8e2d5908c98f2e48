// SPDX-License-Identifier: MIT
// Mutates a safetensors file tensor by tensor, with header and offsets made anew, so that what stands behind the reader meets files
// that are well-formed and wrong.  One time in four the bytes themselves are mutated, and the length of the header repaired.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace lowbit_fuzz {

class SafeTensorsMutator {
 public:
  explicit SafeTensorsMutator(unsigned seed) : random_(seed) {}

  // As LLVMFuzzerCustomMutator.  names: what tensors may be called, besides what they are.
  std::size_t operator()(std::uint8_t* data, std::size_t size, std::size_t max_size, std::span<const char* const> names) {
    std::vector<Entry> entries;
    lowbit::io::Metadata metadata;
    if (below(4) == 0 || !take_apart(data, size, entries, metadata)) return mutate_bytes(data, size, max_size);
    if (!metadata.empty() && below(3) == 0)
      mutate(metadata[below(metadata.size())].second);
    else if (!entries.empty())
      bend(entries, names);
    try {
      std::vector<lowbit::io::TensorToWrite> list;
      for (const Entry& e : entries) list.push_back({e.name, e.dtype, e.shape, std::as_bytes(std::span(e.bytes))});
      const std::vector<std::byte> file = lowbit::io::serialize_safetensors(list, metadata);
      if (file.size() > max_size) return mutate_bytes(data, size, max_size);
      std::memcpy(data, file.data(), file.size());
      return file.size();
    } catch (const lowbit::Error&) {  // a name twice, text that is no UTF-8
      return mutate_bytes(data, size, max_size);
    }
  }

 private:
  struct Entry {
    std::string name;
    lowbit::io::DType dtype;
    std::vector<std::size_t> shape;
    std::string bytes;
  };

  std::size_t below(std::size_t n) { return random_() % n; }

  static bool take_apart(const std::uint8_t* data, std::size_t size, std::vector<Entry>& entries, lowbit::io::Metadata& metadata) {
    try {
      const auto file = lowbit::io::SafeTensors::parse(bytes_of(data, size), "file");
      for (const lowbit::io::TensorView& t : file.tensors())
        entries.push_back({t.name, t.dtype, t.shape, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}});
      metadata = file.metadata();
      return true;
    } catch (const lowbit::FormatError&) {
      return false;
    }
  }

  static std::size_t mutate_bytes(std::uint8_t* data, std::size_t size, std::size_t max_size) {
    size = LLVMFuzzerMutate(data, size, max_size);
    const std::string_view text = text_of(data, size);
    const std::size_t end = text.rfind('}');
    if (size > 8 && end != text.npos && end >= 8) {
      const std::uint64_t length = end - 7;
      std::memcpy(data, &length, 8);
    }
    return size;
  }

  void mutate(std::string& text) {
    const std::size_t size = text.size();
    text.resize(size + 64);
    text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, text.size()));
  }

  // Gives the bytes a shape that fits; as bytes where the type does not divide them.
  static void fit(Entry& e) {
    if (lowbit::io::byte_size(e.dtype, e.shape) == e.bytes.size()) return;
    const std::size_t item = lowbit::io::dtype_bits(e.dtype) / 8;
    if (item == 0 || e.bytes.size() % item != 0) e.dtype = lowbit::io::DType::U8;
    e.shape = {e.bytes.size() * 8 / lowbit::io::dtype_bits(e.dtype)};
  }

  void bend(std::vector<Entry>& entries, std::span<const char* const> names) {
    Entry& e = entries[below(entries.size())];
    switch (below(8)) {
      case 0: e.dtype = static_cast<lowbit::io::DType>(below(lowbit::io::detail::dtype_table.size())); break;
      case 1: e.name = names[below(names.size())]; break;
      case 2: entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(&e - entries.data())); return;
      case 3: {
        Entry copy = e;
        copy.name = names[below(names.size())];
        entries.push_back(std::move(copy));
        return;
      }
      case 4: e.shape.insert(e.shape.begin() + static_cast<std::ptrdiff_t>(below(e.shape.size() + 1)), 1); break;
      case 5:
        if (e.shape.empty()) break;
        std::swap(e.shape[below(e.shape.size())], e.shape.back());
        if (std::size_t& n = e.shape[below(e.shape.size())]; n % 2 == 0) {
          n /= 2;
          e.shape.push_back(2);
        }
        break;
      case 6: {  // no bytes, and sizes of any magnitude
        e.bytes.clear();
        e.shape = {0, std::size_t{1} << below(64)};
        if (below(2) == 0) std::swap(e.shape[0], e.shape[1]);
        break;
      }
      default: mutate(e.bytes); break;
    }
    fit(e);
  }

  std::minstd_rand random_;
};

}  // namespace lowbit_fuzz
