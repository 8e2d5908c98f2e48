// SPDX-License-Identifier: MIT
// The one file that compiles the kernels for a program whose files are built with LOWBIT_KERNELS_EXTERN: what lowbit::kernels is
// made of.  It must have their flags (-march, -ffast-math, -fno-exceptions).
#define LOWBIT_KERNELS_DEFINE
#include <lowbit/kernel/dispatch/targets.hpp>
