// SPDX-License-Identifier: MIT
// A table of embeddings in any format: its rows are read by id, and as the language model's head it is multiplied too.  It is held
// once, in the layout of whichever needs it more.
#pragma once
#include <cstddef>
#include <utility>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/per_thread.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/matmul.hpp"
#include "lowbit/tensor/packed_tensor.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::gpt2::inline LOWBIT_ABI {

// (n, C).  Move-only; reading from several threads is safe.
class Embedding {
 public:
  Embedding() = default;
  // As it is, multiplied in float32.
  Embedding(Tensor table) : canonical_(std::move(table)) {}  // NOLINT: a table is an embedding
  // Packed for a product of this compute type where the layout can hold it.  Rows decode to the same floats.  Throws InvalidArgument
  // if the format has no such compute type.
  static Embedding head(Tensor table, Compute compute = Compute::automatic) {
    Embedding e;
    e.compute_ = compute;
    if (PackedTensor::packable(table))
      e.packed_ = PackedTensor::pack(table);
    else
      e.canonical_ = std::move(table);
    static_cast<void>(e.plan());
    return e;
  }

  bool packed() const { return packed_.rows() != 0; }                                  // whether it is a head: in panels
  Format format() const { return packed() ? packed_.format() : canonical_.format(); }  // of the elements
  std::size_t rows() const { return packed() ? packed_.rows() : canonical_.rows(); }   // tokens or positions
  std::size_t cols() const { return packed() ? packed_.cols() : canonical_.cols(); }   // width
  std::size_t size() const { return rows() * cols(); }
  std::size_t element_bytes() const { return lowbit::detail::element_bytes(format(), size()); }  // of the elements alone
  // Of everything that is held.
  std::size_t resident_bytes() const { return packed_.resident_bytes() + canonical_.resident_bytes(); }

  // Rows [begin, end) as floats: out (end - begin, C).  Throws InvalidArgument if they are not inside the table.
  void dequantize_rows(std::size_t begin, std::size_t end, float* out) const {
    packed() ? packed_.dequantize_rows(begin, end, out) : canonical_.dequantize_rows(begin, end, out);
  }
  // All rows: out (rows, cols).  Thread safe.
  void dequantize(float* out) const { dequantize_rows(0, rows(), out); }

  // out (count, C) = or, with add, += rows: those of the ids [count], which must be inside the table, or without ids those from
  // `first` on.
  void rows_of(const std::int32_t* ids, std::size_t first, std::size_t count, float* out, bool add) const {
    if (!packed() && lowbit::detail::element_bits(format()) >= 16) {
      const lowbit::detail::CanonicalWeights w = canonical_.canonical();
      lowbit::detail::EmbedRowsArgs a;
      a.table = static_cast<const std::uint8_t*>(w.codes) + lowbit::detail::element_bytes(format(), first * cols());
      a.element = w.element;
      a.ids = ids;
      a.rows = count;
      a.n = cols();
      a.out = out;
      a.add = add;
      return lowbit::detail::transformer_kernels().embed_rows(a);
    }
    const lowbit::detail::PerThread<DecodedRow> decoded;
    decoded->values.grow(cols());
    for (std::size_t r = 0; r < count; ++r, out += cols()) {
      const std::size_t id = ids ? static_cast<std::size_t>(ids[r]) : first + r;
      dequantize_rows(id, id + 1, decoded->values.data());
      for (std::size_t i = 0; i < cols(); ++i) out[i] = add ? out[i] + decoded->values[i] : decoded->values[i];
    }
  }

  // y (m, n) = x (m, C) table^T.  Returns what ran; throws as matmul does.
  MatmulPlan multiply(MatrixView<const float> x, MatrixView<float> y, Executor& executor) const {
    MatmulOptions o;
    o.compute = compute_;
    o.executor = &executor;
    return packed() ? matmul(x, packed_, y, o) : matmul(x, canonical_, y, o);
  }
  // What multiply() runs.
  MatmulPlan plan() const {
    ComputeOptions o;
    o.compute = compute_;
    return packed() ? plan_matmul(packed_, o) : plan_matmul(canonical_, o);
  }

 private:
  struct DecodedRow {
    AlignedBuffer<float> values;
  };
  Tensor canonical_;
  PackedTensor packed_;
  Compute compute_ = Compute::f32;
};

}  // namespace lowbit::gpt2::inline LOWBIT_ABI
