// SPDX-License-Identifier: MIT
// A classifier in training: losses and gradients against an independent implementation's, the same bits for any number of threads,
// checkpoints, what it learns, and that the exported INT8 model is the one that was trained.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/model_writer.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/qat/checkpoint.hpp"
#include "lowbit/qat/transformer.hpp"
#include "support/catch.hpp"
#include "support/for_each_level.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace qat_test {

namespace {

using namespace lowbit;
using lowbit_test::Folder;
using lowbit_test::GoldenFile;
using lowbit_test::Random;
using Bits = std::vector<std::uint32_t>;

const GoldenFile& golden() {
  static const GoldenFile file(lowbit_test::data_path("gpt2_tiny.safetensors"));
  return file;
}
// Width 32, 2 layers, 4 heads, 16 positions, 50 tokens, 4 classes.
gpt2::Config tiny_shape() {
  gpt2::Config c;
  c.layers = 2;
  c.heads = 4;
  c.width = 32;
  c.inner = 128;
  c.positions = 16;
  c.vocab = 50;
  c.classes = 4;
  return c;
}
// Golden values of a parameter, from Conv1D's (in, out) to (out, in) where it is a linear weight.
template <class T>
std::vector<T> oriented(const qat::Parameter& p, const std::vector<T>& values) {
  if (!p.linear) return values;
  std::vector<T> out(values.size());
  for (std::size_t o = 0; o < p.rows; ++o)
    for (std::size_t i = 0; i < p.cols; ++i) out[o * p.cols + i] = values[i * p.rows + o];
  return out;
}
qat::Transformer golden_model() {
  qat::Transformer m(tiny_shape(), 1);
  m.for_each_parameter([&](qat::Parameter& p) {
    const std::vector<float> v = oriented(p, golden().floats("param." + p.name));
    REQUIRE(v.size() == p.size());
    std::copy(v.begin(), v.end(), p.value.begin());
  });
  return m;
}
qat::Batch golden_batch() {
  const auto ids = golden().get<std::int64_t>("ids", "I64"), labels = golden().get<std::int64_t>("labels", "I64"),
             lengths = golden().get<std::int64_t>("lengths", "I64");
  qat::Batch b;
  b.offsets = {0};
  for (std::size_t r = 0; r < labels.size(); ++r) {
    for (std::size_t t = 0; t < static_cast<std::size_t>(lengths[r]); ++t)
      b.ids.push_back(static_cast<std::int32_t>(ids[12 * r + t]));
    b.offsets.push_back(b.ids.size());
    b.labels.push_back(static_cast<std::int32_t>(labels[r]));
  }
  return b;
}

template <class T>
Bits bits_of(const T& values) {
  return lowbit_test::bits_of(std::vector<float>(values.begin(), values.end()));
}
Bits gradient_bits(qat::Transformer& m) {
  Bits all;
  m.for_each_parameter([&](const qat::Parameter& p) {
    const Bits b = bits_of(p.gradient);
    all.insert(all.end(), b.begin(), b.end());
  });
  return all;
}
Bits value_bits(qat::Transformer& m) {
  Bits all;
  m.for_each_parameter([&](const qat::Parameter& p) {
    const Bits b = bits_of(p.value);
    all.insert(all.end(), b.begin(), b.end());
  });
  return all;
}

// Rows of random tokens and classes.
qat::Batch random_batch(Random& random, const gpt2::Config& c, std::size_t rows) {
  qat::Batch b;
  b.offsets = {0};
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t length = 1 + random.below(c.positions);
    for (std::size_t t = 0; t < length; ++t) b.ids.push_back(static_cast<std::int32_t>(random.below(c.vocab)));
    b.offsets.push_back(b.ids.size());
    b.labels.push_back(static_cast<std::int32_t>(random.below(c.classes)));
  }
  return b;
}

double step(qat::Transformer& m, qat::AdamW& optimizer, const qat::Batch& batch, const qat::LossOptions& options, double rate,
            qat::Quantization quantization, Executor& executor) {
  m.prepare(quantization, true, executor);
  m.clear_gradients();
  const qat::Loss loss = m.backward(batch, options, executor);
  optimizer.step(m, rate, executor);
  return loss.total;
}

}  // namespace

// The file's gradients "float.grad" of everything but the linear weights are those of the quantized run, bit for bit (they were
// overwritten before they were saved); the case below this one checks them otherwise.
TEST_CASE("qat: losses and gradients of the tiny model are another implementation's") {
  lowbit_test::for_each_level([&](Level) {
    ThreadPool pool(2);
    for (const bool quantized : {false, true}) {
      const std::string prefix = quantized ? "qat_int8." : "float.";
      CAPTURE(prefix);
      qat::Transformer m = golden_model();
      m.prepare(quantized ? qat::Quantization::int8 : qat::Quantization::none, true, pool);
      qat::LossOptions options;
      options.language_weight = 0.2f;
      const qat::Loss loss = m.backward(golden_batch(), options, pool);
      const auto expected = golden().get<double>(prefix + "loss", "F64");  // of classes, of the next token, of both
      // A pass is about 40 operations, each a sum of up to 128 products; their roundings add up like a random walk.
      const double share = 8 * std::sqrt(40.0 * 128) * lowbit_test::unit_roundoff;
      CHECK(std::fabs(loss.classes - expected[0]) < share * expected[0]);
      CHECK(std::fabs(loss.language - expected[1]) < share * expected[1]);
      CHECK(std::fabs(loss.total - expected[2]) < share * expected[2]);
      std::vector<float> logits(12);
      m.classify(golden_batch(), logits, pool);
      const auto expected_logits = golden().get<double>(prefix + "logits", "F64");
      for (std::size_t i = 0; i < logits.size(); ++i)
        CHECK(std::fabs(static_cast<double>(logits[i]) - expected_logits[i]) < share * 4);
      m.for_each_parameter([&](const qat::Parameter& p) {
        CAPTURE(p.name);
        const auto gradient = oriented(p, golden().get<double>(prefix + "grad." + p.name, "F64"));
        REQUIRE(gradient.size() == p.size());
        if (!quantized && !p.linear) return;
        double largest = 0, worst = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
          largest = std::max(largest, std::fabs(gradient[i]));
          worst = std::max(worst, std::fabs(gradient[i] - static_cast<double>(p.gradient[i])));
        }
        CHECK(worst <= share * largest);
      });
    }
  });
}

TEST_CASE("qat: the gradient of the whole model is the slope of its loss") {
  ThreadPool pool(2);
  Random random(11);
  gpt2::Config c = tiny_shape();
  qat::Transformer m = golden_model();
  const qat::Batch batch = random_batch(random, c, 5);
  qat::LossOptions options;
  options.language_weight = 0.3f;
  options.label_smoothing = 0.1f;
  options.dropout = 0.2f;
  options.language_share = 0.6;
  options.stream = 5;
  const auto loss = [&] {
    m.prepare(qat::Quantization::none, true, pool);
    m.clear_gradients();
    return m.backward(batch, options, pool).total;
  };
  loss();
  // Along a random direction of one parameter at a time: the loss is float, so the step is what its rounding allows.  Error of the
  // difference: h^2 times a third derivative, and the loss's rounding, some 1e-7 of 5, by h.
  std::vector<std::pair<qat::Parameter*, std::vector<float>>> parameters;
  m.for_each_parameter(
      [&](qat::Parameter& p) { parameters.emplace_back(&p, std::vector<float>(p.gradient.begin(), p.gradient.end())); });
  for (auto& entry : parameters) {
    qat::Parameter* const p = entry.first;  // clang 14 does not let lambdas capture structured bindings
    const std::vector<float>& gradient = entry.second;
    CAPTURE(p->name);
    const std::vector<float> before(p->value.begin(), p->value.end());
    double length = 0, slope = 0;
    for (const float g : gradient) length += static_cast<double>(g) * static_cast<double>(g);
    length = std::sqrt(length);
    if (length == 0) continue;
    // the gradient's own direction, disturbed
    std::vector<float> direction;
    for (const float g : gradient)
      direction.push_back(static_cast<float>(static_cast<double>(g) / length) +
                          0.5f * random.normal() / std::sqrt(static_cast<float>(gradient.size())));
    for (std::size_t i = 0; i < gradient.size(); ++i) slope += static_cast<double>(gradient[i]) * static_cast<double>(direction[i]);
    const double h = 1e-2;
    const auto at = [&](double by) {
      for (std::size_t i = 0; i < before.size(); ++i)
        p->value[i] = before[i] + static_cast<float>(by * static_cast<double>(direction[i]));
      return loss();
    };
    const double found = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    std::copy(before.begin(), before.end(), p->value.begin());
    CHECK(std::fabs(found - slope) < 1e-4 + 2e-3 * std::fabs(slope));
  }
}

TEST_CASE("qat: threads change no bit of a gradient") {
  Random random(12);
  gpt2::Config c = tiny_shape();
  c.width = 60;
  c.heads = 3;
  c.inner = 100;
  for (const auto quantization : {qat::Quantization::none, qat::Quantization::int8}) {
    const qat::Batch batch = random_batch(random, c, 19);
    qat::LossOptions options;
    options.language_weight = 0.2f;
    options.dropout = 0.1f;
    std::vector<Bits> found;
    for (const std::size_t threads : {1u, 2u, 3u, 8u}) {
      ThreadPool pool(threads);
      qat::Transformer m(c, 3);
      m.prepare(quantization, true, pool);
      m.backward(batch, options, pool);
      found.push_back(gradient_bits(m));
    }
    for (const Bits& f : found) REQUIRE(f == found[0]);
  }
}

TEST_CASE("qat: gradients of a batch in parts add up") {
  ThreadPool pool(2);
  Random random(13);
  qat::Transformer m(tiny_shape(), 3), parts(tiny_shape(), 3);
  const qat::Batch a = random_batch(random, m.config, 4), b = random_batch(random, m.config, 4);
  qat::Batch both = a;
  both.ids.insert(both.ids.end(), b.ids.begin(), b.ids.end());
  both.labels.insert(both.labels.end(), b.labels.begin(), b.labels.end());
  for (std::size_t r = 1; r < b.offsets.size(); ++r) both.offsets.push_back(a.offsets.back() + b.offsets[r]);
  m.prepare(qat::Quantization::none, true, pool);
  parts.prepare(qat::Quantization::none, true, pool);
  m.backward(both, {}, pool);
  qat::LossOptions half;
  half.scale = 0.5f;
  parts.backward(a, half, pool);
  parts.backward(b, half, pool);
  m.for_each_parameter([&](const qat::Parameter& p) {
    parts.for_each_parameter([&](const qat::Parameter& q) {
      if (q.name != p.name) return;
      double largest = 0, worst = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        largest = std::max(largest, std::fabs(static_cast<double>(p.gradient[i])));
        worst = std::max(worst, std::fabs(static_cast<double>(p.gradient[i]) - static_cast<double>(q.gradient[i])));
      }
      CAPTURE(p.name);
      CHECK(worst <= 1e-4 * largest);
    });
  });
}

TEST_CASE("qat: frozen parameters get no gradient and keep their values") {
  ThreadPool pool(2);
  Random random(14);
  qat::Transformer m(tiny_shape(), 3);
  m.token_embedding.freeze();
  m.position_embedding.freeze();
  const Bits before = bits_of(m.token_embedding.value);
  qat::AdamW optimizer;
  qat::LossOptions options;
  options.language_weight = 1;
  step(m, optimizer, random_batch(random, m.config, 4), options, 0.1, qat::Quantization::none, pool);
  CHECK(bits_of(m.token_embedding.value) == before);
  CHECK(m.token_embedding.gradient.empty());
  CHECK(m.token_embedding.first_moment.empty());
}

TEST_CASE("qat: a run that is taken up from a checkpoint has the losses of one that was not stopped") {
  const Folder folder;
  ThreadPool pool(2);
  for (const auto quantization : {qat::Quantization::none, qat::Quantization::int8}) {
    std::vector<qat::Batch> batches;
    Random random(15);
    for (int i = 0; i < 8; ++i) batches.push_back(random_batch(random, tiny_shape(), 6));
    const auto run = [&](qat::Transformer& m, qat::AdamW& o, std::size_t first, std::size_t last) {
      std::vector<double> losses;
      for (std::size_t i = first; i < last; ++i) {
        qat::LossOptions options;
        options.dropout = 0.1f;
        options.language_weight = 0.2f;
        options.stream = i;
        losses.push_back(step(m, o, batches[i], options, 1e-3, quantization, pool));
      }
      return losses;
    };
    qat::Transformer whole(tiny_shape(), 3), first(tiny_shape(), 3), second(tiny_shape(), 99);
    qat::AdamW a, b, c;
    const std::vector<double> expected = run(whole, a, 0, 8);
    run(first, b, 0, 4);
    qat::save_checkpoint(folder / "checkpoint.safetensors", first, b, {{"note", "mine"}});
    const io::Metadata notes = qat::load_checkpoint(folder / "checkpoint.safetensors", second, c);
    CHECK(notes == io::Metadata{{"note", "mine"}});
    CHECK(c.steps == 4);
    const std::vector<double> found = run(second, c, 4, 8);
    CHECK(found == std::vector<double>(expected.begin() + 4, expected.end()));
    CHECK(value_bits(second) == value_bits(whole));
  }
  // Another shape, and files that are none.
  gpt2::Config other = tiny_shape();
  other.vocab = 51;
  qat::Transformer wrong(other, 1);
  const Bits before = value_bits(wrong);
  qat::AdamW optimizer;
  CHECK(lowbit_test::unsaid<FormatError>([&] { qat::load_checkpoint(folder / "checkpoint.safetensors", wrong, optimizer); },
                                         {"checkpoint.safetensors", "transformer.wte.weight", "[51, 32]", "[50, 32]"}) == "");
  CHECK(value_bits(wrong) == before);
  io::write_safetensors(folder / "other.safetensors", {}, {{"format", "pt"}});
  CHECK(lowbit_test::unsaid<FormatError>([&] { qat::load_checkpoint(folder / "other.safetensors", wrong, optimizer); },
                                         {"other.safetensors", "training checkpoint"}) == "");
  CHECK_THROWS_AS(qat::load_checkpoint(folder / "missing.safetensors", wrong, optimizer), IoError);
  // Steps that are no number, or more than any run has.
  for (const char* steps : {"", "-1", "1e3", "1000000000000000000"}) {
    io::write_safetensors(folder / "steps.safetensors", {}, {{"kind", qat::checkpoint_kind}, {"optimizer_steps", steps}});
    CHECK(lowbit_test::unsaid<FormatError>([&] { qat::load_checkpoint(folder / "steps.safetensors", wrong, optimizer); },
                                           {"steps.safetensors", "optimizer_steps", "a number"}) == "");
  }
  // A moment without the other one, of another shape, in a file that says it was never trained.
  const io::SafeTensors trained = io::SafeTensors::open(folder / "checkpoint.safetensors");
  std::vector<io::TensorToWrite> tensors;
  for (const io::TensorView& t : trained.tensors())
    if (t.name.starts_with("value.")) tensors.push_back({t.name, t.dtype, t.shape, t.data});
  const std::string name = "second_moment.transformer.wte.weight";
  tensors.push_back({name, io::DType::F32, {2}, trained.at(name).data.first(2 * sizeof(float))});
  io::Metadata metadata = trained.metadata();
  for (auto& [key, value] : metadata)
    if (key == "optimizer_steps") value = "0";
  io::write_safetensors(folder / "moment.safetensors", tensors, metadata);
  qat::Transformer right(tiny_shape(), 1);
  const Bits as_made = value_bits(right);
  CHECK(lowbit_test::unsaid<FormatError>([&] { qat::load_checkpoint(folder / "moment.safetensors", right, optimizer); },
                                         {"moment.safetensors", "first_moment.transformer.wte.weight"}) == "");
  CHECK(value_bits(right) == as_made);
}

TEST_CASE("qat: what is wrong with a batch or a shape is said") {
  SerialExecutor serial;
  qat::Transformer m(tiny_shape(), 1);
  m.prepare(qat::Quantization::none, true, serial);
  const auto refused = [&](qat::Batch b, std::initializer_list<std::string_view> words) {
    return lowbit_test::unsaid<InvalidArgument>([&] { m.backward(b, {}, serial); }, words);
  };
  CHECK(refused({{1, 2}, {0, 2}, {4}}, {"row 0", "class below 4", "found 4"}) == "");
  CHECK(refused({{1, 50}, {0, 2}, {1}}, {"ids below 50", "found 50"}) == "");
  CHECK(refused({{1, -1}, {0, 2}, {1}}, {"ids below 50", "found -1"}) == "");
  CHECK(refused({{1, 2}, {0, 1}, {1}}, {"offsets from 0 to 2"}) == "");
  CHECK(refused({{1, 2}, {0, 0, 2}, {1, 1}}, {"row 0 is empty"}) == "");
  CHECK(refused({std::vector<std::int32_t>(17), {0, 17}, {1}}, {"longer than 16"}) == "");
  CHECK(refused({{}, {0}, {}}, {"offsets"}) == "");
  std::vector<float> small(3);
  CHECK_THROWS_AS(m.classify({{1, 2}, {0, 2}, {1}}, small, serial), InvalidArgument);
  qat::LossOptions wild;
  wild.dropout = 1;
  CHECK_THROWS_AS(m.backward({{1, 2}, {0, 2}, {1}}, wild, serial), InvalidArgument);
  gpt2::Config odd = tiny_shape();
  odd.heads = 3;
  CHECK(lowbit_test::unsaid<InvalidArgument>([&] { qat::Transformer(odd, 1); }, {"multiple of its heads", "3 heads"}) == "");
}

TEST_CASE("qat: a model with NF4 in the loop is the NF4 model that its weights make") {
  ThreadPool pool(2);
  Random random(16);
  const Folder folder;
  qat::Transformer m(tiny_shape(), 5);
  qat::AdamW optimizer;
  const qat::Batch batch = random_batch(random, m.config, 8);
  double first = 0, last = 0;
  for (int i = 0; i < 30; ++i) {
    last = step(m, optimizer, batch, {}, 3e-3, qat::Quantization::nf4, pool);
    if (i == 0) first = last;
  }
  CHECK(last < first / 2);
  std::vector<gpt2::NamedParameter> parameters;
  m.for_each_parameter([&](const qat::Parameter& p) {
    parameters.push_back({p.name, p.decays ? std::vector{p.rows, p.cols} : std::vector{p.cols}, p.value.span()});
  });
  gpt2::write_model_folder(folder.path(), m.config, parameters);
  gpt2::ModelOptions<NF4Tensor<>> in_f32;  // as the training products
  in_f32.linear.compute = Compute::f32;
  const auto exported = gpt2::Model<NF4Tensor<>>::load(folder.path(), in_f32);
  std::vector<float> trained(batch.rows() * 4), found(trained.size());
  m.prepare(qat::Quantization::nf4, false, pool);
  m.classify(batch, trained, pool);
  exported.classify(batch.ids, batch.offsets, found, pool);
  const double share = 8 * std::sqrt(40.0 * 128) * lowbit_test::unit_roundoff;  // as above
  for (std::size_t i = 0; i < found.size(); ++i)
    CHECK(std::fabs(static_cast<double>(trained[i]) - static_cast<double>(found[i])) < share * 8);
}

namespace {

struct News {
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::size_t> labels;
  std::vector<std::string> texts;
};
const News& news() {
  static const News all = [] {
    News n;
    const auto tokenizer = gpt2::Tokenizer::load(lowbit::testing::assets_dir() / "gpt2-mini-ag-news");
    for (const auto& row : io::read_news(lowbit::testing::assets_dir() / "news_items.csv")) {
      n.texts.push_back(row.title + " " + row.description);
      n.ids.push_back(tokenizer.encode(n.texts.back()));
      n.labels.push_back(static_cast<std::size_t>(row.label));
    }
    return n;
  }();
  return all;
}
qat::Batch batch_of(const std::vector<std::size_t>& rows) {
  qat::Batch b;
  b.offsets = {0};
  for (const std::size_t r : rows) {
    b.ids.insert(b.ids.end(), news().ids[r].begin(), news().ids[r].end());
    b.offsets.push_back(b.ids.size());
    b.labels.push_back(static_cast<std::int32_t>(news().labels[r]));
  }
  return b;
}
std::size_t right_of(qat::Transformer& m, const std::vector<std::size_t>& rows, Executor& executor) {
  const qat::Batch b = batch_of(rows);
  std::vector<float> logits(rows.size() * m.config.classes);
  m.classify(b, logits, executor);
  std::size_t right = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i * m.config.classes);
    right += static_cast<std::size_t>(std::max_element(row, row + static_cast<std::ptrdiff_t>(m.config.classes)) - row) ==
             news().labels[rows[i]];
  }
  return right;
}

// Multinomial naive Bayes over lower-case words, add-one smoothing: the bag-of-words baseline.
std::size_t bag_of_words_right(const std::vector<std::size_t>& train, const std::vector<std::size_t>& test) {
  const auto words = [](const std::string& text) {
    std::vector<std::string> result(1);
    for (const char ch : text) {
      const auto u = static_cast<unsigned char>(ch);
      if (std::isalnum(u))
        result.back() += static_cast<char>(std::tolower(u));
      else if (!result.back().empty())
        result.emplace_back();
    }
    if (result.back().empty()) result.pop_back();
    return result;
  };
  std::map<std::string, std::vector<double>> counts;
  std::vector<double> totals(4), rows(4);
  for (const std::size_t r : train) {
    ++rows[news().labels[r]];
    for (const std::string& w : words(news().texts[r])) {
      counts.try_emplace(w, 4).first->second[news().labels[r]] += 1;
      totals[news().labels[r]] += 1;
    }
  }
  std::size_t right = 0;
  for (const std::size_t r : test) {
    std::vector<double> score(4);
    for (std::size_t c = 0; c < 4; ++c) score[c] = std::log(rows[c]);
    for (const std::string& w : words(news().texts[r]))
      if (const auto found = counts.find(w); found != counts.end())
        for (std::size_t c = 0; c < 4; ++c)
          score[c] += std::log((found->second[c] + 1) / (totals[c] + static_cast<double>(counts.size())));
    right += static_cast<std::size_t>(std::max_element(score.begin(), score.end()) - score.begin()) == news().labels[r];
  }
  return right;
}

}  // namespace

TEST_CASE("qat: a model from random weights learns 64 rows by heart, in float and with int8 in the loop") {
  ThreadPool pool;
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < 64; ++i) rows.push_back(i * news().ids.size() / 64);
  gpt2::Config c = tiny_shape();
  c.width = 64;
  c.inner = 256;
  c.positions = 256;
  c.vocab = 8192;
  for (const auto quantization : {qat::Quantization::none, qat::Quantization::int8}) {
    qat::Transformer m(c, 21);
    qat::AdamW optimizer;
    std::size_t right = 0;
    int steps = 0;
    for (; right < 64 && steps < 300; ++steps) {
      step(m, optimizer, batch_of(rows), {}, 3e-3, quantization, pool);
      if (steps % 5 == 4) {
        m.prepare(quantization, false, pool);
        right = right_of(m, rows, pool);
      }
    }
    std::printf("64 rows, %s: %zu right after %d steps\n", quantization == qat::Quantization::int8 ? "int8" : "float", right,
                steps);
    CHECK(right == 64);
  }
}

// The body of the bundled model under a new random head, on 300 of the news items; the other 100 are held out.
TEST_CASE("qat: what it learns holds for news items that it has not seen, better than a bag of words", "[.full]") {
  ThreadPool pool;
  std::vector<std::size_t> train, test;
  for (std::size_t i = 0; i < news().ids.size(); ++i)
    (i / 4 % 4 == 3 ? test : train).push_back(i);  // the classes take turns in the file
  const gpt2::FolderParameters source(lowbit::testing::assets_dir() / "gpt2-mini-ag-news");
  for (const auto quantization : {qat::Quantization::none, qat::Quantization::int8}) {
    qat::Transformer m(source);
    Random random(22);
    for (float& v : m.score.value) v = 0.02f * random.normal();
    m.token_embedding.freeze();
    m.position_embedding.freeze();
    qat::AdamW optimizer;
    m.prepare(quantization, false, pool);
    const std::size_t before = right_of(m, test, pool);
    for (std::size_t epoch = 0, count = 0; epoch < 2; ++epoch)
      for (std::size_t i = 0; i + 30 <= train.size(); i += 30, ++count) {
        std::vector<std::size_t> rows;
        for (std::size_t j = 0; j < 30; ++j) rows.push_back(train[(i / 30 + j * 10) % train.size()]);
        step(m, optimizer, batch_of(rows), {}, qat::scheduled_rate(count, 2, 20, 3e-4), quantization, pool);
      }
    m.prepare(quantization, false, pool);
    const std::size_t after = right_of(m, test, pool), words = bag_of_words_right(train, test);
    std::printf("held-out news items, %s: %zu of %zu right before training, %zu after, bag of words %zu\n",
                quantization == qat::Quantization::int8 ? "int8" : "float", before, test.size(), after, words);
    CHECK(after > before + 20);
    CHECK(words > 40);  // the baseline is one
    CHECK(after > words);
  }
}

}  // namespace qat_test
