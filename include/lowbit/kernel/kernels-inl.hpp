// SPDX-License-Identifier: MIT
// The kernels of one level, in order.  Included once per instruction set, after its vocabulary, by targets.hpp only.
#include "lowbit/kernel/math-inl.hpp"
#include "lowbit/kernel/embed-inl.hpp"
#include "lowbit/kernel/layer_norm-inl.hpp"
#include "lowbit/kernel/attention-inl.hpp"
#include "lowbit/kernel/convert-inl.hpp"
#include "lowbit/kernel/gemm_packed-inl.hpp"
#include "lowbit/kernel/gemm_canonical-inl.hpp"
#include "lowbit/kernel/table-inl.hpp"
