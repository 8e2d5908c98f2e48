#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ratios from the JSON of bench_kernels and bench_model.

  ratios.py kernels.json [model.json] [more.json ...]         prints the page as Markdown
  ratios.py ... --write bench/results/MACHINE.md              writes it
  ratios.py --compare OLD.json NEW.json                       how much faster NEW is; exit code 1 where it is slower

A ratio of the page never mixes runs: each file is taken by itself.  The first one of bench_kernels fills the tables; further ones add
rows for the peers that only they have (OpenBLAS with another core).

--compare takes two runs of the same program on the same machine, or several of each, in turns: OLD1.json,OLD2.json NEW1.json,NEW2.json;
the fastest of a side counts.  What the runs have in common is pooled over the layer shapes; a pooled figure that falls by more than
--tolerance (0.03) is a regression.  Exit codes: 0 none, 1 a regression, 2 wrong usage or nothing in common.
"""
import argparse
import json
import re
import statistics
import sys

LAYERS = ["2304x768", "768x768", "3072x768", "768x3072"]
ROWS = [2, 4, 8, 16, 32, 52, 128, 512]
NAME = re.compile(r"^(?P<key>[^/]+/[^/]+/[^/]+)/(?P<shape>\d+x\d+)x(?P<m>\d+)/t(?P<t>\d+)(?P<rest>(/(hot|cold))?(/\w+)?)$")


class Run:
    """The cases of one run of bench_kernels: by name, seconds, operations and bytes a second."""

    def __init__(self, data, path):
        self.context, self.path, self.cases = data["context"], path, {}
        found = {}
        for b in data["benchmarks"]:
            if b.get("run_type", "iteration") == "iteration" and not b.get("error_occurred") and not b.get("skipped"):
                found.setdefault(b["name"], []).append(b)
        for name, times in found.items():
            times.sort(key=lambda b: b["real_time"])
            b = times[len(times) // 2]
            unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[b["time_unit"]]
            self.cases[name] = {"seconds": b["real_time"] * unit, "rate": b.get("GFLOP/s", 0.0), "bytes": b.get("GB/s", 0.0),
                                "label": b.get("label", "")}

    def keys(self):
        return {m["key"] for m in map(NAME.match, self.cases) if m}

    def get(self, name, quantity):
        case = self.cases.get(name)
        return case[quantity] if case and case[quantity] else None

    def layers(self, key, m, t, rest, quantity):
        """One value per layer shape, or None if one is missing."""
        values = [self.get(f"{key}/{shape}x{m}/t{t}{rest}", quantity) for shape in LAYERS]
        return None if None in values else values

    def pooled(self, ours, against, m, t=1, t_against=None, rest=""):
        """(pooled ratio, ratio per shape): total time of `against` over that of `ours`, for the same operations."""
        a = self.layers(ours, m, t, rest, "seconds")
        b = self.layers(against, m, t_against or t, rest, "seconds")
        return None if a is None or b is None else (sum(b) / sum(a), [y / x for x, y in zip(a, b)])

    def rate(self, key, m, t=1, rest=""):
        """Pooled GFLOP/s."""
        seconds = self.layers(key, m, t, rest, "seconds")
        rates = self.layers(key, m, t, rest, "rate")
        return None if seconds is None or rates is None else sum(s * r for s, r in zip(seconds, rates)) / sum(seconds)

    def bandwidth(self, key, t, rest):
        """Pooled GB/s of weights."""
        seconds, rates = self.layers(key, 1, t, rest, "seconds"), self.layers(key, 1, t, rest, "bytes")
        return None if seconds is None or rates is None else sum(s * r for s, r in zip(seconds, rates)) / sum(seconds)

    def best_compute(self, key, t, rest):
        """Of a key without a compute type, the one with the largest bandwidth."""
        if key.count("/") == 2:
            return key
        found = [(self.bandwidth(f"{key}/{c}", t, rest), f"{key}/{c}") for c in ("f32", "bf16", "int8")]
        return max([f for f in found if f[0]], default=(0, key))[1]

    def read_limits(self, where, rest, t):
        """GB/s per shape: what the loops reached, raised to what any kernel or peer of the same group did."""
        limits = []
        for shape in LAYERS:
            tail = f"/{shape}x1/t{t}{rest}"
            if self.get(f"limit/{where}/read{tail}", "bytes") is None:
                return None
            limits.append(max(c["bytes"] for n, c in self.cases.items() if n.endswith(tail)
                              and (where == "dram" or n.startswith("limit/"))))
        return limits

    def share_of_dram(self, key, t=1):
        """(pooled share, share per shape) of the DRAM read limit, cold."""
        limits = self.read_limits("dram", "/cold", t)
        seconds, rates = self.layers(key, 1, t, "/cold", "seconds"), self.layers(key, 1, t, "/cold", "bytes")
        if limits is None or seconds is None or rates is None:
            return None
        least = sum(s * r / limit for s, r, limit in zip(seconds, rates, limits))
        return least / sum(seconds), [r / limit for r, limit in zip(rates, limits)]

    def l2(self, t=1):
        """Median over the groups of what the loops read from the L2, GB/s."""
        values = self.layers("limit/l2/read", 1, t, "/hot", "bytes")
        return None if values is None else statistics.median(values)


# ---- the page --------------------------------------------------------------------------------------------------------------------
# A variant and the plain case of its size, which it is shown beside.
SIZES = ["2304x768x1/t1/hot", "2304x768x8/t1", "2304x768x52/t1"]
PLAIN = {"nf4_b32": "nf4", "nf4_b128": "nf4", "nf4_b4096": "nf4", "fp4": "nf4"}
OURS = ["lowbit/f32/f32", "lowbit/int8/int8", "lowbit/nf4/f32", "lowbit/nf4/bf16", "lowbit/nf4/int8"]
ODD_SIZES = {"2304x100x1/t1/hot": "2304x128x1/t1/hot", "2304x100x8/t1": "2304x128x8/t1", "2304x100x52/t1": "2304x128x52/t1",
             "50257x768x1/t1/cold": "50304x768x1/t1/cold", "50257x768x8/t1": "50304x768x8/t1"}


def beside():
    """Pairs of names: a variant and the plain case of its size."""
    for variant, plain in PLAIN.items():
        for compute in ("f32", "bf16", "int8"):
            for size in SIZES:
                yield f"lowbit/{variant}/{compute}/{size}", f"lowbit/{plain}/{compute}/{size}"
    for size in SIZES:
        yield f"lowbit/llm_int8/int8/{size}", f"lowbit/int8/int8/{size}"
    for ours in OURS:
        for epilogue in ("bias_gelu", "bias_residual"):
            for size in SIZES:
                yield f"{ours}/{size}/{epilogue}", f"{ours}/{size}"
        for odd, plain in ODD_SIZES.items():
            yield f"{ours}/{odd}", f"{ours}/{plain}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def show(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def against_peers(run, others, t):
    """Our products against their counterparts, by M."""
    rows = []

    def row(what, source, ours, against):
        cells = [source.pooled(ours, against, m, t) for m in ROWS]
        if any(cells):
            rows.append([what] + [show(c[0] if c else None) for c in cells])

    row("dense f32 / oneDNN f32", run, "lowbit/f32/f32", "onednn/f32/f32")
    row("dense bf16 / oneDNN bf16", run, "lowbit/bf16/bf16", "onednn/bf16/bf16")
    row("f16 weights / oneDNN f32", run, "lowbit/f16/f32", "onednn/f32/f32")
    row("INT8 / oneDNN u8s8", run, "lowbit/int8/int8", "onednn/int8/int8")
    row("INT8 / oneDNN f32", run, "lowbit/int8/int8", "onednn/f32/f32")
    row("NF4 f32 / oneDNN f32", run, "lowbit/nf4/f32", "onednn/f32/f32")
    row("NF4 bf16 / oneDNN bf16", run, "lowbit/nf4/bf16", "onednn/bf16/bf16")
    row("NF4 bf16 / oneDNN f32", run, "lowbit/nf4/bf16", "onednn/f32/f32")
    row("NF4 int8 / oneDNN f32", run, "lowbit/nf4/int8", "onednn/f32/f32")
    for source in [run] + others:
        for key in sorted(k for k in source.keys() if k.startswith("openblas")):
            row(f"dense f32 / OpenBLAS ({source.context.get('openblas_core', '?')})", source, "lowbit/f32/f32", key)
    row("dense f32 / Eigen", run, "lowbit/f32/f32", "eigen/f32/f32")
    return table(["M ="] + [str(m) for m in ROWS], rows)


def rates(run, t):
    """GFLOP/s and share of the arithmetic limit, by M."""
    limits = {}
    for compute in ("f32", "bf16", "int8"):
        tail = f"/t{t}"
        reached = [c["rate"] for n, c in run.cases.items()
                   if n.endswith(tail) and (n.startswith(f"limit/{compute}/") or NAME.match(n) and f"/{compute}/" in n
                                            and n.split("/")[2] == compute)]
        limits[compute] = max(reached, default=None)
    rows = []
    for key in sorted(run.keys(), key=lambda k: (k.split("/")[2], k)):
        impl, _, compute = key.split("/")
        if impl == "limit" or "@" in impl and not impl.startswith("openblas"):
            continue
        cells = [run.rate(key, m, t) for m in ROWS]
        if all(c is None for c in cells):
            continue
        limit = limits.get(compute)
        rows.append([key] + [show(c, "{:.0f}") + (f" ({100 * c / limit:.0f} %)" if c and limit else "") for c in cells])
    return table(["GFLOP/s (share of the limit); M ="] + [str(m) for m in ROWS], rows)


def one_row(run, t):
    rows = []
    for key in sorted(run.keys(), key=lambda k: (k.split("/")[2], k)):
        if key.startswith("limit") or "@" in key.split("/")[0] and not key.startswith("openblas"):
            continue
        cold, share, hot = run.bandwidth(key, t, "/cold"), run.share_of_dram(key, t), run.bandwidth(key, t, "/hot")
        if cold is None and hot is None:
            continue
        # What the work of 4-bit codes on registers alone would take.
        tile = run.bandwidth(f"limit/{key.split('/')[2]}/nf4_tile", t, "/hot") if key.startswith("lowbit/nf4") else None
        rows.append([key, show(cold, "{:.1f}"), show(share[0] if share else None), show(min(share[1]) if share else None),
                     show(hot, "{:.1f}"), show(tile, "{:.1f}")])
    return table(["M = 1", "cold, GB/s", "share of the DRAM limit", "worst shape", "hot, GB/s", "the tile allows"], rows)


def limits_table(run):
    rows = []
    for t in (1, 2):
        for what, key, quantity, form in (("f32 FMA", "limit/f32/registers", "rate", "{:.0f} GFLOP/s"),
                                          ("vdpbf16ps", "limit/bf16/registers", "rate", "{:.0f} GFLOP/s"),
                                          ("vpdpbusd", "limit/int8/registers", "rate", "{:.0f} Gop/s"),
                                          ("NF4 tile, f32: dots, look-ups, block ends", "limit/f32/nf4_tile", "rate",
                                           "{:.0f} GFLOP/s"),
                                          ("NF4 tile, bf16", "limit/bf16/nf4_tile", "rate", "{:.0f} GFLOP/s"),
                                          ("NF4 tile, int8", "limit/int8/nf4_tile", "rate", "{:.0f} Gop/s"),
                                          ("NF4 look-ups, f32 (vpermps)", "limit/f32/lookup", "bytes", "{:.0f} GB/s"),
                                          ("NF4 look-ups, bf16 (vpermw)", "limit/bf16/lookup", "bytes", "{:.0f} GB/s"),
                                          ("NF4 look-ups, int8 (vpshufb or vpermb)", "limit/int8/lookup", "bytes", "{:.0f} GB/s"),
                                          ("L2 read", "limit/l2/read", "bytes", "{:.0f} GB/s"),
                                          ("L3 read", "limit/l3/read", "bytes", "{:.0f} GB/s"),
                                          ("DRAM read", "limit/dram/read", "bytes", "{:.1f} GB/s")):
            cases = [(c[quantity], c["label"]) for n, c in run.cases.items() if n.startswith(key + "/") and f"/t{t}" in n
                     and not (key.endswith("nf4_tile") and int(NAME.match(n)["m"]) < 4)]  # the tile of many rows
            if not cases:
                continue
            best = max(cases)
            # Not below what anybody reached; kernels of other caches and arithmetic do not count.
            compute = key.split("/")[1]
            if quantity == "rate":
                reached = max(c["rate"] for n, c in run.cases.items()
                              if f"/t{t}" in n and n.split("/")[2] == compute and "@" not in n.split("/")[0]) \
                    if any(f"/t{t}" in n and n.split("/")[2] == compute for n in run.cases) else 0
            else:
                reached = max((c["bytes"] for n, c in run.cases.items() if f"/t{t}/cold" in n), default=0) \
                    if compute == "dram" else 0
            rows.append([what, str(t), form.format(statistics.median(c[0] for c in cases)), form.format(max(best[0], reached)),
                         best[1]])
    return table(["limit", "threads", "median of the groups", "best, raised to what any product reached", "pattern"], rows)


def scaling(run):
    rows = []
    for key in sorted(run.keys()):  # what registers alone gain from a second thread is the machine's own limit
        if key.startswith("limit") and not key.endswith("/registers") or "@" in key:
            continue
        cells = [run.pooled(key, key, m, 2, 1) for m in ROWS]
        if any(cells):
            rows.append([key] + [show(c[0] if c else None) for c in cells])
    handovers = [run.layers("limit/line/handover", m, 2, "", "bytes") for m in ROWS]
    if any(handovers):  # caches that are far apart, at times on machines that are shared, cost what one thread makes for another
        rows.append(["a line of cache from one thread to the other, ns"]
                    + [show(64 / statistics.median(h) if h else None, "{:.0f}") for h in handovers])
    return table(["2 threads / 1; M ="] + [str(m) for m in ROWS], rows)


def variants_table(run):
    rows = {}
    for ours, against in beside():
        a, b = run.get(ours, "rate"), run.get(against, "rate")
        m, n = NAME.match(ours), NAME.match(against)
        if a is None or b is None or m is None or n is None:
            continue
        epilogue = m["rest"].split("/")[-1] if m["rest"].split("/")[-1] not in ("", "hot", "cold") else ""
        size = f"{m['shape']}" if m["shape"] != "2304x768" else ""
        what = " ".join(x for x in (m["key"].removeprefix("lowbit/"), size, epilogue) if x)
        beside_what = " ".join(x for x in (n["key"].removeprefix("lowbit/"), n["shape"] if size else "") if x)
        rows.setdefault((what, beside_what), {})[m["m"]] = a / b
    return table(["case", "beside", "M = 1", "8", "52"],
                 [[what, plain] + [show(v.get(m)) for m in ("1", "8", "52")] for (what, plain), v in rows.items()])


def levels_table(run):
    rows = []
    for level in ("avx2", "base"):
        for key in sorted(k for k in run.keys() if k.startswith(f"lowbit@{level}/")):
            cells = [run.pooled(key, f"lowbit@{level}/f32/f32", m, rest="/hot" if m == 1 else "") for m in [1] + ROWS]
            rows.append([key] + [show(c[0] if c else None) for c in cells])
    return table(["against f32 of the level; M ="] + [str(m) for m in [1] + ROWS], rows)


def rooflines(run):
    """What our kernels reach of what the machine allows: the tile where weights are NF4, else the instruction."""
    rows = []
    for key in sorted((k for k in run.keys() if k.startswith("lowbit/") and k.count("/") == 2), key=lambda k: (k.split("/")[2], k)):
        compute = key.split("/")[2]
        kind = "nf4_tile" if "/nf4" in key else "registers"
        cells = []
        for m in ROWS:
            reached, bound = run.rate(key, m), run.rate(f"limit/{compute}/{kind}", m)
            cells.append(reached / bound if reached and bound else None)
        if any(cells):
            rows.append([key, "tile" if kind == "nf4_tile" else "instruction"] + [show(c) for c in cells])
    return table(["share of the bound; M =", "the bound"] + [str(m) for m in ROWS], rows)


def model_section(model):
    out = [f"\n## Whole GPT-2 small\n\n{model['weights']}; {model['rows']} rows one at a time, {model['mean_tokens']:.1f} tokens on "
           f"average, every row {model['repeats']} times, the models in turn; a row counts with the median of the quieter half.\n"]
    for run in model["runs"]:
        fp32 = next((m["mean_ms"] for m in run["models"] if m["id"] == "fp32"), None)
        rows = []
        if run["products"]:
            p = run["products"]
            rows.append([p["name"], f"{p['mean_ms']:.2f}", f"{p['median_ms']:.2f}", show(fp32 and fp32 / p["mean_ms"]), "-"])
        for m in run["models"]:
            rows.append([m["id"], f"{m['mean_ms']:.2f}", f"{m['median_ms']:.2f}", show(fp32 and fp32 / m["mean_ms"]),
                         f"{100 * m['rest_share']:.1f} %"])
        out.append(f"\n{run['threads']} thread{'s' if run['threads'] > 1 else ''}:\n\n" +
                   table(["", "mean, ms", "median, ms", "times as fast as FP32", "outside the products"], rows))
        operators = [o["operator"] for o in run["models"][0]["breakdown"]] if run["models"] else []
        rows = [[m["id"]] + [f"{o['ms']:.2f}" for o in m["breakdown"]] + [f"{m['sum_ms']:.2f}", f"{m['whole_ms']:.2f}"]
                for m in run["models"]]
        out.append(f"\nBy operator, ms at {run['breakdown_tokens']} tokens, each timed on its own over all layers:\n\n" +
                   table([""] + operators + ["sum", "the whole pass"], rows))
    return "".join(out)


def page(run, others, model):
    c = run.context if run else model["context"]
    load = f"; load of the machine before the run {c['load_avg'][0]:.1f}" if c.get("load_avg") else ""
    out = ["# Performance\n\nWritten by `bench/ratios.py` from one run of `bench_kernels` and one of `bench_model`; `bench/README.md` "
           "says how to repeat it.\n\n"]
    out.append(f"{c.get('processor')}, {c.get('processors')} processors used; level `{c.get('level')}`; {c.get('compiler')}, "
               f"`{c.get('flags')}`; oneDNN {c.get('onednn')}, OpenBLAS {c.get('openblas')} (core {c.get('openblas_core')}), Eigen "
               f"{c.get('eigen')}; {c.get('date')}{load}.\n\n"
               "lowbit is built without `-march` and chooses its kernels at run time. Its activations go in as floats and results come "
               "out as floats: conversions are inside its time, and outside oneDNN's, whose weights are also re-laid beforehand. Eigen "
               "is compiled with `-march=native`. Members of a group (one N x K x M) are timed in turn, and the median over "
               "the quieter half of the rounds counts (`bench/README.md`). Pooled: total operations over total time of the four layer "
               "shapes of GPT-2 small. Every result was checked against a reference in double before it was timed.\n")
    if run:
        for t in (1, 2):
            body = against_peers(run, others if t == 1 else [], t)
            if body.count("\n") > 2:
                out.append(f"\n## Against the peers, {t} thread{'s' if t > 1 else ''}\n\nTimes as fast, pooled.\n\n{body}")
        for t in (1, 2):
            body = rates(run, t)
            if body.count("\n") > 2:
                out.append(f"\n### Rates, {t} thread{'s' if t > 1 else ''}\n\n{body}")
        for t in (1, 2):
            body = one_row(run, t)
            if body.count("\n") > 2:
                out.append(f"\n## One row, {t} thread{'s' if t > 1 else ''}\n\nGB/s of weights with their scales. Cold: calls go round "
                           f"copies of 96 MiB or more. The DRAM limit is the best of several access patterns in the same group, "
                           f"raised to what any product in it reached.\n\n{body}")
        for title, body in (("Limits of the machine", limits_table(run)), ("What the kernels reach of them, 1 thread", rooflines(run)), ("Two threads", scaling(run)),
                            ("Variants beside the plain case of the same size", variants_table(run)),
                            ("Other levels, forced", levels_table(run))):
            if body.count("\n") > 2:
                out.append(f"\n## {title}\n\n{body}")
    if model:
        out.append(model_section(model))
    return "".join(out)


# ---- two runs --------------------------------------------------------------------------------------------------------------------
def seconds_of(data):
    """{figure: {shape: seconds}} of one file: products by what is pooled over their shapes, models by threads."""
    if "benchmarks" not in data:
        return {f"{m['id']}, {run['threads']} thread{'s' if run['threads'] > 1 else ''}": {"": m["mean_ms"] / 1e3}
                for run in data["runs"] for m in run["models"]}
    figures = {}
    for name, case in Run(data, "").cases.items():
        m = NAME.match(name)
        if m and not name.startswith("limit/"):
            alone = "" if m["shape"] in LAYERS else m["shape"] + " "
            figures.setdefault(f"{m['key']} {alone}M={m['m']} t{m['t']}{m['rest']}", {})[m["shape"]] = case["seconds"]
    return figures


def compare(old, new, tolerance):
    """Prints how many times as fast `new` is, worst first; returns how many figures fell by more than the tolerance."""
    sides = []
    for files in (old, new):
        best = {}
        for data in files:
            for figure, shapes in seconds_of(data).items():
                for shape, seconds in shapes.items():
                    known = best.setdefault(figure, {})
                    known[shape] = min(seconds, known.get(shape, seconds))
        sides.append(best)
    ratios = []
    for figure in sides[0].keys() & sides[1].keys():
        shapes = sides[0][figure].keys() & sides[1][figure].keys()
        if shapes:
            ratios.append((sum(sides[0][figure][s] for s in shapes) / sum(sides[1][figure][s] for s in shapes), figure))
    if not ratios:
        return None
    ratios.sort()
    slower = [r for r in ratios if r[0] < 1 - tolerance]
    for ratio, figure in slower:
        print(f"slower: {figure}: {ratio:.3f}")
    print(f"{len(ratios)} figures, {len(slower)} slower by more than {100 * tolerance:g} %; times as fast: least {ratios[0][0]:.3f} "
          f"({ratios[0][1]}), median {statistics.median(r[0] for r in ratios):.3f}, most {ratios[-1][0]:.3f} ({ratios[-1][1]})")
    return len(slower)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE.json")
    parser.add_argument("--write", metavar="FILE.md", help="write the page there")
    parser.add_argument("--compare", nargs=2, metavar=("OLD.json", "NEW.json"), help="runs before and after a change")
    parser.add_argument("--tolerance", type=float, default=0.03, help="with --compare: how much a figure may fall (0.03)")
    args = parser.parse_args()
    if bool(args.files) == bool(args.compare) or args.compare and args.write:
        parser.error("expected files for the page, or --compare OLD.json NEW.json")

    def read(path):
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except (OSError, ValueError) as error:
            parser.error(f"{path}: {error}")
        if "benchmarks" not in data and "runs" not in data:
            parser.error(f"{path}: neither of bench_kernels nor of bench_model")
        return data

    if args.compare:
        slower = compare(*([read(path) for path in side.split(",")] for side in args.compare), args.tolerance)
        if slower is None:
            parser.error("the runs have no figure in common")
        return 1 if slower else 0
    runs, model = [], None
    for path in args.files:
        data = read(path)
        if "benchmarks" in data:
            runs.append(Run(data, path))
        else:
            model = data
    text = page(runs[0] if runs else None, runs[1:], model)
    if args.write:
        with open(args.write, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
