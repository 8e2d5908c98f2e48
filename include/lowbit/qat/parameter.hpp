// SPDX-License-Identifier: MIT
// A trained parameter: its values, their gradient, and what the optimizer remembers of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "lowbit/base/aligned_buffer.hpp"

namespace lowbit::qat::inline LOWBIT_ABI {

// A matrix or vector that is trained.  Not thread safe to modify.
struct Parameter {
  std::string name;                      // as in a Hugging Face folder, "transformer.h.0.attn.c_attn.weight"
  std::size_t rows = 0, cols = 0;        // a vector has one row; linear weights stand as (out, in), not as Conv1D's (in, out)
  bool decays = false;                   // weight decay applies: matrices, not biases and norms
  bool linear = false;                   // the weight of a linear layer of a block
  bool frozen = false;                   // gets no gradient and keeps its values
  AlignedBuffer<float> value, gradient;  // [rows cols]; gradient: empty where frozen
  AlignedBuffer<float> first_moment, second_moment;  // of AdamW, from its first step on

  Parameter() = default;
  // Zeros, with a gradient of zeros.  matrix: weight decay applies.
  Parameter(std::string its_name, std::size_t its_rows, std::size_t its_cols, bool matrix)
      : name(std::move(its_name)),
        rows(its_rows),
        cols(its_cols),
        decays(matrix),
        value(checked_mul(its_rows, its_cols, "parameter")),
        gradient(its_rows * its_cols) {}
  std::size_t size() const { return value.size(); }
  // It gets no gradient from now on, and the memory for one is freed.
  void freeze() {
    frozen = true;
    gradient = {};
    first_moment = {};
    second_moment = {};
  }
};

// Independent of its neighbours: the i-th number of a stream is a function of the stream's seed and of i alone (splitmix64's mix),
// so it does not matter which thread asks, in what order, or whether a run was resumed.
inline std::uint64_t random_bits(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
// The seed of a stream of its own for every a and b.
inline std::uint64_t random_stream(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0) {
  return random_bits(random_bits(seed, a), b);
}
// In [0, 1).
inline double random_unit(std::uint64_t seed, std::uint64_t i) { return static_cast<double>(random_bits(seed, i) >> 11) * 0x1p-53; }

}  // namespace lowbit::qat::inline LOWBIT_ABI
