#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which lines of include/lowbit the fast tests reach: builds them with preset coverage, runs them, and prints a table by folder.
#   tests/coverage.sh [PROGRAM...]     programs of build/coverage/tests, all *_tests where none is named
# build/coverage/lines.txt then lists every line that was not reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=("$@")
if ((${#programs[@]} == 0)); then programs=(format product allocation process io gpt2 memory training); programs=("${programs[@]/%/_tests}"); fi
cmake --preset coverage >/dev/null
cmake --build build/coverage --target "${programs[@]}"
cd build/coverage
rm -rf profiles && mkdir -p profiles
objects=()
for program in "${programs[@]}"; do
  objects+=(-object "tests/$program")
  (mkdir -p "run/$program" && cd "run/$program" && LLVM_PROFILE_FILE="$OLDPWD/profiles/$program-%p.raw" "$OLDPWD/tests/$program" '~[.full]' >log) ||
    { echo "coverage.sh: $program failed, see build/coverage/run/$program/log" >&2; exit 1; }
done
llvm-profdata-19 merge -sparse profiles/*.raw -o all.profdata
readonly of=(-instr-profile=all.profdata "${objects[@]:1}" ../../include/lowbit)
llvm-cov-19 show "${of[@]}" -show-instantiations=false | grep -E '^/|^ *[0-9]+\| *0\|' >lines.txt || true
llvm-cov-19 export "${of[@]}" -summary-only | python3 -c '
import json, sys, collections
lines = collections.defaultdict(lambda: [0, 0])
for file in json.load(sys.stdin)["data"][0]["files"]:
    inside = file["filename"].split("include/lowbit/")[-1].split("/")
    for name in ("all", "/".join(inside[:-1]) or "(the pages)"):
        lines[name][0] += file["summary"]["lines"]["covered"]
        lines[name][1] += file["summary"]["lines"]["count"]
print("| folder | lines | reached, % |\n|---|---|---|")
for name, (reached, count) in sorted(lines.items(), key=lambda entry: (entry[0] == "all", entry[0])):
    print(f"| {name} | {count} | {100 * reached / max(count, 1):.1f} |")'
