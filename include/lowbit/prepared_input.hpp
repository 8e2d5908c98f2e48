// SPDX-License-Identifier: MIT
// The input of products in the form that kernels read it: rows rounded to bfloat16, or quantized to int8 with a scale per row.
// matmul prepares its input by itself; who multiplies the same rows with several weights (queries, keys, values) prepares them
// once, and a product can leave its result prepared for the next one.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lowbit/base/per_thread.hpp"
#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "lowbit/parallel.hpp"
#include "lowbit/tensor/packed_tensor.hpp"

namespace lowbit {

// Which columns LLM.int8() takes out of the integer product.  per_row: where this row has an outlier, so that a row's result does
// not depend on its neighbours.  per_call: where any row of the call has one, as bitsandbytes does.
enum class Outliers { per_row, per_call };

namespace detail {

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
  std::size_t chunk = 0;  // int8, packed: k of an offset
  Stagger stagger;        // packed weights in phases: x is held once for every place in a group where their rows begin

  bool operator==(const InputForm&) const = default;
  bool needs_all_rows() const { return threshold > 0 && outliers == Outliers::per_call; }
  // Offsets of a row.
  std::size_t offsets() const {
    return chunk == 0 ? 0 : stagger ? stagger.phases * stagger.chunk_slots(chunk) : (k_padded + chunk - 1) / chunk;
  }
  std::size_t element_bytes() const {
    const bool floats = compute == Compute::f32 || (compute == Compute::bf16 && bf16_floats);
    return floats ? 4 : compute == Compute::bf16 || words ? 2 : 1;
  }
  std::size_t copy_bytes() const { return k_padded * element_bytes(); }
  std::size_t row_bytes() const { return stagger.copies() * copy_bytes(); }
};

// Where the chunks of a staggered row begin and end, for all slots of all phases; empty ones at 0.
struct StaggeredChunks {
  Stagger stagger;
  std::size_t chunk = 0;
  std::vector<std::uint32_t> begin, end;

  void set(const Stagger& s, std::size_t c) {
    if (stagger == s && chunk == c) return;
    stagger = {};  // until all is there
    const std::size_t slots = s.chunk_slots(c);
    begin.assign(s.phases * slots, 0);
    end.assign(s.phases * slots, 0);
    for (std::size_t phase = 0; phase < s.phases; ++phase) {
      // Chunks are counted from the first group that is stored, so the first one lacks what that group was padded with.
      std::size_t at = 0, block_end = s.block - s.begin(phase), length = c - s.shift(phase);
      for (std::size_t i = phase * slots; at < s.k; ++i) {
        const std::size_t next = std::min({at + length, block_end, s.k});
        begin[i] = static_cast<std::uint32_t>(at);
        end[i] = static_cast<std::uint32_t>(next);
        if (next == block_end) block_end += s.block;
        at = next;
        length = c;
      }
    }
    stagger = s;
    chunk = c;
  }
};

// Rows in such a form, and the memory that holds them; it is kept from one filling to the next.
struct InputBuffer {
  InputForm form;
  std::size_t rows = 0;
  const float* outside = nullptr;  // f32 compute: the caller's rows, where they can be read as they are
  std::size_t outside_stride = 0;
  AlignedBuffer<std::uint8_t> data;
  AlignedBuffer<float> scale;
  AlignedBuffer<std::int32_t> offset;
  struct OutlierList {
    std::size_t size = 0;
    std::vector<std::uint32_t> column;  // at least as many: they keep their room
    std::vector<float> value;
    // For `more` outliers.
    void make_room(std::size_t more) {
      if (column.size() - size >= more) return;
      value.resize(std::max(2 * column.size(), size + more));
      column.resize(value.size());  // last: where it throws, the next call sees that there is no room yet
    }
  };
  std::vector<OutlierList> lists;  // one for every part of the rows
  std::vector<OutlierRow> outliers;
  std::vector<std::uint8_t> column_is_outlier;  // per_call
  StaggeredChunks chunks;
  AlignedBuffer<float> made;  // rows that must all be there before the first can be converted
};

}  // namespace detail

// Rows that products read without converting them again.  Move-only; filling it again keeps its memory.  Reading it from several
// threads is safe.
class PreparedInput {
 public:
  std::size_t rows() const { return buffer_.rows; }
  std::size_t cols() const { return buffer_.form.k; }
  Compute compute() const { return buffer_.form.compute; }
  // What the operations work on.
  detail::InputBuffer& buffer() { return buffer_; }
  const detail::InputBuffer& buffer() const { return buffer_; }

 private:
  detail::InputBuffer buffer_;
};

namespace detail {
inline namespace LOWBIT_ABI {

inline constexpr std::size_t input_group = 8;  // rows that are made and converted while they are in cache: 8 x 768 floats, 24 KiB

// Scratch of one thread.
struct ConversionScratch {
  AlignedBuffer<float> made;            // a group of rows, before it is converted
  AlignedBuffer<std::uint8_t> natural;  // converted rows, before they are staggered
  AlignedBuffer<std::uint32_t> sums;    // of the first i codes, modulo 2^32: a chunk's own sum fits
};

// Row `r` of a staggered input, from its k elements in natural order: a copy for every shift, with zeros around it.
template <class T>
inline void place_copies(InputBuffer& b, std::size_t r, const T* row) {
  const InputForm& f = b.form;
  T* copy = reinterpret_cast<T*>(b.data.data() + r * f.row_bytes());
  const std::size_t step = f.stagger.step();
  for (std::size_t shift = 0; shift < Stagger::group; shift += step, copy += f.k_padded) {
    std::fill_n(copy, shift, T{});
    std::copy_n(row, f.k, copy + shift);
    std::fill_n(copy + shift + f.k, f.k_padded - shift - f.k, T{});
  }
}
// Bytes from natural order to int8_k order inside eights: halves of four, interleaved.
inline void permute_eights(std::int8_t* codes, std::size_t k) {
  for (std::size_t i = 0; i < k; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, codes + i, 8);
    // bytes 0 1 2 3 4 5 6 7, then the pairs 0 1 4 5 2 3 6 7, then 0 4 1 5 2 6 3 7
    std::uint64_t other = (eight ^ eight >> 16) & 0x00000000FFFF0000u;
    eight ^= other ^ other << 16;
    other = (eight ^ eight >> 8) & 0x0000FF000000FF00u;
    eight ^= other ^ other << 8;
    std::memcpy(codes + i, &eight, 8);
  }
}
// Codes of row `r` as place_copies() has them, and their offsets: -128 * the sum of every chunk of every phase.
template <class Code>
inline void place_codes(InputBuffer& b, std::size_t r, const Code* row, AlignedBuffer<std::uint32_t>& sums_buffer) {
  const InputForm& f = b.form;
  place_copies(b, r, row);
  if constexpr (sizeof(Code) == 1)
    permute_eights(reinterpret_cast<std::int8_t*>(b.data.data() + r * f.row_bytes()), f.stagger.copies() * f.k_padded);
  sums_buffer.grow(f.k + 1);
  std::uint32_t* sums = sums_buffer.data();
  std::uint32_t sum = 0;
  sums[0] = 0;
  for (std::size_t i = 0; i < f.k; ++i) sums[i + 1] = sum += static_cast<std::uint32_t>(std::int32_t{row[i]});
  std::int32_t* offset = b.offset.data() + r * f.offsets();
  const std::uint32_t *first = b.chunks.begin.data(), *last = b.chunks.end.data();
  for (std::size_t i = 0, count = b.chunks.begin.size(); i < count; ++i)
    offset[i] = -128 * static_cast<std::int32_t>(sums[last[i]] - sums[first[i]]);
}

// Converts rows [begin, begin + count), which stand at x.  Lists their outliers.
inline void convert_group(InputBuffer& b, const Kernels& kernel, std::size_t begin, std::size_t count, const float* x,
                          std::size_t stride, InputBuffer::OutlierList& list) {
  const InputForm& f = b.form;
  const PerThread<ConversionScratch> scratch;
  const auto natural_rows = [&](std::size_t bytes) {
    scratch->natural.grow(bytes);
    return scratch->natural.data();
  };
  std::uint8_t* out = b.data.data() + begin * f.row_bytes();
  switch (f.compute) {
    case Compute::f32:
      for (std::size_t r = 0; r < count; ++r) place_copies(b, begin + r, x + r * stride);
      return;
    case Compute::bf16: {
      if (f.bf16_floats) {
        const std::size_t padded = f.stagger ? f.k : f.k_padded;
        auto* to = reinterpret_cast<float*>(f.stagger ? natural_rows(count * f.k * 4) : out);
        for (std::size_t r = 0; r < count; ++r, to += padded) {
          for (std::size_t c = 0; c < f.k; ++c) to[c] = to_float(to_bfloat16(x[r * stride + c]));
          for (std::size_t c = f.k; c < padded; ++c) to[c] = 0;
          if (f.stagger) place_copies(b, begin + r, to);
        }
        return;
      }
      Bf16RowsArgs a;
      a.x = x;
      a.m = count;
      a.k = f.k;
      a.x_stride = stride;
      a.k_padded = f.stagger ? f.k : f.k_padded;
      a.out = reinterpret_cast<std::uint16_t*>(f.stagger ? natural_rows(count * f.k * 2) : out);
      kernel.bf16_rows(a);
      for (std::size_t r = 0; f.stagger && r < count; ++r) place_copies(b, begin + r, a.out + r * f.k);
      return;
    }
    case Compute::int8: {
      AlignedBuffer<float> rounded_rows;
      if (f.fp16) {
        rounded_rows.reset(count * f.k);
        for (std::size_t r = 0; r < count; ++r)
          for (std::size_t c = 0; c < f.k; ++c) rounded_rows[r * f.k + c] = to_float(to_float16(x[r * stride + c]));
        x = rounded_rows.data();
        stride = f.k;
      }
      const bool per_call = f.needs_all_rows();
      for (std::size_t r = 0; f.threshold > 0 && r < count; ++r) {
        const std::size_t before = list.size;
        list.make_room(f.k);
        std::uint32_t* column = list.column.data() + before;
        if (per_call) {
          for (std::size_t c = 0; c < f.k; ++c)
            if (b.column_is_outlier[c] != 0) column[list.size++ - before] = static_cast<std::uint32_t>(c);
        } else {
          list.size += kernel.find_outliers(x + r * stride, f.k, f.threshold, column);
        }
        for (std::size_t i = before; i < list.size; ++i) {
          list.value[i] = x[r * stride + list.column[i]];
          if (f.packed) list.column[i] = static_cast<std::uint32_t>(int8_byte(list.column[i]));
        }
        b.outliers[begin + r].count = list.size - before;
      }
      QuantizeRowsArgs q;
      q.x = x;
      q.m = count;
      q.k = f.k;
      q.x_stride = stride;
      q.rule = f.llm_int8 ? QuantizeRule::llm_int8 : QuantizeRule::absmax;
      q.permute = f.packed && !f.words && !f.stagger;
      q.words = f.words;
      q.k_padded = f.stagger ? f.k : f.k_padded;
      q.chunk = f.chunk;
      q.threshold = f.threshold;
      q.column_is_outlier = per_call ? b.column_is_outlier.data() : nullptr;
      q.codes = f.stagger ? natural_rows(count * f.k * f.element_bytes()) : out;
      q.scale = b.scale.data() + begin;
      q.offset = f.packed && !f.stagger ? b.offset.data() + begin * f.offsets() : nullptr;
      kernel.quantize_rows(q);
      for (std::size_t r = 0; f.stagger && r < count; ++r)
        f.words ? place_codes(b, begin + r, static_cast<const std::int16_t*>(q.codes) + r * f.k, scratch->sums)
                : place_codes(b, begin + r, static_cast<const std::int8_t*>(q.codes) + r * f.k, scratch->sums);
      return;
    }
  }
}

// Rows in parts of at least 8: fewer are not worth a thread.  part(i, begin, end).
template <class Part>
void for_row_parts(std::size_t rows, Executor& executor, const Part& part) {
  const std::size_t parts = std::max<std::size_t>(1, std::min(executor.concurrency(), rows / 8));
  executor.run(parts, [&](std::size_t i) { part(i, rows * i / parts, rows * (i + 1) / parts); });
}

// Fills `b` with `rows` rows in groups, on several threads: convert(begin, count, list) does one.
template <class Convert>
void fill_groups(InputBuffer& b, const InputForm& form, std::size_t rows, Executor& executor, const Convert& convert) {
  b.form = form;
  b.rows = rows;
  b.outside = nullptr;
  b.data.grow(checked_mul(rows, form.row_bytes(), "activations"));
  if (form.compute == Compute::int8) {
    b.scale.grow(rows);
    b.offset.grow(checked_mul(rows, form.offsets(), "activations"));
    if (form.stagger) b.chunks.set(form.stagger, form.chunk);
  }
  if (form.threshold > 0) b.outliers.assign(rows, {});
  b.lists.resize(std::max(b.lists.size(), executor.concurrency()));
  for_row_parts(rows, executor, [&](std::size_t part, std::size_t begin, std::size_t end) {
    InputBuffer::OutlierList& list = b.lists[part];
    list.size = 0;
    for (std::size_t r = begin; r < end; r += input_group) convert(r, std::min(input_group, end - r), list);
    if (form.threshold > 0)  // the list has its final place now
      for (std::size_t r = begin, at = 0; r < end; ++r) {
        b.outliers[r].column = list.column.data() + at;
        b.outliers[r].value = list.value.data() + at;
        at += b.outliers[r].count;
      }
  });
}

// Fills `b` with the rows of x.  f32 compute reads x itself where it can: x must then outlive the use of `b`.
inline void fill_input(InputBuffer& b, const InputForm& form, MatrixView<const float> x, const Kernels& kernel,
                       Executor& executor) {
  if (form.compute == Compute::f32 && form.k == form.k_padded) {
    b.form = form;
    b.rows = x.rows;
    b.outside = x.data;
    b.outside_stride = x.stride;
    return;
  }
  if (form.needs_all_rows()) {
    b.column_is_outlier.assign(form.k, 0);
    std::vector<std::uint32_t> columns(form.k);
    std::vector<float> rounded_row(form.fp16 ? form.k : 0);
    for (std::size_t r = 0; r < x.rows; ++r) {
      const float* row = x.row(r);
      if (form.fp16) {
        for (std::size_t c = 0; c < form.k; ++c) rounded_row[c] = to_float(to_float16(row[c]));
        row = rounded_row.data();
      }
      columns.resize(form.k);
      columns.resize(kernel.find_outliers(row, form.k, form.threshold, columns.data()));
      for (const std::uint32_t c : columns) b.column_is_outlier[c] = 1;
    }
  }
  fill_groups(b, form, x.rows, executor, [&](std::size_t begin, std::size_t count, InputBuffer::OutlierList& list) {
    convert_group(b, kernel, begin, count, x.row(begin), x.stride, list);
  });
}
// Fills `b` with rows that produce(begin, count, out) makes, out (count, k) row-major: they are converted while they are in cache.
template <class Produce>
void fill_input(InputBuffer& b, const InputForm& form, std::size_t rows, const Kernels& kernel, Executor& executor,
                const Produce& produce) {
  if (form.needs_all_rows()) {
    b.made.grow(checked_mul(rows, form.k, "activations"));
    for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
      produce(begin, end - begin, b.made.data() + begin * form.k);
    });
    return fill_input(b, form, MatrixView<const float>(b.made.data(), rows, form.k), kernel, executor);
  }
  fill_groups(b, form, rows, executor, [&](std::size_t begin, std::size_t count, InputBuffer::OutlierList& list) {
    if (form.compute == Compute::f32 && form.k == form.k_padded)
      return produce(begin, count, reinterpret_cast<float*>(b.data.data()) + begin * form.k);
    const PerThread<ConversionScratch> scratch;
    scratch->made.grow(input_group * form.k);
    produce(begin, count, scratch->made.data());
    convert_group(b, kernel, begin, count, scratch->made.data(), form.k, list);
  });
}

// Rows that an epilogue writes itself, as bfloat16 or float: room for them, with zeros behind their ends.
template <class T>
void start_rows(InputBuffer& b, std::size_t rows) {
  b.rows = rows;
  b.outside = nullptr;
  b.data.grow(checked_mul(rows, b.form.row_bytes(), "activations"));
  for (std::size_t r = 0; r < rows && b.form.k != b.form.k_padded; ++r)
    std::fill_n(reinterpret_cast<T*>(b.data.data()) + r * b.form.k_padded + b.form.k, b.form.k_padded - b.form.k, T{});
}

// What a kernel reads.
inline Activations activations_of(const InputBuffer& b) {
  const InputForm& f = b.form;
  Activations a;
  a.stride_bytes = b.outside ? b.outside_stride * sizeof(float) : f.row_bytes();
  a.data = b.outside ? static_cast<const void*>(b.outside) : b.data.data();
  if (f.compute == Compute::int8) {
    a.scale = b.scale.data();
    a.offset = b.offset.data();
    a.offset_stride = f.offsets();
    if (f.threshold > 0) a.outliers = b.outliers.data();
  }
  return a;
}

}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
