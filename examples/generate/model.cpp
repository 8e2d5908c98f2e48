// SPDX-License-Identifier: MIT
#include "examples/generate/model.hpp"

#include <chrono>
#include <system_error>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "examples/common/progress.hpp"
#include "lowbit/gpt2/gguf.hpp"
#include "lowbit/lowbit.hpp"

namespace generate {

namespace gpt2 = lowbit::gpt2;

Source open_source(const Options& o) {
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(o.model, ignored);
  std::optional<gpt2::Tokenizer> tokenizer;
  if (!o.tokenizer.empty()) tokenizer = gpt2::Tokenizer::load(o.tokenizer);
  std::unique_ptr<gpt2::ParameterSource> parameters;
  if (is_file) {
    if (!o.base.empty()) lowbit::raise<lowbit::InvalidArgument>("--base: a GGUF file leaves nothing out");
    if (o.model.extension() == ".safetensors" || o.model.extension() == ".json") lowbit::io::require_model_folder(o.model);
    auto file = std::make_unique<gpt2::GgufParameters>(o.model);
    if (!tokenizer) tokenizer = file->tokenizer();
    parameters = std::move(file);
  } else {
    parameters = std::make_unique<gpt2::FolderParameters>(o.model, o.base.empty() ? std::nullopt : std::optional(o.base));
    if (!tokenizer) tokenizer = gpt2::Tokenizer::load(o.base.empty() ? o.model : o.base);
  }
  const gpt2::Config& config = parameters->config();
  if (!config.tied && !parameters->contains("lm_head.weight"))
    lowbit::raise<lowbit::FormatError>(o.model.string() +
                                       ": expected a language model, found neither lm_head.weight nor a head that is tied");
  for (const std::int32_t id : o.generation.stop_tokens)
    lowbit::require(id >= 0 && static_cast<std::size_t>(id) < config.vocab, [&] {
      return fmt::format("--stop-token: expected an id of the model, 0 to {}, found {}", config.vocab - 1, id);
    });
  tokenizer->require_fits(config.vocab, (o.tokenizer.empty() ? o.model : o.tokenizer).string());
  const std::vector<std::int32_t> end = tokenizer->encode_with_added("<|endoftext|>");
  return {o.model.string(), std::move(parameters), std::move(*tokenizer), end.size() == 1 ? std::optional(end[0]) : std::nullopt};
}

Loaded load(const Source& source, const examples::ModelKind& kind) {
  const examples::Progress progress("loading " + std::string(kind.name));
  const auto began = std::chrono::steady_clock::now();
  Loaded loaded;
  loaded.kind = &kind;
  if (kind.id == "int8_scratch" && std::filesystem::is_directory(source.name)) examples::require_trained_int8(source.name);
  // Decode waits for the head: in panels float16 is read four times as fast as in rows.
  examples::ModelKind held = kind;
  if (held.rest == lowbit::Format::f16 && !held.embeddings) held.embeddings = lowbit::Format::f16;
  std::tie(loaded.net, loaded.identity) = examples::make_checked_model(held, *source.parameters, {}, source.name, true, "--format");
  loaded.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return loaded;
}

std::vector<const examples::ModelKind*> kinds_of(const Options& o, const Source& source) {
  if (!o.kinds.empty()) return o.kinds;
  const gpt2::Config& config = source.parameters->config();
  using lowbit::Format;
  Format held = source.parameters->linear("h.0.attn.c_attn", 3 * config.width, config.width).format();
  if (held == Format::f16) held = Format::f32;  // of a GGUF file; no kind holds it, float32 does exactly
  std::vector<const examples::ModelKind*> kinds;
  // With several formats side by side, those that float weights can become; each family once.
  if ((o.compare || !o.perplexity.empty() || o.layer_errors) && (held == Format::f32 || held == Format::bf16)) {
    for (const char* id : {"fp32", "int8", "int8_bnb", "nf4_bnb", "fp4", "nf4_emb_int8", "nf4_all", "int8_all"})
      kinds.push_back(examples::find_kind(id));
    return kinds;
  }
  for (const examples::ModelKind& kind : examples::model_kinds)
    if (kind.format == held && kind.id != "int8_scratch" && (kinds.empty() || o.compare)) kinds.push_back(&kind);
  return kinds;
}

}  // namespace generate
