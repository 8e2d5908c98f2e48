// SPDX-License-Identifier: MIT
// The sides of the program; included by main.cpp for each use, with SIDE(name).
SIDE(plain)
#if defined(__x86_64__)
SIDE(v2)
SIDE(v3)
SIDE(v4)
#if defined(FLAGS_AVXVNNI)
SIDE(avxvnni)
#endif
#endif
#if defined(__aarch64__)
SIDE(lse)
SIDE(sha3)
SIDE(dot)
SIDE(sve)
#else
SIDE(native)
SIDE(O0)
SIDE(fastmath)
#endif
SIDE(noexcept)
