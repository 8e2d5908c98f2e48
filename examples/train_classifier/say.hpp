// SPDX-License-Identifier: MIT
// What the program says.  A stream that cannot be written ends nothing: it must not cost the model.
#pragma once
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "examples/common/standard_streams.hpp"

namespace train_classifier {

// The system's code of the first write to standard output that failed; 0 if all of it was said.
inline int say_failure = 0;

// To standard output, at once.
template <class... T>
void say(fmt::format_string<T...> format, T&&... values) {
  const std::string text = fmt::format(format, std::forward<T>(values)...);
  const bool written = std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  if (!written && say_failure == 0) say_failure = errno;
}

template <class... T>
void complain(fmt::format_string<T...> format, T&&... values) {
  examples::complain("train_classifier", fmt::format(format, std::forward<T>(values)...));
}

}  // namespace train_classifier
