#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes lowbit_all.hpp, the whole of lowbit's headers in one file.

  amalgamate.py OUT [--root FOLDER]     OUT: the file to write; FOLDER: where include/ lies (that of this script's project)

Every header stands where it was first included, behind a guard of its own; the text of the kernels, which has none, stands there once for
every instruction set.  What the preprocessor makes of the file is what it makes of the headers: tests/consumers/run.sh single compares.
"""
import argparse
import pathlib
import re
import sys

# What needs more than the standard library, and the macro that a program asks for it by.
SECTIONS = [
    ("IO", ["io"], "needs nlohmann-json"),
    ("GPT2", ["gpt2", "qat"], "needs nlohmann-json and utf8proc; brings IO along"),
    ("EIGEN", ["eigen.hpp"], "needs Eigen"),
    ("OPENMP", ["openmp.hpp"], "with -fopenmp"),
]
BRINGS = {"GPT2": ["IO"]}

HEAD = """\
// lowbit {version} in one file, made by cmake/packaging/amalgamate.py: paste it into a project and include it.
// Compile with -std=c++20 -pthread.  Before it is included, a program may define
{macros}//   LOWBIT_WITHOUT_XSIMD   not to use xsimd, which level base runs on where <xsimd/xsimd.hpp> is found; all files alike
//   LOWBIT_KERNELS_EXTERN  in all files but one, which defines LOWBIT_KERNELS_DEFINE: the kernels are compiled in that one alone
//
"""

XSIMD = """\
#if !defined(LOWBIT_WITHOUT_XSIMD) && __has_include(<xsimd/xsimd.hpp>)
#include <xsimd/xsimd.hpp>
#else
#define XSIMD_NO_SUPPORTED_ARCHITECTURE  // level base runs on arrays
#endif
"""

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"(?P<file>lowbit/[^"]+)"|(?P<macro>LOWBIT_\w+))\s*(?://.*)?$')
DEFINE_FILE = re.compile(r'^\s*#\s*define\s+(?P<name>LOWBIT_\w+)\s+(?P<value>"lowbit/[^"]+"|LOWBIT_\w+)\s*(?://.*)?$')
CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b")
# How a kernel's file helps an editor that opens it alone.
EDITOR = '#ifndef LOWBIT_ISA\n#include "lowbit/kernel/dispatch/editor.hpp"\n#endif\n'


class Amalgamation:
    def __init__(self, include):
        self.include = include
        self.out = []
        self.seen = set()  # headers that surely stand above here
        self.files = {}  # macros that name a file
        self.expanded = set()  # kernels' text whose comments stand above

    def header(self, name):
        if name in self.seen:
            return
        text = (self.include / name).read_text(encoding="utf-8")
        once = "#pragma once\n" in text
        if once:
            self.seen.add(name)
            guard = "LOWBIT_ALL_" + re.sub(r"\W", "_", name.removeprefix("lowbit/").removesuffix(".hpp")).upper()
            self.out.append(f"#ifndef {guard}\n#define {guard}\n// ---- {name}\n")
        self.body(name, text.replace(EDITOR, ""), quiet=name in self.expanded)
        self.expanded.add(name)
        if once:
            self.out.append("#endif\n")

    def body(self, name, text, quiet):
        outside = []  # what was seen before each #if that is open
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            if line.startswith(("// SPDX-", "#pragma once")) or (quiet and line.lstrip().startswith("//")):
                continue
            if line == "#include <xsimd/xsimd.hpp>\n":
                self.out.append(XSIMD)
                continue
            if defined := DEFINE_FILE.match(line):
                value = defined["value"]
                self.files[defined["name"]] = value.strip('"') if value.startswith('"') else self.files.get(value, "")
            if condition := CONDITION.match(line):
                # A header that stands in one branch is not there in another, nor behind them.
                if condition[1].startswith("if"):
                    outside.append(set(self.seen))
                elif condition[1] == "endif":
                    self.seen = outside.pop()
                else:
                    self.seen = set(outside[-1])
            if included := INCLUDE.match(line):
                file = included["file"] or self.files.get(included["macro"])
                if not file:
                    raise SystemExit(f"{name}:{number}: expected a macro that names a file, found {included['macro']}")
                self.header(file)
            else:
                self.out.append(line)

    def section(self, name, folders, given):
        """Appends a section to a file that ends where `given` was seen; returns what is seen behind it by whoever asks for it."""
        self.out.append(f"#if defined(LOWBIT_WITH_{name})\n")
        self.seen = set(given)
        for folder in folders:
            path = self.include / "lowbit" / folder
            for file in sorted(path.glob("*.hpp")) if path.is_dir() else [path]:
                self.header(file.relative_to(self.include).as_posix())
        self.out.append("#endif\n")
        return self.seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    args = parser.parse_args()

    include = args.root / "include"
    version = re.search(r'#define LOWBIT_VERSION "([^"]+)"', (include / "lowbit/base/config.hpp").read_text(encoding="utf-8"))[1]
    licence = "".join(f"// {line}".rstrip() + "\n" for line in (args.root / "LICENSE").read_text(encoding="utf-8").splitlines())
    macros = "".join(f"//   LOWBIT_WITH_{name:<10} {what}\n" for name, _, what in SECTIONS)

    a = Amalgamation(include)
    a.out.append("#if defined(LOWBIT_VERSION) && !defined(LOWBIT_ALL_LOWBIT)\n"
                 "#error \"expected lowbit_all.hpp instead of lowbit's headers, found both\"\n#endif\n")
    a.header("lowbit/lowbit.hpp")
    core = set(a.seen)
    for name, others in BRINGS.items():
        for other in others:
            a.out.append(f"#if defined(LOWBIT_WITH_{name}) && !defined(LOWBIT_WITH_{other})\n#define LOWBIT_WITH_{other}\n#endif\n")
    behind = {}
    for name, folders, _ in SECTIONS:
        behind[name] = a.section(name, folders, core.union(*(behind[other] for other in BRINGS.get(name, []))))
    args.out.write_text(HEAD.format(version=version, macros=macros) + licence + "".join(a.out), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
