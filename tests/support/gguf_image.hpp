// SPDX-License-Identifier: MIT
// GGUF files made by hand, which a test may bend.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lowbit_test::gguf {

template <class T>
std::string raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
inline std::string u32(std::uint32_t v) { return raw(v); }
inline std::string u64(std::uint64_t v) { return raw(v); }
// Below 0 it is a large number, as in a file that lies.
inline std::uint64_t moved(std::size_t n, std::int64_t by) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(n) + by); }
inline std::string text(const std::string& s) { return u64(s.size()) + s; }

// The parts of a file, which a test may bend before they are put together.
struct Image {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::string> keys;
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dimensions;  // the fastest first
    std::uint32_t type = 0;
    std::string data;
    std::int64_t shift = 0;  // of the offset
  };
  std::vector<Tensor> tensors;
  std::int64_t more_tensors = 0, more_keys = 0, cut = 0;
  std::size_t alignment = 32;

  std::string bytes() const {
    std::string head = magic + u32(version) + u64(moved(tensors.size(), more_tensors)) + u64(moved(keys.size(), more_keys));
    for (const std::string& key : keys) head += key;
    std::string data;
    for (const Tensor& t : tensors) {
      data.resize((data.size() + alignment - 1) / alignment * alignment);
      head += text(t.name) + u32(static_cast<std::uint32_t>(t.dimensions.size()));
      for (const std::uint64_t d : t.dimensions) head += u64(d);
      head += u32(t.type) + u64(moved(data.size(), t.shift));
      data += t.data;
    }
    head.resize((head.size() + alignment - 1) / alignment * alignment);
    head += data;
    head.resize(head.size() - static_cast<std::size_t>(cut));
    return head;
  }
};
inline std::string key(const std::string& name, std::uint32_t type, const std::string& value) {
  return text(name) + u32(type) + value;
}

inline Image small() {
  Image i;
  i.keys = {key("general.architecture", 8, text("gpt2")), key("n", 4, u32(7)),
            key("list", 9, u32(8) + u64(2) + text("a") + text("b"))};
  i.tensors = {{"a", {2, 3}, 0, std::string(24, '\0'), 0}, {"b", {32, 2}, 8, std::string(68, '\1'), 0}};
  return i;
}

}  // namespace lowbit_test::gguf
