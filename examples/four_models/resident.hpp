// SPDX-License-Identifier: MIT
// What loading a model adds to a process, as the system sees it: measured in a process of its own, in which nothing else happened.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lowbit/gpt2/transformer.hpp"

namespace examples {

// In the process of its own: bytes of anonymous memory (not files, not code) that are resident after make() and were not before.
// Nothing where the system does not say.
std::optional<std::size_t> resident_growth(const std::function<lowbit::gpt2::Transformer()>& make);

// Starts this program again with `arguments`, and reads the number that it prints.  Nothing if any of that fails.
std::optional<std::size_t> number_from_own_process(const std::vector<std::string>& arguments);

}  // namespace examples
