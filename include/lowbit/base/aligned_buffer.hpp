// SPDX-License-Identifier: MIT
// An owning array of trivial elements, aligned to 64 bytes whatever the compiler flags, with readable slack behind the end so
// that a full-width load or a prefetch past the last element is harmless.
#pragma once
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "lowbit/base/checked.hpp"

namespace lowbit::inline LOWBIT_ABI {

// Move-only.  Elements are zero after construction.  Not thread safe to modify; reading from several threads is.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::size_t alignment = 64;     // bytes, of the first element
  static constexpr std::size_t slack_bytes = 256;  // allocated behind the last element, so that vectors may be read there

  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) { reset(size); }  // of `size` zero elements
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  // An explicit copy: tensors are large, so it never happens by accident.
  AlignedBuffer clone() const {
    AlignedBuffer copy(size_);
    if (size_ != 0) std::memcpy(copy.data(), data(), size_ * sizeof(T));
    return copy;
  }

  // Drops the contents and makes room for `size` zero elements.
  void reset(std::size_t size) {
    allocate(size);
    if (data_) std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T) + slack_bytes);
  }
  // As reset(), but keeps the memory, uncleared, where it suffices: for scratch space that is used again and again.
  void grow(std::size_t size) {
    if (size > size_) reset(size);
  }

  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }  // without the slack
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](std::size_t i) noexcept { return data_.get()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_.get()[i]; }
  T* begin() noexcept { return data(); }
  T* end() noexcept { return data() + size_; }
  const T* begin() const noexcept { return data(); }
  const T* end() const noexcept { return data() + size_; }
  std::span<T> span() noexcept { return {data(), size_}; }
  std::span<const T> span() const noexcept { return {data(), size_}; }

 private:
  struct Delete {
    void operator()(T* p) const noexcept { ::operator delete (static_cast<void*>(p), std::align_val_t{alignment}); }
  };
  void allocate(std::size_t size) {
    data_.reset();
    size_ = 0;
    if (size == 0) return;
    const std::size_t bytes = checked_add(checked_mul(size, sizeof(T), "buffer"), slack_bytes, "buffer");
    data_.reset(static_cast<T*>(::operator new (bytes, std::align_val_t{alignment})));
    size_ = size;
  }
  std::unique_ptr<T[], Delete> data_;
  std::size_t size_ = 0;
};

}  // namespace lowbit::inline LOWBIT_ABI
