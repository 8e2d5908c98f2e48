// SPDX-License-Identifier: MIT
// Quantized embeddings and heads: rows as they decode, and a product over a vocabulary that is no multiple of anything.
#include "lowbit/gpt2/embedding.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "lowbit/lowbit.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/gpt2_models.hpp"
#include "support/io_files.hpp"

namespace embedding_test {

using namespace lowbit_test;  // NOLINT: support/gpt2_models.hpp is made for these files
using lowbit::InvalidArgument;
using lowbit::MatrixView;
using lowbit::Tensor;
using lowbit::ThreadPool;
using lowbit::gpt2::Embedding;

std::vector<float> normals(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}
Tensor quantized(Format format, const std::vector<float>& w, std::size_t rows, std::size_t cols) {
  if (format == Format::int8) return Int8Tensor<>::quantize(w.data(), rows, cols);
  if (format == Format::nf4) return lowbit::NF4Tensor<>::quantize(w.data(), rows, cols);
  if (format == Format::fp4) return lowbit::FP4Tensor<>::quantize(w.data(), rows, cols);
  return DenseTensor<float>::quantize(w.data(), rows, cols);
}

TEST_CASE("Embedding: rows of a packed head are those of the table", "[embedding]") {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{257, 64}, {101, 96}, {1, 64}, {500, 100}, {7, 100}}) {
    const std::vector<float> w = normals(rows * cols, 1);
    for (const Format format : {Format::f32, Format::int8, Format::nf4, Format::fp4}) {
      CAPTURE(rows, cols, lowbit::format_name(format));
      const Embedding table(quantized(format, w, rows, cols)), head = Embedding::head(quantized(format, w, rows, cols));
      CHECK(!table.packed());
      CHECK(head.packed() == lowbit::PackedTensor::packable(quantized(format, w, rows, cols)));
      CHECK(head.format() == format);
      CHECK(head.size() == rows * cols);
      std::vector<float> all(rows * cols), decoded(all.size());
      quantized(format, w, rows, cols).dequantize(all.data());
      head.dequantize(decoded.data());
      CHECK(bits_of(decoded) == bits_of(all));
      const Ids ids = {0, static_cast<std::int32_t>(rows - 1), static_cast<std::int32_t>(rows / 2), 0};
      for (const Embedding* e : {&table, &head}) {
        std::vector<float> found(ids.size() * cols, 1.0f), expected;
        for (const std::int32_t id : ids)
          for (std::size_t i = 0; i < cols; ++i) expected.push_back(all[static_cast<std::size_t>(id) * cols + i]);
        e->rows_of(ids.data(), 0, ids.size(), found.data(), false);
        CHECK(bits_of(found) == bits_of(expected));
        e->rows_of(nullptr, rows / 2, 1, found.data(), true);
        for (std::size_t i = 0; i < cols; ++i) expected[i] += all[rows / 2 * cols + i];
        CHECK(bits_of(found) == bits_of(expected));
      }
    }
  }
}

TEST_CASE("Embedding: logits of a quantized head over awkward vocabularies, every level", "[embedding]") {
  ThreadPool three(3);
  for (const std::size_t vocab : {std::size_t{1}, std::size_t{47}, std::size_t{997}, std::size_t{5021}}) {
    const std::size_t c = 128, m = 3;
    const std::vector<float> w = normals(vocab * c, 2), x = normals(m * c, 3);
    for (const Format format : {Format::int8, Format::nf4, Format::fp4})
      for (const Compute compute : {Compute::f32, Compute::bf16, Compute::int8}) {
        const Embedding head = Embedding::head(quantized(format, w, vocab, c), compute);
        CHECK(head.plan().packed);
        std::vector<float> decoded(vocab * c);
        head.dequantize(decoded.data());
        for (const lowbit::Level level : lowbit::available_levels()) {
          const AtLevel at(level);
          CAPTURE(vocab, lowbit::format_name(format), lowbit::compute_name(compute), lowbit::level_name(level));
          std::vector<float> y(m * vocab), threaded(y.size()), alone(y.size());
          head.multiply({x.data(), m, c}, {y.data(), m, vocab}, serial);
          head.multiply({x.data(), m, c}, {threaded.data(), m, vocab}, three);
          for (std::size_t r = 0; r < m; ++r) head.multiply({x.data() + r * c, 1, c}, {alone.data() + r * vocab, 1, vocab}, three);
          CHECK(bits_of(threaded) == bits_of(y));
          CHECK(bits_of(alone) == bits_of(y));
          // Against exact decode: bf16 rounds both sides by 2^-9, int8 both by half a code; roundings are independent, so the error
          // of a sum of c products is that of one times its root, and eight deviations are never seen.
          double error = 0;
          for (std::size_t r = 0; r < m; ++r)
            for (std::size_t n = 0; n < vocab; ++n) {
              double sum = 0;
              for (std::size_t k = 0; k < c; ++k)
                sum += static_cast<double>(x[r * c + k]) * static_cast<double>(decoded[n * c + k]);
              error = std::max(error, std::fabs(static_cast<double>(y[r * vocab + n]) - sum));
            }
          const double root = std::sqrt(static_cast<double>(c));
          const double bound = compute == Compute::f32 ? 1e-5 : (compute == Compute::bf16 ? 8 * 0x1p-9 : 8.0 * 4 / 127);
          CHECK(error <= bound * root);
        }
      }
  }
}

template <class Weights>
Transformer with_embeddings(std::optional<Format> embeddings, Compute compute = Compute::f32) {
  ModelOptions<Weights> o;
  o.embeddings = embeddings;
  o.linear.compute = compute;
  o.head = compute;
  return Model<Weights>::load(mini_folder, o);
}

TEST_CASE("Embedding: models with quantized embeddings compute with what these decode to", "[embedding]") {
  const Ids ids = short_items(2)[1];
  for (const Format format : {Format::int8, Format::nf4, Format::fp4}) {
    CAPTURE(lowbit::format_name(format));
    const Transformer quantized_model = with_embeddings<DenseTensor<float>>(format);
    Transformer decoded = with_embeddings<DenseTensor<float>>(std::nullopt);
    CHECK(quantized_model.token_embedding.packed());
    CHECK(!quantized_model.position_embedding.packed());
    const auto classes_before = classify(decoded, ids);
    for (auto member : {&Transformer::token_embedding, &Transformer::position_embedding}) {
      const Embedding& from = quantized_model.*member;
      CHECK(from.format() == format);
      std::vector<float> values(from.size());
      from.dequantize(values.data());
      decoded.*member = DenseTensor<float>::quantize(values.data(), from.rows(), from.cols());
    }
    CHECK(bits_of(classify(quantized_model, ids)) == bits_of(classify(decoded, ids)));
    CHECK(bits_of(classify(quantized_model, ids)) != bits_of(classes_before));
    // The head sums in another order than a canonical one.
    CHECK(largest_difference(language_logits(quantized_model, ids), language_logits(decoded, ids)) < 1e-3);
  }
}

TEST_CASE("Embedding: decode with a quantized head gives the whole row's logits to the bit", "[embedding]") {
  const Ids ids = short_items(2)[1];
  const auto check = [&](const Transformer& m) {
    const auto whole = language_logits(m, ids);
    lowbit::gpt2::KvCache cache(m.config, ids.size());
    std::vector<float> logits(m.config.vocab);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      m.next_logits(Ids{ids[t]}, cache, logits, serial);
      const auto expected = std::span(whole).subspan(t * m.config.vocab, m.config.vocab);
      CHECK(bits_of(logits) == bits_of({expected.begin(), expected.end()}));
    }
  };
  check(with_embeddings<lowbit::NF4Tensor<>>(Format::nf4, Compute::automatic));
  check(with_embeddings<lowbit::NF4Tensor<>>(Format::int8, Compute::int8));
  check(with_embeddings<Int8Tensor<>>(Format::int8, Compute::automatic));
  check(with_embeddings<DenseTensor<lowbit::BFloat16>>(Format::bf16, Compute::bf16));
  check(with_embeddings<DenseTensor<float>>(Format::f16, Compute::f32));
  // Packed floats decode to themselves, so only the head's order of summation is another.
  const Transformer packed = with_embeddings<DenseTensor<float>>(Format::f32), plain = with_embeddings<DenseTensor<float>>({});
  CHECK(packed.token_embedding.packed());
  CHECK(bits_of(classify(packed, ids)) == bits_of(classify(plain, ids)));
  CHECK(largest_difference(language_logits(packed, ids), language_logits(plain, ids)) < 1e-3);
}

TEST_CASE("Embedding: what quantized embeddings hold", "[embedding]") {
  const Transformer f32 = with_embeddings<lowbit::NF4Tensor<>>(std::nullopt),
                    int8 = with_embeddings<lowbit::NF4Tensor<>>(Format::int8),
                    nf4 = with_embeddings<lowbit::NF4Tensor<>>(Format::nf4);
  const std::size_t table = f32.config.vocab * f32.config.width, positions = f32.config.positions * f32.config.width;
  CHECK(f32.memory().parameters == nf4.memory().parameters);
  CHECK(f32.memory().resident_bytes - f32.token_embedding.resident_bytes() - f32.position_embedding.resident_bytes() ==
        nf4.memory().resident_bytes - nf4.token_embedding.resident_bytes() - nf4.position_embedding.resident_bytes());
  const auto within = [](std::size_t found, double expected) {
    return static_cast<double>(found) >= expected && static_cast<double>(found) < expected * 1.02;
  };
  const auto elements = static_cast<double>(table), of_positions = static_cast<double>(positions);
  const double scale = 4.0 / static_cast<double>(f32.config.width);
  CHECK(within(int8.token_embedding.resident_bytes(), elements * (1 + scale)));
  CHECK(within(int8.position_embedding.resident_bytes(), of_positions * (1 + scale)));
  CHECK(within(nf4.token_embedding.resident_bytes(), elements * (0.5 + 4.0 / 64)));  // packed: scales in float
  CHECK(within(nf4.position_embedding.resident_bytes(), of_positions * (0.5 + 1.0 / 64)));
  CHECK(f32.memory().paper_bytes - nf4.memory().paper_bytes == (table + positions) * 7 / 2);
}

TEST_CASE("Embedding: formats that are none for embeddings are refused", "[embedding]") {
  CHECK(unsaid<InvalidArgument>([] { with_embeddings<DenseTensor<float>>(Format::llm_int8); },
                                {"wte.weight", "any format but llm_int8"}) == "");
  CHECK(unsaid<InvalidArgument>([] { with_embeddings<Int8Tensor<>>(Format::bf16, Compute::int8); }, {"int8 compute", "bf16"}) ==
        "");
}

}  // namespace embedding_test
