// SPDX-License-Identifier: MIT
// Running GPT-2 models: the models of the comparison by name, the news items, and what tests of models share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "support/catch.hpp"
#include "support/gpt2_checkpoints.hpp"

namespace lowbit_test {

using lowbit::Compute;
using lowbit::DenseTensor;
using lowbit::Format;
using lowbit::Int8Tensor;
using lowbit::LlmInt8Tensor;
using lowbit::SerialExecutor;
using lowbit::gpt2::Model;
using lowbit::gpt2::ModelOptions;
using lowbit::gpt2::Transformer;
using NF4 = lowbit::NF4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;
using FP4 = lowbit::FP4Tensor<lowbit::any_block_size, lowbit::AnyAbsmax>;

inline const std::filesystem::path mini_folder = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
inline const std::filesystem::path mini_twin = lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat";

// ---- running models
// ----------------------------------------------------------------------------------------------------------------

inline constexpr double mib = 1024.0 * 1024.0;

inline SerialExecutor serial;

inline std::vector<float> classify(const Transformer& m, const Ids& ids) { return m.classify(ids, serial); }
inline std::vector<float> language_logits(const Transformer& m, const Ids& ids) {
  const std::size_t offsets[2] = {0, ids.size()};
  std::vector<float> logits(ids.size() * m.config.vocab);
  m.language_logits(ids, offsets, logits, serial);
  return logits;
}
// All rows in one call, one behind the other.
inline std::vector<float> classify(const Transformer& m, const std::vector<Ids>& rows, lowbit::Executor& executor) {
  Ids ids;
  std::vector<std::size_t> offsets{0};
  for (const Ids& r : rows) {
    ids.insert(ids.end(), r.begin(), r.end());
    offsets.push_back(ids.size());
  }
  std::vector<float> logits(rows.size() * m.config.classes);
  m.classify(ids, offsets, logits, executor);
  return logits;
}

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;  // NaN sticks
  }
  return worst;
}

inline std::size_t argmax(std::span<const float> v) {
  return static_cast<std::size_t>(std::max_element(v.begin(), v.end()) - v.begin());
}

inline const auto class_logits = [](const Ids& ids) { return [&ids](ReferenceGpt2& r) { return r.classify(ids); }; };
inline const auto token_logits = [](const Ids& ids) { return [&ids](ReferenceGpt2& r) { return r.language_logits(ids); }; };

// Another instruction-set level until the end of the scope.
class AtLevel {
 public:
  explicit AtLevel(lowbit::Level level) { lowbit::set_level(level); }
  AtLevel(const AtLevel&) = delete;
  AtLevel& operator=(const AtLevel&) = delete;
  ~AtLevel() { lowbit::set_level(before_); }

 private:
  lowbit::Level before_ = lowbit::active_level();
};

// ---- the models by name
// --------------------------------------------------------------------------------------------------------------

struct Recipe {
  std::string name;
  Format format;
  Compute compute;
  std::function<Transformer(const std::filesystem::path& folder, const std::filesystem::path& twin)> load;
};

template <class W>
Recipe recipe(std::string name, Compute compute, Format rest = Format::f32, bool from_twin = false) {
  return {std::move(name), W::tensor_format, compute,
          [=](const std::filesystem::path& folder, const std::filesystem::path& twin) -> Transformer {
            ModelOptions<W> o;
            o.linear.compute = compute;
            o.rest = rest;
            return from_twin ? Model<W>::load(twin, o, folder) : Model<W>::load(folder, o);
          }};
}

// The first four are the comparison's headline.
inline std::vector<Recipe> recipes() {
  const bool native = lowbit::detail::kernels().native_bf16;
  const Compute four_bit = native ? Compute::bf16 : Compute::int8;
  return {recipe<DenseTensor<float>>("fp32", Compute::f32),
          recipe<Int8Tensor<>>("int8_scratch", Compute::int8, Format::f32, true),
          recipe<LlmInt8Tensor>("int8_bnb", Compute::int8, Format::f16),
          recipe<NF4>("nf4_bnb", four_bit, Format::f16),
          recipe<NF4>("nf4_f32", Compute::f32),
          recipe<NF4>("nf4_int8", Compute::int8),
          recipe<NF4>("nf4_bf16", Compute::bf16),
          recipe<Int8Tensor<>>("int8", Compute::int8),
          recipe<FP4>("fp4", four_bit, Format::f16),
          recipe<DenseTensor<lowbit::BFloat16>>("bf16", Compute::bf16)};
}

struct NewsTokens {
  std::vector<Ids> rows;
  std::vector<int> labels;
};
inline const NewsTokens& news_items() {
  static const NewsTokens items = [] {
    const auto tokenizer = lowbit::gpt2::Tokenizer::load(mini_folder);
    NewsTokens n;
    for (const auto& row : lowbit::io::read_news(lowbit::testing::assets_dir() / "news_items.csv")) {
      n.rows.push_back(tokenizer.encode(row.title + " " + row.description));
      n.rows.back().resize(std::min<std::size_t>(n.rows.back().size(), 160));
      n.labels.push_back(row.label);
    }
    return n;
  }();
  return items;
}
// Some rows of different lengths, short ones, so that the pass in double stays quick.
inline std::vector<Ids> short_items(std::size_t count) {
  std::vector<Ids> rows = news_items().rows;
  std::sort(rows.begin(), rows.end(),
            [](const Ids& a, const Ids& b) { return a.size() != b.size() ? a.size() < b.size() : a < b; });
  std::vector<Ids> out;
  for (std::size_t i = 0; i < rows.size() && out.size() < count; ++i)
    if (out.empty() || rows[i].size() > out.back().size()) out.push_back(rows[i]);
  return out;
}

}  // namespace lowbit_test
