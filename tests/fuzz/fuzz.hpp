// SPDX-License-Identifier: MIT
// What the fuzz targets share.  A reader of hostile bytes has two ways out: an error of lowbit's that names the file, or something
// whole, every byte of which may be touched.  Everything else is a finding, and ends the program.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "lowbit/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lowbit_fuzz {

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "expected: %s\n", what);
  std::abort();
}

// Reads every byte, so that the sanitizers see those that are not there.
inline void touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<unsigned>(b);
  volatile unsigned kept = sum;
  static_cast<void>(kept);
}

// Whether read() returned; a FormatError is the other way out, and its message must begin with `name` and be fit for a terminal: short,
// without control characters.
template <class Read>
bool reads(std::string_view name, Read&& read) {
  try {
    read();
    return true;
  } catch (const lowbit::FormatError& error) {
    const std::string_view message = error.what();
    expect(message.starts_with(name), "a message that begins with the file");
    expect(message.size() <= 2000, "a message of at most 2000 bytes");
    for (const char c : message) expect(static_cast<unsigned char>(c) >= 0x20, "a message without control characters");
    return false;
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }
inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace lowbit_fuzz
