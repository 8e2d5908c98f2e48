#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the figures of docs/how-it-runs.md: layers.svg, panel.svg, tile.svg.

  draw.py [FOLDER]     FOLDER: where they go, by default beside this script

They bring their own ground, so that they are legible on light and dark pages, and are 400 wide with letters of 12.5 and more, so that
they are on a phone.
"""
import html
import pathlib
import sys

STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de }
  .box { fill: #eef3fa; stroke: #4a6fa5 }
  .soft { fill: #f6f8fa; stroke: #8c959f }
  .warm { fill: #fdebd3; stroke: #b0681a }
  .cool { fill: #d9efe3; stroke: #2b7a4b }
  .line { fill: none; stroke: #57606a; stroke-width: 1.4 }
  .tip { fill: #57606a }
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2328 }
  .code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: 13px }
  .small { font-size: 12.5px }
  .faint { fill: #57606a }
  .middle { text-anchor: middle }
  .end { text-anchor: end }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #1b1f27; stroke: #3d444d }
    .box { fill: #24324a; stroke: #7da2d8 }
    .soft { fill: #262b33; stroke: #6e7681 }
    .warm { fill: #4a3418; stroke: #e0a45c }
    .cool { fill: #1d3b2b; stroke: #6cc48f }
    .line { stroke: #9da7b3 }
    .tip { fill: #9da7b3 }
    text { fill: #e6edf3 }
    .faint { fill: #9da7b3 }
  }
"""


class Figure:
    def __init__(self, height, title, description):
        self.out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="{height}" viewBox="0 0 400 {height}" role="img">',
            f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" x=".5" y=".5" width="399" height="{height - 1}" rx="8"/>',
        ]

    def box(self, x, y, w, h, kind="box", radius=4):
        self.out.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}"/>')

    def text(self, x, y, text, kind=""):
        self.out.append(f'<text class="{kind}" x="{x}" y="{y}">{html.escape(text)}</text>')

    def line(self, *points, arrow=False):
        self.out.append(f'<polyline class="line" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
        if arrow:
            (x0, y0), (x, y) = points[-2:]
            if x == x0:
                s = 1 if y > y0 else -1
                tip = [(x, y), (x - 4, y - 8 * s), (x + 4, y - 8 * s)]
            else:
                s = 1 if x > x0 else -1
                tip = [(x, y), (x - 8 * s, y - 4), (x - 8 * s, y + 4)]
            self.out.append(f'<polygon class="tip" points="{" ".join(f"{a},{b}" for a, b in tip)}"/>')

    def write(self, name):
        folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
        (folder / name).write_text("\n".join([*self.out, "</svg>\n"]), encoding="utf-8")


def layers():
    f = Figure(624, "The layers of lowbit", "Boxes from the public pages down to base; a file includes only what stands below its box.")
    f.text(14, 27, "A file includes what stands below it.", "faint")

    def layer(y, name, what, kind="box", x=14, w=372, h=46):
        f.box(x, y, w, h, kind)
        f.text(x + 9, y + 19, name, "code")
        for i, line in enumerate(what.split("\n")):
            f.text(x + 9, y + 37 + 17 * i, line, "small faint")

    layer(40, "gpt2/  qat/", "forward pass,\ngeneration, training", "soft", w=182, h=62)
    layer(40, "eigen.hpp  openmp.hpp", "adapters", "soft", x=204, w=182, h=62)
    layer(110, "io/", "safetensors, GGUF,\nbitsandbytes", "soft", w=182, h=62)
    layer(180, "linear.hpp  matmul.hpp", "the public pages: what is promised", "warm")
    layer(234, "product/", "plan, input, workspace, parts for the threads", "warm")
    layer(288, "tensor/", "weights, owned\nor viewed", w=112, h=62)
    layer(288, "parallel.hpp", "Executor,\nthe pool", x=274, w=112, h=62)
    f.box(134, 288, 132, 220, "cool")
    f.text(143, 307, "kernel/", "code")
    for i, (name, what) in enumerate([("dispatch/", "a table a level"), ("packed/", "panels"), ("canonical/", "bytes of files"),
                                      ("ops/ training/", "all else"), ("simd/", "a file a level")]):
        f.text(143, 332 + 37 * i, name, "code")
        f.text(143, 348 + 37 * i, what, "small faint")
    layer(358, "layout/", "how kernels\nread: panels of\n48 columns;\nblocks as files\nhold them", w=112, h=150)
    f.box(274, 358, 112, 150, "cool")
    for i, line in enumerate(["Kernels are", "compiled once", "for each level,", "and know", "pointers, not", "tensors."]):
        f.text(283, 380 + 18 * i, line, "small faint")
    layer(516, "format/  compute.hpp", "what bytes mean, in scalar code; options")
    layer(570, "base/", "compiler, errors, memory, views, threads")
    f.write("layers.svg")


def panel():
    f = Figure(578, "A panel of packed 4-bit weights",
               "48 rows of the weight matrix become one stream of records; a record is 48 scales and then groups of 8 k by 48 columns.")
    f.text(14, 27, "weights w (out, in): 48 rows make a panel")
    f.box(14, 70, 180, 30, "soft", 0)
    f.box(14, 100, 180, 30, "soft", 0)
    f.box(14, 40, 180, 30, "cool", 0)
    f.text(24, 60, "panel 0", "small")
    f.text(24, 90, "panel 1", "small faint")
    f.text(24, 120, "panel 2 ...", "small faint")
    f.text(104, 148, "in = k", "small faint middle")
    f.text(206, 60, "rows 0 to 47, all of k")
    f.text(206, 80, "as one stream of bytes:", "faint")
    f.line((60, 140), (60, 178), arrow=True)

    f.box(14, 184, 372, 40, "soft")
    for i, name in enumerate(["record 0", "record 1", "record 2", "..."]):
        f.box(18 + 92 * i, 188, 88, 32, "cool" if i == 0 else "box")
        f.text(62 + 92 * i, 209, name, "middle small")
    f.text(14, 242, "a record: a block of k, which shares a scale (NF4: 64)", "small faint")
    f.line((60, 250), (60, 274), arrow=True)

    f.box(14, 280, 76, 44, "warm")
    f.text(52, 299, "48 scales", "middle small")
    f.text(52, 316, "float32", "middle small faint")
    for i in range(8):
        f.box(95 + 36.5 * i, 280, 33, 44, "cool" if i == 0 else "box")
        f.text(111.5 + 36.5 * i, 307, str(i), "middle")
    f.text(95, 343, "8 groups of 8 k: 192 + 8 x 192 = 1728 bytes,", "small faint")
    f.text(95, 361, "4.5 bits a weight", "small faint")
    f.line((78, 332), (78, 392), arrow=True)

    f.box(14, 398, 372, 40, "soft")
    for i, name in enumerate(["column 0", "column 1", "column 2", "...", "47"]):
        x, w = [(18, 88), (110, 88), (202, 88), (294, 40), (338, 44)][i]
        f.box(x, 402, w, 32, "cool" if i == 0 else "box")
        f.text(x + w / 2, 423, name, "middle small")
    f.text(14, 456, "a group: 48 dwords, so a register holds 16 columns", "small faint")
    f.line((60, 464), (60, 488), arrow=True)
    for i, k in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        f.box(18 + 46 * i, 494, 42, 30, "cool")
        f.text(39 + 46 * i, 514, f"k{k}", "middle small")
    f.text(14, 543, "a dword, from its lowest bits: 8 codes of 4 bits.", "small faint")
    f.text(14, 561, "Shifted by 4 i, its low bits are looked up.", "small faint")
    f.write("panel.svg")


def tile():
    f = Figure(586, "A tile of the product, with 512-bit registers",
               "8 rows of x by 48 columns in 24 registers; for every k three registers of weights are looked up and each is multiplied by x.")
    f.text(14, 27, "512-bit registers: 8 rows by 48 columns")
    # Weights.
    f.text(122, 58, "one k of a panel: 48 codes", "small faint")
    for i in range(3):
        x, middle = 122 + 89 * i, 165 + 89 * i
        f.box(x, 66, 86, 30, "box")
        f.text(middle, 86, "16 codes", "middle small")
        f.line((middle, 96), (middle, 118), arrow=True)
        f.box(x, 122, 86, 30, "cool")
        f.text(middle, 142, "operands", "middle small")
    f.text(14, 86, "prologue")
    f.text(14, 108, "look-up in a", "small faint")
    f.text(14, 125, "register of 16", "small faint")
    f.text(14, 142, "table entries", "small faint")
    # Sums.
    for r in range(8):
        y = 206 + 26 * r
        f.box(64, y, 52, 22, "warm")
        f.text(90, y + 16, f"x[{r}][k]", "middle small")
        for i in range(3):
            f.box(122 + 89 * i, y, 86, 22, "soft")
            f.text(165 + 89 * i, y + 16, "sum += x w" if r == 0 else "", "middle small")
    for i, line in enumerate(["each x", "times", "16 w"]):
        f.text(14, 222 + 17 * i, line, "small faint")
    f.text(14, 178, "micro-kernel")
    f.text(122, 178, "24 sums in registers, for all k of a block", "small faint")
    f.line((254, 416), (254, 442), arrow=True)
    f.text(122, 434, "end of a block", "small faint")
    f.box(122, 448, 264, 30, "box")
    f.text(254, 468, "total += sum x the block's 48 scales", "middle small")
    f.line((254, 478), (254, 504), arrow=True)
    f.text(122, 496, "end of k", "small faint")
    f.box(122, 510, 264, 30, "warm")
    f.text(254, 530, "+ bias, activation, + residual, into y", "middle small")
    f.text(14, 530, "epilogue")
    f.text(14, 568, "Panel after panel; then the next 8 rows of x.", "small faint")
    f.write("tile.svg")


if __name__ == "__main__":
    layers()
    panel()
    tile()
