// SPDX-License-Identifier: MIT
// PackedTensor: the same weights re-laid in panels for the kernels (the layout is described in layout/packed.hpp).  Made once per
// model; nothing is lost, unpack() gives the canonical bytes back.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "lowbit/base/float_environment.hpp"
#include "lowbit/layout/packed.hpp"
#include "lowbit/tensor/tensor.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Double-quantized scales are decoded to fp32 (4 bytes a block instead of 1): decoding them in the kernel costs up to 45 % of the
// M = 1 arithmetic for 8 % of the bytes.  Move-only; reading from several threads is safe.
class PackedTensor {
 public:
  PackedTensor() = default;
  PackedTensor(PackedTensor&&) = default;
  PackedTensor& operator=(PackedTensor&&) = default;

  // Whether the layout can hold `t`.  Blocks may cross rows where all of them begin at multiples of 32 inside a row, as blocks of
  // 4096 do at 768 columns: scales are then held for as many elements as surely share one.  Elsewhere, as with blocks of 64 at 100
  // columns, rows whose blocks begin alike make panels of their own, if there are enough rows to fill them (two thirds).  Where the
  // layout cannot hold it, products run on the canonical tensor.
  static bool packable(const Tensor& t) {
    return t.cols() != 0 && (t.block_size() == 0 || record_block(t) != 0 || phases_of(t) != 0);
  }

  // Throws InvalidArgument if t is not packable.
  static PackedTensor pack(const Tensor& t) {
    require(packable(t), [&] {
      return std::string(format_name(t.format())) + " tensor of shape " + shape_string(t.rows(), t.cols()) + " with block size " +
             std::to_string(t.block_size()) +
             ": blocks cross rows at places that are no multiple of 32, and too few rows share theirs, so it cannot be packed";
    });
    const detail::DefaultFloatEnvironment environment;
    PackedTensor p;
    const TensorParts& parts = t.parts();
    p.format_ = t.format();
    p.rows_ = t.rows();
    p.cols_ = t.cols();
    p.block_ = parts.block;
    p.table_ = parts.table;
    p.codebook_ = t.codebook();
    const std::size_t padded = ceil_div(t.cols(), detail::group_k) * detail::group_k;
    const bool scaled = parts.block != 0;
    p.layout_.n = t.rows();
    p.layout_.k = padded;
    p.layout_.element = detail::element_of(t.format());
    p.layout_.scaled = scaled;
    p.layout_.scale_factor = t.format() == Format::llm_int8 ? llm_int8_inverse_127 : 1.0f;
    if (scaled && record_block(t) == 0) {
      const detail::Stagger s(t.cols(), t.block_size());
      p.layout_.stagger = s;
      p.layout_.phase_count = phases_of(t);
      p.layout_.block = s.block;
      p.layout_.k = s.copy_k();
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < p.layout_.phase_count; ++i) {
        detail::PackedPhase phase;
        phase.n = ceil_div(t.rows() - i, p.layout_.phase_count);
        phase.k = s.padded(i);
        phase.lead = s.lead(i);
        phase.copy = s.copy_of(i);
        p.phases_.push_back(phase);
        const detail::PackedWeights w = p.view().phase(i);
        p.phases_[i].begin = bytes;
        bytes = checked_add(bytes, checked_mul(w.panels(), w.panel_bytes(), "packed tensor"), "packed tensor");
      }
      p.data_.reset(bytes);
    } else {
      p.layout_.block = scaled && record_block(t) < t.cols() ? record_block(t) : padded;
      p.data_.reset(checked_mul(p.layout_.panels(), p.layout_.panel_bytes(), "packed tensor"));
    }
    p.for_each_dword([&](std::size_t n, std::size_t k0, int part, std::uint8_t* out) { p.put(parts, n, k0, part, out); });
    if (scaled)
      p.for_each_scale([&](std::size_t n, std::size_t b, float& s) { s = n < p.rows_ ? t.scale(p.scale_index(n, b)) : 0.0f; });
    if (t.double_quantized()) {
      p.nested_ = parts.nested.clone();
      p.nested_map_ = parts.nested_map;
      p.offset_ = parts.offset;
      // The codes come back by looking the decoded scale up; where two codes decode to one float they are kept.
      if (!p.recover_scale_codes(parts.scale_codes.size(),
                                 [&](std::size_t b, std::uint8_t code) { return code == parts.scale_codes[b]; }))
        p.kept_scale_codes_ = parts.scale_codes.clone();
    }
    return p;
  }

  // The canonical tensor, byte for byte.
  Tensor unpack() const {
    const detail::DefaultFloatEnvironment environment;
    TensorParts parts;
    parts.format = format_;
    parts.rows = rows_;
    parts.cols = cols_;
    parts.block = block_;
    parts.table = table_;
    const std::size_t n = rows_ * cols_;
    parts.codes.reset(detail::element_bytes(format_, n));
    for_each_dword([&](std::size_t row, std::size_t k0, int part, const std::uint8_t* in) { take(parts, row, k0, part, in); });
    if (layout_.element == detail::Element::four_bit && n % 2 != 0) parts.codes[n / 2] |= odd_tail_;
    if (layout_.scaled) {
      const std::size_t blocks = block_count(n, block_);
      if (double_quantized()) {
        parts.scale_codes.reset(blocks);
        if (!kept_scale_codes_.empty())
          std::copy_n(kept_scale_codes_.data(), blocks, parts.scale_codes.data());
        else
          recover_scale_codes(blocks, [&](std::size_t b, std::uint8_t code) { return parts.scale_codes[b] = code, true; });
        parts.nested = nested_.clone();
        parts.nested_map = nested_map_;
        parts.offset = offset_;
      } else {
        parts.scales.reset(blocks);
        for_each_scale([&](std::size_t row, std::size_t b, const float& s) {
          if (row < rows_) parts.scales[scale_index(row, b)] = s;
        });
      }
    }
    return Tensor(std::move(parts));
  }

  Format format() const { return format_; }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t block_size() const { return block_; }
  bool double_quantized() const { return !nested_.empty(); }
  // Bytes of the elements alone (the paper's account, without padding and scales), and of everything that is held.
  std::size_t element_bytes() const { return detail::element_bytes(format_, rows_ * cols_); }
  std::size_t resident_bytes() const { return data_.size_bytes() + nested_.size_bytes() + kept_scale_codes_.size_bytes(); }

  // What kernels see; valid while this lives and is not moved.
  detail::PackedWeights view() const {
    detail::PackedWeights w = layout_;
    w.data = data_.data();
    w.codebook = &codebook_;
    w.phases = phases_.data();
    return w;
  }

 private:
  // Elements of a row that surely share a scale, whatever the row: all of them, or a multiple of 8; 0 if there are too few for a
  // record.
  static std::size_t record_block(const Tensor& t) {
    constexpr std::size_t fewest = 32;
    const std::size_t block = t.block_size(), cols = t.cols();
    if (block % cols == 0) return cols;
    const std::size_t shared = std::gcd(block, cols);
    return shared == block || shared >= fewest ? (shared % detail::group_k == 0 ? shared : 0) : 0;
  }

  // In how many phases rows are packed where record_block() is 0; 0 if more than a third of the panels' columns would stay empty,
  // or if there were so many that the activations, which are held for every phase, outgrew the weights' gain.
  static std::size_t phases_of(const Tensor& t) {
    constexpr std::size_t most = 512;
    const std::size_t block = t.block_size(), rows = t.rows();
    if (block % detail::group_k != 0) return 0;
    const auto full = [&](std::size_t phases) {
      return phases <= rows &&
             ceil_div(ceil_div(rows, phases), detail::panel_cols) * detail::panel_cols <= (rows + rows / 2) / phases;
    };
    std::size_t phases = detail::Stagger(t.cols(), block).phases;
    if (phases > most || !full(phases)) return 0;
    while (phases < 16 && full(2 * phases)) phases *= 2;  // results are put in order by registers of up to 16
    return phases;
  }

  // Calls visit(phase, its weights), phase by phase.
  template <class Visit>
  void for_each_phase(const Visit& visit) const {
    if (!layout_.stagger) return visit(std::size_t{0}, view());
    for (std::size_t i = 0; i < phases_.size(); ++i) visit(i, view().phase(i));
  }
  // Row of the tensor that stands in column c of a phase.
  std::size_t row_of(std::size_t phase, std::size_t c) const { return phase + c * layout_.phase_count; }

  // A panel's records hold `steps` runs of 48 dwords (f16: of 48 halves) per group; visit(row, first k of the group, run, address).
  // The first k is negative (modulo 2^64) where a group is padded in front.
  template <class Self, class Visit>
  static void visit_dwords(Self& self, const Visit& visit) {
    const bool half = self.layout_.element == detail::Element::f16;
    const std::size_t group = detail::group_bytes(self.layout_.element), item = half ? 2 : 4,
                      steps = group / detail::panel_cols / item;
    self.for_each_phase([&](std::size_t phase, const detail::PackedWeights& w) {
      const std::size_t shift = self.layout_.stagger ? self.layout_.stagger.shift(phase) : 0;
      for (std::size_t p = 0; p < w.panels(); ++p)
        for (std::size_t b = 0; b < w.blocks(); ++b) {
          auto* at = self.data_.data() + (w.data - self.data_.data()) + p * w.panel_bytes() + w.record_begin(b) + w.head_bytes();
          for (std::size_t k = w.block_begin(b); k < w.block_begin(b + 1); k += detail::group_k)
            for (std::size_t s = 0; s < steps; ++s)
              for (std::size_t c = 0; c < detail::panel_cols; ++c, at += item)
                visit(self.row_of(phase, p * detail::panel_cols + c), k - shift, static_cast<int>(s), at);
        }
    });
  }
  template <class Visit>
  void for_each_dword(const Visit& visit) {
    visit_dwords(*this, visit);
  }
  template <class Visit>
  void for_each_dword(const Visit& visit) const {
    visit_dwords(*this, visit);
  }

  template <class Self, class Float, class Visit>
  static void visit_scales(Self& self, const Visit& visit) {
    self.for_each_phase([&](std::size_t phase, const detail::PackedWeights& w) {
      for (std::size_t p = 0; p < w.panels(); ++p)
        for (std::size_t b = 0; b < w.blocks(); ++b) {
          auto* at =
              reinterpret_cast<Float*>(self.data_.data() + (w.data - self.data_.data()) + p * w.panel_bytes() + w.record_begin(b));
          for (std::size_t c = 0; c < detail::panel_cols; ++c) visit(self.row_of(phase, p * detail::panel_cols + c), b, at[c]);
        }
    });
  }
  template <class Visit>
  void for_each_scale(const Visit& visit) {
    visit_scales<PackedTensor, float>(*this, visit);
  }
  template <class Visit>
  void for_each_scale(const Visit& visit) const {
    visit_scales<const PackedTensor, const float>(*this, visit);
  }

  // The block of the tensor that record b of a row is part of.
  std::size_t scale_index(std::size_t row, std::size_t b) const {
    return layout_.stagger ? row * cols_ / block_ + b : (row * cols_ + b * layout_.block) / block_;
  }

  // The elements of one dword: (k inside the group, bit position), by the layout's order.
  template <class Visit>
  static void elements_of(detail::Element e, int run, const Visit& visit) {
    switch (e) {
      case detail::Element::f32:
      case detail::Element::f16: visit(run, 0); break;
      case detail::Element::bf16:
        visit(2 * run, 0);
        visit(2 * run + 1, 16);
        break;
      case detail::Element::int8:
        for (int j = 0; j < 4; ++j) visit(detail::int8_k(run, j), 8 * j);
        break;
      case detail::Element::four_bit:
        for (int i = 0; i < 8; ++i) visit(detail::four_bit_k(i), 4 * i);
        break;
    }
  }
  // Element `e` (flat) of the canonical codes, as the layout stores it.
  static std::uint32_t stored(detail::Element element, const std::uint8_t* codes, std::size_t e) {
    switch (element) {
      case detail::Element::f32: {
        std::uint32_t v;
        std::memcpy(&v, codes + 4 * e, 4);
        return v;
      }
      case detail::Element::f16:
      case detail::Element::bf16: {
        std::uint16_t v;
        std::memcpy(&v, codes + 2 * e, 2);
        return v;
      }
      case detail::Element::int8: return codes[e] ^ 0x80u;  // + 128
      case detail::Element::four_bit: return four_bit_code(codes, e);
    }
    return 0;
  }
  // What stands where there is no weight: zero times any activation.
  std::uint32_t padding() const {
    if (layout_.element == detail::Element::int8) return 128;
    if (layout_.element != detail::Element::four_bit) return 0;
    for (std::uint32_t c = 0; c < 16; ++c)
      if (table_[c] == 0.0f) return c;
    return 0;
  }
  void put(const TensorParts& parts, std::size_t row, std::size_t k0, int run, std::uint8_t* out) {
    std::uint32_t word = 0;
    elements_of(layout_.element, run, [&](int k, int bit) {
      const std::size_t col = k0 + static_cast<std::size_t>(k);
      word |= (row < rows_ && col < cols_ ? stored(layout_.element, parts.codes.data(), row * cols_ + col) : padding()) << bit;
    });
    if (layout_.element == detail::Element::four_bit && rows_ * cols_ % 2 != 0) odd_tail_ = parts.codes[rows_ * cols_ / 2] & 15;
    std::memcpy(out, &word, layout_.element == detail::Element::f16 ? 2 : 4);
  }
  void take(TensorParts& parts, std::size_t row, std::size_t k0, int run, const std::uint8_t* in) const {
    std::uint32_t word = 0;
    std::memcpy(&word, in, layout_.element == detail::Element::f16 ? 2 : 4);
    elements_of(layout_.element, run, [&](int k, int bit) {
      const std::size_t col = k0 + static_cast<std::size_t>(k);
      if (row >= rows_ || col >= cols_) return;
      const std::size_t e = row * cols_ + col;
      const std::uint32_t v = word >> bit;
      switch (layout_.element) {
        case detail::Element::f32: std::memcpy(parts.codes.data() + 4 * e, &v, 4); break;
        case detail::Element::f16:
        case detail::Element::bf16: {
          const auto h = static_cast<std::uint16_t>(v);
          std::memcpy(parts.codes.data() + 2 * e, &h, 2);
          break;
        }
        case detail::Element::int8: parts.codes[e] = static_cast<std::uint8_t>((v & 255u) ^ 0x80u); break;
        case detail::Element::four_bit: parts.codes[e / 2] |= static_cast<std::uint8_t>((v & 15u) << (e % 2 == 0 ? 4 : 0)); break;
      }
    });
  }
  // Visits every block with the one code that decodes to its scale; false if a code is not unique or `visit` says so.
  template <class Visit>
  bool recover_scale_codes(std::size_t blocks, const Visit& visit) const {
    bool all = true;
    std::array<float, 256> decoded{};
    std::size_t group = blocks;  // no group yet
    const std::size_t phases = layout_.phase_count;
    std::vector<detail::PackedWeights> weights;
    for_each_phase([&](std::size_t, const detail::PackedWeights& w) { weights.push_back(w); });
    for (std::size_t b = 0; b < blocks && all; ++b) {
      if (b / nested_block_size != group) {
        group = b / nested_block_size;
        for (std::size_t c = 0; c < 256; ++c)
          decoded[c] = double_dequantize(nested_map_.data(), static_cast<std::uint8_t>(c), nested_[group], offset_);
        all = std::adjacent_find(decoded.begin(), decoded.end(), [](float a, float c) { return !(a < c); }) == decoded.end();
        if (!all) break;
      }
      // the row and the record in which the block begins
      const std::size_t row = b * block_ / cols_, phase = row % phases, column = row / phases;
      const std::size_t record = layout_.stagger ? b - row * cols_ / block_ : b * block_ % cols_ / layout_.block;
      const detail::PackedWeights& w = weights[phase];
      float s;
      std::memcpy(
          &s, w.data + column / detail::panel_cols * w.panel_bytes() + w.record_begin(record) + column % detail::panel_cols * 4, 4);
      const auto* at = std::lower_bound(decoded.data(), decoded.data() + 256, s);
      all = at != decoded.data() + 256 && std::bit_cast<std::uint32_t>(*at) == std::bit_cast<std::uint32_t>(s) &&
            visit(b, static_cast<std::uint8_t>(at - decoded.data()));
    }
    return all;
  }

  Format format_ = Format::f32;
  std::size_t rows_ = 0, cols_ = 0, block_ = 0;
  detail::PackedWeights layout_;             // without pointers
  std::vector<detail::PackedPhase> phases_;  // of staggered rows
  AlignedBuffer<std::uint8_t> data_;
  std::array<float, 16> table_{};
  detail::CodebookTables codebook_{};
  AlignedBuffer<float> nested_;
  std::array<float, 256> nested_map_ = dynamic_map();
  float offset_ = 0;
  AlignedBuffer<std::uint8_t> kept_scale_codes_;
  std::uint8_t odd_tail_ = 0;
};

}  // namespace lowbit::inline LOWBIT_ABI
