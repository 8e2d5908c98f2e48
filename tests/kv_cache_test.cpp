// SPDX-License-Identifier: MIT
// Rows that go on from a cache: the same bits as whole rows, however they are cut, beside whatever others, on any number of threads.
#include "lowbit/gpt2/kv_cache.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/gpt2_models.hpp"
#include "support/io_files.hpp"

namespace kv_cache_test {

using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::InvalidArgument;
using lowbit::ThreadPool;
using lowbit::gpt2::Config;
using lowbit::gpt2::KvCache;

constexpr std::array cache_formats = {Format::f32, Format::bf16, Format::int8};

Config shape(std::size_t heads, std::size_t width, std::size_t positions) {
  Config c;
  c.layers = 2;
  c.heads = heads;
  c.width = width;
  c.positions = positions;
  return c;
}

// What the cache keeps of n floats that share a scale, by plain arithmetic.
void round_as(Format format, float* x, std::size_t n) {
  float absmax = 0;
  for (std::size_t i = 0; i < n; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const float scale = absmax / 127.0f;
  for (std::size_t i = 0; i < n; ++i) {
    if (format == Format::bf16) x[i] = lowbit::to_float(lowbit::to_bfloat16(x[i]));
    if (format == Format::int8) x[i] = scale == 0 ? 0.0f : std::nearbyint(x[i] / scale) * scale;
  }
}

// How far attention of token t over rounded keys and values may be from attention over what was rounded, by row of the result.  A score
// moves by at most d, so a weight by a factor of at most exp(2 d) either way.
std::vector<double> cache_bound(const std::vector<float>& qkv, std::size_t t, std::size_t heads, std::size_t depth, Format format) {
  const std::size_t c = heads * depth;
  std::vector<double> bound(c);
  for (std::size_t h = 0; h < heads; ++h) {
    const float* const q = qkv.data() + t * 3 * c + h * depth;
    const auto row = [&](std::size_t j, std::size_t part) { return qkv.data() + j * 3 * c + part * c + h * depth; };
    // bfloat16: half a unit of 8 bits; int8: half a step.  The last factor is for the roundings in finding the step.
    const auto rounding = [&](const float* x, std::size_t i) {
      if (format == Format::bf16) return std::fabs(double{x[i]}) / 256;
      double absmax = 0;
      for (std::size_t n = 0; n < depth; ++n) absmax = std::max(absmax, std::fabs(double{x[n]}));
      return absmax / 254 * (1 + 1e-5);
    };
    std::vector<double> weight(t + 1);
    double d = 0, sum = 0;
    for (std::size_t j = 0; j <= t; ++j) {
      double score = 0, moved = 0;
      for (std::size_t i = 0; i < depth; ++i) {
        score += double{q[i]} * row(j, 1)[i];
        moved += std::fabs(double{q[i]}) * rounding(row(j, 1), i);
      }
      d = std::max(d, moved / std::sqrt(static_cast<double>(depth)));
      sum += weight[j] = std::exp(score / std::sqrt(static_cast<double>(depth)));
    }
    for (std::size_t i = 0; i < depth; ++i)
      for (std::size_t j = 0; j <= t; ++j)
        bound[h * depth + i] +=
            weight[j] / sum * (std::expm1(2 * d) * std::fabs(double{row(j, 2)[i]}) + std::exp(2 * d) * rounding(row(j, 2), i));
  }
  return bound;
}

TEST_CASE("KvCache: what rounding keys and values moves is within its derived bound", "[kv_cache]") {
  std::mt19937 random(12);
  std::normal_distribution<float> normal;
  constexpr std::size_t heads = 3, depth = 64, positions = 70, c = heads * depth;
  std::vector<float> qkv(positions * 3 * c);
  for (float& v : qkv) v = normal(random);
  const std::size_t all[] = {0, positions};
  std::vector<float> exact(positions * c), rounded(exact.size());
  lowbit::gpt2::attention(qkv.data(), all, heads, c, exact.data(), serial);
  for (const Format format : {Format::bf16, Format::int8}) {
    KvCache cache(shape(heads, c, positions), positions, format);
    KvCache* const caches[] = {&cache};
    lowbit::gpt2::attention(qkv.data(), all, caches, 0, heads, c, rounded.data(), serial);
    double largest = 0;
    for (std::size_t t = 0; t < positions; ++t) {
      const std::vector<double> bound = cache_bound(qkv, t, heads, depth, format);
      for (std::size_t i = 0; i < c; ++i)
        largest =
            std::max(largest, std::fabs(double{rounded[t * c + i]} - exact[t * c + i]) / (bound[i] + 1e-5));  // float's own sums
    }
    CAPTURE(lowbit::format_name(format), largest);
    CHECK(largest <= 1);
    CHECK(largest > 0.05);  // the bound is within 20 times of what is found
  }
}

TEST_CASE("KvCache: attention over it is attention over what it keeps, every level", "[kv_cache]") {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const auto& [heads, depth, positions] :
       {std::array<std::size_t, 3>{2, 64, 150}, {3, 20, 37}, {1, 5, 16}, {2, 80, 17}, {1, 1, 2}, {4, 16, 1}}) {
    const std::size_t c = heads * depth;
    std::vector<float> qkv(positions * 3 * c);
    for (float& v : qkv) v = normal(random);
    std::fill_n(qkv.begin() + static_cast<std::ptrdiff_t>(c), depth, 0.0f);  // a key of zeros
    for (const Format format : cache_formats) {
      std::vector<float> kept = qkv;
      for (std::size_t t = 0; t < positions; ++t)
        for (std::size_t h = heads; h < 3 * heads; ++h) round_as(format, kept.data() + t * 3 * c + h * depth, depth);
      for (const lowbit::Level level : lowbit::available_levels()) {
        const AtLevel at(level);
        CAPTURE(heads, depth, positions, lowbit::format_name(format), lowbit::level_name(level));
        const std::size_t all[] = {0, positions};
        std::vector<float> expected(positions * c), found(expected.size());
        lowbit::gpt2::attention(kept.data(), all, heads, c, expected.data(), serial);
        for (const std::size_t step : {std::size_t{1}, std::size_t{3}, std::size_t{7}, positions}) {
          KvCache cache(shape(heads, c, positions), positions, format);
          KvCache* const caches[] = {&cache};
          std::fill(found.begin(), found.end(), 0.0f);
          for (std::size_t t = 0; t < positions; t += step) {
            const std::size_t part[] = {0, std::min(step, positions - t)};
            lowbit::gpt2::attention(qkv.data() + t * 3 * c, part, caches, 1, heads, c, found.data() + t * c, serial);
            cache.grow(part[1]);
          }
          CAPTURE(step);
          CHECK(bits_of(found) == bits_of(expected));
        }
      }
    }
  }
}

// The logits at every token of a row that is fed in steps of so many tokens.
std::vector<float> in_steps(const Transformer& m, const Ids& ids, std::size_t step, Format format, lowbit::Executor& executor) {
  KvCache cache(m.config, ids.size(), format);
  KvCache* const caches[] = {&cache};
  std::vector<float> logits(ids.size() * m.config.vocab);
  for (std::size_t t = 0; t < ids.size(); t += step) {
    const std::size_t offsets[] = {t, std::min(t + step, ids.size())};
    m.language_logits(ids, offsets, caches, std::span(logits).subspan(t * m.config.vocab, (offsets[1] - t) * m.config.vocab),
                      executor);
  }
  CHECK(cache.length() == ids.size());
  return logits;
}

TEST_CASE("KvCache: prefill and decode give the whole row's logits to the bit, every model and level", "[kv_cache]") {
  const Ids ids = short_items(2)[1];
  REQUIRE(ids.size() > 8);
  ThreadPool three(3);
  for (const Recipe& recipe : recipes()) {
    const Transformer m = recipe.load(mini_folder, mini_twin);
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      CAPTURE(recipe.name, lowbit::level_name(level));
      const auto whole = bits_of(language_logits(m, ids));
      CHECK(bits_of(in_steps(m, ids, 1, Format::f32, serial)) == whole);
      CHECK(bits_of(in_steps(m, ids, 6, Format::f32, three)) == whole);
    }
    // The others round what they keep: other logits, but also the same ones however a row is cut.
    for (const Format format : {Format::bf16, Format::int8}) {
      CAPTURE(recipe.name, lowbit::format_name(format));
      const auto decoded = in_steps(m, ids, 1, format, serial);
      CHECK(bits_of(in_steps(m, ids, 6, format, three)) == bits_of(decoded));
      CHECK(bits_of(in_steps(m, ids, ids.size(), format, serial)) == bits_of(decoded));
      CHECK(bits_of(decoded) != bits_of(language_logits(m, ids)));
      if (recipe.name == "fp32") CHECK(largest_difference(decoded, language_logits(m, ids)) < 0.5);  // of logits of about 10
    }
  }
}

TEST_CASE("KvCache: sequences come and go in a batch, and each is as if it were alone", "[kv_cache]") {
  std::vector<Ids> rows = short_items(4);
  for (Ids& row : rows) row.resize(std::min<std::size_t>(row.size(), 30));
  ThreadPool three(3);
  for (const auto& [name, format] : {std::pair<std::string, Format>{"fp32", Format::f32},
                                     {"nf4_int8", Format::int8},
                                     {"int8_bnb", Format::f32},
                                     {"nf4_bf16", Format::bf16}}) {
    const auto all = recipes();
    const Transformer m =
        std::find_if(all.begin(), all.end(), [&, n = name](const Recipe& r) { return r.name == n; })->load(mini_folder, mini_twin);
    const std::size_t vocab = m.config.vocab;
    for (lowbit::Executor* executor : {static_cast<lowbit::Executor*>(&serial), static_cast<lowbit::Executor*>(&three)}) {
      // Row r joins in round 3 r with its first r + 1 tokens, then takes one a round, and leaves at its end.
      std::vector<KvCache> caches;
      std::vector<std::vector<float>> expected;
      for (const Ids& row : rows) {
        caches.emplace_back(m.config, row.size(), format);
        expected.push_back(in_steps(m, row, row.size(), format, serial));
      }
      std::size_t together = 0;
      for (std::size_t round = 0;; ++round) {
        Ids ids;
        std::vector<std::size_t> offsets{0}, present;
        std::vector<KvCache*> of_batch;
        for (std::size_t r = 0; r < rows.size(); ++r) {
          const std::size_t done = caches[r].length();
          if (round < 3 * r || done == rows[r].size()) continue;
          const std::size_t end = done == 0 ? r + 1 : done + 1;
          ids.insert(ids.end(), rows[r].begin() + static_cast<std::ptrdiff_t>(done),
                     rows[r].begin() + static_cast<std::ptrdiff_t>(end));
          offsets.push_back(ids.size());
          present.push_back(r);
          of_batch.push_back(&caches[r]);
        }
        if (present.empty()) break;
        together = std::max(together, present.size());
        std::vector<float> logits(present.size() * vocab);
        m.next_logits(ids, offsets, of_batch, logits, *executor);
        for (std::size_t i = 0; i < present.size(); ++i) {
          CAPTURE(name, round, present[i]);
          const std::size_t last = caches[present[i]].length() - 1;
          const auto alone = std::span(expected[present[i]]).subspan(last * vocab, vocab);
          CHECK(bits_of(std::vector<float>(logits.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                                           logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab))) ==
                bits_of(std::vector<float>(alone.begin(), alone.end())));
        }
      }
      CHECK(together >= 3);
    }
  }
}

TEST_CASE("KvCache: what was forgotten leaves no trace", "[kv_cache]") {
  const auto m = Model<DenseTensor<float>>::load(mini_folder);
  const Ids ids = short_items(1)[0];
  for (const Format format : cache_formats) {
    KvCache cache(m.config, ids.size() + 4, format);
    std::vector<float> first(m.config.vocab), again(first.size());
    m.next_logits(ids, cache, first, serial);
    m.next_logits(Ids{1, 2, 3}, cache, again, serial);
    cache.truncate(ids.size() - 1);
    m.next_logits(Ids{ids.back()}, cache, again, serial);
    CHECK(bits_of(again) == bits_of(first));
    cache.truncate(0);
    m.next_logits(ids, cache, again, serial);
    CHECK(bits_of(again) == bits_of(first));
  }
}

TEST_CASE("KvCache: its memory", "[kv_cache]") {
  const Config small = [] {
    Config c = shape(12, 768, 1024);
    c.layers = 12;
    return c;
  }();
  const std::size_t numbers = std::size_t{2} * 12 * 768 * 1024;
  CHECK(KvCache(small, 1024).resident_bytes() == 4 * numbers);
  CHECK(KvCache(small, 1024, Format::bf16).resident_bytes() == 2 * numbers);
  CHECK(KvCache(small, 1024, Format::int8).resident_bytes() == numbers + numbers / 64 * 4);
  CHECK(KvCache(small, 100).resident_bytes() == 4 * numbers * 112 / 1024);  // whole tiles of 16
}

TEST_CASE("KvCache: misuse is refused, and nothing has changed then", "[kv_cache]") {
  const auto m = Model<DenseTensor<float>>::load(mini_folder);
  CHECK(unsaid<InvalidArgument>([&] { KvCache(m.config, 8, Format::nf4); }, {"KvCache", "f32, bf16 or int8", "nf4"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { KvCache(m.config, 0); }, {"capacity", "found 0"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { KvCache(m.config, m.config.positions + 1); },
                                {"capacity", std::to_string(m.config.positions)}) == "");
  KvCache cache(m.config, 4), other(shape(2, 64, 64), 4);
  std::vector<float> logits(2 * m.config.vocab), one(m.config.vocab);
  m.next_logits(Ids{1, 2, 3}, cache, one, serial);
  CHECK(unsaid<InvalidArgument>(
            [&] {
              m.next_logits(Ids{4, 5}, cache, one, serial);
            },
            {"next_logits", "row 0", "3 of 4 tokens", "2 more"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { m.next_logits(Ids{1}, other, one, serial); }, {"another shape"}) == "");
  KvCache* const twice[] = {&cache, &cache};
  const std::size_t offsets[] = {0, 1, 2};
  CHECK(unsaid<InvalidArgument>([&] { m.next_logits(Ids{1, 2}, offsets, twice, logits, serial); }, {"row 1", "another row"}) == "");
  CHECK(unsaid<InvalidArgument>(
            [&] {
              m.next_logits(Ids{1, 2}, offsets, std::span(twice).first(1), logits, serial);
            },
            {"1 caches for 2 rows"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { m.next_logits(Ids{1}, cache, logits, serial); }, {"room for"}) == "");
  CHECK(unsaid<InvalidArgument>([&] { cache.truncate(4); }, {"truncate to 4", "3"}) == "");
  CHECK(cache.length() == 3);
}

// ids, as long as the reference decided by more than 1e-3: a different choice there would be right as well, and leads elsewhere.
template <class Json>
std::size_t check_greedy(const Transformer& m, const Json& prompt, const Json& tokens, const std::vector<double>& margins) {
  const Ids expected = tokens.template get<Ids>();
  Ids ids = prompt.template get<Ids>();
  KvCache cache(m.config, ids.size() + expected.size());
  std::vector<float> logits(m.config.vocab);
  for (std::size_t s = 0; s < expected.size(); ++s) {
    if (margins[s] <= 1e-3) return s;
    m.next_logits(ids, cache, logits, serial);
    CHECK(argmax(logits) == static_cast<std::size_t>(expected[s]));
    ids = {expected[s]};
  }
  return expected.size();
}
nlohmann::json golden_json(const std::string& name) {
  return nlohmann::json::parse(read_bytes((lowbit::testing::shared_dir() / "golden" / name).string()));
}

TEST_CASE("KvCache: greedy tokens of transformers, mini model in float and NF4", "[kv_cache][.full]") {
  if (lowbit::testing::shared_dir().empty()) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR");
    return;
  }
  const nlohmann::json golden = golden_json("checkpoints/lm_greedy.json");
  ModelOptions<NF4> o;
  o.quantize.double_quantized = true;
  o.linear.compute = Compute::f32;
  const Transformer as_float = Model<DenseTensor<float>>::load(mini_folder), nf4 = Model<NF4>::load(mini_folder, o);
  for (const auto& [name, m] : {std::pair<const char*, const Transformer*>{"f32", &as_float}, {"nf4-dq", &nf4}}) {
    std::size_t steps = 0, decided = 0;
    for (const auto& row : golden.at(name)) {
      CAPTURE(name, row.at("row").template get<int>());
      decided += check_greedy(*m, row.at("prompt"), row.at("ids"), row.at("margin"));
      steps += row.at("ids").size();
    }
    std::printf("gpt2-mini %s: %zu of %zu greedy steps decided before the first margin below 1e-3\n", name, decided, steps);
    CHECK(decided > steps / 2);
  }
}

TEST_CASE("KvCache: greedy text of GPT-2 small", "[kv_cache][.full]") {
  const auto folder = lowbit::testing::models_dir() / "gpt2-small-ag-news";
  if (lowbit::testing::shared_dir().empty() || !std::filesystem::exists(folder / "config.json")) {
    WARN("SKIPPED: set LOWBIT_SHARED_DIR and LOWBIT_MODELS_DIR");
    return;
  }
  const auto m = Model<DenseTensor<float>>::load(folder);
  const nlohmann::json golden = golden_json("lm_reference.json");
  for (const auto& g : golden.at("fp32").at("generations"))
    check_greedy(m, g.at("prompt"), g.at("tokens"), g.at("top2_margin").get<std::vector<double>>());
}

}  // namespace kv_cache_test
