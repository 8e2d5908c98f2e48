// SPDX-License-Identifier: MIT
// Sampling against a plain oracle, text as it comes, and sequences that a model continues.
#include "lowbit/gpt2/generation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/gpt2/text_stream.hpp"
#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/gpt2_models.hpp"
#include "support/io_files.hpp"

namespace generation_test {

using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::InvalidArgument;
using lowbit::ThreadPool;
using lowbit::gpt2::Finish;
using lowbit::gpt2::GenerationOptions;
using lowbit::gpt2::Sampler;
using lowbit::gpt2::SamplingOptions;
using lowbit::gpt2::Sequence;
using lowbit::gpt2::TextStream;

// ---- sampling ----

// The probabilities [vocab] that a draw must follow: each rule by itself on the whole vocabulary, in double, with a softmax after each.
std::vector<double> oracle(const SamplingOptions& o, const std::vector<float>& logits, const Ids& seen) {
  const std::size_t n = logits.size();
  std::vector<double> score(logits.begin(), logits.end());
  const std::size_t first = o.repetition_window == 0 || seen.size() < o.repetition_window ? 0 : seen.size() - o.repetition_window;
  for (const std::int32_t id : std::set<std::int32_t>(seen.begin() + static_cast<std::ptrdiff_t>(first), seen.end())) {
    double& s = score[static_cast<std::size_t>(id)];
    s = s < 0 ? s * o.repetition_penalty : s / o.repetition_penalty;
  }
  for (double& s : score) s /= o.temperature;
  std::vector<bool> kept(n, true);
  const auto probabilities = [&] {
    std::vector<double> p(n, 0.0);
    double largest = -1e300, sum = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (kept[i]) largest = std::max(largest, score[i]);
    for (std::size_t i = 0; i < n; ++i) sum += p[i] = kept[i] ? std::exp(score[i] - largest) : 0.0;
    for (double& v : p) v /= sum;
    return p;
  };
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return score[a] != score[b] ? score[a] > score[b] : a < b; });
  if (o.top_k != 0)
    for (std::size_t i = o.top_k; i < n; ++i) kept[order[i]] = false;
  std::vector<double> p = probabilities();
  double sum = 0;
  for (const std::size_t i : order) {
    if (sum >= o.top_p) kept[i] = false;
    sum += p[i];
  }
  p = probabilities();
  const double largest = *std::max_element(p.begin(), p.end());
  for (std::size_t i = 0; i < n; ++i)
    if (p[i] < o.min_p * largest) kept[i] = false;
  return probabilities();
}

std::vector<float> some_logits(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

TEST_CASE("Sampling: what each rule leaves, and how likely", "[sampling]") {
  const std::vector<float> logits = some_logits(200, 1);
  const Ids seen = {3, 7, 7, 150, 199, 3};
  std::vector<SamplingOptions> cases(1);
  const auto add = [&](auto change) {
    SamplingOptions o;
    change(o);
    cases.push_back(o);
  };
  for (const double t : {0.3, 0.7, 1.0, 2.0}) {
    add([&](auto& o) { o.temperature = t; });
    add([&](auto& o) { o.temperature = t, o.top_k = 5; });
    add([&](auto& o) { o.temperature = t, o.top_k = 1; });
    add([&](auto& o) { o.temperature = t, o.top_k = 1000; });
    add([&](auto& o) { o.temperature = t, o.top_p = 0.9; });
    add([&](auto& o) { o.temperature = t, o.top_p = 1e-9; });
    add([&](auto& o) { o.temperature = t, o.min_p = 0.05; });
    add([&](auto& o) { o.temperature = t, o.min_p = 1; });
    add([&](auto& o) { o.temperature = t, o.repetition_penalty = 1.5; });
    add([&](auto& o) { o.temperature = t, o.repetition_penalty = 0.5, o.repetition_window = 2; });
    add([&](auto& o) { o.temperature = t, o.top_k = 40, o.top_p = 0.8, o.min_p = 0.1, o.repetition_penalty = 1.3; });
  }
  for (SamplingOptions o : cases) {
    if (o.temperature == 0) continue;  // the default
    CAPTURE(o.temperature, o.top_k, o.top_p, o.min_p, o.repetition_penalty, o.repetition_window);
    const std::vector<double> expected = oracle(o, logits, seen);
    Sampler sampler(o);
    std::vector<double> found(logits.size(), 0.0);
    double before = 2;
    for (const Sampler::Candidate& c : sampler.candidates(logits, seen)) {
      CHECK(c.probability <= before);
      before = c.probability;
      found[static_cast<std::size_t>(c.id)] = c.probability;
    }
    CHECK(largest_difference(found, expected) < 1e-6);  // of which 1e-7 is the penalty's, in float
    const double least = std::exp(-32.0) * *std::max_element(expected.begin(), expected.end());
    std::size_t differ = 0;
    for (std::size_t i = 0; i < found.size(); ++i) differ += (found[i] > 0) != (expected[i] > least);
    CHECK(differ == 0);

    // 4,000 draws: a share p is off by five of its deviations, sqrt(p (1 - p) / n), once in a million.
    constexpr std::size_t n = 4'000;
    std::vector<double> share(logits.size(), 0.0);
    for (std::size_t i = 0; i < n; ++i) share[static_cast<std::size_t>(sampler.next(logits, seen))] += 1.0 / n;
    double deviations = 0;
    for (std::size_t i = 0; i < share.size(); ++i) {
      const double deviation = std::sqrt(expected[i] * (1 - expected[i]) / n) + 0.2 / n;  // the rare ones come once or not at all
      deviations = std::max(deviations, std::fabs(share[i] - expected[i]) / deviation);
    }
    CHECK(deviations <= 5);
  }
}

TEST_CASE("Sampling: greedy, ties, penalties by hand", "[sampling]") {
  CHECK(Sampler().next(std::vector<float>{1, 3, 3, 2}) == 1);
  CHECK(Sampler().next(std::vector<float>{-1, -3}) == 0);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(Sampler().next(std::vector<float>{-infinity, -3}) == 1);
  SamplingOptions drawn;
  drawn.temperature = 1;
  CHECK(Sampler(drawn).next(std::vector<float>{-infinity, -3, -infinity}) == 1);
  SamplingOptions o;
  o.repetition_penalty = 2;
  // 4 / 2 = 2 < 3; -1 * 2 = -2 < -1.5.  Twice seen is once punished: 4 / 4 would lose against 1.5 too.
  CHECK(Sampler(o).next(std::vector<float>{4, 3}, Ids{0}) == 1);
  CHECK(Sampler(o).next(std::vector<float>{-1, -1.5f}, Ids{0}) == 1);
  CHECK(Sampler(o).next(std::vector<float>{4, 1.5f}, Ids{0, 0}) == 0);
  o.repetition_window = 1;
  CHECK(Sampler(o).next(std::vector<float>{4, 3}, Ids{0, 1}) == 0);
}

TEST_CASE("Sampling: a seed gives the same draws, another one others", "[sampling]") {
  const std::vector<float> logits = some_logits(1000, 2);
  const auto draws = [&](std::uint64_t seed) {
    SamplingOptions o;
    o.temperature = 1;
    o.seed = seed;
    Sampler sampler(o);
    Ids ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.next(logits));
    return ids;
  };
  CHECK(draws(7) == draws(7));
  CHECK(draws(7) != draws(8));
}

TEST_CASE("Sampling: options and logits that make no sense are refused", "[sampling]") {
  const auto refused = [](auto change, std::string_view name) {
    SamplingOptions o;
    change(o);
    return unsaid<InvalidArgument>([&] { Sampler sampler(o); }, {"sampling", name, "expected", "found"});
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-0.1, nan, std::numeric_limits<double>::infinity()}) {
    CHECK(refused([&](auto& o) { o.temperature = bad; }, "temperature") == "");
    CHECK(refused([&](auto& o) { o.top_p = bad; }, "top_p") == "");
    CHECK(refused([&](auto& o) { o.min_p = bad; }, "min_p") == "");
    CHECK(refused([&](auto& o) { o.repetition_penalty = bad; }, "repetition_penalty") == "");
  }
  CHECK(refused([](auto& o) { o.top_p = 0; }, "top_p") == "");
  CHECK(refused([](auto& o) { o.repetition_penalty = 0; }, "repetition_penalty") == "");
  CHECK(unsaid<InvalidArgument>([] { Sampler().next(std::vector<float>{1, std::nanf(""), 2}); }, {"NaN"}) == "");
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions o;
    o.temperature = temperature;
    CHECK(unsaid<InvalidArgument>([&] { Sampler(o).next(std::vector<float>{1, infinity}); }, {"infinity"}) == "");
    CHECK(unsaid<InvalidArgument>([&] { Sampler(o).next(std::vector<float>{-infinity, -infinity}); }, {"infinity"}) == "");
  }
  CHECK(unsaid<InvalidArgument>([] { Sampler().next(std::vector<float>{}); }, {"no logits"}) == "");
}

// ---- text as it comes ----

// All that comes of bytes in pieces of `size`; every piece must be well-formed by itself.
std::string in_pieces(const std::string& bytes, std::size_t size, std::vector<std::string> stops = {}) {
  TextStream stream(std::move(stops));
  std::string text;
  const auto take = [&](const std::string& piece) {
    for (std::size_t at = 0; at < piece.size();) {
      const auto c = lowbit::gpt2::first_character(std::string_view(piece).substr(at));
      CHECK(c.code_point >= 0);
      at += c.bytes;
    }
    text += piece;
  };
  for (std::size_t at = 0; at < bytes.size() && !stream.stopped(); at += size) take(stream.push(bytes.substr(at, size)));
  take(stream.finish());
  return text;
}

TEST_CASE("TextStream: whole characters, whatever the pieces", "[text_stream]") {
  const std::string text = "na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x98\x80!";
  for (std::size_t size = 1; size <= text.size(); ++size) CHECK(in_pieces(text, size) == text);
  TextStream stream;
  CHECK(stream.push("a\xF0\x9F") == "a");
  CHECK(stream.push("\x98") == "");
  CHECK(stream.push("\x80z") == "\xF0\x9F\x98\x80z");
  CHECK(stream.finish() == "");
}

TEST_CASE("TextStream: what is no UTF-8 becomes U+FFFD", "[text_stream]") {
  const std::string bad = "\xEF\xBF\xBD";
  for (std::size_t size = 1; size <= 4; ++size) {
    CAPTURE(size);
    CHECK(in_pieces("a\x80"
                    "b",
                    size) == "a" + bad + "b");
    CHECK(in_pieces("a\xFF\xFE", size) == "a" + bad + bad);
    CHECK(in_pieces("a\xE6\x97", size) == "a" + bad);                     // cut at the end: one
    CHECK(in_pieces("\xE6\x97z", size) == bad + bad + "z");               // never completed
    CHECK(in_pieces("\xC0\x80", size) == bad + bad);                      // overlong
    CHECK(in_pieces("\xED\xA0\x80", size) == bad + bad + bad);            // a surrogate
    CHECK(in_pieces("\xF4\x90\x80\x80", size) == bad + bad + bad + bad);  // above U+10FFFF
    CHECK(in_pieces("\xE0\xA0\x80", size) == "\xE0\xA0\x80");             // the lowest of three bytes
  }
  // Nothing waits for bytes that cannot help.
  TextStream stream;
  CHECK(stream.push("\xED\xA0") == bad + bad);
  CHECK(stream.push("\xF5") == bad);
}

TEST_CASE("TextStream: stop strings end the text and are never shown in part", "[text_stream]") {
  for (std::size_t size = 1; size <= 12; ++size) {
    CAPTURE(size);
    CHECK(in_pieces("one two three", size, {"two"}) == "one ");
    CHECK(in_pieces("one two three", size, {"three", "two"}) == "one ");
    CHECK(in_pieces("one tw", size, {"two"}) == "one tw");  // it never came
    CHECK(in_pieces("aaab", size, {"aab"}) == "a");
    CHECK(in_pieces("x\xE6\x97\xA5y", size, {"\xE6\x97\xA5"}) == "x");
    CHECK(in_pieces("stop", size, {"stop"}) == "");
  }
  TextStream stream({"END", "\n\n"});
  CHECK(stream.push("abcEN") == "abc");
  CHECK(stream.push("\n") == "EN");
  CHECK(stream.push("d") == "\nd");
  CHECK_FALSE(stream.stopped());
  CHECK(stream.push("\n\nEND") == "");
  CHECK(stream.stopped());
  CHECK(stream.push("more") == "");
  CHECK(unsaid<InvalidArgument>([] { TextStream({"a", ""}); }, {"stop string"}) == "");
}

// ---- sequences ----

Ids generated(const Transformer& m, const Ids& prompt, const GenerationOptions& o, lowbit::Executor& executor = serial) {
  Sequence s(m.config, prompt, o);
  Sequence* const batch[] = {&s};
  while (!s.done()) lowbit::gpt2::advance(m, batch, executor);
  return {s.tokens().begin(), s.tokens().end()};
}

TEST_CASE("Sequence: greedy tokens are those of whole passes, also beyond the model's positions", "[sequence]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  const auto m = Model<DenseTensor<float>>::load(c.write(folder.path()));
  const std::size_t positions = m.config.positions, vocab = m.config.vocab, count = 3 * positions + 5;
  REQUIRE(positions >= 8);
  Ids prompt = tiny_rows()[0];
  prompt.resize(3);
  GenerationOptions o;
  o.max_tokens = count;
  Ids ids = prompt;
  std::size_t begin = 0;
  while (ids.size() < prompt.size() + count) {
    if (ids.size() - begin > positions) begin = ids.size() - positions / 2;
    const auto logits = language_logits(m, Ids(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end()));
    ids.push_back(static_cast<std::int32_t>(argmax(std::span(logits).last(vocab))));
  }
  CHECK(generated(m, prompt, o) == Ids(ids.begin() + 3, ids.end()));

  // Of a long prompt the last positions count.
  Ids longer(2 * positions, 1);
  longer.insert(longer.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(positions));
  o.max_tokens = 1;
  CHECK(generated(m, longer, o) == generated(m, Ids(longer.end() - static_cast<std::ptrdiff_t>(positions), longer.end()), o));

  // Memory is that of the positions, however long the text.
  o.max_tokens = 10'000;
  Sequence s(m.config, prompt, o);
  const std::size_t bytes = s.cache().resident_bytes();
  CHECK(bytes == lowbit::gpt2::KvCache(m.config, positions).resident_bytes());
  Sequence* const batch[] = {&s};
  while (!s.done()) lowbit::gpt2::advance(m, batch, serial);
  CHECK(s.tokens().size() == 10'000);
  CHECK(s.cache().resident_bytes() == bytes);
}

TEST_CASE("Sequence: a batch gives each text what it gets alone", "[sequence]") {
  const auto m = Model<DenseTensor<float>>::load(mini_folder);
  ThreadPool three(3);
  std::vector<Ids> prompts = short_items(5);
  std::vector<GenerationOptions> options(prompts.size());
  std::vector<Ids> alone;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    options[i].max_tokens = 4 + 3 * i;
    options[i].sampling.temperature = i % 2 == 0 ? 0 : 0.9;
    options[i].sampling.repetition_penalty = 1.2;
    options[i].sampling.seed = i;
    options[i].cache = i == 3 ? Format::int8 : Format::f32;
    alone.push_back(generated(m, prompts[i], options[i]));
    CHECK(alone.back().size() == options[i].max_tokens);
  }
  std::vector<Sequence> sequences;
  for (std::size_t i = 0; i < prompts.size(); ++i) sequences.emplace_back(m.config, prompts[i], options[i]);
  for (std::size_t round = 0;; ++round) {
    std::vector<Sequence*> batch;
    for (std::size_t i = 0; i < sequences.size(); ++i)
      if (!sequences[i].done() && round >= 2 * i) batch.push_back(&sequences[i]);
    if (batch.empty()) break;
    lowbit::gpt2::advance(m, batch, three);
  }
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    CHECK(Ids(sequences[i].tokens().begin(), sequences[i].tokens().end()) == alone[i]);
    CHECK(Ids(sequences[i].prompt().begin(), sequences[i].prompt().end()) == prompts[i]);
    CHECK(sequences[i].finish() == Finish::length);
  }
}

TEST_CASE("Sequence: where it ends", "[sequence]") {
  const auto m = Model<DenseTensor<float>>::load(mini_folder);
  const Ids prompt = short_items(1)[0];
  GenerationOptions o;
  o.max_tokens = 6;
  o.sampling.repetition_penalty = 1.5;  // this model repeats itself otherwise
  const Ids all = generated(m, prompt, o);
  const auto first = static_cast<std::size_t>(std::find(all.begin(), all.end(), all[3]) - all.begin());
  o.stop_tokens = {-1, all[3]};
  CHECK(generated(m, prompt, o) == Ids(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first)));
  Sequence s(m.config, prompt, o);
  Sequence* const batch[] = {&s};
  while (!s.done()) lowbit::gpt2::advance(m, batch, serial);
  CHECK(s.finish() == Finish::stop_token);
  CHECK(unsaid<InvalidArgument>([&] { lowbit::gpt2::advance(m, batch, serial); }, {"is done"}) == "");
  o.max_tokens = 0;
  CHECK(generated(m, prompt, o).empty());
  CHECK(unsaid<InvalidArgument>([&] { Sequence(m.config, {}, o); }, {"no tokens"}) == "");
  o.max_tokens = 1;
  CHECK(unsaid<InvalidArgument>([&] { generated(m, {99'999}, o); }, {"99999", "vocabulary"}) == "");
}

}  // namespace generation_test
