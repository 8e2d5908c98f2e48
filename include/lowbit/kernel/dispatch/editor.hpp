// SPDX-License-Identifier: MIT
// For an editor that opens a kernel's -inl.hpp file alone: everything that stands before it, with the base level's vocabulary.
// Programs never get here: targets.hpp says for which level it includes such a file.
#pragma once
#include "lowbit/kernel/dispatch/targets.hpp"

#define LOWBIT_ISA editor
#define LOWBIT_ISA_RANK 0
namespace lowbit::detail::inline LOWBIT_ABI::LOWBIT_ISA {
using namespace base;
}
