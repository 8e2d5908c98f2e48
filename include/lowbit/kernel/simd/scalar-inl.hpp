// SPDX-License-Identifier: MIT
// What base-inl.hpp takes of xsimd, over arrays of four: for processors whose registers xsimd does not know.  Included by
// base-inl.hpp only.
#ifndef LOWBIT_ISA
#error "included by lowbit/kernel/dispatch/targets.hpp only"
#endif
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA::scalar {

template <class T>
struct batch {
  using value_type = T;
  using register_type = batch;
  static constexpr std::size_t size = 4;
  T v[size];

  batch() = default;
  LOWBIT_INLINE explicit batch(T x) : v{x, x, x, x} {}
  static LOWBIT_INLINE batch load_unaligned(const T* p) {
    batch r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  LOWBIT_INLINE void store_unaligned(T* p) const { std::memcpy(p, v, sizeof v); }
};

// f of each lane of the arguments.
template <class F, class T, class... More>
LOWBIT_INLINE auto each(const F& f, const batch<T>& a, const More&... more) {
  batch<decltype(f(a.v[0], more.v[0]...))> r;
  for (std::size_t i = 0; i < batch<T>::size; ++i) r.v[i] = f(a.v[i], more.v[i]...);
  return r;
}
// Integers wrap round, as those of registers do.
template <class T>
using arithmetic = std::conditional_t<std::is_integral_v<T>, std::uint32_t, float>;
#define LOWBIT_SCALAR_OPERATOR(op)                                                                                         \
  template <class T>                                                                                                       \
  LOWBIT_INLINE batch<T> operator op(const batch<T>& a, const batch<T>& b) {                                               \
    return each([](T x, T y) LOWBIT_INLINE_LAMBDA { return static_cast<T>(arithmetic<T>(x) op arithmetic<T>(y)); }, a, b); \
  }
LOWBIT_SCALAR_OPERATOR(+)
LOWBIT_SCALAR_OPERATOR(-)
LOWBIT_SCALAR_OPERATOR(*)
LOWBIT_SCALAR_OPERATOR(/)
LOWBIT_SCALAR_OPERATOR(&)
LOWBIT_SCALAR_OPERATOR(|)
#undef LOWBIT_SCALAR_OPERATOR
template <class T>
LOWBIT_INLINE batch<T> operator<<(const batch<T>& a, int n) {
  return each([n](T x) LOWBIT_INLINE_LAMBDA { return static_cast<T>(static_cast<std::uint32_t>(x) << n); }, a);
}
template <class T>
LOWBIT_INLINE batch<T> operator>>(const batch<T>& a, int n) {
  return each([n](T x) LOWBIT_INLINE_LAMBDA { return static_cast<T>(x >> n); }, a);
}
template <class T>
LOWBIT_INLINE batch<bool> operator<(const batch<T>& a, const batch<T>& b) {
  return each([](T x, T y) LOWBIT_INLINE_LAMBDA { return x < y; }, a, b);
}
template <class T>
LOWBIT_INLINE batch<bool> operator>(const batch<T>& a, const batch<T>& b) {
  return b < a;
}
LOWBIT_INLINE bool any(const batch<bool>& a) { return a.v[0] || a.v[1] || a.v[2] || a.v[3]; }
template <class T>
LOWBIT_INLINE batch<T> select(const batch<bool>& which, const batch<T>& a, const batch<T>& b) {
  return each([](bool w, T x, T y) LOWBIT_INLINE_LAMBDA { return w ? x : y; }, which, a, b);
}
template <class T>
LOWBIT_INLINE batch<T>(max)(const batch<T>& a, const batch<T>& b) {
  return select(a > b, a, b);
}
template <class T>
LOWBIT_INLINE batch<T>(min)(const batch<T>& a, const batch<T>& b) {
  return select(a < b, a, b);
}
LOWBIT_INLINE batch<float> fma(const batch<float>& a, const batch<float>& b, const batch<float>& c) {
  return each(
      [](float x, float y, float z) LOWBIT_INLINE_LAMBDA {
#if defined(__FP_FAST_FMAF)
        return std::fma(x, y, z);
#else
        return x * y + z;
#endif
      },
      a, b, c);
}
LOWBIT_INLINE batch<float> abs(const batch<float>& a) {
  return each([](float x) LOWBIT_INLINE_LAMBDA { return std::fabs(x); }, a);
}
LOWBIT_INLINE batch<float> sqrt(const batch<float>& a) {
  return each([](float x) LOWBIT_INLINE_LAMBDA { return std::sqrt(x); }, a);
}
LOWBIT_INLINE batch<float> nearbyint(const batch<float>& a) {
  return each([](float x) LOWBIT_INLINE_LAMBDA { return std::nearbyint(x); }, a);
}
LOWBIT_INLINE batch<float> to_float(const batch<std::int32_t>& a) {
  return each([](std::int32_t x) LOWBIT_INLINE_LAMBDA { return static_cast<float>(x); }, a);
}
// NaN and what does not fit: the smallest integer, as SSE2 has it.
LOWBIT_INLINE batch<std::int32_t> to_int(const batch<float>& a) {
  return each(
      [](float x) LOWBIT_INLINE_LAMBDA {
        return x >= -2147483648.0f && x < 2147483648.0f ? static_cast<std::int32_t>(x)
                                                        : std::numeric_limits<std::int32_t>::lowest();
      },
      a);
}
template <class To, class From>
LOWBIT_INLINE To bitwise_cast(const From& a) {
  return std::bit_cast<To>(a);
}
template <class T>
LOWBIT_INLINE batch<T> zip_lo(const batch<T>& a, const batch<T>& b) {
  batch<T> r;
  for (std::size_t i = 0; i < 4; ++i) r.v[i] = i % 2 == 0 ? a.v[i / 2] : b.v[i / 2];
  return r;
}
template <class T>
LOWBIT_INLINE batch<T> zip_hi(const batch<T>& a, const batch<T>& b) {
  batch<T> r;
  for (std::size_t i = 0; i < 4; ++i) r.v[i] = i % 2 == 0 ? a.v[2 + i / 2] : b.v[2 + i / 2];
  return r;
}

}  // namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA::scalar
