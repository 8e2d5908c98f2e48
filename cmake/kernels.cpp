// SPDX-License-Identifier: MIT
// The one file that compiles the kernels, and what stands around them, for a program whose files are built with
// LOWBIT_KERNELS_EXTERN: what lowbit::kernels is made of.  It must have their flags (-march, -ffast-math, -fno-exceptions).
#define LOWBIT_KERNELS_DEFINE
#include <lowbit/lowbit.hpp>
