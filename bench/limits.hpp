// SPDX-License-Identifier: MIT
// The limits of the machine as contenders: arithmetic in registers, and reading.  x86-64 alone; elsewhere none have a way.
#pragma once
#include "contender.hpp"

namespace bench {

enum class Arithmetic { f32, bf16, int8 };
// As many operations as `p` has, on registers alone, with the widest instruction of the active level: FMA, vdpbf16ps or tdpbf16ps,
// vpdpbusd or tdpbusd (where kernels multiply so many rows by tiles).  Levels without one of the last two have no such limit.
Contender arithmetic_limit(Arithmetic what, const Problem& p);

// As many operations as `p` has, as a tile of a product with NF4 weights of block size 64 does them: dots, shifts, look-ups and the
// ends of blocks, on registers alone.  As kernels take rows: 8, whose totals have no registers and are not counted, in bf16 and
// int8 compute 4, and one or two where there are no more.  For one row in bytes of weights as well.  Level amx, int8: a tile's sums and
// its decoded weights have no registers, so they, and x, are read from L1; in bf16 there are only the dots above.
Contender tile_limit(Arithmetic what, const Problem& p);

// Looks up as many 4-bit codes as `p` has weights, in registers alone, as a compute type needs them: vpermps (floats), vpermw
// (pairs of bfloat16), vpshufb or vpermb (bytes).  In bytes of NF4 weights of block size 64: what a product with one row cannot
// exceed.
Contender lookup_limit(Arithmetic what, const Problem& p);

enum class Memory { l2, l3, dram };
// Reads as fast as it can, in several patterns.  Each thread has its own half of the L2, all share 8 MiB in the L3 or 256 MiB
// in DRAM, read piece by piece.
Contender read_limit(Memory where, const Problem& p);

// Two threads hand a line of cache to and fro, 64 bytes a time; no way for one thread.  What one of them converts and the other
// reads comes at this pace at worst.
Contender handover_limit(const Problem& p);

}  // namespace bench
