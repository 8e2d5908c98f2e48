// SPDX-License-Identifier: MIT
// The forward pass of GPT-2: one function per layer, shapes on the arguments.  Rows of a batch stand one behind the other, each at
// its own length, so nothing is padded; and a row's result does not depend on its neighbours or on the number of threads.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/gpt2/attention.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/linear.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// T: tokens of all rows together, C: width.
struct LayerNorm {
  AlignedBuffer<float> gain, shift;  // [C]
};
struct Block {
  LayerNorm ln_1, ln_2;
  Linear attention_in;   // (3C, C): q, k, v
  Linear attention_out;  // (C, C)
  Linear mlp_in;         // (4C, C)
  Linear mlp_out;        // (C, 4C)
};

// What a model weighs.
struct MemoryReport {
  std::size_t parameters = 0;         // of the whole model
  std::size_t linear_parameters = 0;  // of those, in the weights of the linear layers of the blocks
  std::size_t paper_bytes = 0;     // the paper's account: bytes of the elements, and transformers' causal-mask buffers; no scales
  std::size_t resident_bytes = 0;  // what is held: scales and padding included, no mask buffers
};

class Transformer {
 public:
  Transformer() = default;
  Config config;
  Tensor token_embedding;     // (vocab, C), f32 or f16
  Tensor position_embedding;  // (positions, C)
  std::vector<Block> blocks;
  LayerNorm ln_f;
  Tensor score;                      // (classes, C); empty: no classification head
  Tensor lm_head;                    // (vocab, C); empty: the token embedding, if the configuration ties them
  Format rest_format = Format::f32;  // how everything but the linear weights counts in the paper's account

  // The class logits of a batch: row i is ids[offsets[i] .. offsets[i+1]), logits (rows, classes), read at each row's last token.
  // Throws InvalidArgument if a row is empty or longer than config.positions, an id is outside the vocabulary, or the model has no
  // classification head.  Thread safe: several threads may call it at once.
  void classify(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<float> logits,
                Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    require(config.classes != 0, [] { return std::string("classify: the model has no classification head"); });
    const std::size_t rows = check_batch(ids, offsets), c = config.width;
    require(logits.size() == rows * config.classes, [&] {
      return "classify: room for " + std::to_string(logits.size()) + " logits, " + std::to_string(rows) + " rows of " +
             std::to_string(config.classes) + " classes";
    });
    const lowbit::detail::PerThread<Buffers> buffers;
    Buffers& b = *buffers;
    forward(ids, offsets, b, executor);
    b.normed.grow(checked_mul(rows, c, "activations"));
    b.last.grow(checked_mul(rows, c, "activations"));
    for (std::size_t r = 0; r < rows; ++r)
      std::copy_n(b.x.data() + (offsets[r + 1] - 1 - offsets[0]) * c, c, b.last.data() + r * c);
    layer_norm(ln_f, b.last.data(), rows, b.normed.data(), executor);
    MatmulOptions o;
    o.compute = Compute::f32;
    o.executor = &executor;
    matmul(MatrixView<const float>(b.normed.data(), rows, c), score, MatrixView<float>(logits.data(), rows, config.classes), o);
  }
  // One row.
  std::vector<float> classify(std::span<const std::int32_t> ids, Executor& executor) const {
    const std::size_t offsets[2] = {0, ids.size()};
    std::vector<float> logits(config.classes);
    classify(ids, offsets, logits, executor);
    return logits;
  }

  // The next-token logits at every token of a batch: logits (tokens, vocab).  Throws and threads as classify(); the head is the
  // token embedding if the configuration ties them, else it must be there.
  void language_logits(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<float> logits,
                       Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    require(config.tied || lm_head.rows() != 0,
            [] { return std::string("language_logits: the model has no language-model head"); });
    check_batch(ids, offsets);
    const std::size_t tokens = offsets.back() - offsets.front(), c = config.width;
    require(logits.size() == tokens * config.vocab, [&] {
      return "language_logits: room for " + std::to_string(logits.size()) + " logits, " + std::to_string(tokens) +
             " tokens of vocabulary " + std::to_string(config.vocab);
    });
    const lowbit::detail::PerThread<Buffers> buffers;
    Buffers& b = *buffers;
    forward(ids, offsets, b, executor);
    b.normed.grow(checked_mul(tokens, c, "activations"));
    layer_norm(ln_f, b.x.data(), tokens, b.normed.data(), executor);
    MatmulOptions o;
    o.compute = Compute::f32;
    o.executor = &executor;
    matmul(MatrixView<const float>(b.normed.data(), tokens, c), lm_head.rows() != 0 ? lm_head : token_embedding,
           MatrixView<float>(logits.data(), tokens, config.vocab), o);
  }

  // The linear layers' products as they run, in order: four per block.
  std::vector<MatmulPlan> plans() const {
    std::vector<MatmulPlan> result;
    for (const Block& b : blocks)
      for (const Linear* l : {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out}) result.push_back(l->plan());
    return result;
  }

  MemoryReport memory() const {
    MemoryReport m;
    const std::size_t rest_bytes = rest_format == Format::f16 ? 2 : 4;
    const auto rest = [&](std::size_t parameters, std::size_t resident) {
      m.parameters += parameters;
      m.paper_bytes += parameters * rest_bytes;
      m.resident_bytes += resident;
    };
    const auto norm = [&](const LayerNorm& n) { rest(n.gain.size() + n.shift.size(), n.gain.size_bytes() + n.shift.size_bytes()); };
    for (const Tensor* t : {&token_embedding, &position_embedding, &score, &lm_head}) rest(t->size(), t->resident_bytes());
    norm(ln_f);
    for (const Block& b : blocks) {
      norm(b.ln_1);
      norm(b.ln_2);
      for (const Linear* l : {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out}) {
        m.parameters += l->rows() * l->cols();
        m.linear_parameters += l->rows() * l->cols();
        m.paper_bytes += l->element_bytes();
        m.resident_bytes += l->resident_bytes() - l->bias().size_bytes();
        rest(l->bias().size(), l->bias().size_bytes());
      }
    }
    m.paper_bytes += config.layers * config.positions * config.positions;  // one byte per element of a boolean mask
    return m;
  }

 private:
  // What a thread keeps between calls: activations, and a row of a quantized embedding.
  struct Buffers {
    AlignedBuffer<float> x, normed, wide, attended, last;
    PreparedInput normed_input, inner_input;
  };
  struct DecodedRow {
    AlignedBuffer<float> values;
  };
  std::size_t check_batch(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets) const {
    require(offsets.size() >= 2, [] { return std::string("a batch needs at least one row: offsets must hold rows + 1 values"); });
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
      require(offsets[r] < offsets[r + 1] && offsets[r + 1] <= ids.size(), [&] {
        return "row " + std::to_string(r) + " of the batch: [" + std::to_string(offsets[r]) + ", " +
               std::to_string(offsets[r + 1]) + ") of " + std::to_string(ids.size()) + " ids is empty or out of range";
      });
      require(offsets[r + 1] - offsets[r] <= config.positions, [&] {
        return "row " + std::to_string(r) + " of the batch has " + std::to_string(offsets[r + 1] - offsets[r]) +
               " tokens; the model has " + std::to_string(config.positions) + " positions";
      });
    }
    for (std::size_t i = offsets.front(); i < offsets.back(); ++i)
      require(ids[i] >= 0 && static_cast<std::size_t>(ids[i]) < config.vocab, [&] {
        return "token id " + std::to_string(ids[i]) + " is outside the vocabulary of " + std::to_string(config.vocab);
      });
    return offsets.size() - 1;
  }

  // x (T, C): the residual stream after the last block.
  void forward(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, Buffers& b, Executor& executor) const {
    const std::size_t tokens = offsets.back() - offsets.front(), c = config.width;
    b.x.grow(checked_mul(tokens, c, "activations"));
    b.attended.grow(checked_mul(tokens, c, "activations"));
    b.wide.grow(checked_mul(tokens, 3 * c, "activations"));
    embed(ids, offsets, b.x.data());
    const MatrixView<float> x(b.x.data(), tokens, c), qkv(b.wide.data(), tokens, 3 * c), attended(b.attended.data(), tokens, c);
    const MatrixView<float> no_floats;  // only the next layer reads it, as its input
    const CallOptions call{&executor};
    const Epilogue add_to_x{Activation::none, x};
    for (const Block& block : blocks) {
      block.attention_in.shape(b.normed_input);
      layer_norm(block.ln_1, x.data, tokens, b.normed_input, executor);
      block.attention_in.forward(b.normed_input, qkv, {}, call);
      attention(qkv.data, offsets, config.heads, config.width, attended.data, executor);
      block.attention_out.forward(attended, x, add_to_x, call);
      block.mlp_in.shape(b.normed_input);
      block.mlp_out.shape(b.inner_input);
      layer_norm(block.ln_2, x.data, tokens, b.normed_input, executor);
      block.mlp_in.forward(b.normed_input, no_floats, {config.activation, {}, &b.inner_input}, call);
      block.mlp_out.forward(b.inner_input, x, add_to_x, call);
    }
  }

  // out (T, C): token embedding plus position embedding.
  void embed(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, float* out) const {
    const std::size_t c = config.width;
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
      const std::size_t tokens = offsets[r + 1] - offsets[r];
      add_rows(token_embedding, ids.data() + offsets[r], tokens, out, false);
      add_rows(position_embedding, nullptr, tokens, out, true);
      out += tokens * c;
    }
  }
  // out (rows, C) = or += rows of a table: those of the ids, or the first ones.
  static void add_rows(const Tensor& table, const std::int32_t* ids, std::size_t rows, float* out, bool add) {
    const lowbit::detail::CanonicalWeights w = table.canonical();
    if (lowbit::detail::element_bits(table.format()) >= 16) {
      lowbit::detail::EmbedRowsArgs a;
      a.table = w.codes;
      a.element = w.element;
      a.ids = ids;
      a.rows = rows;
      a.n = table.cols();
      a.out = out;
      a.add = add;
      return lowbit::detail::transformer_kernels().embed_rows(a);
    }
    const lowbit::detail::PerThread<DecodedRow> decoded;
    decoded->values.grow(table.cols());
    for (std::size_t r = 0; r < rows; ++r, out += table.cols()) {
      const std::size_t id = ids ? static_cast<std::size_t>(ids[r]) : r;
      table.dequantize_rows(id, id + 1, decoded->values.data());
      for (std::size_t i = 0; i < table.cols(); ++i) out[i] = add ? out[i] + decoded->values[i] : decoded->values[i];
    }
  }

  // out (rows, C) = normalized x (rows, C).
  void layer_norm(const LayerNorm& n, const float* x, std::size_t rows, float* out, Executor& executor) const {
    lowbit::detail::for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
      layer_norm_rows(n, x + begin * config.width, end - begin, out + begin * config.width);
    });
  }
  // The same as the input of a linear layer.
  void layer_norm(const LayerNorm& n, const float* x, std::size_t rows, PreparedInput& out, Executor& executor) const {
    produce_input(
        rows, [&](std::size_t begin, std::size_t count, float* to) { layer_norm_rows(n, x + begin * config.width, count, to); },
        out, executor);
  }
  void layer_norm_rows(const LayerNorm& n, const float* x, std::size_t rows, float* out) const {
    lowbit::detail::LayerNormArgs a;
    a.x = x;
    a.out = out;
    a.gain = n.gain.data();
    a.shift = n.shift.data();
    a.rows = rows;
    a.n = config.width;
    a.epsilon = config.epsilon;
    lowbit::detail::transformer_kernels().layer_norm(a);
  }
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
