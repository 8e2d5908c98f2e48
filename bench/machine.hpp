// SPDX-License-Identifier: MIT
// What a measurement was made on and with.
#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

// Processors that this process may run on.
std::size_t usable_processors();

// Key and value: processor, level, compiler, flags, peers.
std::vector<std::pair<std::string, std::string>> circumstances();

}  // namespace bench
