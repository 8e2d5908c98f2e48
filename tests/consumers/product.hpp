// SPDX-License-Identifier: MIT
// What the consumers' library offers, without a word of lowbit.
#pragma once

// Whether a product of quantized weights is what it must be.
bool product_is_right();
