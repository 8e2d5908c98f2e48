// SPDX-License-Identifier: MIT
// The errors that lowbit throws.  A bad argument or a bad file ends in one of these, and its message names the argument, file or
// tensor, what was expected and what was found.
#pragma once
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "lowbit/base/config.hpp"

#if !LOWBIT_EXCEPTIONS
#include <atomic>
#include <cstdlib>
#endif

namespace lowbit::inline LOWBIT_ABI_OF_ALL_FLAGS {

// Root of everything lowbit throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
// A caller passed something that cannot be computed: shapes that do not match, a block size out of range, NaN where refused.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};
// A file or a byte buffer does not say what its format demands.
class FormatError : public Error {
 public:
  using Error::Error;
};
// The operating system refused: a file cannot be opened, read, written or renamed.
class IoError : public Error {
 public:
  using Error::Error;
};

}  // namespace lowbit::inline LOWBIT_ABI_OF_ALL_FLAGS

#if !LOWBIT_EXCEPTIONS
namespace lowbit::detail::inline LOWBIT_ABI_OF_ALL_FLAGS {

inline constinit std::atomic<void (*)(const char*)> error_handler{nullptr};

}  // namespace lowbit::detail::inline LOWBIT_ABI_OF_ALL_FLAGS
#endif

namespace lowbit::inline LOWBIT_ABI {

#if !LOWBIT_EXCEPTIONS
// Without exceptions an error is passed to this handler, which must not return.  Without a handler, or where it returns, the message
// is written to standard error and the program ends (std::abort), because there is no value to return.  One handler for all files
// of a program that were compiled without exceptions.  Thread safe.
using ErrorHandler = void (*)(const char* message);
inline void set_error_handler(ErrorHandler handler) { detail::error_handler.store(handler); }
#endif

// As std::to_string, but a function of this file's flags: of the standard library's, which is not, a linker keeps any file's copy, and
// compilers use every instruction they may in it (clang 19: mulx from x86-64-v3 on).
template <class T>
LOWBIT_COLD inline std::string decimal(T value) {
  char text[400];  // the largest double has 309 digits before its point
  int length = 0;
  if constexpr (std::is_floating_point_v<T>) {
    length = std::snprintf(text, sizeof text, "%f", value);
  } else if constexpr (std::is_signed_v<T>) {
    const long long number = value;
    length = std::snprintf(text, sizeof text, "%lld", number);
  } else {
    const unsigned long long number = value;
    length = std::snprintf(text, sizeof text, "%llu", number);
  }
  return std::string(text, static_cast<std::size_t>(length));
}
inline std::string decimal(float value) { return decimal(static_cast<double>(value)); }

// Throws E(message), or calls the error handler where exceptions are off.
template <class E>
[[noreturn]] LOWBIT_COLD inline void raise(const std::string& message) {
#if LOWBIT_EXCEPTIONS
  throw E(message);
#else
  if (const ErrorHandler handler = detail::error_handler.load()) handler(message.c_str());
  std::fprintf(stderr, "lowbit: %s\n", message.c_str());
  std::abort();
#endif
}

// What require() does where it is not ok.
template <class Message>
[[noreturn]] LOWBIT_COLD inline void refuse(const Message& message) {
  raise<InvalidArgument>(message());
}
// Throws InvalidArgument(message()) unless ok.  The message is a callable so that it costs nothing when all is well.
template <class Message>
inline void require(bool ok, const Message& message) {
  if (!ok) [[unlikely]]
    refuse(message);
}

}  // namespace lowbit::inline LOWBIT_ABI
