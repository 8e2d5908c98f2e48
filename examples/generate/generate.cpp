// SPDX-License-Identifier: MIT
// Continuing texts: of the command line, a file, or one after the other from a person; and the same texts with several formats.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "examples/common/interrupt.hpp"
#include "examples/common/process_memory.hpp"
#include "examples/common/table.hpp"
#include "examples/generate/commands.hpp"
#include "examples/generate/texts.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"

namespace generate {

namespace {

using lowbit::io::Json;

std::string dumped(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

int exit_code() { return examples::interrupted() ? examples::interrupted_exit_code() : 0; }

// A line of the terminal; nothing at the end of the input.
std::optional<std::string> read_line() {
  std::string line;
  for (int c; (c = std::fgetc(stdin)) != EOF;) {
    if (c == '\n') {
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    line += static_cast<char>(c);
  }
  return line.empty() ? std::nullopt : std::optional(line);
}

int converse(const Loaded& model, const Source& source, const Options& o, lowbit::Executor& executor) {
  for (;;) {
    std::fputs("> ", stderr);
    const std::optional<std::string> line = read_line();
    if (!line || examples::interrupted()) break;
    warn_of_long_prompts(source, {*line}, o);
    if (o.show_prompt) say(*line);
    const Texts texts =
        continue_prompts(model, source, {*line}, o, executor, [](std::size_t, std::string_view piece) { say(std::string(piece)); });
    say("\n");
    complain("{}", words_of(texts));
    if (examples::interrupted()) break;
  }
  return exit_code();
}

// How many tokens two texts have in common from the beginning on.
std::size_t common(const Text& a, const Text& b) {
  const std::size_t n = std::min(a.tokens.size(), b.tokens.size());
  return static_cast<std::size_t>(
      std::mismatch(a.tokens.begin(), a.tokens.begin() + static_cast<std::ptrdiff_t>(n), b.tokens.begin()).first -
      a.tokens.begin());
}

}  // namespace

int continue_texts(const Options& o) {
  const Source source = open_source(o);
  std::vector<std::string> prompts;
  if (!o.interactive) prompts = prompts_of(o);
  warn_of_long_prompts(source, prompts, o);
  examples::return_freed_buffers();
  const std::optional<std::size_t> before = examples::anonymous_bytes();
  const Loaded model = load(source, *kinds_of(o, source).front());
  lowbit::ThreadPool pool(o.threads);
  complain("{}: {}, {:.1f} MiB resident, loaded in {:.1f} s", source.name, model.identity.name,
           mib(model.net.memory().resident_bytes), model.seconds);
  if (o.interactive) return converse(model, source, o, pool);

  // One text is shown as it comes; several at once would mix.
  const bool streams = !o.json && prompts.size() == 1;
  if (streams && o.show_prompt) say(prompts.front());
  std::function<void(std::size_t, std::string_view)> on_text;
  if (streams) on_text = [](std::size_t, std::string_view piece) { say(std::string(piece)); };
  const Texts result = continue_prompts(model, source, prompts, o, pool, on_text);
  const Json growth = before && result.process_bytes ? Json(*result.process_bytes - *before) : Json();
  if (o.json) {
    Json texts = Json::array();
    for (const Text& t : result.texts) texts.push_back(json_of(t));
    say(dumped({{"model", source.name},
                {"level", lowbit::level_name(lowbit::active_level())},
                {"threads", o.threads},
                {"settings", settings_of(o)},
                {"format", json_of(model)},
                {"cache", {{"format", lowbit::format_name(o.generation.cache)}, {"bytes", result.cache_bytes}}},
                {"process_growth_bytes", growth},
                {"prefill", json_of(result.prefill)},
                {"decode", json_of(result.decode)},
                {"texts", texts}}));
  } else if (streams) {
    say("\n");
  } else {
    for (const Text& t : result.texts) say((o.show_prompt ? t.prompt : "") + t.text + "\n");
  }
  complain("{}; keys and values {:.1f} MiB", words_of(result), mib(result.cache_bytes));
  return exit_code();
}

int compare_formats(const Options& o) {
  const Source source = open_source(o);
  const std::vector<std::string> prompts = o.prompts.empty() && o.file.empty() ? std::vector<std::string>{""} : prompts_of(o);
  warn_of_long_prompts(source, prompts, o);
  lowbit::ThreadPool pool(o.threads);
  examples::Table table;
  table.title = fmt::format("{}: {} prompts, at most {} tokens each, {} threads", source.name, prompts.size(),
                            o.generation.max_tokens, o.threads);
  table.head = {"format", "resident MiB", "prefill tokens/s", "decode tokens/s", "against the first", "tokens in common"};
  table.note = "Tokens in common: from the beginning of a text to where it parts from the first format's, of that one's.";
  Json formats = Json::array();
  std::optional<Texts> first;
  for (const examples::ModelKind* kind : kinds_of(o, source)) {
    const Loaded model = load(source, *kind);
    Options warm = o;
    warm.generation.max_tokens = 2;
    continue_prompts(model, source, {prompts.front()}, warm, pool);
    Texts result = continue_prompts(model, source, prompts, o, pool);
    if (examples::interrupted()) break;
    if (!first) first = result;
    std::size_t shared = 0, all = 0;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      shared += common(first->texts[i], result.texts[i]);
      all += first->texts[i].tokens.size();
    }
    const double faster =
        first->decode.tokens_per_second() == 0 ? 0 : result.decode.tokens_per_second() / first->decode.tokens_per_second();
    table.rows.push_back({model.identity.name, fmt::format("{:.1f}", mib(model.net.memory().resident_bytes)),
                          fmt::format("{:.1f}", result.prefill.tokens_per_second()),
                          fmt::format("{:.1f}", result.decode.tokens_per_second()), fmt::format("{:.2f}", faster),
                          fmt::format("{} of {}", shared, all)});
    Json texts = Json::array();
    for (const Text& t : result.texts) texts.push_back(json_of(t));
    Json entry = json_of(model);
    entry.update({{"prefill", json_of(result.prefill)},
                  {"decode", json_of(result.decode)},
                  {"decode_against_first", faster},
                  {"tokens_in_common", shared},
                  {"tokens_of_first", all},
                  {"texts", texts}});
    formats.push_back(std::move(entry));
  }
  if (o.json)
    say(dumped({{"model", source.name},
                {"level", lowbit::level_name(lowbit::active_level())},
                {"threads", o.threads},
                {"settings", settings_of(o)},
                {"formats", formats}}));
  else if (!table.rows.empty())
    say(as_text(table));
  return exit_code();
}

}  // namespace generate
