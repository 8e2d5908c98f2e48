#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the figures of docs/how-it-runs.md: layers.svg, panel.svg, tile.svg.

  draw.py [FOLDER]     FOLDER: where they go, by default beside this script

They bring their own ground, so that they are legible on light and dark pages, and are 520 wide with letters of 14, so that they are on a
phone.
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
  .cell { fill: none; stroke: #8c959f; stroke-width: .6 }
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
    .cell { stroke: #6e7681 }
    .line { stroke: #9da7b3 }
    .tip { fill: #9da7b3 }
    text { fill: #e6edf3 }
    .faint { fill: #9da7b3 }
  }
"""


class Figure:
    def __init__(self, height, title, description):
        self.width, self.height = 520, height
        self.out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="520" height="{height}" viewBox="0 0 520 {height}" role="img">',
            f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" x=".5" y=".5" width="519" height="{height - 1}" rx="8"/>',
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
    f = Figure(596, "The layers of lowbit", "Boxes from the public pages down to base; a file includes only what stands below its box.")
    f.text(20, 30, "A file includes what stands below it.", "faint")

    def layer(y, name, what, kind="box", x=20, w=480, h=46):
        f.box(x, y, w, h, kind)
        f.text(x + 12, y + 19, name, "code")
        f.text(x + 12, y + 37, what, "small faint")

    layer(44, "gpt2/  qat/", "forward pass, generation; training", "soft", w=233)
    layer(44, "eigen.hpp  openmp.hpp", "adapters", "soft", x=267, w=233)
    layer(98, "io/", "safetensors, bitsandbytes, GGUF", "soft", w=233)
    layer(152, "linear.hpp  matmul.hpp", "the public pages: what is promised", "warm")
    layer(206, "product/", "plan, input, workspace, parts for the threads", "warm")
    layer(260, "tensor/", "owning weights, views", w=157)
    layer(260, "parallel.hpp", "Executor and the pool", x=343, w=157)
    f.box(187, 260, 146, 208, "cool")
    f.text(199, 279, "kernel/", "code")
    for i, (name, what) in enumerate([("dispatch/", "one table a level"), ("packed/", "panels"), ("canonical/", "bytes of files"),
                                      ("ops/ training/", "all else"), ("simd/", "a file a level")]):
        f.text(199, 304 + 34 * i, name, "code")
        f.text(199, 319 + 34 * i, what, "small faint")
    layer(314, "layout/", "how kernels read", w=157, h=154)
    f.text(32, 376, "panels of 48", "small faint")
    f.text(32, 394, "columns; blocks", "small faint")
    f.text(32, 412, "as files hold them", "small faint")
    f.box(343, 314, 157, 154, "cool")
    f.text(355, 337, "Kernels are", "small faint")
    f.text(355, 355, "compiled once for", "small faint")
    f.text(355, 373, "each instruction set,", "small faint")
    f.text(355, 391, "and know pointers,", "small faint")
    f.text(355, 409, "not tensors.", "small faint")
    layer(476, "format/  compute.hpp", "what bytes mean, in scalar code; the words of a product")
    layer(530, "base/", "compiler, errors, memory, views, 16-bit floats, threads")
    f.write("layers.svg")


def panel():
    f = Figure(560, "A panel of packed 4-bit weights",
               "48 rows of the weight matrix become one stream of records; a record is 48 scales and then groups of 8 k by 48 columns.")
    f.text(20, 30, "weights w (out, in): 48 rows make a panel")
    f.box(20, 74, 240, 30, "soft", 0)
    f.box(20, 104, 240, 30, "soft", 0)
    f.box(20, 44, 240, 30, "cool", 0)
    f.text(32, 64, "panel 0", "small")
    f.text(32, 94, "panel 1", "small faint")
    f.text(32, 124, "panel 2 ...", "small faint")
    f.text(140, 152, "in = k", "small faint middle")
    f.text(274, 64, "rows 0 to 47, all of k")
    f.text(274, 84, "as one stream of bytes:", "faint")
    f.line((140, 160), (140, 184), arrow=True)

    f.box(20, 190, 480, 40, "soft")
    for i, name in enumerate(["record 0", "record 1", "record 2", "..."]):
        f.box(24 + 119 * i, 194, 115, 32, "cool" if i == 0 else "box")
        f.text(81 + 119 * i, 215, name, "middle small")
    f.text(20, 248, "a record: a block of k, which shares a scale (NF4: 64)", "small faint")
    f.line((81, 256), (81, 280), arrow=True)

    f.box(20, 286, 100, 44, "warm")
    f.text(70, 305, "48 scales", "middle")
    f.text(70, 322, "float32", "middle small faint")
    for i in range(8):
        f.box(126 + 47 * i, 286, 43, 44, "cool" if i == 0 else "box")
        f.text(147 + 47 * i, 313, str(i), "middle")
    f.text(126, 348, "8 groups of 8 k: 192 + 8 x 192 = 1728 bytes,", "small faint")
    f.text(126, 366, "4.5 bits a weight", "small faint")
    f.line((147, 374), (147, 398), arrow=True)

    f.box(20, 404, 480, 40, "soft")
    for i, name in enumerate(["column 0", "column 1", "column 2", "...", "47"]):
        x, w = [(24, 110), (138, 110), (252, 110), (366, 62), (432, 64)][i]
        f.box(x, 408, w, 32, "cool" if i == 0 else "box")
        f.text(x + w / 2, 429, name, "middle small")
    f.text(20, 462, "a group: 48 dwords, so a register holds 16 columns", "small faint")
    f.line((78, 470), (78, 490), arrow=True)
    for i, k in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        f.box(24 + 40 * i, 496, 36, 30, "cool")
        f.text(42 + 40 * i, 516, f"k{k}", "middle small")
    f.text(356, 508, "8 codes of 4 bits:", "small faint")
    f.text(356, 525, "shift by 4 i, look up", "small faint")
    f.text(24, 546, "lowest bits", "small faint")
    f.write("panel.svg")


def tile():
    f = Figure(568, "A tile of the product, with 512-bit registers",
               "8 rows of x by 48 columns in 24 registers; for every k three registers of weights are looked up and each is multiplied by x.")
    f.text(20, 30, "512-bit registers: 8 rows by 48 columns")
    # Weights.
    f.text(150, 62, "one k of a panel: 48 codes", "small faint")
    for i in range(3):
        f.box(150 + 117 * i, 70, 113, 30, "box")
        f.text(206 + 117 * i, 90, "16 codes", "middle small")
        f.line((206 + 117 * i, 100), (206 + 117 * i, 122), arrow=True)
        f.box(150 + 117 * i, 126, 113, 30, "cool")
        f.text(206 + 117 * i, 146, "16 operands", "middle small")
    f.text(138, 90, "prologue", "end")
    f.text(138, 118, "look-up in a", "small faint end")
    f.text(138, 134, "register of 16", "small faint end")
    f.text(138, 150, "table entries", "small faint end")
    # Sums.
    for r in range(8):
        y = 190 + 26 * r
        f.box(84, y, 50, 22, "warm")
        f.text(109, y + 16, f"x[{r}][k]", "middle small")
        for i in range(3):
            f.box(150 + 117 * i, y, 113, 22, "soft")
            f.text(206 + 117 * i, y + 16, "sum += x w" if r == 0 else "", "middle small")
    f.text(20, 210, "one", "small faint")
    f.text(20, 226, "number", "small faint")
    f.text(20, 242, "times", "small faint")
    f.text(20, 258, "16", "small faint")
    f.text(150, 178, "micro-kernel: 24 sums in registers, for all k of a block", "small faint")
    f.line((323, 400), (323, 424), arrow=True)
    f.text(150, 418, "end of a block", "small faint")
    f.box(150, 430, 347, 30, "box")
    f.text(323, 450, "total += sum x the block's 48 scales", "middle small")
    f.line((323, 460), (323, 484), arrow=True)
    f.text(150, 478, "end of k", "small faint")
    f.box(150, 490, 347, 30, "warm")
    f.text(323, 510, "+ bias, activation, + residual, into y", "middle small")
    f.text(138, 510, "epilogue", "end")
    f.text(20, 548, "Panel after panel is one task of a thread; rows of x beyond 8 take the next tile.", "small faint")
    f.write("tile.svg")


if __name__ == "__main__":
    layers()
    panel()
    tile()
