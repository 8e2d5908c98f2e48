// SPDX-License-Identifier: MIT
// Writing safetensors files, so that what is read and written again has the same bytes; the format is in safetensors.hpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/in_quotes.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/tensor_view.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// A tensor on its way to a file: row-major, little-endian bytes that the caller keeps alive.
struct TensorToWrite {
  std::string name;                  // unique in a file
  DType dtype = DType::U8;           // of the elements
  std::vector<std::size_t> shape;    // {} is a scalar
  std::span<const std::byte> bytes;  // as many as dtype and shape ask for
};

// The length and the header that go before the tensors' bytes: compact JSON, __metadata__ first (left out if empty), the tensors in
// the given order, padded with spaces so that the data starts at a multiple of 8.  Throws InvalidArgument for a name that occurs
// twice, is not UTF-8 or is "__metadata__", for bytes that do not fit shape and dtype, and for a header above 100 MB.
inline std::string safetensors_header(std::span<const TensorToWrite> tensors, const Metadata& metadata = {}) {
  std::unordered_set<std::string_view> seen;
  std::string json = "{";
  for (const auto& entry : metadata) {
    require(seen.insert(entry.first).second, [&] { return "metadata: the key " + in_quotes(entry.first) + " occurs twice"; });
    json += json.size() == 1 ? "\"__metadata__\":{" : ",";
    json += json_string(entry.first, "metadata key") + ":" + json_string(entry.second, "metadata value");
  }
  if (!metadata.empty()) json += "}";

  seen = {detail::metadata_key};
  std::size_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const auto where = [&] { return "tensor " + in_quotes(tensor.name); };
    require(seen.insert(tensor.name).second, [&] { return where() + ": the name is reserved or occurs twice"; });
    const auto size = byte_size(tensor.dtype, tensor.shape);
    require(size == tensor.bytes.size(), [&] {
      return where() + ": " + shape_string(tensor.shape) + " of " + std::string(dtype_name(tensor.dtype)) + " does not take " +
             decimal(tensor.bytes.size()) + " bytes";
    });
    const std::size_t end = checked_add(offset, tensor.bytes.size(), "safetensors file");
    json += json.size() == 1 ? "" : ",";
    json += json_string(tensor.name, "tensor name") + ":{\"dtype\":\"" + std::string(dtype_name(tensor.dtype)) + "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (i != 0) json += ',';
      json += decimal(tensor.shape[i]);
    }
    json += "],\"data_offsets\":[" + decimal(offset) + "," + decimal(end) + "]}";
    offset = end;
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  require(json.size() <= detail::max_header_bytes,
          [&] { return "safetensors header of " + decimal(json.size()) + " bytes: too long"; });

  const std::uint64_t length = json.size();
  std::string result(8, '\0');
  std::memcpy(result.data(), &length, 8);
  return result + json;
}

// The whole file in memory.  Throws InvalidArgument as safetensors_header() does.
inline std::vector<std::byte> serialize_safetensors(std::span<const TensorToWrite> tensors, const Metadata& metadata = {}) {
  const std::string header = safetensors_header(tensors, metadata);
  const auto header_bytes = std::as_bytes(std::span(header.data(), header.size()));
  std::vector<std::byte> result(header_bytes.begin(), header_bytes.end());
  for (const TensorToWrite& tensor : tensors) result.insert(result.end(), tensor.bytes.begin(), tensor.bytes.end());
  return result;
}

// Writes the file so that it replaces an old one completely or not at all (write_atomically); the tensors may come from the very
// file that is replaced.  Throws InvalidArgument as safetensors_header() does, and IoError.
inline void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                              const Metadata& metadata = {}) {
  const std::string header = safetensors_header(tensors, metadata);
  write_atomically(path, [&](FileWriter& writer) {
    writer.write(header);
    for (const TensorToWrite& tensor : tensors) writer.write(tensor.bytes);
  });
}

}  // namespace lowbit::io::inline LOWBIT_ABI
