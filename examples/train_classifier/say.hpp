// SPDX-License-Identifier: MIT
// What the program says.  A stream that cannot be written ends nothing: it must not cost the model.
#pragma once
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "lowbit/io/file.hpp"

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

// To standard error, one line that opens with the program's name.
template <class... T>
void complain(fmt::format_string<T...> format, T&&... values) {
  const std::string text = fmt::format(format, std::forward<T>(values)...);
  std::fprintf(stderr, "train_classifier: %s\n", text.c_str());
}

// Makes a write that nobody reads, or beyond a limit on the size of files, an error like a full disk instead of the program's end.
inline void outlive_failed_writes() {
#if defined(SIGPIPE)
  std::signal(SIGPIPE, SIG_IGN);
#endif
#if defined(SIGXFSZ)
  std::signal(SIGXFSZ, SIG_IGN);
#endif
#if LOWBIT_POSIX
  // Files get the lowest free number: that of a closed standard stream must not be one, or what is said would end in a file.
  while (true) {
    const int file = ::open("/dev/null", O_RDONLY);
    if (file > STDERR_FILENO) ::close(file);
    if (file < 0 || file > STDERR_FILENO) return;
  }
#endif
}

}  // namespace train_classifier
