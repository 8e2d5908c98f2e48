// SPDX-License-Identifier: MIT
// A view of a callable, valid during the call that receives it.
#pragma once
#include <type_traits>
#include <utility>

#include "lowbit/base/config.hpp"

namespace lowbit::inline LOWBIT_ABI {

// A view of a callable, as std::function without ownership: FunctionRef<R(Args...)>.
template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  // Binds to any callable with these arguments, which must outlive the view.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>) LOWBIT_INLINE
      FunctionRef(F&& f)  // NOLINT: a view of any callable
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, Args... args) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(args...); }) {}
  LOWBIT_INLINE R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace lowbit::inline LOWBIT_ABI
