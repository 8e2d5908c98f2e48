// SPDX-License-Identifier: MIT
// The golden data under tests/data, and how it is compared: a reader of safetensors that owes nothing to the library's own, and
// equality of bits where the sign of a zero is free and NaN is compared by class.
#pragma once
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/npy.hpp"

#ifndef LOWBIT_TEST_DATA
#error "define LOWBIT_TEST_DATA as the path of tests/data"
#endif

namespace lowbit_test {

inline std::string data_path(const std::string& name) { return std::string(LOWBIT_TEST_DATA) + "/" + name; }

// A vector of golden/model by its file name.
template <class T>
std::vector<T> model(const nlohmann::json& name) {
  return load_npy_as<T>(data_path("model/" + name.get<std::string>()));
}
inline nlohmann::json model_index() { return nlohmann::json::parse(read_bytes(data_path("model/index.json"))); }

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path) : path_(path), file_(read_bytes(path)) {
    std::uint64_t length = 0;
    if (file_.size() < 8) throw std::runtime_error(path + ": too short");
    std::memcpy(&length, file_.data(), 8);
    header_ = nlohmann::json::parse(file_.substr(8, length));
    begin_ = 8 + length;
  }
  const nlohmann::json& header() const { return header_; }

  template <class T>
  std::vector<T> get(const std::string& name, const std::string& dtype) const {
    const nlohmann::json& entry = header_.at(name);
    if (entry.at("dtype") != dtype) throw std::runtime_error(path_ + ": " + name + " is " + entry.at("dtype").dump());
    const std::size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), file_.data() + begin_ + begin, end - begin);
    return values;
  }
  std::vector<float> floats(const std::string& name) const { return get<float>(name, "F32"); }
  std::vector<std::uint8_t> bytes(const std::string& name) const { return get<std::uint8_t>(name, "U8"); }

 private:
  std::string path_, file_;
  nlohmann::json header_;
  std::size_t begin_ = 0;
};

// Bit patterns of a vector of float (U = uint32), fp16 or bf16 (U = uint16), with -0 made 0 and every NaN made one.
// infinity: the pattern of +infinity in that format.
template <class U, class T>
std::vector<U> comparable(const std::vector<T>& values, std::uint32_t infinity) {
  static_assert(sizeof(U) == sizeof(T));
  std::vector<U> bits(values.size());
  if (!bits.empty()) std::memcpy(bits.data(), values.data(), bits.size() * sizeof(U));
  const auto sign = static_cast<std::uint32_t>(U{1}) << (sizeof(U) * 8 - 1);
  for (U& b : bits) {
    const std::uint32_t magnitude = b & (sign - 1);
    if (magnitude == 0) b = 0;
    if (magnitude > infinity) b = static_cast<U>(sign - 1);
  }
  return bits;
}
template <class T>
std::vector<std::uint32_t> comparable32(const std::vector<T>& v) {
  return comparable<std::uint32_t>(v, 0x7F800000u);
}
template <class T>
std::vector<std::uint16_t> comparable_f16(const std::vector<T>& v) {
  return comparable<std::uint16_t>(v, 0x7C00u);
}
template <class T>
std::vector<std::uint16_t> comparable_bf16(const std::vector<T>& v) {
  return comparable<std::uint16_t>(v, 0x7F80u);
}

// The exact bits of floats.
inline std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits(values.size());
  if (!bits.empty()) std::memcpy(bits.data(), values.data(), bits.size() * 4);
  return bits;
}

}  // namespace lowbit_test
