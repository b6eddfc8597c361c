# shellcheck shell=sh disable=SC2154 # $tools comes from ./dev
# suites.sh: runs test suites one after the other, each under a watchdog, and adds up what they counted.
# May touch: .tools/log/. Sourced by ./dev.
# Each runner's own closing line is read: an exit code of 0 does not tell whether any test ran.

suite_limit_s=${QLASTER_SUITE_LIMIT_S:-1500}
table='' steps_failed=''
passed_sum=0 failed_sum=0 skipped_sum=0

# suite NAME FORMAT COMMAND...
suite() {
  suite_name=$1 format=$2
  shift 2
  log=$tools/log/$(echo "$suite_name" | tr ' ' '-').txt
  mkdir -p "$tools/log"
  note "test: $suite_name"
  started=$(date +%s) status=0
  limited "$@" >"$log" 2>&1 || status=$?
  took=$(($(date +%s) - started))

  # shellcheck disable=SC2046 # three numbers
  set -- $(without_colours <"$log" | "counts_of_$format")
  passed=${1:-0} failed=${2:-0} skipped=${3:-0} remark=''
  if [ $status -ne 0 ] && [ $took -ge "$suite_limit_s" ]; then
    remark="stopped after $suite_limit_s s"
  elif [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
    remark="exit code $status"
  elif [ $((passed + failed)) -eq 0 ]; then
    remark='ran no test'
  fi
  # What a runner could not count, because it died or never ran, is one failure.
  [ -z "$remark" ] || failed=$((failed + 1))
  [ "$failed" -eq 0 ] || { printf '\n--- %s, from %s ---\n' "$suite_name" "$log"; what_failed "$log"; }

  passed_sum=$((passed_sum + passed)) failed_sum=$((failed_sum + failed)) skipped_sum=$((skipped_sum + skipped))
  table=$table$(printf '%-18s %6d passed %4d failed %4d skipped %5d s%s' \
    "$suite_name" "$passed" "$failed" "$skipped" "$took" "${remark:+  $remark}")'
'
}

# The end of a log, and before it what tests said that Bun failed: it says so where it happens, the other runners at the end.
what_failed() {
  awk '
    /^\((pass|skip)\) / { said = ""; next }
    { said = said $0 "\n"; if (length(said) > 8000) said = substr(said, length(said) - 6000) }
    /^\(fail\) / { printf "%s\n", said; said = "" }' "$1"
  printf '...\n'
  tail -n 150 "$1"
}

finish_suites() {
  printf '\n%s\n' "$table"
  [ $skipped_sum -eq 0 ] || printf '%d skipped\n' "$skipped_sum"
  printf '%d passed, %d failed\n' "$passed_sum" "$failed_sum"
  [ $failed_sum -eq 0 ]
}

# Runs a command in the background with a time limit. `timeout` ends the command's own children as well; where it
# is missing (macOS), only the command itself is ended.
limited() {
  if command -v timeout >/dev/null; then
    timeout -k 10 "$suite_limit_s" "$@" </dev/null &
    child=$!
  else
    "$@" </dev/null &
    child=$!
    watch $child &
  fi
  result=0
  wait $child || result=$?
  child=''
  return $result
}

watch() {
  seconds=0
  while kill -0 "$1" 2>/dev/null; do
    [ $seconds -lt "$suite_limit_s" ] || kill -9 "$1"
    sleep 1
    seconds=$((seconds + 1))
  done
}

# --- closing lines: each prints "passed failed skipped" ---

without_colours() { sed "s/$(printf '\033')\[[0-9;]*m//g"; }

# Build Summary: 1/3 steps succeeded (1 failed); 3/6 tests passed (1 skipped, 1 failed, 1 crashed)
counts_of_zig() {
  sed -n 's|^Build Summary: .*; \([0-9]*\)/\([0-9]*\) tests passed\(.*\)|\1 \2 \3|p' | tail -n 1 | awk '{
    skipped = match($0, /[0-9]+ skipped/) ? substr($0, RSTART, RLENGTH) + 0 : 0
    print $1, $2 - $1 - skipped, skipped
  }'
}

# ok | 3 passed (3 steps) | 0 failed | 2 ignored (6s)
counts_of_deno() {
  grep -E '^(ok|FAILED) \| ' | tail -n 1 | count_words 'passed' 'failed' 'ignored'
}

# One line each: " 3 pass", " 1 skip", " 1 todo", " 2 fail"
counts_of_bun() {
  tail -n 20 | grep -E '^ *[0-9]+ (pass|fail|skip)$' | tr '\n' ' ' | count_words 'pass' 'fail' 'skip'
}

# anything: 3 passed, 0 failed
counts_of_line() {
  grep -E '[0-9]+ passed, [0-9]+ failed' | tail -n 1 | tr ',' ' ' | count_words 'passed' 'failed' 'skipped'
}

# Prints the numbers that stand before the given three words, 0 for a word that is not there.
count_words() {
  awk -v words="$*" '{
    count = split(words, word, " ")
    for (i = 1; i < NF; i++) for (w = 1; w <= count; w++) if ($(i + 1) == word[w]) found[w] = $i
  } END { print found[1] + 0, found[2] + 0, found[3] + 0 }'
}

# --- ./dev check ---

# step NAME COMMAND...: one line when it passes, its output when it does not.
step() {
  step_name=$1
  shift
  mkdir -p "$tools/log"
  if "$@" >"$tools/log/check.txt" 2>&1 </dev/null; then
    printf '%-16s ok\n' "$step_name"
  else
    printf '%-16s FAILED\n' "$step_name"
    cat "$tools/log/check.txt"
    steps_failed="$steps_failed, $step_name"
  fi
}

finish_steps() { [ -z "$steps_failed" ] || fail "check failed: ${steps_failed#, }"; }
