// SPDX-License-Identifier: MIT
// Times contenders in turn, so that whatever the machine does meanwhile meets all of them alike.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

struct Plan {
  std::size_t rounds = 25;    // how often everybody has a turn
  double slice = 1e-3;        // seconds of a turn, at least one call
  double retake = 10e-3;      // seconds; longer turns are kept even if they were interrupted, as nearly all are on a busy machine
  double group_seconds = 20;  // a group that has taken as long has no further round, but for the first seven
};

struct Measured {
  double seconds = 0;  // per call: the median over the quieter half of the rounds
  std::string label;   // the way that was fastest
};

// How often the system has taken the processor from a thread of this process; always 0 where it does not say.
long interruptions();

// One result per contender.  Contenders without a way get none (0 seconds).
std::vector<Measured> measure_in_turn(const std::vector<const Contender*>& contenders, const Plan& plan);

}  // namespace bench
