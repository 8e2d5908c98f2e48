// SPDX-License-Identifier: MIT
// What lowbit-generate does, and how it speaks to the user.
#pragma once
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "examples/common/standard_streams.hpp"
#include "examples/generate/options.hpp"

namespace generate {

// Ctrl-C where nothing is worth keeping.
struct Interrupted {};

// Each returns the exit code.  They throw lowbit::Error for what a user can mend, Interrupted.
int continue_texts(const Options& options);
int compare_formats(const Options& options);
int measure_perplexity(const Options& options);
int list_layer_errors(const Options& options);

using examples::say;
template <class... T>
void complain(fmt::format_string<T...> format, T&&... values) {
  examples::complain("lowbit-generate", fmt::format(format, std::forward<T>(values)...));
}

inline double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

}  // namespace generate
