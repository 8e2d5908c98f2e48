// SPDX-License-Identifier: MIT
// lowbit-quantize: quantizes, decodes, inspects and compares model folders.
#include <exception>
#include <new>

#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/standard_streams.hpp"
#include "examples/quantize/commands.hpp"

int main(int argc, char** argv) {
  using namespace quantize;
  try {
    examples::outlive_failed_writes();
    Options options;
    if (const auto done = read_options(argc, argv, options)) return *done;
    examples::watch_for_interrupt();
    examples::warn_of_threads("lowbit-quantize", options.threads);
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
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain("{}", error.what());
  }
  return exit_failed;
}
