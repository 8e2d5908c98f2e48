// SPDX-License-Identifier: MIT
// The safetensors format, read without a copy.
//   8 bytes   N, the length of the header, little-endian
//   N bytes   JSON: {"__metadata__":{"key":"text",...},"tensor":{"dtype":"F32","shape":[2,3],"data_offsets":[begin,end]},...},
//   which
//             may end in spaces; offsets count from the end of the header
//   the rest  the tensors' bytes, each byte in exactly one of them
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/mistaken.hpp"
#include "lowbit/io/tensor_view.hpp"

namespace lowbit::io::inline LOWBIT_ABI {

// The file's own key-value pairs, in its order.
using Metadata = std::vector<std::pair<std::string, std::string>>;

}  // namespace lowbit::io::inline LOWBIT_ABI

namespace lowbit::io::detail::inline LOWBIT_ABI {
inline constexpr std::size_t max_header_bytes = 100'000'000;  // the reference implementation's limit
inline constexpr const char* metadata_key = "__metadata__";

}  // namespace lowbit::io::detail::inline LOWBIT_ABI

namespace lowbit::io::inline LOWBIT_ABI {

// An open safetensors file (open) or image of one (parse).  Opening checks the whole header, so that afterwards every tensor lies
// inside the file and has the size that its shape and dtype say; it does not read the tensors.  Move-only.  Reading from several
// threads is safe.  Rules: the format's description at https://github.com/huggingface/safetensors and what its Rust implementation
// refuses; stricter than that one in that an unknown key beside dtype, shape and data_offsets is refused too.
class SafeTensors final : public TensorSource {
 public:
  // Maps the file.  Throws IoError if it cannot be opened; FormatError, which names the file, the tensor, what was expected and
  // what was found, if it is not valid.
  static SafeTensors open(const std::filesystem::path& path) {
    MappedFile file(path);
    SafeTensors result(file.bytes(), path.string());
    result.file_ = std::move(file);
    return result;
  }
  // Reads an image in memory, which the caller keeps alive; `name` stands for the file in messages.  Throws FormatError.
  static SafeTensors parse(std::span<const std::byte> bytes, std::string name) { return SafeTensors(bytes, std::move(name)); }

  const std::string& location() const override { return name_; }
  // The pairs of __metadata__.
  const Metadata& metadata() const { return metadata_; }
  // The tensors in the order of their bytes in the file.
  const std::vector<TensorView>& tensors() const { return tensors_; }

  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const TensorView& tensor : tensors_) result.push_back(tensor.name);
    return result;
  }
  bool contains(std::string_view name) const override { return index_.find(name) != index_.end(); }
  const TensorView& at(std::string_view name) const override {
    const auto found = index_.find(name);
    if (found == index_.end()) detail::raise_missing(*this, name);
    return tensors_[found->second];
  }

 private:
  SafeTensors(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)) {
    std::uint64_t length = 0;
    if (bytes.size() >= sizeof length) std::memcpy(&length, bytes.data(), sizeof length);
    // A header may well be as long as the first bytes of a pickle say (640), or those of a gzip archive (35,615).
    const bool starts_well = bytes.size() > 8 && length <= bytes.size() - 8 && bytes[8] == std::byte{'{'};
    if (!starts_well)
      if (const std::string found = mistaken_for({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); !found.empty())
        fail("expected a safetensors file, found " + found);
    if (bytes.size() < 8) fail("expected the 8 bytes of the header's length, found a file of " + decimal(bytes.size()));
    if (length > detail::max_header_bytes)
      fail("expected a header of at most " + decimal(detail::max_header_bytes) + " bytes, found a length of " + decimal(length));
    if (length > bytes.size() - 8)
      fail("expected a header of " + decimal(length) + " bytes, found " + decimal(bytes.size() - 8) + " bytes in the file");
    const auto text = bytes.subspan(8, length);
    read_header({reinterpret_cast<const char*>(text.data()), text.size()}, bytes.subspan(8 + text.size()));
  }

  [[noreturn]] void fail(const std::string& what) const { raise<FormatError>(name_ + ": " + what); }

  void read_header(std::string_view text, std::span<const std::byte> buffer) {
    if (!text.starts_with('{')) fail("expected a header that starts with {, found " + in_quotes(text.substr(0, 8)));
    const JsonDocument document(parse_json(text, name_ + ": header"));
    const Json& header = *document;
    std::vector<TensorView> found;
    for (const auto& [key, value] : header.items()) {
      if (key == detail::metadata_key)
        read_metadata(value);
      else
        found.push_back(read_tensor(key, value, buffer));
    }
    // In the order of the bytes; an empty tensor goes before what starts at the same place, and equal ones keep the header's order.
    std::vector<std::size_t> order(found.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::tuple(found[a].data.data(), found[a].data.size(), a) < std::tuple(found[b].data.data(), found[b].data.size(), b);
    });
    for (const std::size_t i : order) tensors_.push_back(std::move(found[i]));
    const std::byte* end = buffer.data();
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const TensorView& tensor = tensors_[i];
      if (tensor.data.data() != end)
        raise<FormatError>(tensor.where() + ": expected data from offset " + decimal(end - buffer.data()) +
                           ", where the one before it ends, found " + decimal(tensor.data.data() - buffer.data()) +
                           (tensor.data.data() < end ? " (overlap)" : " (hole)"));
      end += tensor.data.size();
      index_.emplace(tensor.name, i);
    }
    if (end != buffer.data() + buffer.size())
      fail("expected " + decimal(end - buffer.data()) + " bytes of tensors after the header, found " + decimal(buffer.size()));
  }

  void read_metadata(const Json& object) {
    if (object.is_null()) return;  // some writers have it where others leave it out
    if (!object.is_object()) fail(std::string("__metadata__: expected an object, found ") + object.type_name());
    for (const auto& [key, value] : object.items()) {
      if (!value.is_string()) fail("__metadata__: " + in_quotes(key) + ": expected a string, found " + value.type_name());
      metadata_.emplace_back(key, value.get_ref<const std::string&>());
    }
  }

  TensorView read_tensor(const std::string& name, const Json& object, std::span<const std::byte> buffer) const {
    TensorView tensor;
    tensor.name = name;
    tensor.file = name_;
    const auto refuse = [&](const std::string& what) { raise<FormatError>(tensor.where() + ": " + what); };
    if (!object.is_object()) refuse(std::string("expected an object, found ") + object.type_name());
    for (const auto& [key, value] : object.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        refuse("expected dtype, shape and data_offsets, found " + in_quotes(key));
    const auto field = [&](const char* key) -> const Json& {
      const auto found = object.find(key);
      if (found == object.end()) refuse(std::string("expected dtype, shape and data_offsets, found no ") + key);
      return *found;
    };
    const auto sizes = [&](const char* key) {
      const Json& array = field(key);
      std::vector<std::size_t> result;
      if (!array.is_array()) refuse(std::string(key) + ": expected an array, found " + array.type_name());
      for (const Json& value : array) {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() > SIZE_MAX)
          refuse(std::string(key) + ": expected integers from 0 to " + decimal(SIZE_MAX) + ", found " + found_text(value));
        result.push_back(value.get<std::size_t>());
      }
      return result;
    };

    const Json& dtype = field("dtype");
    const auto known = dtype.is_string() ? dtype_from_name(dtype.get_ref<const std::string&>()) : std::nullopt;
    if (!known) refuse("expected a dtype of the format, found " + found_text(dtype));
    tensor.dtype = *known;
    tensor.shape = sizes("shape");
    const auto size = byte_size(tensor.dtype, tensor.shape);
    if (!size)
      refuse("expected a shape whose size in whole bytes fits in a size, found " + shape_string(tensor.shape) + " of " +
             std::string(dtype_name(tensor.dtype)));
    const std::vector<std::size_t> offsets = sizes("data_offsets");
    if (offsets.size() != 2) refuse("data_offsets: expected 2 integers, found " + decimal(offsets.size()));
    const std::size_t begin = offsets[0], end = offsets[1];
    if (begin > end || end > buffer.size())
      refuse("data_offsets: expected begin <= end <= " + decimal(buffer.size()) + ", found " + shape_string(offsets));
    if (end - begin != *size)
      refuse("expected " + decimal(*size) + " bytes for " + shape_string(tensor.shape) + " of " +
             std::string(dtype_name(tensor.dtype)) + ", found " + decimal(end - begin));
    tensor.data = buffer.subspan(begin, end - begin);
    return tensor;
  }

  std::string name_;
  MappedFile file_;  // empty after parse()
  Metadata metadata_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

}  // namespace lowbit::io::inline LOWBIT_ABI
