#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names every public name that is not documented, as FILE:LINE: NAME, and exits with 1 if there is one.

  check_api.py XML     XML: the folder that Doxygen wrote (docs/site/build api)

Public is what stands in lowbit, lowbit::io, lowbit::gpt2 or lowbit::qat, outside detail, and in lowbit.h.  Not asked for: constructors without arguments,
copies, moves, assignments, destructors, comparisons, what overrides a documented function, overloads of one that is documented, and what
the standard library's containers and functions have by that name.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


TEMPLATE = re.compile(r"<.*>")
STANDARD = {"operator=", "operator==", "operator!=", "operator[]", "operator()", "data", "size", "empty", "begin", "end", "span"}


def documented(element):
    return any("".join(element.find(kind).itertext()).strip() for kind in ("briefdescription", "detaileddescription", "inbodydescription")
               if element.find(kind) is not None)


def asked_for(member, owner):
    name = member.findtext("name")
    arguments = member.findtext("argsstring") or ""
    of = owner.rsplit("::", 1)[-1]
    if name.startswith("~") or name in STANDARD:
        return False
    if name == of and (arguments.startswith(("()", f"(const {of} &", f"({of} &&")) or "=delete" in arguments):
        return False
    if "@" in name:  # an enum without a name: its typedef says what it is
        return False
    return member.find("reimplements") is None and "override" not in arguments and member.get("kind") != "friend"


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = []  # elements and their names
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        if path.stem in ("index", "combine"):
            continue
        for compound in ElementTree.parse(path).getroot().iter("compounddef"):
            owner = TEMPLATE.sub("", compound.findtext("compoundname"))  # a specialization has its template's words
            kind = compound.get("kind")
            if kind not in ("class", "struct", "union", "namespace") and owner != "lowbit.h":
                continue
            if not owner.startswith("lowbit") or "detail" in owner or "@" in owner:
                continue
            if compound.get("prot") == "private":
                continue
            if kind not in ("namespace", "file"):
                found.append((compound, owner))
            for member in compound.iter("memberdef"):
                if member.get("prot") == "public" and asked_for(member, owner):
                    found.append((member, f"{owner}::{member.findtext('name')}"))
    said = {name for element, name in found if documented(element)}
    missing = set()
    for element, name in found:
        if name not in said:
            at = element.find("location")
            missing.add((at.get("file"), int(at.get("line") or 0), name))
    count = len({name for _, name in found})
    for file, line, name in sorted(missing):
        print(f"{file}:{line}: {name} is not documented")
    print(f"{count} public names, {len(missing)} of them not documented", file=sys.stderr)
    return 1 if missing or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
