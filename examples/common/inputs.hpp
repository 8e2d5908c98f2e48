// SPDX-License-Identifier: MIT
// What a command line names, as every program takes it: texts from files and pipes, numbers of threads.
#pragma once
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>

#include "lowbit/base/error.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/utf8.hpp"
#include "lowbit/parallel.hpp"

namespace examples {

// A text, without its byte order mark.  The path may be a pipe.  Throws IoError, and FormatError for what is no text in UTF-8.
inline std::string read_plain_text(const std::filesystem::path& path) {
  std::string text = lowbit::io::read_stream(path);
  lowbit::io::require_utf8(text, path.string());
  if (const std::size_t zero = text.find('\0'); zero != text.npos)
    lowbit::raise<lowbit::FormatError>(path.string() + ": expected a text, found a zero at byte " + std::to_string(zero));
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

// A line on standard error where there are more threads than processors to run them.
inline void warn_of_threads(const char* program, std::size_t threads) {
  const std::size_t processors = lowbit::available_processors();
  if (threads > processors)
    std::fprintf(stderr, "%s: warning: --threads %zu, but there are %zu processors to run on; it will be slower than with %zu\n",
                 program, threads, processors, processors);
}

}  // namespace examples
