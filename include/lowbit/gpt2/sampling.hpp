// SPDX-License-Identifier: MIT
// From logits to a token: greedy, or drawn from what temperature, top-k, top-p, min-p and the repetition penalty leave, in that
// order but for the penalty, which comes first: the rules and order of transformers' logits processors.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lowbit/base/error.hpp"
#include "lowbit/base/float_environment.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// How the next token is drawn: penalty, temperature, top-k, top-p, min-p, in this order.
struct SamplingOptions {
  double temperature = 0;             // logits are divided by it; 0: greedy, the largest logit, of equal ones the smallest id
  std::size_t top_k = 0;              // the k largest; 0: all
  double top_p = 1;                   // the fewest likeliest tokens that together have this probability; 0 < p <= 1
  double min_p = 0;                   // those at least this likely, as a share of the likeliest; 0 <= p <= 1
  double repetition_penalty = 1;      // logits of tokens seen before are divided by it, negative ones multiplied; above 0
  std::size_t repetition_window = 0;  // only the last so many tokens count as seen; 0: all
  std::uint64_t seed = 0;             // of the draws
};

// Throws InvalidArgument that names the option, what it may be and what it is.
inline void check(const SamplingOptions& o) {
  const auto expect = [](bool holds, const char* name, const char* range, double found) {
    require(holds, [&] { return std::string("sampling: ") + name + ": expected " + range + ", found " + decimal(found); });
  };
  expect(o.temperature >= 0 && std::isfinite(o.temperature), "temperature", "a number from 0 on", o.temperature);
  expect(o.top_p > 0 && o.top_p <= 1, "top_p", "more than 0 and at most 1", o.top_p);
  expect(o.min_p >= 0 && o.min_p <= 1, "min_p", "0 to 1", o.min_p);
  expect(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "repetition_penalty", "more than 0",
         o.repetition_penalty);
}

// One sequence's.  The same options, logits and order of calls give the same tokens.
class Sampler {
 public:
  // A token that may be drawn.
  struct Candidate {
    std::int32_t id;     // the token
    double probability;  // after all filters; those of all candidates sum to 1
  };

  // Throws InvalidArgument as check().
  explicit Sampler(const SamplingOptions& options = {}) : options_(options), state_(options.seed) { check(options); }

  // A token's id, from the logits [vocab] of the next one; seen: the tokens before it.  Throws InvalidArgument if there is none
  // above -infinity, or one is NaN or infinity.
  std::int32_t next(std::span<const float> logits, std::span<const std::int32_t> seen = {}) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    if (options_.temperature == 0) return largest(penalized(logits, seen));
    const std::vector<Candidate>& from = candidates(logits, seen);
    const double drawn = uniform();
    double below = 0;
    for (const Candidate& c : from)
      if (drawn < (below += c.probability)) return c.id;
    return from.back().id;  // roundings left the sum below 1
  }

  // What next() draws from, the likeliest first, of equal ones the smallest id; valid until the next call.  Temperature must not be
  // 0.  Tokens e^-32 (1e-14) times as likely as the likeliest, or less, are left out.
  const std::vector<Candidate>& candidates(std::span<const float> logits, std::span<const std::int32_t> seen = {}) {
    const lowbit::detail::DefaultFloatEnvironment environment;
    const std::span<const float> scores = penalized(logits, seen);
    const double top = static_cast<double>(scores[static_cast<std::size_t>(largest(scores))]);
    constexpr double most_apart = 32;
    const auto lowest = static_cast<float>(top - most_apart * options_.temperature);
    candidates_.clear();
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (scores[i] >= lowest)
        candidates_.push_back({static_cast<std::int32_t>(i), (static_cast<double>(scores[i]) - top) / options_.temperature});
    const auto likelier = [](const Candidate& a, const Candidate& b) {
      return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
    };
    if (options_.top_k != 0 && options_.top_k < candidates_.size()) {
      std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(options_.top_k), candidates_.end(),
                       likelier);
      candidates_.resize(options_.top_k);
    }
    std::sort(candidates_.begin(), candidates_.end(), likelier);
    for (Candidate& c : candidates_) c.probability = std::exp(c.probability);  // of the likeliest: 1
    if (options_.top_p < 1) keep_top_p();
    const auto unlikely =
        std::find_if(candidates_.begin(), candidates_.end(), [&](const Candidate& c) { return c.probability < options_.min_p; });
    candidates_.erase(unlikely, candidates_.end());
    const double sum = total();
    for (Candidate& c : candidates_) c.probability /= sum;
    return candidates_;
  }

 private:
  std::span<const float> penalized(std::span<const float> logits, std::span<const std::int32_t> seen) {
    require(!logits.empty(), [] { return std::string("sampling: there are no logits"); });
    if (options_.repetition_penalty == 1) return logits;
    if (options_.repetition_window != 0 && seen.size() > options_.repetition_window) seen = seen.last(options_.repetition_window);
    scores_.assign(logits.begin(), logits.end());
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    for (const std::int32_t id : seen) {
      const auto i = static_cast<std::size_t>(id);
      if (i < scores_.size()) scores_[i] = logits[i] < 0 ? logits[i] * penalty : logits[i] / penalty;  // once, however often seen
    }
    return scores_;
  }
  static std::int32_t largest(std::span<const float> scores) {
    constexpr std::uint32_t infinity = 0x7F800000u, magnitude = 0x7FFFFFFFu;  // as bits, which fast-math leaves alone
    std::size_t best = 0;
    bool usable = true;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(scores[i]);
      usable &= bits != infinity && (bits & magnitude) <= infinity;
      if (scores[i] > scores[best]) best = i;
    }
    require(usable && (std::bit_cast<std::uint32_t>(scores[best]) & magnitude) != infinity,
            [] { return std::string("sampling: a logit is NaN or infinity, or all are -infinity"); });
    return static_cast<std::int32_t>(best);
  }
  double total() const {
    double sum = 0;
    for (const Candidate& c : candidates_) sum += c.probability;
    return sum;
  }
  void keep_top_p() {
    const double enough = options_.top_p * total();
    double sum = 0;
    std::size_t kept = 0;
    while (kept < candidates_.size() && sum < enough) sum += candidates_[kept++].probability;
    candidates_.resize(kept);
  }
  // 0 <= u < 1, of 53 bits: SplitMix64, the same on every system.
  double uniform() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

  SamplingOptions options_;
  std::uint64_t state_;
  std::vector<float> scores_;
  std::vector<Candidate> candidates_;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
