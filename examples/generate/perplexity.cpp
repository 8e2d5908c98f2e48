// SPDX-License-Identifier: MIT
// The commands --perplexity and --layer-errors: how well formats predict a text, and the error of every layer's weights that explains
// it.
#include "examples/generate/perplexity.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

#include "examples/common/dataset.hpp"
#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/table.hpp"
#include "examples/generate/commands.hpp"
#include "examples/generate/model.hpp"
#include "examples/generate/texts.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/lowbit.hpp"
#include "lowbit/tensor/error_statistics.hpp"

namespace generate {

namespace {

using lowbit::io::Json;
namespace gpt2 = lowbit::gpt2;

// Token ids, and what of them is read and predicted.
struct Material {
  std::vector<std::int32_t> ids;
  std::vector<Window> windows;
  std::string words;  // what it is
  Json settings;      // what decides it
};

Material material_of(const Source& source, const Options& o) {
  const gpt2::Config& config = source.parameters->config();
  Material m;
  if (o.perplexity.extension() == ".csv") {
    lowbit::require(!o.row_tokens || *o.row_tokens <= config.positions, [&] {
      return fmt::format("--row-tokens: expected at most the model's {} positions, found {}", config.positions, *o.row_tokens);
    });
    const examples::Dataset data =
        examples::read_dataset(o.perplexity, source.tokenizer, config, o.row_tokens.value_or(usual_row_tokens), o.rows);
    for (const examples::Item& item : data.items) {
      const std::size_t begin = m.ids.size();
      m.ids.insert(m.ids.end(), item.ids.begin(), item.ids.end());
      if (item.ids.size() > 1) m.windows.push_back({begin, m.ids.size(), begin + 1});
    }
    const std::size_t single = data.items.size() - m.windows.size();
    m.words = fmt::format("{} rows, {} of them cut after {} tokens", m.windows.size(), data.cut_texts, data.max_tokens);
    if (single + data.empty_texts + data.blank_lines != 0)
      m.words += fmt::format("; {} rows of one token, {} without a text and {} blank lines skipped", single, data.empty_texts,
                             data.blank_lines);
    m.settings = {
        {"row_tokens", data.max_tokens}, {"rows", o.rows == 0 ? Json() : Json(o.rows)}, {"cut_rows", data.cut_texts},
        {"rows_of_one_token", single},   {"rows_without_text", data.empty_texts},       {"blank_lines", data.blank_lines}};
  } else {
    const std::size_t context = o.context == 0 ? config.positions : o.context;
    lowbit::require(context >= 2 && context <= config.positions, [&] {
      return fmt::format("--context: expected 2 to the model's {} positions, found {}", config.positions, context);
    });
    const std::size_t stride = o.stride == 0 ? (context + 1) / 2 : o.stride;
    lowbit::require(stride <= context,
                    [&] { return fmt::format("--stride: expected at most the context of {}, found {}", context, stride); });
    m.ids = source.encode(examples::read_plain_text(o.perplexity), o.special);
    m.windows = windows_of(m.ids.size(), context, stride);
    m.words = fmt::format("{} tokens in {} windows of {}, {} apart", m.ids.size(), m.windows.size(), context, stride);
    m.settings = {{"tokens", m.ids.size()}, {"context", context}, {"stride", stride}, {"special", o.special}};
  }
  if (m.windows.empty())
    lowbit::raise<lowbit::FormatError>(o.perplexity.string() + ": expected a text of at least two tokens, found none");
  return m;
}

// The negative log-likelihood of `target` by logits [vocab], in nats.
double nll_of(std::span<const float> logits, std::int32_t target) {
  float largest = logits[0];
  for (const float v : logits) largest = std::max(largest, v);
  double total = 0;
  for (const float v : logits) total += static_cast<double>(std::exp(v - largest));
  return static_cast<double>(largest) + std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

// Windows' likelihoods, in order.  The logits of a few tokens at a time are in memory.
class Scorer {
 public:
  Scorer(const gpt2::Transformer& net, lowbit::Format cache, lowbit::Executor& executor)
      : net_(net), cache_(cache), executor_(executor), logits_(tokens_at_once * net.config.vocab) {}

  Unit score(std::span<const std::int32_t> ids, const Window& w) {
    gpt2::KvCache cache(net_.config, w.end - w.begin, cache_);
    gpt2::KvCache* const caches[] = {&cache};
    Unit unit;
    // The last token predicts nothing that is there.
    for (std::size_t at = w.begin; at + 1 < w.end;) {
      // Without logits up to the first token that predicts.
      const bool silent = at + 1 < w.predicted;
      const std::size_t end = silent ? w.predicted - 1 : std::min(at + tokens_at_once, w.end - 1);
      const std::size_t offsets[] = {at, end};
      if (silent) {
        net_.next_logits(ids, offsets, caches, std::span(logits_).first(net_.config.vocab), executor_);
      } else {
        const std::size_t count = end - at, vocab = net_.config.vocab;
        net_.language_logits(ids, offsets, caches, std::span(logits_).first(count * vocab), executor_);
        std::array<double, tokens_at_once> nll{};
        executor_.run(count,
                      [&](std::size_t t) { nll[t] = nll_of(std::span(logits_).subspan(t * vocab, vocab), ids[at + t + 1]); });
        for (std::size_t t = 0; t < count; ++t) unit.nll += nll[t];
        unit.tokens += count;
      }
      at = end;
    }
    return unit;
  }

 private:
  static constexpr std::size_t tokens_at_once = 64;
  const gpt2::Transformer& net_;
  lowbit::Format cache_;
  lowbit::Executor& executor_;
  std::vector<float> logits_;
};

std::string error_words(const Estimate& e, const char* format) {
  return e.error ? fmt::format(fmt::runtime(format), *e.error) : std::string("-");
}
Json json_of(const Estimate& e) { return {{"value", e.value}, {"standard_error", e.error ? Json(*e.error) : Json()}}; }

// A matrix of weights, [out, in].
struct Layer {
  std::string name;
  std::size_t out, in;
  bool is_embedding = false;
};

std::vector<Layer> layers_of(const gpt2::Config& config) {
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < config.layers; ++i) {
    const std::string h = "h." + std::to_string(i) + ".";
    layers.push_back({h + "attn.c_attn", 3 * config.width, config.width});
    layers.push_back({h + "attn.c_proj", config.width, config.width});
    layers.push_back({h + "mlp.c_fc", config.inner, config.width});
    layers.push_back({h + "mlp.c_proj", config.width, config.inner});
  }
  layers.push_back({"wte", config.vocab, config.width, true});
  layers.push_back({"wpe", config.positions, config.width, true});
  return layers;
}

// Throws InvalidArgument if they are quantized already, or not finite.
lowbit::AlignedBuffer<float> float_weights(const Source& source, const Layer& layer) {
  lowbit::AlignedBuffer<float> w;
  if (layer.is_embedding) {
    w = source.parameters->floats(layer.name + ".weight", layer.out, layer.in);
  } else {
    const lowbit::Tensor held = source.parameters->linear(layer.name, layer.out, layer.in);
    lowbit::require(held.format() == lowbit::Format::f32, [&] {
      return fmt::format("{}: {}: expected float weights, which errors are measured against, found {}", source.name, layer.name,
                         lowbit::format_name(held.format()));
    });
    w.reset(held.size());
    held.dequantize(w.data());
  }
  if (const std::size_t i = lowbit::first_non_finite(w.data(), w.size()); i != w.size())
    lowbit::raise<lowbit::InvalidArgument>(
        fmt::format("{}: {}.weight: expected finite values, found {} at element {}", source.name, layer.name, w.data()[i], i));
  return w;
}

// Of the weights w as a model of this kind holds them; nothing where it holds them as they are.
std::optional<lowbit::ErrorStatistics> error_of(const examples::ModelKind& kind, const Layer& layer, std::span<const float> w) {
  examples::ModelKind as = kind;
  if (layer.is_embedding) as.format = kind.embeddings.value_or(lowbit::Format::f32);
  if (as.format == lowbit::Format::f32) return std::nullopt;
  return lowbit::error_statistics(w.data(), layer.out, layer.in, examples::quantize(as, w.data(), layer.out, layer.in, {}));
}

}  // namespace

int measure_perplexity(const Options& o) {
  const Source source = open_source(o);
  const Material material = material_of(source, o);
  lowbit::ThreadPool pool(o.threads);
  examples::Table table;
  table.title = fmt::format("{}: perplexity of {}, {}", source.name, o.perplexity.string(), material.words);
  table.head = {"format",        "resident MiB",       "perplexity",     "standard\nerror",
                "nats a\ntoken", "against\nthe first", "standard\nerror"};
  table.note = "Against the first: the difference in nats a token on the same " +
               std::string(o.perplexity.extension() == ".csv" ? "rows" : "windows") + ", and its own standard error.";
  Json formats = Json::array();
  std::vector<Unit> first;
  for (const examples::ModelKind* kind : kinds_of(o, source)) {
    const Loaded model = load(source, *kind);
    examples::Progress progress(model.identity.name, material.windows.size());
    Scorer scorer(model.net, o.generation.cache, pool);
    std::vector<Unit> units;
    for (const Window& w : material.windows) {
      if (examples::interrupted()) throw Interrupted{};
      units.push_back(scorer.score(material.ids, w));
      if (!std::isfinite(units.back().nll))
        lowbit::raise<lowbit::Error>(fmt::format("{}: {}: tokens {} to {} of {}: expected finite logits, found a likelihood of {}",
                                                 source.name, kind->id, w.begin, w.end, o.perplexity.string(), units.back().nll));
      progress.step();
    }
    if (first.empty()) first = units;
    std::vector<Unit> differences = units;
    for (std::size_t i = 0; i < units.size(); ++i) differences[i].nll -= first[i].nll;
    const Estimate value = perplexity(units), mean = mean_nll(units), difference = mean_nll(differences);
    const bool is_first = table.rows.empty();
    table.rows.push_back({model.identity.name, fmt::format("{:.1f}", mib(model.net.memory().resident_bytes)),
                          fmt::format("{:.3f}", value.value), error_words(value, "{:.3f}"), fmt::format("{:.5f}", mean.value),
                          is_first ? "" : fmt::format("{:+.5f}", difference.value),
                          is_first ? "" : error_words(difference, "{:.5f}")});
    std::size_t tokens = 0;
    for (const Unit& u : units) tokens += u.tokens;
    Json entry = json_of(model);
    entry.update({{"perplexity", json_of(value)},
                  {"nats_per_token", json_of(mean)},
                  {"nats_per_token_against_first", json_of(difference)},
                  {"predicted_tokens", tokens}});
    Json& likelihoods = entry["nll"] = Json::array();
    for (const Unit& u : units) likelihoods.push_back(u.nll);
    formats.push_back(std::move(entry));
  }
  if (o.json)
    say(Json{{"model", source.name},
             {"text", o.perplexity.string()},
             {"settings", material.settings},
             {"units", material.windows.size()},
             {"cache", lowbit::format_name(o.generation.cache)},
             {"level", lowbit::level_name(lowbit::active_level())},
             {"threads", o.threads},
             {"formats", formats}}
            .dump(2, ' ', false, Json::error_handler_t::replace) +
        "\n");
  else
    say(as_text(table));
  return 0;
}

int list_layer_errors(const Options& o) {
  const Source source = open_source(o);
  const std::vector<Layer> layers = layers_of(source.parameters->config());
  std::vector<const examples::ModelKind*> kinds;
  for (const examples::ModelKind* kind : kinds_of(o, source))
    if (kind->format != lowbit::Format::f32) kinds.push_back(kind);
  if (kinds.empty()) lowbit::raise<lowbit::InvalidArgument>("--layer-errors: expected a --format that rounds, found fp32 alone");
  examples::Table table;
  table.title = source.name + ": error of the weights, signal to noise in dB and cosine";
  table.head = {"layer"};
  for (const examples::ModelKind* kind : kinds) {
    table.head.push_back(std::string(kind->id) + " dB");
    table.head.push_back("cosine");
  }
  table.note = "Embeddings where a format quantizes them.  6 dB are a bit.";
  Json rows = Json::array();
  examples::Progress progress("layers", layers.size());
  for (const Layer& layer : layers) {
    if (examples::interrupted()) throw Interrupted{};
    const auto w = float_weights(source, layer);
    std::vector<std::string> cells = {layer.name};
    Json row = {{"layer", layer.name}};
    for (const examples::ModelKind* kind : kinds) {
      const auto e = error_of(*kind, layer, {w.data(), w.size()});
      cells.push_back(e ? fmt::format("{:.2f}", e->snr_db) : "");
      cells.push_back(e ? fmt::format("{:.6f}", e->cosine) : "");
      if (e) row[std::string(kind->id)] = {{"snr_db", e->snr_db}, {"cosine", e->cosine}, {"rms", e->rms}, {"max", e->max}};
    }
    table.rows.push_back(std::move(cells));
    rows.push_back(std::move(row));
    progress.step();
  }
  if (o.json)
    say(Json{{"model", source.name}, {"layers", rows}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  else
    say(as_text(table));
  return 0;
}

}  // namespace generate
