// SPDX-License-Identifier: MIT
// Which packed layout a weight matrix gets, and where its elements and scales stand in it: a function of format, shape and block
// size alone, so that packed bytes can be sized before they are made, and checked when they come from elsewhere.
#pragma once
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "lowbit/layout/packed.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

// Elements of a row that surely share a scale, whatever the row: all of them, or a multiple of 8; 0 if there are too few for a record.
inline std::size_t record_block(std::size_t cols, std::size_t block) {
  constexpr std::size_t fewest = 32;
  if (block % cols == 0) return cols;
  const std::size_t shared = std::gcd(block, cols);
  return shared == block || shared >= fewest ? (shared % group_k == 0 ? shared : 0) : 0;
}

// In how many classes rows are packed where record_block() is 0; 0 if more than a third of the panels' columns would stay empty, or
// if there were so many that the activations, which are held for every class, outgrew the weights' gain.
inline std::size_t classes_of(std::size_t rows, std::size_t cols, std::size_t block) {
  constexpr std::size_t most = 512;
  if (block % group_k != 0) return 0;
  const auto full = [&](std::size_t classes) {
    return classes <= rows && ceil_div(ceil_div(rows, classes), panel_cols) * panel_cols <= (rows + rows / 2) / classes;
  };
  std::size_t classes = BlockOffsets(cols, block).classes;
  if (classes > most || !full(classes)) return 0;
  while (classes < 16 && full(2 * classes)) classes *= 2;  // results are put in order by registers of up to 16
  return classes;
}

struct PackedShape {
  std::size_t rows = 0, cols = 0, block = 0;  // of the matrix; block 0: dense
  PackedWeights layout;                       // without pointers
  std::vector<PackedClass> classes;           // of rows in block-offset classes
  std::size_t bytes = 0;

  static bool exists(std::size_t rows, std::size_t cols, std::size_t block) {
    return cols != 0 && (block == 0 || record_block(cols, block) != 0 || classes_of(rows, cols, block) != 0);
  }

  PackedShape() = default;
  // exists(rows, cols, block_size).  Throws InvalidArgument if its size overflows.
  PackedShape(Format format, std::size_t rows_, std::size_t cols_, std::size_t block_size)
      : rows(rows_), cols(cols_), block(block_size) {
    checked_mul(checked_mul(rows, checked_add(cols, group_k, "packed tensor"), "packed tensor"), 2 * panel_cols, "packed tensor");
    const std::size_t padded = ceil_div(cols, group_k) * group_k, record = block == 0 ? cols : record_block(cols, block);
    layout.n = rows;
    layout.k = padded;
    layout.element = element_of(format);
    layout.scaled = block != 0;
    layout.scale_factor = format == Format::llm_int8 ? llm_int8_inverse_127 : 1.0f;
    if (record != 0) {
      layout.block = record < cols ? record : padded;
      bytes = checked_mul(layout.panels(), layout.panel_bytes(), "packed tensor");
      return;
    }
    const BlockOffsets s(cols, block);
    layout.block_offsets = s;
    layout.class_count = classes_of(rows, cols, block);
    layout.block = s.block;
    layout.k = s.copy_k();
    for (std::size_t i = 0; i < layout.class_count; ++i) {
      classes.push_back({ceil_div(rows - i, layout.class_count), s.padded(i), s.lead(i), bytes, s.copy_of(i)});
      const PackedWeights w = view(nullptr, nullptr).offset_class(i);
      bytes = checked_add(bytes, checked_mul(w.panels(), w.panel_bytes(), "packed tensor"), "packed tensor");
    }
  }

  // What kernels see of `data`, `bytes` of them.
  PackedWeights view(const std::uint8_t* data, const CodebookTables* codebook) const {
    PackedWeights w = layout;
    w.data = data;
    w.codebook = codebook;
    w.classes = classes.data();
    return w;
  }

  // Row of the matrix that stands in column c of an offset class.
  std::size_t row_of(std::size_t offset_class, std::size_t c) const { return offset_class + c * layout.class_count; }
  // The block of the matrix that record b of a row is part of.
  std::size_t scale_index(std::size_t row, std::size_t b) const {
    return layout.block_offsets ? row * cols / block + b : (row * cols + b * layout.block) / block;
  }
  // Where the scale of block b of the matrix stands: bytes from the beginning.
  std::size_t scale_place(std::size_t b) const {
    const std::size_t row = b * block / cols, offset_class = row % layout.class_count, column = row / layout.class_count;
    const std::size_t record = layout.block_offsets ? b - row * cols / block : b * block % cols / layout.block;
    const PackedWeights w = part(offset_class);
    return begin_of(offset_class) + column / panel_cols * w.panel_bytes() + w.record_begin(record) +
           column % panel_cols * sizeof(float);
  }

  // The parts of one row, record by record: on_scale(place in bytes), where there are scales, then on_dword(first k of the group, run,
  // place in bytes) as for_each_dword() has them.
  template <class OnScale, class OnDword>
  void visit_row(std::size_t row, const OnScale& on_scale, const OnDword& on_dword) const {
    const std::size_t offset_class = row % layout.class_count, column = row / layout.class_count;
    const PackedWeights w = part(offset_class);
    const std::size_t item = layout.element == Element::f16 ? 2 : 4, steps = group_bytes(layout.element) / panel_cols / item;
    const std::size_t shift = layout.block_offsets ? layout.block_offsets.shift(offset_class) : 0, c = column % panel_cols;
    const std::size_t panel = begin_of(offset_class) + column / panel_cols * w.panel_bytes();
    for (std::size_t b = 0; b < w.blocks(); ++b) {
      std::size_t at = panel + w.record_begin(b);
      if (layout.scaled) on_scale(at + c * sizeof(float));
      at += w.head_bytes() + c * item;
      for (std::size_t k = w.block_begin(b); k < w.block_begin(b + 1); k += group_k)
        for (std::size_t s = 0; s < steps; ++s, at += panel_cols * item) on_dword(k - shift, static_cast<int>(s), at);
    }
  }

  // A panel's records hold `steps` runs of 48 dwords (f16: of 48 halves) per group; visit(row, first k of the group, run, place in
  // bytes).  The first k is negative (modulo 2^64) where a group is padded in front.
  template <class Visit>
  void for_each_dword(const Visit& visit) const {
    const std::size_t item = layout.element == Element::f16 ? 2 : 4, steps = group_bytes(layout.element) / panel_cols / item;
    for_each_record([&](std::size_t offset_class, const PackedWeights& w, std::size_t p, std::size_t b, std::size_t at) {
      const std::size_t shift = layout.block_offsets ? layout.block_offsets.shift(offset_class) : 0;
      at += w.head_bytes();
      for (std::size_t k = w.block_begin(b); k < w.block_begin(b + 1); k += group_k)
        for (std::size_t s = 0; s < steps; ++s)
          for (std::size_t c = 0; c < panel_cols; ++c, at += item)
            visit(row_of(offset_class, p * panel_cols + c), k - shift, static_cast<int>(s), at);
    });
  }
  // visit(row, record of the row, place in bytes).
  template <class Visit>
  void for_each_scale(const Visit& visit) const {
    for_each_record([&](std::size_t offset_class, const PackedWeights&, std::size_t p, std::size_t b, std::size_t at) {
      for (std::size_t c = 0; c < panel_cols; ++c) visit(row_of(offset_class, p * panel_cols + c), b, at + c * sizeof(float));
    });
  }

 private:
  PackedWeights part(std::size_t offset_class) const {
    return layout.block_offsets ? view(nullptr, nullptr).offset_class(offset_class) : view(nullptr, nullptr);
  }
  std::size_t begin_of(std::size_t offset_class) const { return layout.block_offsets ? classes[offset_class].begin : 0; }
  // visit(offset_class, its weights, panel, record, place of the record in bytes).
  template <class Visit>
  void for_each_record(const Visit& visit) const {
    for (std::size_t i = 0; i < (layout.block_offsets ? classes.size() : 1); ++i) {
      const PackedWeights w = part(i);
      for (std::size_t p = 0; p < w.panels(); ++p)
        for (std::size_t b = 0; b < w.blocks(); ++b) visit(i, w, p, b, begin_of(i) + p * w.panel_bytes() + w.record_begin(b));
    }
  }
};

}  // namespace lowbit::detail::inline LOWBIT_ABI
