// SPDX-License-Identifier: MIT
// The commands of lowbit-quantize, and what they say to the user.
#pragma once
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "examples/common/standard_streams.hpp"
#include "examples/quantize/options.hpp"

namespace quantize {

// Ctrl-C: the command ends, and what was under way is gone.
struct Interrupted {};

// Each returns the exit code.  They throw lowbit::Error for what a user can mend, Interrupted.
int quantize_folder(const Options& options);
int dequantize_folder(const Options& options);
int inspect(const Options& options);
int verify(const Options& options);
int write_gguf(const Options& options);

using examples::say;
template <class... T>
void complain(fmt::format_string<T...> format, T&&... values) {
  examples::complain("lowbit-quantize", fmt::format(format, std::forward<T>(values)...));
}

// "1.25 GB"
inline std::string size_text(double bytes) {
  const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit < 4) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} bytes", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

}  // namespace quantize
