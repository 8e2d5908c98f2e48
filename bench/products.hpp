// SPDX-License-Identifier: MIT
// The cases: products of lowbit and of its peers by name, checked before anybody may time them.
#pragma once
#include <string>

#include "contender.hpp"

namespace bench {

// What a case's name says: IMPL/FORMAT/COMPUTE/NxKxM/tT, for m = 1 with /cold or /hot behind, then the epilogue if there is one.
//   impl      lowbit, lowbit@LEVEL (forced), onednn, openblas, openblas@CORE (forced), eigen, limit
//   format    f32 f16 bf16 int8 llm_int8 nf4 nf4_plain nf4_b32 nf4_b128 nf4_b4096 nf4_canonical fp4; of a limit: f32 bf16 int8
//             (arithmetic) or l2 l3 dram (reading)
//   compute   f32 bf16 int8; of a limit: registers, lookup or read
//   epilogue  bias_gelu or bias_residual
struct Case {
  std::string impl, format, compute;
  Problem problem;
  std::string epilogue = "";

  std::string name() const;
};

// Whether this build and machine have the peer, level or limit.
bool exists(const Case& c);

// Makes the operands and the product, and compares the result with the reference.  Throws std::invalid_argument for a name that
// means nothing.
Contender prepare(const Case& c);

// Lets go of the operands of other shapes than these cases', and of copies that keep weights cold.
void forget_operands_except(const std::vector<Case>& cases);

}  // namespace bench
