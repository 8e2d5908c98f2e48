// SPDX-License-Identifier: MIT
// The forward pass of GPT-2: one function per layer, shapes on the arguments.  Rows of a batch stand one behind the other, each at
// its own length, so nothing is padded; and a row's result does not depend on its neighbours or on the number of threads.  A row may
// go on from a cache: prefill and decode are the same pass, with many tokens or with one.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/float_environment.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/gpt2/attention.hpp"
#include "lowbit/gpt2/batch.hpp"
#include "lowbit/gpt2/embedding.hpp"
#include "lowbit/gpt2/kv_cache.hpp"
#include "lowbit/gpt2/layer_norm.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/linear.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// One layer of the model.  C: width.
struct Block {
  LayerNorm ln_1, ln_2;  // before attention; before the MLP
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

// A GPT-2 with its parameters, whatever formats they are in.  Const members are thread safe.
class Transformer {
 public:
  Transformer() = default;
  Config config;                     // shape
  Embedding token_embedding;         // (vocab, C)
  Embedding position_embedding;      // (positions, C)
  std::vector<Block> blocks;         // [layers]
  LayerNorm ln_f;                    // after the last block
  Tensor score;                      // (classes, C); empty: no classification head
  Embedding lm_head;                 // (vocab, C); empty: the token embedding, if the configuration ties them
  Format rest_format = Format::f32;  // how floats beside the linear weights count in the paper's account

  // The class logits of a batch: row i is ids[offsets[i] .. offsets[i+1]), logits (rows, classes), read at each row's last token.
  // Throws InvalidArgument if a row is empty or longer than config.positions, an id is outside the vocabulary, or the model has no
  // classification head.  Thread safe: several threads may call it at once.
  void classify(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<float> logits,
                Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    require(config.classes != 0, [] { return std::string("classify: the model has no classification head"); });
    const std::size_t rows = detail::check_batch(config, ids, offsets), c = config.width;
    require(logits.size() == rows * config.classes, [&] {
      return "classify: room for " + decimal(logits.size()) + " logits, " + decimal(rows) + " rows of " + decimal(config.classes) +
             " classes";
    });
    const lowbit::detail::PerThread<Buffers> buffers;
    Buffers& b = *buffers;
    forward(ids, offsets, {}, b, executor);
    norm_last_tokens(offsets, b, executor);
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
    language_logits(ids, offsets, {}, logits, executor);
  }
  // The same where row r goes on from caches[r] and is appended to it: its tokens stand at positions caches[r]->length() and on.
  // With caches in f32 the logits are those of the whole rows, bit for bit, however the rows were cut; with others they are as if
  // every key and value were rounded.  Exception: Outliers::per_call looks at all tokens of a call.
  // Throws InvalidArgument also if a cache is of another shape, is too small, or is there twice; the caches are then as before.
  void language_logits(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<KvCache* const> caches,
                       std::span<float> logits, Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    check_language_batch("language_logits", ids, offsets, caches);
    const std::size_t tokens = offsets.back() - offsets.front();
    detail::check_room("language_logits", config, logits.size(), tokens, "tokens");
    const lowbit::detail::PerThread<Buffers> buffers;
    Buffers& b = *buffers;
    forward(ids, offsets, caches, b, executor);
    b.normed.grow(checked_mul(tokens, config.width, "activations"));
    layer_norm(ln_f, config.epsilon, b.x.data(), tokens, b.normed.data(), executor);
    apply_head(b.normed.data(), tokens, logits.data(), executor);
  }
  // The logits of the token after each row: logits (rows, vocab), the last ones of language_logits(), bit for bit.
  void next_logits(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<KvCache* const> caches,
                   std::span<float> logits, Executor& executor) const {
    const lowbit::detail::DefaultFloatEnvironment environment;
    check_language_batch("next_logits", ids, offsets, caches);
    const std::size_t rows = offsets.size() - 1;
    detail::check_room("next_logits", config, logits.size(), rows, "rows");
    const lowbit::detail::PerThread<Buffers> buffers;
    Buffers& b = *buffers;
    forward(ids, offsets, caches, b, executor);
    norm_last_tokens(offsets, b, executor);
    apply_head(b.normed.data(), rows, logits.data(), executor);
  }
  // One row.
  void next_logits(std::span<const std::int32_t> ids, KvCache& cache, std::span<float> logits, Executor& executor) const {
    const std::size_t offsets[2] = {0, ids.size()};
    KvCache* const caches[1] = {&cache};
    next_logits(ids, offsets, caches, logits, executor);
  }

  // The linear layers' products as they run, in order: four per block.
  std::vector<MatmulPlan> plans() const {
    std::vector<MatmulPlan> result;
    for (const Block& b : blocks)
      for (const Linear* l : {&b.attention_in, &b.attention_out, &b.mlp_in, &b.mlp_out}) result.push_back(l->plan());
    return result;
  }

  // Counts what the parameters take.
  MemoryReport memory() const {
    MemoryReport m;
    const std::size_t rest_bytes = rest_format == Format::f16 ? 2 : 4;
    const auto rest = [&](std::size_t parameters, std::size_t resident) {
      m.parameters += parameters;
      m.paper_bytes += parameters * rest_bytes;
      m.resident_bytes += resident;
    };
    const auto norm = [&](const LayerNorm& n) { rest(n.gain.size() + n.shift.size(), n.gain.size_bytes() + n.shift.size_bytes()); };
    for (const Embedding* e : {&token_embedding, &position_embedding, &lm_head}) {
      m.parameters += e->size();
      m.paper_bytes += e->element_bytes();
      m.resident_bytes += e->resident_bytes();
    }
    rest(score.size(), score.resident_bytes());
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
  // What a thread keeps between calls.
  struct Buffers {
    AlignedBuffer<float> x, normed, wide, attended, last;
    PreparedInput normed_input, inner_input;
  };
  void check_language_batch(const char* what, std::span<const std::int32_t> ids, std::span<const std::size_t> offsets,
                            std::span<KvCache* const> caches) const {
    require(config.tied || lm_head.rows() != 0, [&] { return std::string(what) + ": the model has no language-model head"; });
    detail::check_batch(config, ids, offsets);
    detail::check_caches(what, config, offsets, caches);
  }

  // x (T, C): the residual stream after the last block.  caches: of the rows, which grow; or none.
  void forward(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<KvCache* const> caches,
               Buffers& b, Executor& executor) const {
    const std::size_t tokens = offsets.back() - offsets.front(), c = config.width;
    b.x.grow(checked_mul(tokens, c, "activations"));
    b.attended.grow(checked_mul(tokens, c, "activations"));
    b.wide.grow(checked_mul(tokens, 3 * c, "activations"));
    embed(ids, offsets, caches, b.x.data());
    const MatrixView<float> x(b.x.data(), tokens, c), qkv(b.wide.data(), tokens, 3 * c), attended(b.attended.data(), tokens, c);
    const MatrixView<float> no_floats;  // only the next layer reads it, as its input
    const CallOptions call{&executor};
    const Epilogue add_to_x{Activation::none, x};
    for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
      const Block& block = blocks[layer];
      block.attention_in.shape(b.normed_input);
      layer_norm(block.ln_1, config.epsilon, x.data, tokens, b.normed_input, executor);
      block.attention_in.forward(b.normed_input, qkv, {}, call);
      if (caches.empty())
        attention(qkv.data, offsets, config.heads, c, attended.data, executor);
      else
        attention(qkv.data, offsets, caches, layer, config.heads, c, attended.data, executor);
      block.attention_out.forward(attended, x, add_to_x, call);
      block.mlp_in.shape(b.normed_input);
      block.mlp_out.shape(b.inner_input);
      layer_norm(block.ln_2, config.epsilon, x.data, tokens, b.normed_input, executor);
      block.mlp_in.forward(b.normed_input, no_floats, {config.activation, {}, &b.inner_input}, call);
      block.mlp_out.forward(b.inner_input, x, add_to_x, call);
    }
    for (std::size_t r = 0; r < caches.size(); ++r) caches[r]->grow(offsets[r + 1] - offsets[r]);
  }

  // normed (rows, C) = the normalized last token of every row of x.
  void norm_last_tokens(std::span<const std::size_t> offsets, Buffers& b, Executor& executor) const {
    const std::size_t rows = offsets.size() - 1, c = config.width;
    b.normed.grow(checked_mul(rows, c, "activations"));
    b.last.grow(checked_mul(rows, c, "activations"));
    for (std::size_t r = 0; r < rows; ++r)
      std::copy_n(b.x.data() + (offsets[r + 1] - 1 - offsets[0]) * c, c, b.last.data() + r * c);
    layer_norm(ln_f, config.epsilon, b.last.data(), rows, b.normed.data(), executor);
  }
  // logits (rows, vocab) of normalized x (rows, C).
  void apply_head(const float* x, std::size_t rows, float* logits, Executor& executor) const {
    const Embedding& head = lm_head.rows() != 0 ? lm_head : token_embedding;
    head.multiply(MatrixView<const float>(x, rows, config.width), MatrixView<float>(logits, rows, config.vocab), executor);
  }

  // out (T, C): token embedding plus position embedding.
  void embed(std::span<const std::int32_t> ids, std::span<const std::size_t> offsets, std::span<KvCache* const> caches,
             float* out) const {
    const std::size_t c = config.width;
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
      const std::size_t tokens = offsets[r + 1] - offsets[r], first = caches.empty() ? 0 : caches[r]->length();
      token_embedding.rows_of(ids.data() + offsets[r], 0, tokens, out, false);
      position_embedding.rows_of(nullptr, first, tokens, out, true);
      out += tokens * c;
    }
  }
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
