// SPDX-License-Identifier: MIT
// Reads .npy files: version 1, little-endian; a matrix in Fortran order is transposed.  For tests; anything else is an exception.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace lowbit_test {

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Npy {
  std::string descr;  // "<f4", "|u1", ...
  std::vector<std::size_t> shape;
  std::string bytes;

  std::size_t size() const {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    return n;
  }
};

inline Npy load_npy(const std::string& path) {
  const std::string file = read_bytes(path);
  const auto fail = [&](const std::string& why) -> std::runtime_error { return std::runtime_error(path + ": " + why); };
  if (file.size() < 10 || file.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) throw fail("not a .npy file of version 1");
  const std::size_t length = static_cast<unsigned char>(file[8]) + 256u * static_cast<unsigned char>(file[9]);
  const std::string header = file.substr(10, length);
  const auto after = [&](const std::string& key) {
    const std::size_t at = header.find("'" + key + "': ");
    if (at == std::string::npos) throw fail("no " + key);
    return header.substr(at + key.size() + 4);
  };
  Npy npy;
  const std::string descr = after("descr");
  npy.descr = descr.substr(1, descr.find('\'', 1) - 1);
  if (npy.descr[0] != '<' && npy.descr[0] != '|') throw fail("not little-endian");
  const std::string shape = after("shape");
  for (std::size_t i = 1; shape[i] != ')';) {
    if (shape[i] < '0' || shape[i] > '9') {
      ++i;
      continue;
    }
    std::size_t digits = 0;
    npy.shape.push_back(std::stoull(shape.substr(i), &digits));
    i += digits;
  }
  npy.bytes = file.substr(10 + length);
  const std::size_t width = std::stoull(npy.descr.substr(2));
  if (npy.bytes.size() != npy.size() * width) throw fail("size does not fit the shape");
  if (after("fortran_order").compare(0, 4, "True") == 0) {
    if (npy.shape.size() != 2) throw fail("Fortran order with " + std::to_string(npy.shape.size()) + " dimensions");
    const std::string columns = npy.bytes;
    for (std::size_t r = 0; r < npy.shape[0]; ++r)
      for (std::size_t c = 0; c < npy.shape[1]; ++c)
        npy.bytes.replace((r * npy.shape[1] + c) * width, width, columns, (c * npy.shape[0] + r) * width, width);
  }
  return npy;
}

// The values as T; sizeof(T) must be the element's size.
template <class T>
std::vector<T> load_npy_as(const std::string& path) {
  const Npy npy = load_npy(path);
  if (npy.bytes.size() != npy.size() * sizeof(T)) throw std::runtime_error(path + ": elements are " + npy.descr);
  std::vector<T> values(npy.size());
  std::memcpy(values.data(), npy.bytes.data(), npy.bytes.size());
  return values;
}

}  // namespace lowbit_test
