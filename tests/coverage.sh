#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which lines of include/lowbit the fast tests reach: builds them with preset coverage, runs them, and prints a table by folder.
#   tests/coverage.sh [PROGRAM...]     programs of build/coverage/tests, all *_tests where none is named
# build/coverage/lines.txt then lists every line that was not reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=("$@")
if ((${#programs[@]} == 0)); then programs=(format product tile_model allocation pool io gpt2 memory training); programs=("${programs[@]/%/_tests}"); fi
cmake --preset coverage >/dev/null
cmake --build build/coverage --target "${programs[@]}"
cd build/coverage
rm -rf profiles && mkdir -p profiles
for program in "${programs[@]}"; do
  (mkdir -p "run/$program" && cd "run/$program" && LLVM_PROFILE_FILE="$OLDPWD/profiles/$program-%p.raw" "$OLDPWD/tests/$program" '~[.full]' >log) ||
    { echo "coverage.sh: $program failed, see build/coverage/run/$program/log" >&2; exit 1; }
done
# Program by program: of a function that one program compiles and another only has the text of, llvm-cov keeps what it meets first.
for program in "${programs[@]}"; do
  llvm-profdata-19 merge -sparse "profiles/$program"-*.raw -o "$program.profdata"
  llvm-cov-19 export -format=lcov -instr-profile="$program.profdata" "tests/$program" ../../include/lowbit
done | python3 -c '
import collections, re, sys
counts = collections.defaultdict(lambda: collections.defaultdict(int))
for line in sys.stdin:
    key, _, value = line.strip().partition(":")
    if key == "SF": file = counts[value]
    elif key == "DA":
        number, count = map(int, value.split(",")[:2])
        file[number] = max(file[number], count)
lines = collections.defaultdict(lambda: [0, 0])
with open("lines.txt", "w") as missed:
    for name, reached in sorted(counts.items()):
        inside = name.split("include/lowbit/")[-1]
        text = open(name).read().splitlines()
        for number, count in sorted(reached.items()):
            if re.fullmatch(r"(//|#).*|[})\];,]*( else)?( \{)?", text[number - 1].strip()): continue  # nothing that runs
            for folder in ("all", inside.rpartition("/")[0] or "(the pages)"):
                lines[folder][0] += count != 0
                lines[folder][1] += 1
            if count == 0: print(f"{inside}:{number}: {text[number - 1]}", file=missed)
print("| folder | lines | reached, % |\n|---|---|---|")
for name, (reached, count) in sorted(lines.items(), key=lambda entry: (entry[0] == "all", entry[0])):
    print(f"| {name} | {count} | {100 * reached / max(count, 1):.1f} |")'
