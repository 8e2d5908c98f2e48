// SPDX-License-Identifier: MIT
// Runs a test at every instruction-set level of this build and processor.
#pragma once
#include <cstddef>
#include <iostream>
#include <vector>

#include "lowbit/kernel/dispatch/dispatch.hpp"
#include "support/catch.hpp"

namespace lowbit_test {

// Prints the levels, once in the program.
inline void name_levels(const std::vector<lowbit::Level>& levels) {
  static const bool said = [&] {
    std::cout << "levels tested:";
    for (const lowbit::Level level : levels) std::cout << ' ' << lowbit::level_name(level);
    std::cout << '\n';
    return true;
  }();
  static_cast<void>(said);
}

// Calls test(level) with every available level set in turn, and restores the level of before.  The first call of the program prints
// which levels run; the lowest that the compiler's flags allow must be among them, so that a test never passes by running nowhere.
template <class Test>
void for_each_level(const Test& test) {
  struct Restore {
    lowbit::Level level = lowbit::active_level();
    ~Restore() { lowbit::set_level(level); }
  } const restore;
  const std::vector<lowbit::Level> levels = lowbit::available_levels();
  name_levels(levels);
  REQUIRE_FALSE(levels.empty());
  REQUIRE(levels.front() == lowbit::all_levels[static_cast<std::size_t>(LOWBIT_BASELINE)]);
  for (const lowbit::Level level : levels) {
    INFO("level " << lowbit::level_name(level));
    lowbit::set_level(level);
    REQUIRE(lowbit::active_level() == level);
    test(level);
  }
}

}  // namespace lowbit_test
