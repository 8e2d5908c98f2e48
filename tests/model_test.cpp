// SPDX-License-Identifier: MIT
// The GPT-2 model: against logits that another implementation computed in double, against a plain pass in double
// (support/reference_gpt2.hpp), and against itself over batches, threads, levels and layouts.
#include "lowbit/gpt2/model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/gpt2_models.hpp"
#include "support/io_files.hpp"
#include "support/reference_gpt2.hpp"

namespace model_test {

namespace fs = std::filesystem;
using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::InvalidArgument;
using lowbit::ThreadPool;

// ---- values
// --------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: the reference pass gives another implementation's logits", "[model]") {
  ReferenceGpt2 plain = reference(tiny_checkpoint()), int8 = plain;
  int8.fake_quantize_weights();
  int8.int8_activations = true;
  const auto rows = tiny_rows();
  const auto expected = tiny_file().get<double>("float.logits", "F64"),
             expected_int8 = tiny_file().get<double>("qat_int8.logits", "F64");
  REQUIRE(rows.size() == 3);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto row = [&](const std::vector<double>& v) { return std::span(v).subspan(4 * r, 4); };
    CHECK(largest_difference(plain.classify(rows[r]), row(expected)) < 1e-13);
    CHECK(largest_difference(int8.classify(rows[r]), row(expected_int8)) < 1e-13);
  }
}

TEST_CASE("Model: float logits of the tiny model, every level, packed and canonical", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  c.write(folder.path());
  const ReferenceGpt2 r = reference(c);
  const auto expected = tiny_file().get<double>("float.logits", "F64");
  const auto rows = tiny_rows();
  for (const bool pack : {true, false}) {
    ModelOptions<DenseTensor<float>> o;
    o.linear.pack = pack;
    const auto m = Model<DenseTensor<float>>::load(folder.path(), o);
    CHECK(m.config.classes == 4);
    CHECK(m.config.class_names == std::vector<std::string>{"LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"});
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      CAPTURE(pack, lowbit::level_name(level));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double bound = r.float_bound(class_logits(rows[i]));
        CHECK(bound < 2e-5);
        CHECK(largest_difference(classify(m, rows[i]), std::span(expected).subspan(4 * i, 4)) <= bound);
      }
    }
  }
}

// Int8 activations usually part two right implementations: a difference in the last bit flips a code, and the flip spreads.  In
// these rows no value lies so near a tie that float noise would move it (the disturbed passes, whose bound stays at that of float
// arithmetic, say so too), hence every code is the reference's and the logits agree to rounding.
TEST_CASE("Model: int8 compute gives the quantization-aware logits of the tiny model", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  c.write(folder.path());
  ReferenceGpt2 r = reference(c);
  r.fake_quantize_weights();
  r.int8_activations = true;
  const auto expected = tiny_file().get<double>("qat_int8.logits", "F64"), plain = tiny_file().get<double>("float.logits", "F64");
  const auto rows = tiny_rows();
  for (const bool pack : {true, false}) {
    ModelOptions<Int8Tensor<>> o;
    o.linear.compute = Compute::int8;
    o.linear.pack = pack;
    const auto m = Model<Int8Tensor<>>::load(folder.path(), o);
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      CAPTURE(pack, lowbit::level_name(level));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double bound = r.float_bound(class_logits(rows[i]));
        CHECK(bound < 2e-5);
        const std::vector<float> found = classify(m, rows[i]);
        CHECK(largest_difference(found, std::span(expected).subspan(4 * i, 4)) <= bound);
        CHECK(largest_difference(found, std::span(plain).subspan(4 * i, 4)) > 100 * bound);  // it is not the float model
      }
    }
  }
}

TEST_CASE("Model: news items on the mini model, float and NF4 with f32 compute, every level", "[model]") {
  const Checkpoint c = read_checkpoint(mini_folder);
  const auto float_model = Model<DenseTensor<float>>::load(mini_folder);
  CHECK(float_model.config.class_names == std::vector<std::string>{"World", "Sports", "Business", "Sci/Tech"});
  ModelOptions<NF4> in_f32;
  in_f32.linear.compute = Compute::f32;
  const auto nf4_model = Model<NF4>::load(mini_folder, in_f32);
  const auto check = [&](const Transformer& m, const ReferenceGpt2& r) {
    for (const Ids& ids : short_items(2)) {
      ReferenceGpt2 exact = r;
      const auto expected = exact.classify(ids);
      const double bound = r.float_bound(class_logits(ids), 2);
      CHECK(bound < 1e-4);
      for (const lowbit::Level level : lowbit::available_levels()) {
        const AtLevel at(level);
        CAPTURE(lowbit::level_name(level), ids.size());
        CHECK(largest_difference(classify(m, ids), expected) <= bound);
      }
    }
  };
  check(float_model, reference(c));
  check(nf4_model, reference(decoded<NF4>(c)));
}

// The formula of the trained int8 layers, from the file's bytes: y = sum(code x, code w) * scale x * scale w + bias, where the sum
// is an exact integer and scale x = absmax / 127.
TEST_CASE("Model: every linear layer of the int8 twin follows its formula", "[model]") {
  ModelOptions<Int8Tensor<>> o;
  o.linear.compute = Compute::int8;
  const auto m = Model<Int8Tensor<>>::load(mini_twin, o, mini_folder);
  const Checkpoint twin = read_checkpoint(mini_twin);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  REQUIRE(m.blocks.size() == 4);
  for (std::size_t layer = 0; layer < m.blocks.size(); ++layer) {
    const auto& b = m.blocks[layer];
    const std::pair<const char*, const lowbit::Linear*> modules[] = {
        {"attn.c_attn", &b.attention_in}, {"attn.c_proj", &b.attention_out}, {"mlp.c_fc", &b.mlp_in}, {"mlp.c_proj", &b.mlp_out}};
    for (const auto& [name, linear] : modules) {
      const std::string module = "transformer.h." + std::to_string(layer) + "." + name;
      CAPTURE(module);
      const Entry& weight = twin.tensors.at(module + ".weight");
      const std::vector<float> scale = floats(twin.tensors.at(module + ".weight_scale")),
                               bias = floats(twin.tensors.at(module + ".bias"));
      const std::size_t rows = 3, out = weight.shape[0], in = weight.shape[1];
      std::vector<float> x(rows * in), y(rows * out);
      for (float& v : x) v = normal(random);
      x[in + 5] = 40.0f;                                                          // a row with an outlier
      std::fill(x.begin() + static_cast<std::ptrdiff_t>(2 * in), x.end(), 0.0f);  // and one of zeros
      linear->forward({x.data(), rows, in}, {y.data(), rows, out}, {}, {&serial});
      double worst = 0;  // in units of the bound
      for (std::size_t r = 0; r < rows; ++r) {
        float absmax = 0;
        for (std::size_t k = 0; k < in; ++k) absmax = std::max(absmax, std::fabs(x[r * in + k]));
        const float step = absmax / 127.0f;
        std::vector<std::int64_t> codes(in);
        for (std::size_t k = 0; k < in; ++k) codes[k] = step == 0 ? 0 : std::lrint(x[r * in + k] / step);
        for (std::size_t n = 0; n < out; ++n) {
          std::int64_t sum = 0;
          for (std::size_t k = 0; k < in; ++k)
            sum += codes[k] * static_cast<std::int8_t>(std::to_integer<std::uint8_t>(weight.bytes[n * in + k]));
          const double scaled = static_cast<double>(sum) * static_cast<double>(step) * static_cast<double>(scale[n]);
          // The sum becomes a float, takes two scales and the bias: four roundings.
          const double bound = std::ldexp(4 * (std::fabs(scaled) + std::fabs(static_cast<double>(bias[n]))), -24);
          const double error = std::fabs(static_cast<double>(y[r * out + n]) - scaled - static_cast<double>(bias[n]));
          worst = std::max(worst, bound == 0 ? (error == 0 ? 0 : 1e9) : error / bound);
        }
      }
      CHECK(worst <= 1);
    }
  }
}

TEST_CASE("Model: accuracy of every model on the news items", "[model][.full]") {
  const NewsTokens& news = news_items();
  REQUIRE(news.rows.size() == 400);
  ThreadPool pool;
  std::vector<std::size_t> baseline;
  for (const Recipe& recipe : recipes()) {
    const Transformer m = recipe.load(mini_folder, mini_twin);
    const std::vector<float> logits = classify(m, news.rows, pool);
    std::size_t right = 0, same = 0;
    for (std::size_t i = 0; i < 400; ++i) {
      const std::size_t found = argmax(std::span(logits).subspan(4 * i, 4));
      if (recipe.name == "fp32") baseline.push_back(found);
      right += found == static_cast<std::size_t>(news.labels[i]);
      same += found == baseline[i];
    }
    std::printf("gpt2-mini %-12s  %5.2f %% of the news items right, %5.2f %% as fp32\n", recipe.name.c_str(),
                static_cast<double>(right) / 4, static_cast<double>(same) / 4);
    CAPTURE(recipe.name);
    CHECK(right > 280);
    CHECK(same >= 380);
  }
}

// ---- what ran
// ------------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: plans say what runs", "[model]") {
  for (const Recipe& recipe : recipes()) {
    const Transformer m = recipe.load(mini_folder, mini_twin);
    for (const lowbit::Level level : lowbit::available_levels()) {
      const AtLevel at(level);
      const auto plans = m.plans();
      CHECK(plans.size() == 4 * m.config.layers);
      for (const lowbit::MatmulPlan& p : plans) {
        CAPTURE(recipe.name, to_string(p));
        CHECK(p.format == recipe.format);
        CHECK(p.compute == recipe.compute);
        CHECK(p.level == level);
        CHECK(p.packed);
        CHECK(p.native_bf16 == lowbit::detail::kernels().native_bf16);
      }
    }
  }
  // Without options: what is fast.
  CHECK(Model<NF4>::load(mini_folder).plans()[0].compute == lowbit::automatic_compute(lowbit::Format::nf4));
  CHECK(Model<Int8Tensor<>>::load(mini_folder).plans()[0].compute == Compute::int8);
  CHECK(Model<LlmInt8Tensor>::load(mini_folder).plans()[0].compute == Compute::int8);
  ModelOptions<NF4> canonical;
  canonical.linear.pack = false;
  CHECK_FALSE(Model<NF4>::load(mini_folder, canonical).plans()[0].packed);
  // A dense layer has no int8 product.
  ModelOptions<DenseTensor<float>> wrong;
  wrong.linear.compute = Compute::int8;
  CHECK(unsaid<InvalidArgument>([&] { Model<DenseTensor<float>>::load(mini_folder, wrong); }, {"int8 compute", "f32"}) == "");
}

// ---- batches, threads
// ----------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: batches and threads change no bit", "[model]") {
  // Lengths on both sides of every vector width, one token and the longest included.
  std::vector<Ids> rows = short_items(3);
  rows.push_back({17});
  rows.push_back({4242, 17});
  rows.push_back(rows[0]);
  rows.emplace_back();
  for (std::int32_t i = 0; i < 130; ++i) rows.back().push_back(i * 61 % 8192);
  ThreadPool two(2), five(5);
  for (const Recipe& recipe : recipes()) {
    CAPTURE(recipe.name);
    const Transformer m = recipe.load(mini_folder, mini_twin);
    std::vector<float> alone;
    for (const Ids& r : rows) {
      const auto logits = classify(m, r);
      alone.insert(alone.end(), logits.begin(), logits.end());
    }
    CHECK(bits_of({alone.begin(), alone.begin() + 4}) == bits_of({alone.begin() + 20, alone.begin() + 24}));
    CHECK(largest_difference(std::vector<float>(alone.begin(), alone.begin() + 4),
                             std::vector<float>(alone.begin() + 4, alone.begin() + 8)) > 0.01);
    CHECK(bits_of(classify(m, rows, serial)) == bits_of(alone));
    CHECK(bits_of(classify(m, rows, two)) == bits_of(alone));
    CHECK(bits_of(classify(m, rows, five)) == bits_of(alone));
    // The other way round, and in groups of three.
    std::vector<Ids> reversed(rows.rbegin(), rows.rend());
    const auto found = classify(m, reversed, two);
    for (std::size_t r = 0; r < rows.size(); ++r)
      CHECK(bits_of({found.begin() + static_cast<std::ptrdiff_t>(4 * r), found.begin() + static_cast<std::ptrdiff_t>(4 * r + 4)}) ==
            bits_of({alone.end() - static_cast<std::ptrdiff_t>(4 * r + 4), alone.end() - static_cast<std::ptrdiff_t>(4 * r)}));
    std::vector<float> grouped;
    for (std::size_t r = 0; r < rows.size(); r += 3) {
      const auto part = classify(
          m,
          {rows.begin() + static_cast<std::ptrdiff_t>(r), rows.begin() + static_cast<std::ptrdiff_t>(std::min(r + 3, rows.size()))},
          five);
      grouped.insert(grouped.end(), part.begin(), part.end());
    }
    CHECK(bits_of(grouped) == bits_of(alone));
    // Several callers at once, with one pool.
    std::vector<std::vector<float>> results(8);
    std::vector<std::thread> callers;
    for (auto& result : results) callers.emplace_back([&] { result = classify(m, rows, two); });
    for (std::thread& t : callers) t.join();
    for (const auto& result : results) CHECK(bits_of(result) == bits_of(alone));
  }
}

TEST_CASE("Model: a batch may be a part of a longer list of ids", "[model]") {
  const Folder folder;
  const auto m = Model<DenseTensor<float>>::load(tiny_checkpoint().write(folder.path()));
  const auto rows = tiny_rows();
  Ids ids = {99, -1, 99};  // outside the batch: never looked at
  const std::size_t first = ids.size();
  ids.insert(ids.end(), rows[1].begin(), rows[1].end());
  ids.insert(ids.end(), rows[2].begin(), rows[2].end());
  ids.push_back(-5);
  const std::array<std::size_t, 3> offsets = {first, first + rows[1].size(), first + rows[1].size() + rows[2].size()};
  std::vector<float> found(8), tokens((rows[1].size() + rows[2].size()) * 50);
  m.classify(ids, offsets, found, serial);
  m.language_logits(ids, offsets, tokens, serial);
  std::vector<float> expected = classify(m, rows[1]), second = classify(m, rows[2]);
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(bits_of(found) == bits_of(expected));
  expected = language_logits(m, rows[1]), second = language_logits(m, rows[2]);
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(bits_of(tokens) == bits_of(expected));
}

TEST_CASE("Model: embedding tables of any format are read as what they decode to", "[model]") {
  Ids ids = short_items(1)[0];
  auto quantized = Model<DenseTensor<float>>::load(mini_folder), decoded = Model<DenseTensor<float>>::load(mini_folder);
  using lowbit::gpt2::Embedding;
  const auto replace = [](const Embedding& from, auto kind, Embedding& as_quantized, Embedding& as_floats) {
    using Kind = typename decltype(kind)::type;
    std::vector<float> values(from.size());
    from.dequantize(values.data());
    as_quantized = Kind::quantize(values.data(), from.rows(), from.cols());
    as_quantized.dequantize(values.data());
    as_floats = DenseTensor<float>::quantize(values.data(), from.rows(), from.cols());
  };
  const auto before = classify(decoded, ids);
  const auto original = Model<DenseTensor<float>>::load(mini_folder);
  replace(original.token_embedding, std::type_identity<lowbit::NF4Tensor<>>(), quantized.token_embedding, decoded.token_embedding);
  replace(original.position_embedding, std::type_identity<Int8Tensor<>>(), quantized.position_embedding,
          decoded.position_embedding);
  CHECK(bits_of(classify(quantized, ids)) == bits_of(classify(decoded, ids)));
  CHECK(bits_of(classify(decoded, ids)) != bits_of(before));
  replace(original.token_embedding, std::type_identity<DenseTensor<lowbit::BFloat16>>(), quantized.token_embedding,
          decoded.token_embedding);
  CHECK(bits_of(classify(quantized, ids)) == bits_of(classify(decoded, ids)));
}

TEST_CASE("Model: a token never sees what follows it", "[model]") {
  for (const Recipe& recipe : recipes()) {
    CAPTURE(recipe.name);
    const Transformer m = recipe.load(mini_folder, mini_twin);
    const Ids ids = short_items(1)[0];
    const auto whole = language_logits(m, ids);
    for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{9}, ids.size() - 1}) {
      const auto part = language_logits(m, Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n)));
      CHECK(bits_of(part) == bits_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(part.size())}));
    }
  }
}

// ---- language model
// ------------------------------------------------------------------------------------------------------------------

TEST_CASE("Model: next-token logits and greedy text, tied head", "[model]") {
  const Folder folder;
  const Checkpoint c = tiny_checkpoint();
  const auto m = Model<DenseTensor<float>>::load(c.write(folder.path()));
  const ReferenceGpt2 r = reference(c);
  for (Ids ids : tiny_rows()) {
    const double bound = r.float_bound(token_logits(ids));
    CHECK(bound < 2e-5);
    ReferenceGpt2 exact = r;
    CHECK(largest_difference(language_logits(m, ids), exact.language_logits(ids)) <= bound);
    // Both continue the text with the same tokens, by margins that no rounding can turn.
    ids.resize(4);
    while (ids.size() < 16) {
      const auto logits = language_logits(m, ids);
      const auto all = exact.language_logits(ids);
      std::vector<double> last(all.end() - 50, all.end());
      const auto expected = static_cast<std::size_t>(std::max_element(last.begin(), last.end()) - last.begin());
      CHECK(argmax(std::span(logits).last(50)) == expected);
      std::nth_element(last.begin(), last.begin() + 1, last.end(), std::greater<>());
      CHECK(last[0] - last[1] > 2 * bound);
      ids.push_back(static_cast<std::int32_t>(expected));
    }
  }
}

TEST_CASE("Model: a head of its own", "[model]") {
  const Folder folder;
  Checkpoint c = tiny_checkpoint();
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float> head(50 * 32);
  for (float& v : head) v = normal(random);
  c.tensors["lm_head.weight"] = entry(head, {50, 32});
  const Ids ids = tiny_rows()[0];
  ReferenceGpt2 untied = reference(c), tied = reference(tiny_checkpoint());

  c.config["tie_word_embeddings"] = false;
  const auto m = Model<DenseTensor<float>>::load(c.write(folder / "untied"));
  CHECK_FALSE(m.config.tied);
  CHECK(largest_difference(language_logits(m, ids), untied.language_logits(ids)) <= untied.float_bound(token_logits(ids)));
  CHECK(m.memory().parameters ==
        Model<DenseTensor<float>>::load(tiny_checkpoint().write(folder / "tied")).memory().parameters + 50 * 32);

  // Where the configuration ties it, a copy in the file counts for nothing.
  c.config["tie_word_embeddings"] = true;
  CHECK(largest_difference(language_logits(Model<DenseTensor<float>>::load(c.write(folder / "copy")), ids),
                           tied.language_logits(ids)) <= tied.float_bound(token_logits(ids)));

  // A classifier whose head is neither tied nor there is no language model; as a classifier it works.
  c.config["tie_word_embeddings"] = false;
  c.tensors.erase("lm_head.weight");
  const auto classifier = Model<DenseTensor<float>>::load(c.write(folder / "headless"));
  CHECK(classify(classifier, ids).size() == 4);
  CHECK(unsaid<InvalidArgument>([&] { language_logits(classifier, ids); }, {"language_logits", "no language-model head"}) == "");
}

}  // namespace model_test
