// SPDX-License-Identifier: MIT
// lowbit-quantize: quantizes, decodes, inspects and compares model folders.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "examples/common/interrupt.hpp"
#include "examples/quantize/commands.hpp"
#include "lowbit/io/file.hpp"

namespace quantize {

void say(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    lowbit::io::detail::raise_io("standard output", "write", errno);
}

}  // namespace quantize

int main(int argc, char** argv) {
  using namespace quantize;
  try {
#if defined(SIGPIPE)
    std::signal(SIGPIPE, SIG_IGN);  // a write that nobody reads is an error like a full disk
#endif
    Options options;
    if (const auto done = read_options(argc, argv, options)) return *done;
    examples::watch_for_interrupt();
    switch (options.command) {
      case Command::quantize: return quantize_folder(options);
      case Command::dequantize: return dequantize_folder(options);
      case Command::inspect: return inspect(options);
      case Command::verify: return verify(options);
      case Command::gguf: return write_gguf(options);
    }
  } catch (const Interrupted&) {
    complain("interrupted; nothing was written");
    return examples::interrupted_exit_code();
  } catch (const std::exception& error) {
    complain("{}", error.what());
  }
  return exit_failed;
}
