#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Level amx on a processor that has it: checks, and times beside PyTorch's oneDNN.

    python3 bench/tiles/compare.py [--threads 1,8,16] [--rounds 15] [--rows 1,2,...] [--json FILE] [--check-only]

Needs Linux, a processor with AMX_INT8 and AMX_BF16, g++ 12 or later, and torch for the comparison; no network and no other
library (nor xsimd, as the flags name a level).  Builds bench/tiles/products.cpp twice into a temporary folder, with the instructions
and with their software model.

Checks: bf16 products are the model's to the bit, and int8 products those of level avx512bf16 (AVX-512 VNNI), in every format, at
M = 1 to 65.  Exit code 1 if one differs.
Times, in turns inside a round and another order every round: medians, GPT-2 small's four shapes pooled (total operations over total
time), conversions of activations inside the time for everybody.  "vectors" is lowbit at level avx512bf16, which shows from how many
rows on tiles pay.  torch: quantized linear_dynamic (engine onednn), and linear in bfloat16 on bfloat16 activations.
"""
import argparse
import array
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SHAPES = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]
OURS = [("int8", "int8"), ("llm_int8", "int8"), ("bf16", "bf16"), ("f16", "bf16"), ("nf4", "int8"), ("nf4", "bf16"), ("f32", "f32")]


def build(folder):
    common = ["-std=c++20", "-fPIC", "-I" + os.path.join(ROOT, "include"), "-c", os.path.join(HERE, "products.cpp")]
    flags = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512cd", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni",
             "-mavx512bf16", "-mavx512vbmi"]
    objects = [os.path.join(folder, name) for name in ("real.o", "model.o")]
    jobs = [subprocess.Popen([os.environ.get("CXX", "g++"), "-O3", *flags, *common, "-o", objects[0]]),
            subprocess.Popen([os.environ.get("CXX", "g++"), "-O1", *flags[:3], "-DLOWBIT_TILE_MODEL", *common, "-o", objects[1]])]
    if any(job.wait() for job in jobs):
        sys.exit("compare.py: products.cpp does not compile")
    library = os.path.join(folder, "products.so")
    subprocess.run([os.environ.get("CXX", "g++"), "-shared", "-o", library, *objects, "-lpthread"], check=True)
    lib = ctypes.CDLL(library)
    for prefix in ("bench", "model"):
        for name, result, arguments in (
                ("level", ctypes.c_int, [ctypes.c_char_p]),
                ("weights", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]),
                ("free", None, [ctypes.c_void_p]),
                ("pool", ctypes.c_void_p, [ctypes.c_size_t]),
                ("run", ctypes.c_double, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p,
                                          ctypes.c_void_p, ctypes.c_size_t])):
            f = getattr(lib, f"{prefix}_{name}")
            f.restype, f.argtypes = result, arguments
    return lib


class Matrix:
    """Floats in rows: random ones, or zeros."""

    def __init__(self, rows, cols, scale=0.0, source=random.Random(1)):
        self.shape = (rows, cols)
        uniform = source.uniform
        self.values = array.array("f", (uniform(-scale, scale) for _ in range(rows * cols)) if scale else bytes(4 * rows * cols))
        self.address = self.values.buffer_info()[0]

    def tensor(self, torch):
        return torch.frombuffer(self.values, dtype=torch.float32).reshape(self.shape)


class Side:
    """One of the two builds."""

    def __init__(self, lib, prefix):
        self.level = lambda name: getattr(lib, prefix + "_level")(name.encode()) == 0
        self.pool = getattr(lib, prefix + "_pool")
        self._weights, self._run, self.free = (getattr(lib, f"{prefix}_{n}") for n in ("weights", "run", "free"))

    def weights(self, fmt, w):
        return self._weights(fmt.encode(), w.address, *w.shape)

    def run(self, weights, x, y, compute, pool, calls=1):
        return self._run(weights, x.address, x.shape[0], y.address, compute.encode(), pool, calls)


def check(real, model):
    pools = {real: real.pool(1), model: model.pool(1)}
    wrong = done = 0
    for n, k in ((101, 72), (96, 200), (48, 768), (150, 320)):
        w = Matrix(n, k, 1.0)
        for m in (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 47, 65):
            x = Matrix(m, k, 1.0)
            for fmt in ("f32", "f16", "bf16", "int8", "llm_int8", "int8_blocks", "nf4", "fp4"):
                results = {}
                for side, level in ((real, "amx"), (real, "avx512bf16"), (model, "amx")):
                    side.level(level)
                    weights = side.weights(fmt, w)
                    if not weights:
                        continue
                    for compute in ("bf16", "int8") if fmt not in ("f32", "f16", "bf16") else ("bf16",):
                        y = Matrix(m, n)
                        side.run(weights, x, y, compute, pools[side])
                        results[side is model, level, compute] = y.values.tobytes()
                    side.free(weights)
                pairs = [((False, "amx", "bf16"), (True, "amx", "bf16"))]
                if (False, "amx", "int8") in results:
                    pairs += [((False, "amx", "int8"), (True, "amx", "int8")), ((False, "amx", "int8"), (False, "avx512bf16", "int8"))]
                for a, b in pairs if results else []:
                    done += 1
                    if results[a] != results[b]:
                        wrong += 1
                        print(f"DIFFERS: {fmt} {n} x {k}, m {m}: {a[1:]} is not {'model ' if b[0] else ''}{b[1:]}")
    print(f"checked {done} products against the model and the vector kernels, {wrong} differ")
    return wrong == 0


def torch_sides(torch, w, threads):
    """[(name, function of x as a tensor)]"""
    torch.set_num_threads(threads)
    sides = []
    linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    linear.weight.data = w.tensor(torch).clone()
    bf16 = torch.nn.Linear(w.shape[1], w.shape[0], bias=False).to(torch.bfloat16)
    bf16.weight.data = w.tensor(torch).clone().to(torch.bfloat16)
    sides.append(("torch bf16", lambda x, b: bf16(b)))
    try:
        torch.backends.quantized.engine = "onednn"
        quantized = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, dtype=torch.qint8)
        quantized(torch.zeros(2, w.shape[1]))
        sides.append(("torch int8", lambda x, b: quantized(x)))
    except Exception as error:  # a torch without it is still worth its bf16
        print("torch has no quantized linear here:", error)
    sides.append(("torch f32", lambda x, b: torch.nn.functional.linear(x, linear.weight)))
    return sides


def times(real, rows, thread_counts, rounds, out):
    try:
        import torch
        torch.set_grad_enabled(False)
        print("torch", torch.__version__)
    except ImportError:
        torch = None
        print("no torch: lowbit alone")
    all_weights = {shape: Matrix(*shape, 0.05) for shape in SHAPES}
    for threads in thread_counts:
        pool = real.pool(threads)
        for m in rows:
            total, operations = {}, 0
            for n, k in SHAPES:
                w = all_weights[n, k]
                x = Matrix(m, k, 2.0)
                y = Matrix(m, n)
                turns = []
                weights = {fmt: real.weights(fmt, w) for fmt in {f for f, _ in OURS}}
                for level in ("amx", "avx512bf16"):
                    for fmt, compute in OURS:
                        if (fmt, compute) == ("f32", "f32") and level != "amx":
                            continue
                        name = f"{fmt}/{compute}" + ("" if level == "amx" else " vectors")

                        def run(calls, level=level, fmt=fmt, compute=compute):
                            real.level(level)
                            return real.run(weights[fmt], x, y, compute, pool, calls)
                        turns.append((name, run))
                if torch:
                    xt = x.tensor(torch)
                    xb = xt.to(torch.bfloat16)
                    for name, f in torch_sides(torch, w, threads):
                        def run(calls, f=f):
                            begin = time.perf_counter()
                            for _ in range(calls):
                                f(xt, xb)
                            return (time.perf_counter() - begin) / calls
                        turns.append((name, run))
                calls = {}
                for name, run in turns:
                    run(3)
                    calls[name] = max(3, int(2e-3 / run(3)))
                samples = {name: [] for name, _ in turns}
                for _ in range(rounds):
                    random.shuffle(turns)
                    for name, run in turns:
                        run(1)
                        samples[name].append(run(calls[name]))
                operations += 2 * m * n * k
                for name, values in samples.items():
                    total[name] = total.get(name, 0) + statistics.median(values)
                for weight in weights.values():
                    real.free(weight)
            rate = {name: operations / t * 1e-9 for name, t in total.items()}
            out.append({"threads": threads, "rows": m, "gops": rate})
            ours = [f"{f}/{c}" for f, c in OURS]
            print(f"\n{threads} threads, M = {m}, Gop/s pooled over {SHAPES}")
            for name in ours:
                peer = {"int8": "torch int8", "bf16": "torch bf16", "f32": "torch f32"}[name.split("/")[1]]
                line = f"  {name:14} {rate[name]:8.0f}"
                if name + " vectors" in rate:
                    line += f"   vectors {rate[name + ' vectors']:8.0f}"
                if peer in rate:
                    line += f"   {peer} {rate[peer]:8.0f}  ratio {rate[name] / rate[peer]:5.2f}"
                if name.startswith("nf4") and "torch bf16" in rate:
                    line += f"   of torch bf16 {rate[name] / rate['torch bf16']:5.2f}"
                print(line, flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", default="1", help="thread counts, default 1")
    options.add_argument("--rows", default="1,2,3,4,6,8,12,16,32,52,128,512", help="values of M")
    options.add_argument("--rounds", type=int, default=15, help="turns of each, default 15")
    options.add_argument("--json", help="file for the figures")
    options.add_argument("--check-only", action="store_true", help="do not time")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lib = build(folder)
        real, model = Side(lib, "bench"), Side(lib, "model")
        if not model.level("amx"):
            sys.exit("compare.py: this processor has no AVX2")
        if not real.level("amx"):
            sys.exit("compare.py: this processor or its system has no level amx")
        good = check(real, model)
        if given.check_only or not good:
            sys.exit(0 if good else 1)
        out = []
        times(real, [int(v) for v in given.rows.split(",")], [int(v) for v in given.threads.split(",")], given.rounds, out)
        if given.json:
            with open(given.json, "w", encoding="utf-8") as file:
                json.dump(out, file, indent=1)


if __name__ == "__main__":
    main()
