#!/bin/sh
# arm64.sh: what can be shown of Linux on arm64 without such a machine, under QEMU's user-mode emulation: the Zig tests,
# the ring's stress program, and a program that streams through shared memory in each runtime (`./dev arm64`).
# May touch: .tools/arm64/ (the runtimes' arm64 packages), .zig-cache/, the temporary directory.
# It shows the code, not the hardware: the emulator runs on the host's memory order, which is the stricter one.
# Why it is no part of `./dev test`: few machines have the emulator.
set -eu

fail() {
  echo "arm64: $*" >&2
  exit 1
}

command -v qemu-aarch64 >/dev/null || fail 'needs qemu-aarch64 (Debian: apt install qemu-user)'
# Where the runtimes find arm64's C library; ours needs none.
export QEMU_LD_PREFIX="${QEMU_LD_PREFIX:-/usr/aarch64-linux-gnu}"
[ -e "$QEMU_LD_PREFIX/lib/libstdc++.so.6" ] ||
  fail 'needs an arm64 C library (Debian: apt install libc6-arm64-cross libstdc++6-arm64-cross; or set QEMU_LD_PREFIX)'

root=$(pwd -P)
runtimes=$root/.tools/arm64
mkdir -p "$runtimes"
printf '{ "dependencies": { "@deno/linux-arm64-glibc": "%s", "@oven/bun-linux-aarch64": "%s" } }\n' \
  "$DENO_PINNED" "$BUN_PINNED" >"$runtimes/package.json"
"$QLASTER_BUN" install --cwd "$runtimes" --os=linux --cpu=arm64 --ignore-scripts --no-save

for mode in Debug ReleaseSafe; do
  ./dev zig build test -Dtarget=aarch64-linux-none -Doptimize=$mode -fqemu --summary all
done
./dev zig build stress -Dtarget=aarch64-linux-none -Doptimize=ReleaseSafe -fqemu -- 200000

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$QLASTER_DENO" run -A --no-check tests/packaging/support/publish.ts "$folder"
cd "$folder"
export DENO_DIR="$folder/cache" DENO_NO_UPDATE_CHECK=1
streams() {
  echo "$*"
  timeout 120 qemu-aarch64 "$@" app.ts </dev/null | tee answer.txt
  grep -q '"slot":7' answer.txt || fail 'it did not stream'
}
streams "$runtimes/node_modules/@deno/linux-arm64-glibc/deno" run --no-prompt --allow-ffi
streams "$runtimes/node_modules/@oven/bun-linux-aarch64/bin/bun" run
echo 'arm64: Zig tests, ring stress, Deno and Bun passed'
