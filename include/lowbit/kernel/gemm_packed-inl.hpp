// SPDX-License-Identifier: MIT
// The product on packed weights, written once: decode prologue x micro-kernel x epilogue, for every element and compute type.
// Included once per instruction set, by targets.hpp only.
//
// Order of summation of one output: blocks of k in order; inside a block chunks of sum_k (int8: the block is one exact integer
// sum); inside a chunk k after k, by fma, in the order in which the level reads the layout.  A chunk's sum times its scale is added
// to the total.  Nothing in this depends on m, on the other rows, or on the number of threads.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/targets.hpp only"
#endif
namespace lowbit {
namespace detail {
inline namespace LOWBIT_ABI {
namespace LOWBIT_ISA {

// ---- compute types: how a group of 8 k is multiplied ----------------------------------------------------------------
struct ComputeF32 {
  using S = simd;
  using acc = typename S::vf;
  using operand = typename S::vf;
  static constexpr Compute compute = Compute::f32;
  static constexpr Element element = Element::f32;
  static constexpr std::size_t steps = 8, x_bytes = 32;
  static LOWBIT_INLINE operand load(const std::uint8_t* p) { return S::load(reinterpret_cast<const float*>(p)); }
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) { return S::set1(*reinterpret_cast<const float*>(p)); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::fma(w, x, a); }
  static LOWBIT_INLINE acc start(std::int32_t) { return S::zero(); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return a; }
};
struct ComputeBf16 {
  using S = simd;
  using acc = typename S::vf;
  using operand = typename S::vi;
  static constexpr Compute compute = Compute::bf16;
  static constexpr Element element = Element::bf16;
  static constexpr std::size_t steps = 4, x_bytes = 16;
  static LOWBIT_INLINE operand load(const std::uint8_t* p) { return S::iload(p); }
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) { return S::iset1(*reinterpret_cast<const std::int32_t*>(p)); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::dot_bf16(a, w, x); }
  static LOWBIT_INLINE acc start(std::int32_t) { return S::zero(); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return a; }
};
struct ComputeInt8 {
  using S = simd;
  using acc = typename S::vi;
  using operand = typename S::vi;
  static constexpr Compute compute = Compute::int8;
  static constexpr Element element = Element::int8;
  static constexpr std::size_t steps = 2, x_bytes = 8;
  static LOWBIT_INLINE operand load(const std::uint8_t* p) { return S::iload(p); }
  static LOWBIT_INLINE operand broadcast(const std::uint8_t* p) { return S::iset1(*reinterpret_cast<const std::int32_t*>(p)); }
  static LOWBIT_INLINE acc dot(acc a, operand w, operand x) { return S::dot_u8s8(a, w, x); }
  static LOWBIT_INLINE acc start(std::int32_t offset) { return S::iset1(offset); }
  static LOWBIT_INLINE typename S::vf to_float(acc a) { return S::to_float(a); }
};

// ---- sources: where the weights of a step come from -----------------------------------------------------------------
// Elements that stand in the compute type already: packed so, or decoded before.
template <class C>
struct Direct {
  static constexpr std::size_t bytes = panel_cols * 4 * C::steps;
  struct Table {};
  static LOWBIT_INLINE Table table(const CodebookTables*) { return {}; }
  static LOWBIT_INLINE typename C::operand get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table&) {
    return C::load(w + (step * panel_cols + column) * 4);
  }
  static constexpr std::size_t x_offset(std::size_t step) { return 4 * step; }
};
// 4-bit codes, looked up in registers.  The word is read again for every step: the shift takes it from memory, no register is held.
template <class C>
struct Nibbles;
template <>
struct Nibbles<ComputeF32> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4;
  using Table = typename S::floats16;
  static LOWBIT_INLINE Table table(const CodebookTables* t) { return S::load_floats16(t->f32.data()); }
  static LOWBIT_INLINE typename S::vf get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi word = S::iload(w + column * 4);
    switch (step) {
      case 0: return S::lookup(t, word);
      case 1: return S::lookup(t, S::template shift_right<4>(word));
      case 2: return S::lookup(t, S::template shift_right<8>(word));
      case 3: return S::lookup(t, S::template shift_right<12>(word));
      case 4: return S::lookup(t, S::template shift_right<16>(word));
      case 5: return S::lookup(t, S::template shift_right<20>(word));
      case 6: return S::lookup(t, S::template shift_right<24>(word));
      default: return S::lookup(t, S::template shift_right<28>(word));
    }
  }
  static constexpr std::size_t x_offset(std::size_t step) {
    return 4 * static_cast<std::size_t>(four_bit_k(static_cast<int>(step)));
  }
};
template <>
struct Nibbles<ComputeInt8> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4;
  using Table = typename S::bytes16;
  static LOWBIT_INLINE Table table(const CodebookTables* t) { return S::load_bytes16(t->bytes.data()); }
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi word = S::iload(w + column * 4);
    return S::lookup_bytes(t, step == 0 ? word : S::template shift_right<4>(word));
  }
  static constexpr std::size_t x_offset(std::size_t step) { return 4 * step; }
};
template <>
struct Nibbles<ComputeBf16> {
  using S = simd;
  static constexpr std::size_t bytes = panel_cols * 4;
  using Table = typename S::vi;
  template <class V = S>
  static LOWBIT_INLINE Table table(const CodebookTables* t) {
    return V::load_pairs(t->pairs.data());
  }
  template <class V = S>
  static LOWBIT_INLINE typename S::vi get(const std::uint8_t* w, std::size_t step, std::size_t column, const Table& t) {
    const typename S::vi word = S::iload(w + column * 4);
    switch (step) {
      case 0: return V::lookup_pairs(t, word);
      case 1: return V::lookup_pairs(t, S::template shift_right<4>(word));
      case 2: return V::lookup_pairs(t, S::template shift_right<8>(word));
      default: return V::lookup_pairs(t, S::template shift_right<12>(word));
    }
  }
  static constexpr std::size_t x_offset(std::size_t step) { return 4 * step; }
};

// ---- micro-kernel ------------------------------------------------------------------------------------------------------------
// A tile of rows x (registers * lanes) columns over the blocks [0, blocks).
struct MicroArgs {
  const std::uint8_t* w;      // first weights of the tile's columns
  const std::uint8_t* scale;  // first scales of the tile's columns, or null
  std::size_t record_bytes;   // from one block to the next, of w and scale
  std::size_t blocks, block;  // block: k of a block
  const std::uint8_t* x;      // first row of the tile at the first k
  std::size_t x_stride;
  const std::int32_t* offset;  // int8: of the first row at the first block
  std::size_t offset_stride;
  float* total;  // [rows][panel_cols]
  bool first;    // start the totals instead of adding to them
  const CodebookTables* codebook;
};

#if defined(__clang__)
#define LOWBIT_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define LOWBIT_UNROLL _Pragma("GCC unroll 32")
#else
#define LOWBIT_UNROLL
#endif

template <class C, class Source, std::size_t R>
LOWBIT_NOINLINE void micro(const MicroArgs& a) {
  using S = simd;
  constexpr std::size_t N = S::registers;
  constexpr std::size_t chunk_limit = C::compute == Compute::int8 ? ~std::size_t{0} : sum_k;
  const auto table = Source::table(a.codebook);
  const std::uint8_t* x = a.x;
  bool first = a.first;
  for (std::size_t b = 0; b < a.blocks; ++b) {
    const std::uint8_t* w = a.w + b * a.record_bytes;
    for (std::size_t done = 0; done < a.block;) {
      const std::size_t chunk = a.block - done < chunk_limit ? a.block - done : chunk_limit;
      typename C::acc acc[R][N];
      LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
        const std::int32_t start = C::compute == Compute::int8 ? a.offset[r * a.offset_stride + b] : 0;
        LOWBIT_UNROLL for (std::size_t v = 0; v < N; ++v) acc[r][v] = C::start(start);
      }
      for (std::size_t g = 0; g < chunk / group_k; ++g) {
        LOWBIT_UNROLL for (std::size_t step = 0; step < C::steps; ++step) {
          typename C::operand weights[N];
          LOWBIT_UNROLL for (std::size_t v = 0; v < N; ++v) weights[v] = Source::get(w, step, v * S::lanes, table);
          LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
            const typename C::operand xv = C::broadcast(x + r * a.x_stride + Source::x_offset(step));
            LOWBIT_UNROLL for (std::size_t v = 0; v < N; ++v) acc[r][v] = C::dot(acc[r][v], weights[v], xv);
          }
        }
        w += Source::bytes;
        x += C::x_bytes;
      }
      const float* scale = a.scale ? reinterpret_cast<const float*>(a.scale + b * a.record_bytes) : nullptr;
      LOWBIT_UNROLL for (std::size_t v = 0; v < N; ++v) {
        const typename S::vf sv = scale ? S::load(scale + v * S::lanes) : S::set1(1.0f);
        LOWBIT_UNROLL for (std::size_t r = 0; r < R; ++r) {
          float* p = a.total + r * panel_cols + v * S::lanes;
          const typename S::vf t = C::to_float(acc[r][v]);
          S::store(p, first ? S::mul(t, sv) : S::fma(t, sv, S::load(p)));
        }
      }
      first = false;
      done += chunk;
    }
  }
}

template <class C, class Source>
inline void micro_rows(std::size_t rows, const MicroArgs& a) {
  switch (rows) {
    case 1: return micro<C, Source, 1>(a);
    case 2: return micro<C, Source, 2>(a);
    case 3: return micro<C, Source, 3>(a);
    case 4: return micro<C, Source, 4>(a);
    default: break;
  }
  if constexpr (simd::rows == 8) switch (rows) {
      case 5: return micro<C, Source, 5>(a);
      case 6: return micro<C, Source, 6>(a);
      case 7: return micro<C, Source, 7>(a);
      default: return micro<C, Source, 8>(a);
    }
}

// ---- decode prologue ------------------------------------------------------------------------------------------------
// `k` weights of one panel, without their scales, into the layout that Direct<C> reads.
template <class C>
LOWBIT_NOINLINE void decode_chunk(Element element, const CodebookTables* codebook, const std::uint8_t* w, std::size_t k,
                                  std::uint8_t* out) {
  using S = simd;
  using V = typename S::vf;
  using I = typename S::vi;
  const std::size_t bytes = group_bytes(element);
  const I byte = S::iset1(255), high_half = S::iset1(static_cast<std::int32_t>(0xFFFF0000u));
  for (std::size_t g = 0; g < k / group_k; ++g, w += bytes, out += Direct<C>::bytes)
    for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
      const auto dword = [&](std::size_t i) LOWBIT_INLINE_LAMBDA { return S::iload(w + (i * panel_cols + c) * 4); };
      const auto put = [&](std::size_t i, I value) LOWBIT_INLINE_LAMBDA { S::istore(out + (i * panel_cols + c) * 4, value); };
      if constexpr (C::compute == Compute::int8) {  // four_bit only: int8 stands already
        const auto t = S::load_bytes16(codebook->bytes.data());
        put(0, S::lookup_bytes(t, dword(0)));
        put(1, S::lookup_bytes(t, S::template shift_right<4>(dword(0))));
      } else {
        // the 8 values of the group, k in order
        V value[group_k];
        switch (element) {
          case Element::f32:
            for (std::size_t i = 0; i < group_k; ++i) value[i] = S::as_float(dword(i));
            break;
          case Element::f16:
            for (std::size_t i = 0; i < group_k; ++i)
              value[i] = S::load_f16(reinterpret_cast<const std::uint16_t*>(w) + i * panel_cols + c);
            break;
          case Element::bf16:
            for (std::size_t i = 0; i < group_k / 2; ++i) {
              value[2 * i] = S::as_float(S::template shift_left<16>(dword(i)));
              value[2 * i + 1] = S::as_float(S::iand(dword(i), high_half));
            }
            break;
          case Element::int8:
            for (std::size_t t = 0; t < 2; ++t) {
              const I q = dword(t), bias = S::iset1(128);
              const auto code = [&](I b) LOWBIT_INLINE_LAMBDA { return S::to_float(S::isub(S::iand(b, byte), bias)); };
              value[2 * t] = code(q);
              value[4 + 2 * t] = code(S::template shift_right<8>(q));
              value[2 * t + 1] = code(S::template shift_right<16>(q));
              value[4 + 2 * t + 1] = code(S::template shift_right<24>(q));
            }
            break;
          case Element::four_bit: {
            const auto t = S::load_floats16(C::compute == Compute::bf16 ? codebook->bf16.data() : codebook->f32.data());
            const I q = dword(0);
            value[0] = S::lookup(t, q);
            value[2] = S::lookup(t, S::template shift_right<4>(q));
            value[4] = S::lookup(t, S::template shift_right<8>(q));
            value[6] = S::lookup(t, S::template shift_right<12>(q));
            value[1] = S::lookup(t, S::template shift_right<16>(q));
            value[3] = S::lookup(t, S::template shift_right<20>(q));
            value[5] = S::lookup(t, S::template shift_right<24>(q));
            value[7] = S::lookup(t, S::template shift_right<28>(q));
            break;
          }
        }
        if constexpr (C::compute == Compute::f32) {
          for (std::size_t i = 0; i < group_k; ++i) put(i, S::as_int(value[i]));
        } else {
          for (std::size_t i = 0; i < group_k / 2; ++i)
            put(i, S::ior(bf16_bits(value[2 * i]), S::template shift_left<16>(bf16_bits(value[2 * i + 1]))));
        }
      }
    }
}

// ---- epilogue -------------------------------------------------------------------------------------------------------
// What is taken out of the int8 codes of a row and multiplied in float: sum over the outliers of x * code, for 48 columns.
inline void outlier_product(const std::uint8_t* panel, const Activations& x, std::size_t row, float* sum) {
  using S = simd;
  for (std::size_t c = 0; c < panel_cols; c += S::lanes) S::store(sum + c, S::zero());
  const typename S::vi byte = S::iset1(255), bias = S::iset1(128);
  for (std::size_t o = x.outlier_begin[row]; o < x.outlier_begin[row + 1]; ++o) {
    const std::size_t k = x.outlier_column[o], i = k % group_k;
    const std::size_t dword = (i >> 1) & 1, position = ((i & 1) << 1) | (i >> 2);  // the inverse of int8_k
    const std::uint8_t* q = panel + k / group_k * group_bytes(Element::int8) + dword * panel_cols * 4;
    const typename S::vf value = S::set1(x.outlier_value[o]);
    for (std::size_t c = 0; c < panel_cols; c += S::lanes) {
      typename S::vi b = S::iload(q + c * 4);
      b = position == 0   ? b
          : position == 1 ? S::template shift_right<8>(b)
          : position == 2 ? S::template shift_right<16>(b)
                          : S::template shift_right<24>(b);
      S::store(sum + c, S::fma(value, S::to_float(S::isub(S::iand(b, byte), bias)), S::load(sum + c)));
    }
  }
}

inline void finish_rows(const PackedGemmArgs& a, std::size_t panel, std::size_t row, std::size_t rows, const float* total,
                        bool int8) {
  using S = simd;
  using V = typename S::vf;
  const std::size_t column = panel * panel_cols, cols = a.w.n - column < panel_cols ? a.w.n - column : panel_cols;
  const std::uint8_t* data = a.w.data + panel * a.w.panel_bytes();
  const float code_scale = a.w.scale_factor * (a.w.element == Element::four_bit && int8 ? a.w.codebook->byte_scale : 1.0f);
  const bool rescale = int8 || code_scale != 1.0f;
  const V outlier_scale = S::set1(a.w.scale_factor);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* t = total + r * panel_cols;
    const V row_scale = S::set1(int8 ? a.x.scale[row + r] * code_scale : code_scale);
    float* y = a.y + (row + r) * a.y_stride + column;
    const float* residual = a.epilogue.residual ? a.epilogue.residual + (row + r) * a.epilogue.residual_stride + column : nullptr;
    const bool outliers = int8 && a.x.outlier_begin && a.x.outlier_begin[row + r] != a.x.outlier_begin[row + r + 1];
    float extra[panel_cols];
    if (outliers) outlier_product(data + panel_cols * 4, a.x, row + r, extra);
    for (std::size_t c = 0; c < cols; c += S::lanes) {
      const std::size_t n = cols - c < S::lanes ? cols - c : S::lanes;
      const bool whole = n == S::lanes;
      V f = S::load(t + c);
      if (rescale) f = S::mul(f, row_scale);
      if (outliers) f = S::fma(S::mul(S::load(extra + c), outlier_scale), S::load(reinterpret_cast<const float*>(data) + c), f);
      if (a.epilogue.bias)
        f = S::add(f, whole ? S::load(a.epilogue.bias + column + c) : S::load_n(a.epilogue.bias + column + c, n));
      if (a.epilogue.activation == Activation::gelu_tanh) f = gelu(f);
      if (residual) f = S::add(f, whole ? S::load(residual + c) : S::load_n(residual + c, n));
      if (whole)
        S::store(y + c, f);
      else
        S::store_n(y + c, f, n);
    }
  }
}

// ---- the loops ------------------------------------------------------------------------------------------------------
// Rows in tiles of nearly equal height: 9 rows are 5 + 4, not 8 + 1.
template <class C, class Source>
inline void run_tiles(const PackedGemmArgs& a, MicroArgs micro, std::size_t row, std::size_t rows, std::size_t k_offset,
                      std::size_t block, float* total) {
  using S = simd;
  const std::size_t tiles = (rows + S::rows - 1) / S::rows;
  const auto* x = static_cast<const std::uint8_t*>(a.x.data);
  const std::uint8_t* w = micro.w;
  const std::uint8_t* scale = micro.scale;
  for (std::size_t i = 0, r = 0; i < tiles; ++i) {
    const std::size_t height = rows / tiles + (i < rows % tiles);
    micro.x = x + (row + r) * a.x.stride_bytes + k_offset / group_k * C::x_bytes;
    micro.x_stride = a.x.stride_bytes;
    if constexpr (C::compute == Compute::int8) {
      micro.offset = a.x.offset + (row + r) * a.x.offset_stride + block;
      micro.offset_stride = a.x.offset_stride;
    }
    for (std::size_t c = 0; c < panel_cols; c += S::registers * S::lanes) {
      micro.w = w + c * 4;
      micro.scale = scale ? scale + c * 4 : nullptr;
      micro.total = total + r * panel_cols + c;
      micro_rows<C, Source>(height, micro);
    }
    r += height;
  }
}

template <class C>
void gemm_packed(const PackedGemmArgs& a) {
  const PackedWeights& w = a.w;
  const bool direct = w.element == C::element, nibbles = simd::lookup_in_registers && w.element == Element::four_bit;
  float* total = reinterpret_cast<float*>(a.scratch);
  std::uint8_t* decoded = a.scratch + row_block * panel_cols * 4;
  const std::size_t head = w.scaled ? panel_cols * 4 : 0;
  const std::size_t chunk_limit = C::compute == Compute::int8 ? w.block : sum_k;
  for (std::size_t row = 0; row < a.m; row += row_block) {
    const std::size_t rows = a.m - row < row_block ? a.m - row : row_block;
    for (std::size_t p = a.panel_begin; p < a.panel_end; ++p) {
      const std::uint8_t* panel = w.data + p * w.panel_bytes();
      MicroArgs micro{};
      micro.codebook = w.codebook;
      if (direct || nibbles) {
        micro.w = panel + head;
        micro.scale = w.scaled ? panel : nullptr;
        micro.record_bytes = w.record_bytes();
        micro.blocks = w.blocks();
        micro.block = w.block;
        micro.first = true;
        if constexpr (simd::lookup_in_registers) {
          if (nibbles) run_tiles<C, Nibbles<C>>(a, micro, row, rows, 0, 0, total);
        }
        if (!nibbles) run_tiles<C, Direct<C>>(a, micro, row, rows, 0, 0, total);
      } else {
        for (std::size_t b = 0; b < w.blocks(); ++b)
          for (std::size_t k = 0; k < w.block; k += chunk_limit) {
            const std::uint8_t* record = panel + b * w.record_bytes();
            const std::size_t chunk = w.block - k < chunk_limit ? w.block - k : chunk_limit;
            decode_chunk<C>(w.element, w.codebook, record + head + k / group_k * group_bytes(w.element), chunk, decoded);
            micro.w = decoded;
            micro.scale = w.scaled ? record : nullptr;
            micro.record_bytes = 0;
            micro.blocks = 1;
            micro.block = chunk;
            micro.first = b == 0 && k == 0;
            run_tiles<C, Direct<C>>(a, micro, row, rows, b * w.block + k, b, total);
          }
      }
      finish_rows(a, p, row, rows, total, C::compute == Compute::int8);
    }
  }
}

}  // namespace LOWBIT_ISA
}  // namespace LOWBIT_ABI
}  // namespace detail
}  // namespace lowbit
