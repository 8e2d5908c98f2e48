// SPDX-License-Identifier: MIT
// lowbit-generate: continues texts with a GPT-2 in any format, compares formats, and measures perplexity.
#include <exception>
#include <new>

#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/standard_streams.hpp"
#include "examples/generate/commands.hpp"

int main(int argc, char** argv) {
  using namespace generate;
  try {
    examples::outlive_failed_writes();
    Options options;
    if (const auto done = read_options(argc, argv, options)) return *done;
    examples::watch_for_interrupt();
    examples::warn_of_threads("lowbit-generate", options.threads);
    if (!options.perplexity.empty()) return measure_perplexity(options);
    if (options.layer_errors) return list_layer_errors(options);
    return options.compare ? compare_formats(options) : continue_texts(options);
  } catch (const Interrupted&) {
    complain("interrupted");
    return examples::interrupted_exit_code();
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain("{}", error.what());
  }
  return exit_failed;
}
