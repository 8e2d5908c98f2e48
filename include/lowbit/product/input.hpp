// SPDX-License-Identifier: MIT
// The input of products in the form in which kernels read it: rows rounded to bfloat16, or quantized to int8 with a scale per row.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/function_ref.hpp"
#include "lowbit/base/vector.hpp"
#include "lowbit/base/view.hpp"
#include "lowbit/compute.hpp"
#include "lowbit/kernel/args.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/layout/block_offsets.hpp"
#include "lowbit/parallel.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// How rows must stand in memory for a product: by compute type, level, and the layout and format of the weights.
struct InputForm {
  Compute compute = Compute::f32;
  bool packed = false;       // for packed weights: padded, in the packed order
  bool words = false;        // int8 codes as 16-bit words
  bool bf16_floats = false;  // bf16: as floats that were rounded
  bool llm_int8 = false;
  bool fp16 = false;  // llm_int8: start from fp16(x)
  Outliers outliers = Outliers::per_row;
  float threshold = 0;  // llm_int8; 0: no outliers
  std::size_t k = 0, k_padded = 0;
  std::size_t kc = 0;          // int8, packed: k of an offset
  BlockOffsets block_offsets;  // packed weights in classes: x is held once for every place in a group where their rows begin

  bool operator==(const InputForm&) const = default;
  bool needs_all_rows() const { return threshold > 0 && outliers == Outliers::per_call; }
  // Offsets of a row.
  std::size_t offsets() const {
    return kc == 0 ? 0 : block_offsets ? block_offsets.classes * block_offsets.chunk_slots(kc) : (k_padded + kc - 1) / kc;
  }
  std::size_t element_bytes() const {
    const bool floats = compute == Compute::f32 || (compute == Compute::bf16 && bf16_floats);
    return floats ? 4 : compute == Compute::bf16 || words ? 2 : 1;
  }
  std::size_t copy_bytes() const { return k_padded * element_bytes(); }
  std::size_t row_bytes() const { return block_offsets.copies() * copy_bytes(); }
};

// Where the chunks of a row of a block-offset class begin and end, for all slots of all classes; empty ones at 0.
struct BlockOffsetChunks {
  BlockOffsets block_offsets;
  std::size_t kc = 0;
  Vector<std::uint32_t> begin, end;
};

// Rows in such a form, and the memory that holds them; it is kept from one filling to the next.
struct InputRows {
  InputForm form;
  std::size_t rows = 0;
  const float* outside = nullptr;  // f32 compute: the caller's rows, where they can be read as they are
  std::size_t outside_stride = 0;
  AlignedBuffer<std::uint8_t> data;
  AlignedBuffer<float> scale;
  AlignedBuffer<std::int32_t> offset;
  // What converting one part of the rows takes.
  struct Part {
    std::size_t outliers = 0;  // in the lists, which keep their room
    Vector<std::uint32_t> column;
    Vector<float> value;
    AlignedBuffer<float> made;              // a group of rows, before it is converted
    AlignedBuffer<float> rounded;           // the same in fp16
    AlignedBuffer<std::uint8_t> converted;  // and after, before it is put where blocks begin
    AlignedBuffer<std::uint32_t> sums;      // of the first i codes, modulo 2^32: a chunk's own sum fits
  };
  std::vector<Part> parts;
  std::vector<OutlierRow> outliers;
  Vector<std::uint8_t> column_is_outlier;  // per_call
  BlockOffsetChunks chunks;
  AlignedBuffer<float> made;  // rows that must all be there before the first can be converted
};

}  // namespace lowbit::detail::inline LOWBIT_ABI

namespace lowbit::inline LOWBIT_ABI {

// Rows that products read without converting them again.  Move-only; filling it again keeps its memory.  Reading it from several
// threads is safe.
class PreparedInput {
 public:
  std::size_t rows() const { return rows_.rows; }         // filled last
  std::size_t cols() const { return rows_.form.k; }       // depth
  Compute compute() const { return rows_.form.compute; }  // of the products that read it
  // What the operations work on.
  detail::InputRows& rows_in_memory() { return rows_; }
  const detail::InputRows& rows_in_memory() const { return rows_; }

 private:
  detail::InputRows rows_;
};

// Makes rows [begin, begin + count) of an input: out (count, k) row-major.
using MakeRows = FunctionRef<void(std::size_t begin, std::size_t count, float* out)>;

}  // namespace lowbit::inline LOWBIT_ABI

namespace lowbit::detail::inline LOWBIT_ABI {

// Fills `to` with the rows of x in `form`.  f32 compute reads x itself where it can: x must then outlive the use of `to`.
LOWBIT_FUNCTION void fill_rows(InputRows& to, const InputForm& form, MatrixView<const float> x, const Kernels& kernel,
                               Executor& executor);
// Fills `to` with rows that are converted while they are in cache; `make` is called by several threads.
LOWBIT_FUNCTION void make_rows(InputRows& to, const InputForm& form, std::size_t rows, const Kernels& kernel, Executor& executor,
                               MakeRows make);

}  // namespace lowbit::detail::inline LOWBIT_ABI

#if !LOWBIT_DECLARED_ONLY
#include "lowbit/product/input-inl.hpp"
#endif
