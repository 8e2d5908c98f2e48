// SPDX-License-Identifier: MIT
// lowbit-generate: continues texts with a GPT-2 in any format, compares formats, and measures perplexity.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "examples/common/interrupt.hpp"
#include "examples/generate/commands.hpp"
#include "lowbit/io/file.hpp"

namespace generate {

void say(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    lowbit::io::detail::raise_io("standard output", "write", errno);
}

}  // namespace generate

int main(int argc, char** argv) {
  using namespace generate;
  try {
#if defined(SIGPIPE)
    std::signal(SIGPIPE, SIG_IGN);  // a write that nobody reads is an error like a full disk
#endif
    Options options;
    if (const auto done = read_options(argc, argv, options)) return *done;
    examples::watch_for_interrupt();
    if (!options.perplexity.empty()) return measure_perplexity(options);
    if (options.layer_errors) return list_layer_errors(options);
    return options.compare ? compare_formats(options) : continue_texts(options);
  } catch (const Interrupted&) {
    complain("interrupted");
    return examples::interrupted_exit_code();
  } catch (const std::exception& error) {
    complain("{}", error.what());
  }
  return exit_failed;
}
