// SPDX-License-Identifier: MIT
// Standard output and error of a program that writes files too.
#pragma once
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include "lowbit/io/system_file.hpp"

namespace examples {

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

// To standard output, at once.  Throws IoError if that cannot be written.
inline void say(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    lowbit::io::detail::raise_io("standard output", "write", errno);
}

// To standard error, one line that opens with the program's name.  One that cannot be written is lost: there is nowhere left to say so.
inline void complain(const char* program, const std::string& text) { std::fprintf(stderr, "%s: %s\n", program, text.c_str()); }

}  // namespace examples
