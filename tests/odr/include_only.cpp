// SPDX-License-Identifier: MIT
// Linked beside side.cpp, compiled with the same flags: what the headers define without `inline` is defined twice then, and the
// linker says so.
#include <lowbit/lowbit.hpp>
