// SPDX-License-Identifier: MIT
// How a command line ends a program that has nothing more to do.
#pragma once
#include <cstdio>
#include <sstream>

#include <CLI/CLI.hpp>

#include "examples/common/standard_streams.hpp"

namespace examples {

// What `app` was ended by: --help and --version, which are printed, or a fault, which is told on standard error.  Returns the exit
// code, `usage` for a fault.  Throws IoError if standard output cannot be written.
inline int end_of_parsing(const CLI::App& app, const CLI::Error& end, const char* program, int usage) {
  if (end.get_exit_code() != 0) {
    std::fprintf(stderr, "%s: %s (--help explains)\n", program, end.what());
    return usage;
  }
  std::ostringstream text;
  const int code = app.exit(end, text, text);
  say(text.str());
  return code;
}

}  // namespace examples
