# shellcheck shell=sh disable=SC2034,SC2154 # variables shared with ./dev
# setup.sh: finds Zig, Deno, Bun, LZ4's source and node_modules, or installs them. Sourced by ./dev.
# May touch: .tools/ and node_modules/. Reads: tools.env, package.json, bun.lock.
# How: a tool on PATH is taken when it is new enough. Else the pinned one is unpacked into a temporary folder by a
# package client that the machine has, tried out, and only then moved to .tools/NAME-VERSION/NAME: what is under
# that name is whole, however an earlier run ended.
#   pip (python3)  zig, deno, lz4      npm, bun  deno, bun      deno  bun      zig  lz4

installing='' # the temporary folder of this run, while there is one

note() { printf 'dev: %s\n' "$*" >&2; }
fail() {
  note "$*"
  exit 1
}

# need TOOL... [lz4] [node_modules]: makes each of them ready and sets $zig, $deno, $bun, $lz4 to absolute paths.
need() {
  # Without the lock first: when all is there, this is all that happens.
  look_for "$@" && return
  mkdir -p "$tools/log" 2>/dev/null && [ -w "$tools" ] || fail "cannot write to $tools, where the tools go"
  lock
  for missing in "$@"; do
    look_for "$missing" && continue # the run that had the lock before us may have brought it
    case $missing in
      node_modules) install_node_modules ;;
      *) install_tool "$missing" && look_for "$missing" ;;
    esac
  done
  unlock
}

look_for() {
  for thing in "$@"; do
    case $thing in
      zig) zig=$(find_tool zig) || return ;;
      deno) deno=$(find_tool deno) || return ;;
      bun) bun=$(find_tool bun) || return ;;
      lz4) lz4=$tools/lz4-$LZ4_PINNED && [ -f "$lz4/lz4.c" ] && [ -f "$lz4/lz4.h" ] || return ;;
      node_modules) cat package.json bun.lock | cmp -s - node_modules/.installed-from || return ;;
    esac
  done
}

# --- which tool ---

pinned() {
  case $1 in
    zig) echo "$ZIG_PINNED" ;;
    deno) echo "$DENO_PINNED" ;;
    bun) echo "$BUN_PINNED" ;;
    lz4) echo "$LZ4_PINNED" ;;
  esac
}
wanted() { case $1 in zig) echo "zig ${ZIG_FLOOR%.*}.x" ;; deno) echo "deno >= $DENO_FLOOR" ;; bun) echo "bun >= $BUN_FLOOR" ;; esac }

# Prints the path of a usable tool; fails if there is none.
find_tool() {
  path=$(command -v "$1") && fits "$1" "$(version_of "$1" "$path")" && real_path "$1" "$path" && return
  path=$tools/$1-$(pinned "$1")/$1
  [ -x "$path" ] && echo "$path"
}

version_of() { # NAME FILE; prints nothing when the file is not that tool or does not run here
  case $1 in
    zig) "$2" version ;;
    deno) "$2" --version | sed -n 's/^deno \([^ ]*\).*/\1/p' ;;
    bun) "$2" --version ;;
    lz4) is_lz4 "$(dirname "$2")" && echo "$LZ4_PINNED" ;; # no program: the files beside it tell
  esac 2>/dev/null </dev/null || true
}

# Zig breaks its language with every minor version, so there the minor has to be the same and development builds
# do not count.
fits() { # NAME VERSION
  case $1:$2 in
    zig:*-*) return 1 ;;
    zig:"${ZIG_FLOOR%.*}".*) at_least "$2" "$ZIG_FLOOR" ;;
    deno:[0-9]*) at_least "$2" "$DENO_FLOOR" ;;
    bun:[0-9]*) at_least "$2" "$BUN_FLOOR" ;;
    *) return 1 ;;
  esac
}

at_least() {
  awk -v have="$1" -v least="$2" 'BEGIN {
    split(have, h, "."); split(least, l, ".")
    for (i = 1; i <= 3; i++) if (h[i] + 0 != l[i] + 0) exit (h[i] + 0 < l[i] + 0)
  }'
}

# npm and version managers put a script on PATH that starts the runtime as its child. Tests kill and inspect
# processes, so they need the runtime itself.
real_path() {
  case $1 in
    deno) real=$("$2" eval --no-config 'console.log(Deno.execPath())' 2>/dev/null </dev/null) || real=$2 ;;
    bun) real=$("$2" -e 'console.log(process.execPath)' 2>/dev/null </dev/null) || real=$2 ;;
    *) real=$2 ;;
  esac
  [ -x "$real" ] && echo "$real"
}

# --- installing ---

install_tool() {
  name=$1 version=$(pinned "$1") tried=''
  # Of LZ4 the source is wanted; a program of that name has nothing to do with it.
  if [ "$name" != lz4 ] && path=$(command -v "$name"); then
    found=$(version_of "$name" "$path")
    note "$path is ${found:-not a working $name}, needed is $(wanted "$name"): installing $version into .tools/"
  fi
  case $name in
    zig) clients='pip' ;;
    deno) clients='npm bun pip' ;;
    bun) clients='npm deno' ;;
    lz4) clients='pip zig' ;;
  esac
  for client in $clients; do
    "has_$client" || continue
    note "installing $name $version with $client"
    log=$tools/log/install-$name-$client.txt
    new_folder
    if (cd "$installing" && "get_with_$client" "$name" "$version") >"$log" 2>&1 </dev/null &&
      [ "$(version_of "$name" "$installing/done/$name")" = "$version" ]; then
      rm -rf "$tools/$name-$version"
      mv "$installing/done" "$tools/$name-$version"
      rm -rf "$installing"
      return
    fi
    tried="$tried $client"
    tail -n 5 "$log" >&2
  done
  [ -z "$tried" ] || fail "cannot install $name $version with$tried (logs: .tools/log/); is the network there?"
  case $name in
    lz4) fail "needs lz4.c and lz4.h of $version in .tools/lz4-$version/, or python3 with pip or venv to fetch them (Debian: apt install python3-venv)" ;;
    zig) fail "needs $(wanted zig) on PATH, or python3 with pip or venv to install it (Debian: apt install python3-venv)" ;;
    *) fail "needs $(wanted "$name") on PATH, or npm, or python3 with pip or venv to install it (Debian: apt install python3-venv)" ;;
  esac
}

new_folder() {
  rm -rf "$tools"/installing.* # also what killed runs left; the lock is ours
  installing=$tools/installing.$$
  mkdir -p "$installing/done"
}

has_pip() { python3 -c 'import pip' 2>/dev/null || python3 -c 'import venv, ensurepip' 2>/dev/null; }
has_npm() { command -v npm >/dev/null; }
has_bun() { bun=$(find_tool bun); }
has_deno() { deno=$(find_tool deno); }
has_zig() { zig=$(find_tool zig); }

# Each of these runs inside the temporary folder and leaves done/NAME there.

get_with_pip() {
  # A venv keeps the user's pip settings and the system's "externally managed" mark out; Debian ships python3
  # without venv, where pip alone does.
  if python3 -m venv venv; then python=venv/bin/python; else python=python3; fi
  case $1 in
    lz4)
      get_lz4_with "$python"
      return
      ;;
    zig) package=ziglang ;;
    *) package=$1 ;;
  esac
  PIP_USER=0 "$python" -m pip install --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --no-compile --target packages "$package==$2" || return
  case $1 in
    zig) rmdir 'done' && mv packages/ziglang 'done' ;; # the compiler finds lib/ beside itself
    *) mv "packages/bin/$1" 'done/' ;;
  esac
}

# LZ4 has no package of its own anywhere but on GitHub. The source of its Python bindings has its files unchanged.
get_lz4_with() { # PYTHON
  "$1" "$root/tools/fetch_source.py" lz4 "$LZ4_PYPI" ||
    { "$1" -m pip download --disable-pip-version-check --no-cache-dir --no-deps --no-binary lz4 "lz4==$LZ4_PYPI" &&
      mv lz4-*.tar.gz source.tar.gz; } || return
  tar -xzf source.tar.gz && mv lz4-*/lz4libs/lz4.c lz4-*/lz4libs/lz4.h 'done/'
}
# Zig fetches what build.zig.zon names, into the folder of an empty project.
get_with_zig() {
  cp "$root/build.zig.zon" . && echo 'pub fn build(_: *@import("std").Build) void {}' >build.zig &&
    "$zig" build --fetch=all && mv zig-pkg/*/lib/lz4.c zig-pkg/*/lib/lz4.h 'done/'
}
is_lz4() { # FOLDER
  [ "$(sha256_of "$1/lz4.c")" = "$LZ4_C_SHA256" ] && [ "$(sha256_of "$1/lz4.h")" = "$LZ4_H_SHA256" ]
}
sha256_of() { { sha256sum "$1" || shasum -a 256 "$1"; } 2>/dev/null | cut -d ' ' -f 1; }

# The runtimes' npm packages are small starters with install scripts; the programs themselves are in one package
# per platform, which has nothing to run and which every client can fetch.
get_with_npm() {
  ask_for "$@" && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --cache cache && take "$1"
}
get_with_bun() {
  ask_for "$@" && BUN_INSTALL_CACHE_DIR=cache "$bun" install --ignore-scripts --no-save && take "$1"
}
get_with_deno() { # npm and Bun read the system's certificates unasked, Deno has to be told
  ask_for "$@" && echo '{"nodeModulesDir": "auto", "lock": false}' >deno.json &&
    DENO_DIR=cache DENO_TLS_CA_STORE=${DENO_TLS_CA_STORE:-system,mozilla} "$deno" install && take "$1"
}

ask_for() { # NAME VERSION
  package=$(platform_package "$1") || return
  printf '{ "dependencies": { "%s": "%s" } }\n' "$package" "$2" >package.json
}
take() { # NAME
  package=$(platform_package "$1")
  file=$(find -L "node_modules/$package" -type f -name "$1") && mv "$file" "done/$1"
}

platform_package() {
  case $1:$(uname -s):$(uname -m) in
    deno:Linux:x86_64) echo @deno/linux-x64-glibc ;;
    deno:Linux:aarch64) echo @deno/linux-arm64-glibc ;;
    deno:Darwin:x86_64) echo @deno/darwin-x64 ;;
    deno:Darwin:arm64) echo @deno/darwin-arm64 ;;
    bun:Linux:x86_64) echo @oven/bun-linux-x64 ;;
    bun:Linux:aarch64) echo @oven/bun-linux-aarch64 ;;
    bun:Darwin:x86_64) echo @oven/bun-darwin-x64 ;;
    bun:Darwin:arm64) echo @oven/bun-darwin-aarch64 ;;
    *) echo "no $1 package for $(uname -s) $(uname -m)" && return 1 ;;
  esac
}

# Bun, because it is always here by now, and because only its lock file can be enforced: `npm ci` refuses a lock
# without LiteSVM's binaries for other platforms, some of which the registry does not have.
install_node_modules() {
  note 'installing node_modules with bun'
  log=$tools/log/install-node_modules.txt
  new_folder
  cp package.json bun.lock "$installing/"
  "$bun" install --cwd "$installing" --frozen-lockfile --ignore-scripts >"$log" 2>&1 </dev/null || {
    tail -n 5 "$log" >&2
    ! grep -q 'lockfile is frozen' "$log" ||
      fail 'bun.lock does not fit package.json: run ./dev bun install --lockfile-only and commit both'
    fail "cannot install node_modules (log: .tools/log/install-node_modules.txt); is the network there?"
  }
  cat package.json bun.lock >"$installing/node_modules/.installed-from"
  rm -rf node_modules
  mv "$installing/node_modules" node_modules
  rm -rf "$installing"
}

# --- one installer at a time ---

# The lock is a symbolic link because making one is atomic together with what it says: the process that holds it.
lock() {
  seconds=0
  until ln -s "$$" "$tools/lock" 2>/dev/null; do
    owner=$(readlink "$tools/lock") || owner=''
    if [ -n "$owner" ] && ! alive "$owner"; then
      # Its owner is dead. Others may see that too; whoever is last to put its name there has the lock.
      ln -s "$$" "$tools/lock.$$" && mv -f "$tools/lock.$$" "$tools/lock"
      sleep 1
      [ "$(readlink "$tools/lock")" = "$$" ] && return
    fi
    [ $seconds -ne 1 ] || note "waiting for another ./dev, process ${owner:-unknown}, to finish installing"
    [ $seconds -lt 900 ] || fail "cannot get .tools/lock for 15 minutes (held by process ${owner:-unknown}); remove it if that is no ./dev"
    sleep 1
    seconds=$((seconds + 1))
  done
}

unlock() { [ "$(readlink "$tools/lock" 2>/dev/null)" != "$$" ] || rm -f "$tools/lock"; }

# The second test is for processes of other users, whom we may not signal.
alive() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ]; }

# --- on every way out ---

child='' # the suite that is running

clean_up() {
  [ -z "$child" ] || kill "$child" 2>/dev/null || true
  [ -z "$installing" ] || rm -rf "$installing"
  unlock
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
