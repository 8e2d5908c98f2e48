// SPDX-License-Identifier: MIT
#include "product.hpp"

int main() { return product_is_right() ? 0 : 1; }
