// SPDX-License-Identifier: MIT
// lowbit: quantized tensors and fused dequantize-GEMM kernels for the CPU.  This list is the layer diagram, from the ground up;
// a file includes only what stands above it.  Opt-in and not here: eigen.hpp, openmp.hpp, io/, gpt2/, qat/.
#pragma once

// base: what the compiler gives, errors, sizes, memory, views, 16-bit floats
#include "lowbit/base/config.hpp"
#include "lowbit/base/error.hpp"
#include "lowbit/base/checked.hpp"
#include "lowbit/base/aligned_buffer.hpp"
#include "lowbit/base/view.hpp"
#include "lowbit/base/half.hpp"
#include "lowbit/base/rounding.hpp"

// the words of a product
#include "lowbit/compute.hpp"

// format: what the bytes mean
#include "lowbit/format/format.hpp"

// layout: how kernels want them
#include "lowbit/layout/canonical.hpp"
#include "lowbit/layout/packed.hpp"

// kernel: the same text for every instruction set, chosen at run time
#include "lowbit/kernel/dispatch/dispatch.hpp"

// tensor: owning matrices over formats
#include "lowbit/tensor/tensor.hpp"
#include "lowbit/tensor/dense_tensor.hpp"
#include "lowbit/tensor/int8_tensor.hpp"
#include "lowbit/tensor/nf4_tensor.hpp"
#include "lowbit/tensor/packed_tensor.hpp"
#include "lowbit/tensor/error_statistics.hpp"
#include "lowbit/tensor/reference_matmul.hpp"

// threads
#include "lowbit/parallel.hpp"

// product: what stands behind the public pages: plan, input, workspace, run
#include "lowbit/product/plan.hpp"
#include "lowbit/product/run.hpp"

// the public pages
#include "lowbit/matmul.hpp"
#include "lowbit/linear.hpp"
