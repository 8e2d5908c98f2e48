// SPDX-License-Identifier: MIT
// The one file that compiles the kernels for our tests, examples and benchmarks, all of which are built with
// LOWBIT_KERNELS_EXTERN.  A program of many files can do the same; one of few files needs neither.
#define LOWBIT_KERNELS_DEFINE
#include <lowbit/kernel/targets.hpp>
