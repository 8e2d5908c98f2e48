// SPDX-License-Identifier: MIT
// What a batch of a transformer must be: rows of ids, their caches, and room for logits.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/kv_cache.hpp"
#include "lowbit/gpt2/parameters.hpp"

namespace lowbit::gpt2::detail::inline LOWBIT_ABI {

// Rows of a batch.  Throws InvalidArgument if one is empty, not inside ids or longer than the model's positions, or an id is outside
// the vocabulary.
inline std::size_t check_batch(const Config& config, std::span<const std::int32_t> ids, std::span<const std::size_t> offsets) {
  require(offsets.size() >= 2, [] { return std::string("a batch needs at least one row: offsets must hold rows + 1 values"); });
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
    require(offsets[r] < offsets[r + 1] && offsets[r + 1] <= ids.size(), [&] {
      return "row " + decimal(r) + " of the batch: [" + decimal(offsets[r]) + ", " + decimal(offsets[r + 1]) + ") of " +
             decimal(ids.size()) + " ids is empty or out of range";
    });
    require(offsets[r + 1] - offsets[r] <= config.positions, [&] {
      return "row " + decimal(r) + " of the batch has " + decimal(offsets[r + 1] - offsets[r]) + " tokens; the model has " +
             decimal(config.positions) + " positions";
    });
  }
  for (std::size_t i = offsets.front(); i < offsets.back(); ++i)
    require(ids[i] >= 0 && static_cast<std::size_t>(ids[i]) < config.vocab,
            [&] { return "token id " + decimal(ids[i]) + " is outside the vocabulary of " + decimal(config.vocab); });
  return offsets.size() - 1;
}

// Throws InvalidArgument if a row's cache is missing, of another shape, too small, or there twice; none at all are right.
inline void check_caches(const char* what, const Config& config, std::span<const std::size_t> offsets,
                         std::span<KvCache* const> caches) {
  if (caches.empty()) return;
  const std::size_t rows = offsets.size() - 1;
  require(caches.size() == rows,
          [&] { return std::string(what) + ": " + decimal(caches.size()) + " caches for " + decimal(rows) + " rows"; });
  for (std::size_t r = 0; r < rows; ++r) {
    const auto in_row = [&](const std::string& text) {
      return std::string(what) + ": the cache of row " + decimal(r) + " of the batch " + text;
    };
    require(caches[r] != nullptr, [&] { return in_row("is null"); });
    require(caches[r]->fits(config), [&] { return in_row("was made for a model of another shape"); });
    require(std::find(caches.begin(), caches.begin() + static_cast<std::ptrdiff_t>(r), caches[r]) ==
                caches.begin() + static_cast<std::ptrdiff_t>(r),
            [&] { return in_row("is that of another row too"); });
    const std::size_t tokens = offsets[r + 1] - offsets[r];
    require(tokens <= caches[r]->capacity() - caches[r]->length(), [&] {
      return in_row("holds " + decimal(caches[r]->length()) + " of " + decimal(caches[r]->capacity()) +
                    " tokens, without room for " + decimal(tokens) + " more");
    });
  }
}
// Throws InvalidArgument if there is not room for the logits of `count` rows or tokens.
inline void check_room(const char* what, const Config& config, std::size_t room, std::size_t count, const char* of) {
  require(room == checked_mul(count, config.vocab, "logits"), [&] {
    return std::string(what) + ": room for " + decimal(room) + " logits, " + decimal(count) + " " + of + " of vocabulary " +
           decimal(config.vocab);
  });
}

}  // namespace lowbit::gpt2::detail::inline LOWBIT_ABI
