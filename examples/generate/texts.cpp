// SPDX-License-Identifier: MIT
#include "examples/generate/texts.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include <fmt/format.h>

#include "examples/common/inputs.hpp"
#include "examples/common/interrupt.hpp"
#include "examples/common/process_memory.hpp"
#include "examples/common/progress.hpp"
#include "examples/generate/commands.hpp"
#include "lowbit/gpt2/text_stream.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/lowbit.hpp"

namespace generate {

namespace gpt2 = lowbit::gpt2;

namespace {

// A text under way.
struct Job {
  std::size_t index;
  gpt2::Sequence sequence;
  gpt2::TextStream stream;
  std::size_t read = 0;  // tokens that went into the stream
};

const char* finish_words(const Job& job) {
  if (job.stream.stopped()) return "stop string";
  switch (job.sequence.finish()) {
    case gpt2::Finish::length: return "length";
    case gpt2::Finish::stop_token: return "stop token";
    default: return "interrupted";
  }
}

// Text `index`, before its first pass.
std::unique_ptr<Job> begin_job(const Loaded& model, const Source& source, const std::string& prompt, std::size_t index,
                               const Options& o) {
  std::vector<std::int32_t> ids = source.encode(prompt, o.special);
  if (ids.empty()) {
    lowbit::require(source.end_of_text.has_value(),
                    [] { return std::string("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with"); });
    ids.push_back(*source.end_of_text);
  }
  gpt2::GenerationOptions options = o.generation;
  options.sampling.seed += index;
  if (source.end_of_text && !o.ignore_end) options.stop_tokens.push_back(*source.end_of_text);
  return std::make_unique<Job>(
      Job{index, gpt2::Sequence(model.net.config, std::move(ids), options), gpt2::TextStream(o.stop_strings)});
}

// One pass of the model over all of them, clocked.
void advance_jobs(const Loaded& model, const Source& source, const std::vector<std::unique_ptr<Job>>& jobs,
                  lowbit::Executor& executor, Texts& result) {
  std::vector<gpt2::Sequence*> batch;
  std::size_t tokens = 0;
  for (const auto& job : jobs) {
    batch.push_back(&job->sequence);
    tokens += job->sequence.pending().size();
  }
  Speed& speed = tokens == batch.size() ? result.decode : result.prefill;
  const auto began = std::chrono::steady_clock::now();
  try {
    gpt2::advance(model.net, batch, executor);
  } catch (const lowbit::InvalidArgument& error) {  // logits that are not finite; of which sequence, it does not say
    const std::size_t from = jobs.front()->index + 1, to = jobs.back()->index + 1;
    lowbit::raise<lowbit::Error>(fmt::format(
        "{}: {}: {}: {}", source.name, model.kind->id,
        from == to ? fmt::format("prompt {}", from) : fmt::format("one of the prompts {} to {}", from, to), error.what()));
  }
  speed.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  speed.tokens += tokens;
  ++speed.passes;
}

}  // namespace

std::vector<std::string> prompts_of(const Options& o) {
  if (o.file.empty()) return o.prompts;
  std::string text = examples::read_plain_text(o.file == "-" ? "/dev/stdin" : o.file);
  if (!o.lines) {
    if (text.ends_with('\n')) text.pop_back();  // the one that every editor adds
    return {text};
  }
  std::vector<std::string> prompts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (!lowbit::io::is_blank(line)) prompts.push_back(std::move(line));
    at = end + 1;
  }
  if (prompts.empty()) lowbit::raise<lowbit::FormatError>(o.file.string() + ": expected a prompt a line, found no line");
  return prompts;
}

void warn_of_long_prompts(const Source& source, const std::vector<std::string>& prompts, const Options& o) {
  const std::size_t positions = source.parameters->config().positions;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    if (const std::size_t tokens = source.encode(prompts[i], o.special).size(); tokens > positions)
      complain("warning: prompt {} has {} tokens, of which the model reads the last {}, its positions", i + 1, tokens, positions);
}

Texts continue_prompts(const Loaded& model, const Source& source, const std::vector<std::string>& prompts, const Options& o,
                       lowbit::Executor& executor, const std::function<void(std::size_t, std::string_view)>& on_text) {
  Texts result;
  result.texts.resize(prompts.size());
  std::vector<std::unique_ptr<Job>> jobs;
  std::size_t next = 0;
  const auto give = [&](const Job& job, const std::string& piece) {
    result.texts[job.index].text += piece;
    if (on_text && !piece.empty()) on_text(job.index, piece);
  };
  const auto end = [&](Job& job) {
    give(job, job.stream.finish());
    Text& text = result.texts[job.index];
    text.tokens.assign(job.sequence.tokens().begin(), job.sequence.tokens().end());
    text.finish = finish_words(job);
  };
  // Pieces show how far it is, where somebody takes them.
  std::optional<examples::Progress> progress;
  if (!on_text) progress.emplace(std::string(model.kind->id) + ", texts", prompts.size());
  while (!examples::interrupted() && (next < prompts.size() || !jobs.empty())) {
    for (; next < prompts.size() && jobs.size() < o.batch; ++next) {
      jobs.push_back(begin_job(model, source, prompts[next], next, o));
      result.texts[next].prompt = prompts[next];
      result.texts[next].prompt_tokens = jobs.back()->sequence.prompt().size();
    }
    std::size_t bytes = 0;
    for (const auto& job : jobs) bytes += job->sequence.cache().resident_bytes();
    const bool is_peak = bytes > result.cache_bytes;
    result.cache_bytes = std::max(result.cache_bytes, bytes);
    advance_jobs(model, source, jobs, executor, result);
    for (const auto& job : jobs) {
      for (const auto tokens_so_far = job->sequence.tokens(); job->read < tokens_so_far.size(); ++job->read)
        give(*job, job->stream.push(source.tokenizer.decode(tokens_so_far.subspan(job->read, 1))));
      if (job->stream.stopped()) job->sequence.stop();
      if (job->sequence.done()) end(*job);
    }
    if (is_peak || std::any_of(jobs.begin(), jobs.end(), [](const auto& job) { return job->sequence.done(); }))
      result.process_bytes = std::max(result.process_bytes, examples::anonymous_bytes());  // nothing is less than any number
    const std::size_t ended = std::erase_if(jobs, [](const auto& job) { return job->sequence.done(); });
    if (progress) progress->step(ended, fmt::format(", {} tokens", result.prefill.tokens + result.decode.tokens));
  }
  for (const auto& job : jobs) end(*job);
  result.texts.resize(next);
  return result;
}

std::string words_of(const Texts& t) {
  return fmt::format("prefill {} tokens, {:.1f} tokens/s; decode {} tokens, {:.1f} tokens/s", t.prefill.tokens,
                     t.prefill.tokens_per_second(), t.decode.tokens, t.decode.tokens_per_second());
}
lowbit::io::Json settings_of(const Options& o) {
  const gpt2::SamplingOptions& s = o.generation.sampling;
  return {{"tokens", o.generation.max_tokens},
          {"temperature", s.temperature},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"repetition_window", s.repetition_window},
          {"seed", s.seed},
          {"stop", o.stop_strings},
          {"stop_tokens", o.generation.stop_tokens},
          {"special", o.special},
          {"ignore_end", o.ignore_end},
          {"batch", o.batch},
          {"cache", lowbit::format_name(o.generation.cache)}};
}
lowbit::io::Json json_of(const Speed& s) {
  return {{"tokens", s.tokens}, {"passes", s.passes}, {"seconds", s.seconds}, {"tokens_per_second", s.tokens_per_second()}};
}
lowbit::io::Json json_of(const Text& t) {
  return {{"prompt", t.prompt}, {"text", t.text}, {"prompt_tokens", t.prompt_tokens}, {"tokens", t.tokens}, {"finish", t.finish}};
}
lowbit::io::Json json_of(const Loaded& m) {
  const gpt2::MemoryReport memory = m.net.memory();
  const gpt2::Embedding& head = m.net.lm_head.rows() != 0 ? m.net.lm_head : m.net.token_embedding;
  return {{"format", m.kind->id},
          {"name", m.identity.name},
          {"settings", m.identity.settings},
          {"products", lowbit::to_string(m.net.plans().front())},
          {"head", lowbit::to_string(head.plan())},
          {"parameters", memory.parameters},
          {"resident_bytes", memory.resident_bytes},
          {"load_seconds", m.seconds}};
}

}  // namespace generate
