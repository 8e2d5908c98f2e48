// SPDX-License-Identifier: MIT
// What every copy of side.cpp defines.
#pragma once

struct Report {
  int wrong;    // products that differ from integer arithmetic
  int level;    // the level that ran
  bool caught;  // an error of this side was caught in it (or cannot be thrown)
};
#define LOWBIT_CHECK_NAME_(side) check_##side
#define LOWBIT_CHECK_NAME(side) LOWBIT_CHECK_NAME_(side)
#define LOWBIT_THROW_NAME_(side) throw_##side
#define LOWBIT_THROW_NAME(side) LOWBIT_THROW_NAME_(side)
