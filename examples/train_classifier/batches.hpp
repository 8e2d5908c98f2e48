// SPDX-License-Identifier: MIT
// The order in which an epoch sees its rows: shuffled, then sorted by length inside windows of many batches, so that a batch's rows
// are about equally long, then the batches shuffled.  A function of seed and epoch alone.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "examples/common/dataset.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/format/finite.hpp"
#include "lowbit/qat/transformer.hpp"

namespace train_classifier {

using Rows = std::vector<std::size_t>;

// Sorts `indices` into a random order; equal for equal streams.
inline void shuffle(std::vector<std::size_t>& indices, std::uint64_t stream) {
  for (std::size_t i = indices.size(); i > 1; --i)
    std::swap(indices[i - 1], indices[static_cast<std::size_t>(lowbit::qat::random_bits(stream, i) % i)]);
}

// The batches of an epoch, as row numbers of `items`.  The last may be smaller than batch_rows.
inline std::vector<Rows> epoch_batches(std::span<const examples::Item> items, std::size_t batch_rows, std::uint64_t seed,
                                       std::uint64_t epoch) {
  constexpr std::size_t window_batches = 64;
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  shuffle(order, lowbit::qat::random_stream(seed, epoch, 1));
  std::vector<std::size_t> rank(order.size());  // in the shuffled order: it decides among equal lengths
  for (std::size_t i = 0; i < order.size(); ++i) rank[order[i]] = i;
  for (std::size_t begin = 0; begin < order.size(); begin += window_batches * batch_rows) {
    const auto end = std::min(order.size(), begin + window_batches * batch_rows);
    std::sort(order.begin() + static_cast<std::ptrdiff_t>(begin), order.begin() + static_cast<std::ptrdiff_t>(end),
              [&](std::size_t a, std::size_t b) {
                const std::size_t length_a = items[a].ids.size(), length_b = items[b].ids.size();
                return length_a != length_b ? length_a < length_b : rank[a] < rank[b];
              });
  }
  std::vector<std::size_t> places(order.size() / batch_rows + (order.size() % batch_rows != 0));
  std::iota(places.begin(), places.end(), std::size_t{0});
  shuffle(places, lowbit::qat::random_stream(seed, epoch, 2));
  std::vector<Rows> batches;
  for (const std::size_t place : places) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(place * batch_rows);
    const auto left = static_cast<std::size_t>(order.end() - begin);
    batches.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(std::min(left, batch_rows)));
  }
  return batches;
}

// Rows one behind the other.
inline lowbit::qat::Batch make_batch(std::span<const examples::Item> items, std::span<const std::size_t> rows) {
  lowbit::qat::Batch batch;
  batch.offsets.push_back(0);
  for (const std::size_t r : rows) {
    batch.ids.insert(batch.ids.end(), items[r].ids.begin(), items[r].ids.end());
    batch.offsets.push_back(batch.ids.size());
    batch.labels.push_back(static_cast<std::int32_t>(items[r].label));
  }
  return batch;
}

// logits (rows, classes).  Throws Error that opens with `model` and names the first row that has a logit which is NaN or infinite:
// no class is the likeliest.
inline void require_finite(std::span<const float> logits, std::size_t classes, std::span<const examples::Item> items,
                           std::span<const std::size_t> rows, const std::string& model) {
  const std::size_t i = lowbit::first_non_finite(logits.data(), logits.size());
  if (i == logits.size()) return;
  lowbit::raise<lowbit::Error>(model + ": test row " + std::to_string(items[rows[i / classes]].row + 1) + ": the logit of class " +
                               std::to_string(i % classes + 1) + " is " + std::to_string(logits[i]));
}

// The class of row `row` of logits (rows, classes): the first of the largest.
inline std::size_t likeliest(std::span<const float> logits, std::size_t row, std::size_t classes) {
  const auto of_row = logits.subspan(row * classes, classes);
  return static_cast<std::size_t>(std::max_element(of_row.begin(), of_row.end()) - of_row.begin());
}

}  // namespace train_classifier
