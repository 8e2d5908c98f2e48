// SPDX-License-Identifier: MIT
// The errors that lowbit throws.  A bad argument or a bad file ends in one of these, and its message names the argument, file or
// tensor, what was expected and what was found.
#pragma once
#include <stdexcept>
#include <string>

#include "lowbit/base/config.hpp"

#if !LOWBIT_EXCEPTIONS
#include <atomic>
#include <cstdio>
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
