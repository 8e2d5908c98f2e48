// SPDX-License-Identifier: MIT
// Conversion of activations to the form in which kernels read them.
#pragma once
#include <algorithm>
#include <cstring>

#include "lowbit/base/checked.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/layout/packed.hpp"
#include "lowbit/product/input.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

inline constexpr std::size_t input_group = 8;  // rows that are made and converted while they are in cache: 8 x 768 floats, 24 KiB

// Where the chunks of a row of a block-offset class begin and end, for all slots of all classes; empty ones at 0.
inline void set_chunks(BlockOffsetChunks& to, const BlockOffsets& s, std::size_t c) {
  if (to.block_offsets == s && to.kc == c) return;
  to.block_offsets = {};  // until all is there
  const std::size_t slots = s.chunk_slots(c);
  to.begin.assign(s.classes * slots, 0);
  to.end.assign(s.classes * slots, 0);
  for (std::size_t offset_class = 0; offset_class < s.classes; ++offset_class) {
    // Chunks are counted from the first group that is stored, so the first one lacks what that group was padded with.
    std::size_t at = 0, block_end = s.block - s.begin(offset_class), length = c - s.shift(offset_class);
    for (std::size_t i = offset_class * slots; at < s.k; ++i) {
      const std::size_t next = (std::min)({at + length, block_end, s.k});
      to.begin[i] = static_cast<std::uint32_t>(at);
      to.end[i] = static_cast<std::uint32_t>(next);
      if (next == block_end) block_end += s.block;
      at = next;
      length = c;
    }
  }
  to.block_offsets = s;
  to.kc = c;
}

// Row `r` of the input of block-offset classes, from its k elements in natural order: a copy for every shift, with zeros around it.
template <class T>
inline void place_copies(InputRows& b, std::size_t r, const T* row) {
  const InputForm& f = b.form;
  T* copy = reinterpret_cast<T*>(b.data.data() + r * f.row_bytes());
  const std::size_t step = f.block_offsets.step();
  for (std::size_t shift = 0; shift < BlockOffsets::group; shift += step, copy += f.k_padded) {
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
// Codes of row `r` as place_copies() has them, and their offsets: -128 * the sum of every chunk of every class.
template <class Code>
inline void place_codes(InputRows& b, std::size_t r, const Code* row, AlignedBuffer<std::uint32_t>& sums_buffer) {
  const InputForm& f = b.form;
  place_copies(b, r, row);
  if constexpr (sizeof(Code) == 1)
    permute_eights(reinterpret_cast<std::int8_t*>(b.data.data() + r * f.row_bytes()), f.block_offsets.copies() * f.k_padded);
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

// Room for `more` outliers.
inline void make_room(InputRows::Part& part, std::size_t more) {
  if (part.column.size() - part.outliers >= more) return;
  part.value.resize((std::max)(2 * part.column.size(), part.outliers + more));
  part.column.resize(part.value.size());  // last: where it throws, the next call sees that there is no room yet
}

// fp16(x) of rows at x, in the part's memory.
inline const float* rounded_to_fp16(InputRows::Part& part, const float* x, std::size_t rows, std::size_t k, std::size_t stride) {
  part.rounded.grow(rows * k);
  float* to = part.rounded.data();
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < k; ++c) *to++ = to_float(to_float16(x[r * stride + c]));
  return part.rounded.data();
}

// A group of rows to be converted: rows [begin, begin + count) of `b`, which stand at x.
struct InputGroup {
  InputRows& b;
  const Kernels& kernel;
  std::size_t begin, count;
  const float* x;
  std::size_t stride;
  InputRows::Part& part;

  // Where the kernel puts them: in their place, or, of weights in block-offset classes, where copies are taken from.
  void* target(std::size_t element_bytes) const {
    if (!b.form.block_offsets) return b.data.data() + begin * b.form.row_bytes();
    part.converted.grow(count * b.form.k * element_bytes);
    return part.converted.data();
  }
  std::size_t padded_k() const { return b.form.block_offsets ? b.form.k : b.form.k_padded; }
};

inline void round_group(const InputGroup& g) {
  const InputForm& f = g.b.form;
  const std::size_t padded = g.padded_k();
  if (f.bf16_floats) {
    auto* to = static_cast<float*>(g.target(sizeof(float)));
    for (std::size_t r = 0; r < g.count; ++r, to += padded) {
      for (std::size_t c = 0; c < f.k; ++c) to[c] = to_float(to_bfloat16(g.x[r * g.stride + c]));
      for (std::size_t c = f.k; c < padded; ++c) to[c] = 0;
      if (f.block_offsets) place_copies(g.b, g.begin + r, to);
    }
    return;
  }
  Bf16RowsArgs a;
  a.x = g.x;
  a.m = g.count;
  a.k = f.k;
  a.x_stride = g.stride;
  a.k_padded = padded;
  a.out = static_cast<std::uint16_t*>(g.target(sizeof(std::uint16_t)));
  g.kernel.bf16_rows(a);
  for (std::size_t r = 0; f.block_offsets && r < g.count; ++r) place_copies(g.b, g.begin + r, a.out + r * f.k);
}

inline void list_outliers(const InputGroup& g) {
  const InputForm& f = g.b.form;
  for (std::size_t r = 0; r < g.count; ++r) {
    const float* x = g.x + r * g.stride;
    const std::size_t before = g.part.outliers;
    make_room(g.part, f.k);
    std::uint32_t* column = g.part.column.data() + before;
    if (f.needs_all_rows()) {
      for (std::size_t c = 0; c < f.k; ++c)
        if (g.b.column_is_outlier[c] != 0) column[g.part.outliers++ - before] = static_cast<std::uint32_t>(c);
    } else {
      g.part.outliers += g.kernel.find_outliers(x, f.k, f.threshold, column);
    }
    for (std::size_t i = before; i < g.part.outliers; ++i) {
      g.part.value[i] = x[g.part.column[i]];
      if (f.packed) g.part.column[i] = static_cast<std::uint32_t>(int8_byte(g.part.column[i]));
    }
    g.b.outliers[g.begin + r].count = g.part.outliers - before;
  }
}

inline void quantize_group(InputGroup g) {
  const InputForm& f = g.b.form;
  if (f.fp16) {
    g.x = rounded_to_fp16(g.part, g.x, g.count, f.k, g.stride);
    g.stride = f.k;
  }
  if (f.threshold > 0) list_outliers(g);
  QuantizeRowsArgs q;
  q.x = g.x;
  q.m = g.count;
  q.k = f.k;
  q.x_stride = g.stride;
  q.rule = f.llm_int8 ? QuantizeRule::llm_int8 : QuantizeRule::absmax;
  q.permute = f.packed && !f.words && !f.block_offsets;
  q.words = f.words;
  q.k_padded = g.padded_k();
  q.kc = f.kc;
  q.threshold = f.threshold;
  q.column_is_outlier = f.needs_all_rows() ? g.b.column_is_outlier.data() : nullptr;
  q.codes = g.target(f.element_bytes());
  q.scale = g.b.scale.data() + g.begin;
  q.offset = f.packed && !f.block_offsets ? g.b.offset.data() + g.begin * f.offsets() : nullptr;
  g.kernel.quantize_rows(q);
  for (std::size_t r = 0; f.block_offsets && r < g.count; ++r)
    f.words ? place_codes(g.b, g.begin + r, static_cast<const std::int16_t*>(q.codes) + r * f.k, g.part.sums)
            : place_codes(g.b, g.begin + r, static_cast<const std::int8_t*>(q.codes) + r * f.k, g.part.sums);
}

// Converts a group, and lists its outliers.
inline void convert_group(const InputGroup& g) {
  switch (g.b.form.compute) {
    case Compute::automatic: return;  // decided when the form was made
    case Compute::f32:
      for (std::size_t r = 0; r < g.count; ++r) place_copies(g.b, g.begin + r, g.x + r * g.stride);
      return;
    case Compute::bf16: return round_group(g);
    case Compute::int8: return quantize_group(g);
  }
}

// Fills `b` with `rows` rows in groups, on several threads: convert(begin, count, part) does one.
template <class Convert>
void fill_groups(InputRows& b, const InputForm& form, std::size_t rows, Executor& executor, const Convert& convert) {
  b.form = form;
  b.rows = rows;
  b.outside = nullptr;
  b.data.grow(checked_mul(rows, form.row_bytes(), "activations"));
  if (form.compute == Compute::int8) {
    b.scale.grow(rows);
    b.offset.grow(checked_mul(rows, form.offsets(), "activations"));
    if (form.block_offsets) set_chunks(b.chunks, form.block_offsets, form.kc);
  }
  if (form.threshold > 0) b.outliers.assign(rows, {});
  b.parts.resize((std::max)(b.parts.size(), executor.concurrency()));
  for_row_parts(rows, executor, [&](std::size_t i, std::size_t begin, std::size_t end) {
    InputRows::Part& part = b.parts[i];
    part.outliers = 0;
    for (std::size_t r = begin; r < end; r += input_group) convert(r, (std::min)(input_group, end - r), part);
    if (form.threshold > 0)  // the list has its final place now
      for (std::size_t r = begin, at = 0; r < end; ++r) {
        b.outliers[r].column = part.column.data() + at;
        b.outliers[r].value = part.value.data() + at;
        at += b.outliers[r].count;
      }
  });
}

LOWBIT_FUNCTION void fill_rows(InputRows& b, const InputForm& form, MatrixView<const float> x, const Kernels& kernel,
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
    b.parts.resize((std::max<std::size_t>)(b.parts.size(), 1));
    InputRows::Part& part = b.parts[0];
    part.outliers = 0;
    make_room(part, form.k);
    for (std::size_t r = 0; r < x.rows; ++r) {
      const float* row = form.fp16 ? rounded_to_fp16(part, x.row(r), 1, form.k, form.k) : x.row(r);
      const std::size_t count = kernel.find_outliers(row, form.k, form.threshold, part.column.data());
      for (std::size_t c = 0; c < count; ++c) b.column_is_outlier[part.column[c]] = 1;
    }
  }
  fill_groups(b, form, x.rows, executor, [&](std::size_t begin, std::size_t count, InputRows::Part& part) {
    convert_group({b, kernel, begin, count, x.row(begin), x.stride, part});
  });
}
LOWBIT_FUNCTION void make_rows(InputRows& b, const InputForm& form, std::size_t rows, const Kernels& kernel, Executor& executor,
                               MakeRows make) {
  if (form.needs_all_rows()) {
    b.made.grow(checked_mul(rows, form.k, "activations"));
    for_row_parts(rows, executor, [&](std::size_t, std::size_t begin, std::size_t end) {
      make(begin, end - begin, b.made.data() + begin * form.k);
    });
    return fill_rows(b, form, MatrixView<const float>(b.made.data(), rows, form.k), kernel, executor);
  }
  fill_groups(b, form, rows, executor, [&](std::size_t begin, std::size_t count, InputRows::Part& part) {
    if (form.compute == Compute::f32 && form.k == form.k_padded)
      return make(begin, count, reinterpret_cast<float*>(b.data.data()) + begin * form.k);
    part.made.grow(input_group * form.k);
    make(begin, count, part.made.data());
    convert_group({b, kernel, begin, count, part.made.data(), form.k, part});
  });
}

// Rows that an epilogue writes itself, as bfloat16 or float: room for them, with zeros behind their ends.
template <class T>
void start_rows(InputRows& b, std::size_t rows) {
  b.rows = rows;
  b.outside = nullptr;
  b.data.grow(checked_mul(rows, b.form.row_bytes(), "activations"));
  for (std::size_t r = 0; r < rows && b.form.k != b.form.k_padded; ++r)
    std::fill_n(reinterpret_cast<T*>(b.data.data()) + r * b.form.k_padded + b.form.k, b.form.k_padded - b.form.k, T{});
}

// What a kernel reads.
inline Activations activations_of(const InputRows& b) {
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

}  // namespace lowbit::detail::inline LOWBIT_ABI
