// SPDX-License-Identifier: MIT
// Where the blocks of a row begin when the block size does not divide the depth: rows of the weights whose blocks begin alike form
// an offset class, and are packed together.  One description for the weights, the activations and the results.
#pragma once
#include <cstddef>
#include <numeric>

#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Row n begins n * k elements into a stream of blocks, so classes repeat: row n is of class n % classes.  A class's rows begin in the
// middle of a block, and maybe of a group of 8: that group is padded in front, by `shift` elements, and x with zeros likewise.
struct BlockOffsets {
  static constexpr std::size_t group = 8;
  std::size_t k = 0, block = 0;
  std::size_t classes = 1;  // that differ; weights may be cut into a multiple of them, whose begins repeat

  BlockOffsets() = default;
  BlockOffsets(std::size_t depth, std::size_t block_size)
      : k(depth), block(block_size), classes(block_size / std::gcd(depth, block_size)) {}
  bool operator==(const BlockOffsets&) const = default;
  explicit operator bool() const { return block != 0; }

  // Elements of its first block that belong to the row before.
  std::size_t begin(std::size_t offset_class) const { return offset_class * k % block; }
  std::size_t lead(std::size_t offset_class) const {
    return begin(offset_class) / group * group;
  }  // whole groups of them, which are not stored
  std::size_t shift(std::size_t offset_class) const { return begin(offset_class) % group; }  // the rest
  std::size_t padded(std::size_t offset_class) const { return whole_groups(k + shift(offset_class)); }

  // x is held once for every shift, in copies of equal length.
  std::size_t step() const { return std::gcd(k, group); }
  std::size_t copies() const { return block == 0 ? 1 : group / step(); }
  std::size_t copy_of(std::size_t offset_class) const { return shift(offset_class) / step(); }
  std::size_t copy_k() const { return whole_groups(k + group - step()); }
  // Room for the chunks of a row in one class: every block that it touches may end with a short one.
  std::size_t chunk_slots(std::size_t chunk) const { return copy_k() / chunk + k / block + 2; }

  static constexpr std::size_t whole_groups(std::size_t n) { return (n + group - 1) / group * group; }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
