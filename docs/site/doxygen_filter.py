#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows a header to Doxygen: prints FILE with the comments that document what follows them as Doxygen's.

  doxygen_filter.py FILE

A comment documents the declaration below it, and one behind a declaration documents that.  Comments inside bodies of functions stay what
they are.  Namespaces lose LOWBIT_ABI.  Lines keep their numbers.
"""
import re
import sys

SCOPE = re.compile(r"^\s*(?:template\s*<.*>\s*)?(?:inline\s+)?(?:namespace|class|struct|union|enum|extern)\b", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])+\'')


def split_comment(line):
    """The code of a line, and its comment with the slashes."""
    blank = STRING.sub(lambda m: "_" * len(m[0]), line)
    at = blank.find("//")
    return (line, "") if at < 0 else (line[:at], line[at:])


class Scopes:
    """Which braces are open: whether a place is among declarations, and whether a declaration is being written."""

    def __init__(self):
        self.stack = []
        self.text = ""
        self.parentheses = 0

    def declarations(self):
        return all(self.stack)

    def between(self):
        return self.declarations() and not self.text.strip()

    def read(self, code):
        for c in STRING.sub("_", code):
            self.parentheses += (c == "(") - (c == ")")
            if c == "{":
                self.stack.append(bool(SCOPE.match(self.text)) and self.parentheses == 0)
                self.text = ""
            elif c == "}":
                if self.stack:
                    self.stack.pop()
                self.text = ""
            elif c == ":" and self.text.strip() in ("public", "private", "protected"):
                self.text = ""
            elif c == ";" and self.parentheses == 0:
                self.text = ""
            else:
                self.text += c
        self.text += "\n"


def several(code):
    """Whether a line declares several names."""
    nested = re.sub(r"\([^()]*\)|\{[^{}]*\}|<[^<>]*>", "", re.sub(r"<[^<>]*>", "", code))
    return code.rstrip().endswith(";") and "," in nested and not re.search(r"[(){}]", nested)


def shown(comment):
    """Doxygen's comment, on one line, that says what `comment` (lines with their slashes) says."""
    text = " ".join(line.strip().removeprefix("//").removeprefix("/").strip() for line in comment)
    for character in "\\@#%":
        text = text.replace(character, "\\" + character)
    return text.replace("<", r"\<").replace(">", r"\>").replace("*/", "* /").replace(r"\>::", r"\>\::")


def of_c(lines):
    """The same of lowbit.h, whose comments are C's."""
    for number, line in enumerate(lines):
        if line.startswith("/* ") and not line.startswith(("/* --", "/* SPDX")):
            line = ("/** @file\n" if number == 1 else "/**") + line[2:]
        elif "/* " in line and not line.startswith(("/", " *")):
            line = line.replace("/* ", "/**< ", 1)
        print("" if "#define LOWBIT_C_API" in line else line.removeprefix("LOWBIT_C_API "))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().splitlines()
    if sys.argv[1].endswith(".h"):
        return of_c(lines)
    out, scopes = [], Scopes()  # as many lines as there were, so that Doxygen names the right ones
    head = []  # the file's own comment
    while lines[len(head)].startswith("//"):
        head.append(lines[len(head)])
    out += [f"/** @file\n{shown(head[1:])} */"] + [""] * (len(head) - 2)
    comment, fresh = [], False  # the last one, and whether it stands right above
    macro = False  # a line of a macro that goes on
    for line in lines[len(head) :]:
        text = line.strip()
        if macro or text.startswith("#"):
            macro = text.endswith("\\")
            fresh = fresh and text.startswith(("#if", "#e"))
        elif not text:
            comment, fresh = [], False
        elif text.startswith("//") and scopes.between():
            comment = (comment if fresh else []) + ([] if text.startswith("// ----") else [line])
            fresh = True
            line = ""
        else:
            code, behind = split_comment(line)
            starts = scopes.between() and not text.startswith(("}", "public", "private", "protected"))
            documents = scopes.declarations()
            scopes.read(code)
            behind = re.sub(r"^// NOLINT(: )?", "// ", behind)
            if behind.startswith("// namespace") or not (documents and scopes.declarations()):
                behind = ""
            said = comment if starts and fresh else []
            fresh = False
            if starts and behind:  # also where it declares several names
                said, behind = said + [behind], ""
            code = re.sub(r"::inline LOWBIT_ABI(_OF_ALL_FLAGS)?\b", "", code).replace("LOWBIT_FUNCTION ", "")
            before = f"/** {shown(said)} */ " if shown(said) else ""
            if before and several(code):
                before, code = "/** @{ */ " + before, code + " /** @} */"
            line = before + code + (f"/**< {shown([behind])} */" if behind else "")
        out.append(line)
    print("\n".join(out))


if __name__ == "__main__":
    main()
