// SPDX-License-Identifier: MIT
// A file of C's library that is closed by whoever leaves, also by an exception.
#pragma once
#include <cstdio>
#include <memory>

#include "lowbit/base/config.hpp"

namespace lowbit::detail::inline LOWBIT_ABI {

struct CloseStream {
  void operator()(std::FILE* file) const noexcept { static_cast<void>(std::fclose(file)); }
};
using Stream = std::unique_ptr<std::FILE, CloseStream>;

}  // namespace lowbit::detail::inline LOWBIT_ABI
