// SPDX-License-Identifier: MIT
// The kernels of one level, in order.  Included once per instruction set, after its vocabulary, by targets.hpp only.
#include "lowbit/kernel/math-inl.hpp"
#include "lowbit/kernel/convert-inl.hpp"
#include "lowbit/kernel/gemm_packed-inl.hpp"
#include "lowbit/kernel/canonical_scales-inl.hpp"
#include "lowbit/kernel/canonical_finish-inl.hpp"
#include "lowbit/kernel/canonical_four_bit-inl.hpp"
#include "lowbit/kernel/canonical_rows-inl.hpp"
#include "lowbit/kernel/gemm_canonical-inl.hpp"
#include "lowbit/kernel/table-inl.hpp"
