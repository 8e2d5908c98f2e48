#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the fuzz targets that lie beside this script from the corpus beside them, each in a process of its own.
#   run.sh SECONDS [TARGET...]
# OUT    where logs, what crashed a target, and new inputs go: $OUT/TARGET.log, TARGET-crash-..., corpus/TARGET  (./fuzz_out)
# JOBS   how many run at once (as many as there are processors)
# Prints a table, and exits with 1 where one of them found something.
set -euo pipefail

if (($# == 0)) || [[ $1 == --help || ! $1 =~ ^[0-9]+$ ]]; then
  sed -n '3,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  [[ ${1-} == --help ]] && exit 0 || exit 2
fi
seconds=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Carried to a machine that lacks libraries, they may lie in lib/.
if [[ -d $here/lib ]] && ldd "$here"/fuzz_* 2>&1 | grep 'not found' >/dev/null; then export LD_LIBRARY_PATH=$here/lib; fi
out=${OUT:-fuzz_out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
targets=("$@")
if ((${#targets[@]} == 0)); then
  for program in "$here"/fuzz_*; do
    if [[ -x $program && -f $program && $program != */fuzz_seeds ]]; then targets+=("${program##*/fuzz_}"); fi
  done
fi

run() {
  local target=$1 dictionary=()
  mkdir -p "$out/corpus/$target"
  if [[ -f $here/corpus/$target.dict ]]; then dictionary=("-dict=$here/corpus/$target.dict"); fi
  UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_stack_use_after_return=0:allocator_may_return_null=0 \
    "$here/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=16384 \
    -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$out/$target-" "${dictionary[@]}" \
    "$out/corpus/$target" "$here/corpus/$target" >"$out/$target.log" 2>&1
}

jobs=${JOBS:-$(nproc)}
declare -A pids=()
for target in "${targets[@]}"; do
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
  run "$target" &
  pids[$target]=$!
done

failed=0
printf '%-16s %12s %8s %8s  %s\n' target executions per_s edges verdict
for target in "${targets[@]}"; do
  verdict=clean
  if ! wait "${pids[$target]}"; then
    verdict="FOUND SOMETHING, see $out/$target.log"
    failed=1
  fi
  figure() { sed -n "s/^stat::$1: *//p" "$out/$target.log" | tail -n 1; }
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$out/$target.log" | tail -n 1)
  printf '%-16s %12s %8s %8s  %s\n' "$target" "$(figure number_of_executed_units)" "$(figure average_exec_per_sec)" "$edges" "$verdict"
done
exit "$failed"
