// SPDX-License-Identifier: MIT
// The command gguf: a GPT-2 folder as one file for llama.cpp.
#include "lowbit/gpt2/gguf_writer.hpp"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <system_error>

#include "examples/common/interrupt.hpp"
#include "examples/common/left_behind.hpp"
#include "examples/common/progress.hpp"
#include "examples/quantize/commands.hpp"

namespace quantize {

namespace fs = std::filesystem;
namespace io = lowbit::io;

namespace {

// Throws IoError unless OUT may be written: --overwrite is meant for an earlier GGUF file, not for a weight file of IN.
void require_replaceable(const Options& o) {
  std::error_code ignored;
  if (!fs::exists(o.out, ignored)) return;
  if (!o.overwrite)
    lowbit::raise<lowbit::IoError>(o.out.string() + ": expected no such file yet, found one; --overwrite replaces it");
  const io::MappedFile old(o.out);
  if (old.size() != 0 &&
      std::string_view(reinterpret_cast<const char*>(old.data()), std::min(old.size(), std::size_t{4})) != "GGUF")
    lowbit::raise<lowbit::IoError>(o.out.string() + ": expected a GGUF file to replace, found another one; move it away");
}

}  // namespace

int write_gguf(const Options& o) {
  require_replaceable(o);
  examples::note_left_beside("lowbit-quantize", o.out);
  const auto began = std::chrono::steady_clock::now();
  const lowbit::gpt2::FolderParameters source(o.in);
  const lowbit::gpt2::Config& config = source.config();
  const std::size_t left_out = config.classes == 0 ? 0 : 1;
  examples::Progress progress("writing, tensors", lowbit::gpt2::gguf_parameters(config).size());
  const fs::path folder = fs::absolute(o.in).lexically_normal();
  const std::string name = folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  lowbit::gpt2::write_gguf(o.out, source, lowbit::gpt2::TokenizerFiles::read(o.in), o.gguf_type, name,
                           [&](std::size_t tensor, std::size_t) {
                             if (examples::interrupted()) throw Interrupted{};
                             if (tensor != 0) progress.step();
                           });
  progress.step();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const std::uintmax_t bytes = fs::file_size(o.out);
  if (o.json)
    say(io::Json{{"file", o.out.string()}, {"bytes", bytes}, {"left_out", left_out}, {"seconds", seconds}}.dump(
            2, ' ', false, io::Json::error_handler_t::replace) +
        "\n");
  else
    say(fmt::format("{}: {} in {:.2f} s{}\n", o.out.string(), size_text(static_cast<double>(bytes)), seconds,
                    left_out == 0 ? "" : "; score.weight is left out, as GGUF has no classifier of GPT-2"));
  return 0;
}

}  // namespace quantize
