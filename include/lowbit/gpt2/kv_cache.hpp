// SPDX-License-Identifier: MIT
// The keys and values of one sequence, so that its next token costs one token's work.  Each sequence has a cache of its own: a batch
// is a list of caches, and sequences come and go by being in the list or not.
#pragma once
#include <cstddef>
#include <string>
#include <utility>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/gpt2/parameters.hpp"
#include "lowbit/kernel/ops/args.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// The keys and values of one sequence.  Move-only.  One call at a time may use a cache.
class KvCache {
 public:
  KvCache() = default;
  // Room for `capacity` tokens of a model of this shape, 1 to config.positions.  format: f32; bf16 (rounded to nearest, half the
  // memory); int8 (a scale for every head's row, absmax / 127; a bit more than a quarter).  All memory is taken here.
  // Throws InvalidArgument for another format or capacity.
  KvCache(const Config& config, std::size_t capacity, Format format = Format::f32)
      : format_(format), layers_(config.layers), heads_(config.heads), width_(config.width), capacity_(capacity) {
    require(format == Format::f32 || format == Format::bf16 || format == Format::int8,
            [&] { return std::string("KvCache: expected f32, bf16 or int8, found ") + format_name(format); });
    require(capacity >= 1 && capacity <= config.positions, [&] {
      return "KvCache: capacity: expected 1 to the model's " + decimal(config.positions) + " positions, found " + decimal(capacity);
    });
    memory_.reset(checked_mul(layers_ * heads_, head_bytes(), "KvCache"));
  }
  KvCache(KvCache&& other) noexcept { *this = std::move(other); }
  KvCache& operator=(KvCache&& other) noexcept {
    format_ = other.format_;
    layers_ = other.layers_;
    heads_ = other.heads_;
    width_ = other.width_;
    capacity_ = std::exchange(other.capacity_, 0);
    length_ = std::exchange(other.length_, 0);
    memory_ = std::move(other.memory_);
    return *this;
  }

  Format format() const { return format_; }                            // of keys and values: f32, bf16 or int8
  std::size_t length() const { return length_; }                       // tokens so far: the position of the next one
  std::size_t capacity() const { return capacity_; }                   // most tokens
  std::size_t resident_bytes() const { return memory_.size_bytes(); }  // of memory, taken when it was made
  // Forgets all tokens from `length` on; what follows is as if they had never been there.  Throws InvalidArgument if there are fewer.
  void truncate(std::size_t length) {
    require(length <= length_,
            [&] { return "KvCache: truncate to " + decimal(length) + " tokens: there are " + decimal(length_); });
    length_ = length;
  }

  // For Transformer: whether the cache is one of this shape; where a head of a layer stands; `tokens` more are there, of every layer.
  bool fits(const Config& config) const { return layers_ == config.layers && heads_ == config.heads && width_ == config.width; }
  // Where a head of a layer stands.
  lowbit::detail::KvHead head(std::size_t layer, std::size_t head) {
    std::byte* const at = memory_.data() + (layer * heads_ + head) * head_bytes();
    lowbit::detail::KvHead h;
    h.element = lowbit::detail::element_of(format_);
    h.depth = width_ / heads_;
    h.keys = at;
    h.values = at + keys_bytes();
    if (format_ == Format::int8) {
      h.key_scales = reinterpret_cast<float*>(at + keys_bytes() + values_bytes());
      h.value_scales = h.key_scales + lowbit::detail::kv_padded(capacity_);
    }
    return h;
  }
  // Counts `tokens` that have been appended to every layer.
  void grow(std::size_t tokens) { length_ += tokens; }

 private:
  std::size_t element_bytes() const { return lowbit::detail::element_bits(format_) / 8; }
  std::size_t keys_bytes() const { return lowbit::detail::kv_padded(capacity_) * (width_ / heads_) * element_bytes(); }
  std::size_t values_bytes() const {
    return lowbit::detail::kv_padded(capacity_) * lowbit::detail::kv_padded(width_ / heads_) * element_bytes();
  }
  std::size_t head_bytes() const {
    const std::size_t scales = format_ == Format::int8 ? 2 * lowbit::detail::kv_padded(capacity_) * sizeof(float) : 0;
    return keys_bytes() + values_bytes() + scales;
  }

  Format format_ = Format::f32;
  std::size_t layers_ = 0, heads_ = 1, width_ = 0, capacity_ = 0, length_ = 0;
  AlignedBuffer<std::byte> memory_;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
