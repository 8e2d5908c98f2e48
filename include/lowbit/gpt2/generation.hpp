// SPDX-License-Identifier: MIT
// Generating text: sequences that a model continues, token by token, many in one pass.  Which sequences take part is said anew for
// every pass, so they come and go.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/gpt2/kv_cache.hpp"
#include "lowbit/gpt2/sampling.hpp"
#include "lowbit/gpt2/transformer.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// How a text is made.
struct GenerationOptions {
  SamplingOptions sampling = {};               // how the next token is drawn
  std::size_t max_tokens = 128;                // at most so many beside the prompt
  std::vector<std::int32_t> stop_tokens = {};  // end the text and are no part of it
  Format cache = Format::f32;                  // see KvCache
};

// Why a text ended: not yet, max_tokens, one of stop_tokens, stop().
enum class Finish { none, length, stop_token, stopped };

// One text and where it stands.  Move-only.
//
// Positions: the first token of the prompt has position 0.  When all of the model's positions are taken, the sequence begins anew
// with its last positions / 2 tokens (at least one), the first of them at position 0, which one pass over them computes again.  So a
// text can be of any length, memory stays what it was at the beginning, and every token comes from a pass that the model was trained
// for.  Of a prompt with more tokens than the model has positions, only the last ones are read.
class Sequence {
 public:
  // Throws InvalidArgument if the prompt is empty, or an option is out of its range.
  Sequence(const Config& config, std::vector<std::int32_t> prompt, const GenerationOptions& options)
      : prompt_tokens_(prompt.size()), ids_(std::move(prompt)), options_(options), sampler_(options.sampling) {
    require(!ids_.empty(), [] { return std::string("generation: the prompt has no tokens"); });
    const std::size_t positions = config.positions;
    begin_ = ids_.size() - (std::min)(ids_.size(), positions);
    const std::size_t length = ids_.size() - begin_;
    // The last token is never fed.
    const std::size_t more = options.max_tokens == 0 ? 0 : options.max_tokens - 1;
    cache_ = KvCache(config, more < positions - length ? length + more : positions, options.cache);
    if (options.max_tokens == 0) finish_ = Finish::length;
  }

  Finish finish() const { return finish_; }              // why it ended
  bool done() const { return finish_ != Finish::none; }  // whether it ended
  void stop() { finish_ = Finish::stopped; }             // whoever reads the text has seen enough
  std::span<const std::int32_t> prompt() const { return std::span(ids_).first(prompt_tokens_); }    // as it was given
  std::span<const std::int32_t> tokens() const { return std::span(ids_).subspan(prompt_tokens_); }  // so far
  const KvCache& cache() const { return cache_; }                                                   // its keys and values
  // The tokens that the next pass will read: the prompt, later the last token, or where the sequence begins anew half of the
  // positions.
  std::span<const std::int32_t> pending() const {
    const std::size_t read = begin_ + cache_.length();
    return cache_.length() == cache_.capacity() ? std::span(ids_).last((std::max)(cache_.capacity() / 2, std::size_t{1}))
                                                : std::span(ids_).subspan(read);
  }

 private:
  friend void advance(const Transformer& model, std::span<Sequence* const> sequences, Executor& executor);
  KvCache* prepared() {
    if (cache_.length() == cache_.capacity()) {
      begin_ = ids_.size() - pending().size();
      cache_.truncate(0);
    }
    return &cache_;
  }
  void take(std::span<const float> logits) {
    const std::int32_t id = sampler_.next(logits, ids_);
    if (std::find(options_.stop_tokens.begin(), options_.stop_tokens.end(), id) != options_.stop_tokens.end()) {
      finish_ = Finish::stop_token;
      return;
    }
    ids_.push_back(id);
    if (tokens().size() == options_.max_tokens) finish_ = Finish::length;
  }

  std::size_t prompt_tokens_, begin_ = 0;  // ids_[begin_] has position 0
  std::vector<std::int32_t> ids_;
  GenerationOptions options_;
  Sampler sampler_;
  KvCache cache_;
  Finish finish_ = Finish::none;
};

// Gives every sequence one token more, or its end, in one pass of the model.  None may be done or be there twice; a sequence's tokens
// do not depend on the others.  Throws InvalidArgument if so, and as Transformer::next_logits() and Sampler::next(); ids that are
// outside the vocabulary are refused there.
inline void advance(const Transformer& model, std::span<Sequence* const> sequences, Executor& executor) {
  struct Buffers {
    AlignedBuffer<float> logits;
    std::vector<std::int32_t> ids;
    std::vector<std::size_t> offsets;
    std::vector<KvCache*> caches;
  };
  const lowbit::detail::PerThread<Buffers> buffers;
  Buffers& b = *buffers;
  b.ids.clear();
  b.offsets.assign(1, 0);
  b.caches.clear();
  for (Sequence* s : sequences) {
    require(!s->done(), [] { return std::string("generation: a sequence of the batch is done"); });
    const std::span<const std::int32_t> pending = s->pending();
    b.ids.insert(b.ids.end(), pending.begin(), pending.end());
    b.offsets.push_back(b.ids.size());
    b.caches.push_back(s->prepared());
  }
  const std::size_t vocab = model.config.vocab;
  b.logits.grow(checked_mul(sequences.size(), vocab, "logits"));
  const std::span<float> logits = b.logits.span().first(sequences.size() * vocab);
  model.next_logits(b.ids, b.offsets, b.caches, logits, executor);
  for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i]->take(logits.subspan(i * vocab, vocab));
}

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
