/**
 * The programs without a runtime: floors in Zig (`native/`), peers in Rust (`peers/`). Built when first asked for.
 * May touch: compilers, `.tools/bench/`. May not touch: figures.
 * Why not in build.zig: nobody needs them but a bench.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync } from "node:fs";
import { arch } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OUT = join(ROOT, ".tools/bench");

/** A program that is ready, or the reason why there is none. */
export type Program = { readonly path: string } | { readonly missing: string };

const built = new Map<string, Program>();

/** Our ring, a pipe, a socket pair and libc's memcpy, from Zig. */
export function floorProgram(quick: boolean): Program {
  const zig = zigExecutable();
  if (zig === undefined) return { missing: "there is no zig" };
  const lz4 = lz4Folder();
  if (lz4 === undefined) return { missing: "there is no source of LZ4" };
  return build("floor", quick, ["bench/native", "zig"], zig, [
    "build-exe",
    ...["-O", "ReleaseSafe", "-mcpu", CPU, "-lc", "--dep", "qlaster", "-Mroot=bench/native/main.zig"],
    ...["-O", "ReleaseSafe", "-mcpu", CPU, `-I${lz4}`],
    ...["-cflags", ...LZ4_FLAGS, "--", join(lz4, "lz4.c"), "-Mqlaster=zig/root.zig"],
    ...["--cache-dir", ".zig-cache", `-femit-bin=${join(OUT, "floor")}`],
  ]);
}

/** The Rust crates `shaq` and `iceoryx2`. */
export function peersProgram(quick: boolean): Program {
  if (spawnSync("cargo", ["--version"]).status !== 0) return { missing: "there is no cargo" };
  const target = join(OUT, "cargo");
  const manifest = "bench/peers/Cargo.toml";
  const args = ["build", "--quiet", "--release", "--manifest-path", manifest, "--target-dir", target];
  return build("cargo/release/qlaster-bench-peers", quick, ["bench/peers"], "cargo", args);
}

/** @param quick Takes a program that is built already, and builds none. */
function build(
  name: string,
  quick: boolean,
  sources: readonly string[],
  compiler: string,
  args: readonly string[],
): Program {
  let program = built.get(name);
  if (program === undefined && isFresh(join(OUT, name), sources)) program = { path: join(OUT, name) };
  if (program === undefined && quick) return { missing: "not built yet; a run without --quick builds it" };
  if (program === undefined) {
    mkdirSync(OUT, { recursive: true });
    const { status, stderr, error } = spawnSync(compiler, args, { cwd: ROOT, encoding: "utf8" });
    const path = join(OUT, name);
    // A compiler that found nothing to do leaves the old time.
    if (status === 0 && existsSync(path)) utimesSync(path, new Date(), new Date());
    const said = stderr?.trim().split("\n")[0] ?? error?.message;
    program = status === 0 && existsSync(path) ? { path } : { missing: `it does not compile here (${said})` };
    built.set(name, program);
  }
  return program;
}

/** Whether a program is younger than all files of its sources: Zig takes 12 s to find out that nothing has changed. */
function isFresh(path: string, sources: readonly string[]): boolean {
  if (!existsSync(path)) return false;
  const builtAt = statSync(path).mtimeMs;
  return sources.every((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .every((file) => statSync(join(ROOT, folder, file)).mtimeMs <= builtAt)
  );
}

/** As what is shipped (build.zig); the Rust crates have their compiler's baseline, too. */
const CPU = arch() === "x64" ? "baseline+prfchw" : "baseline";

/** Nothing of it counts here but that the library links: build.zig says what each flag is for. */
const LZ4_FLAGS: readonly string[] = [
  ...["-O3", "-DLZ4_FREESTANDING=1", "-DLZ4LIB_VISIBILITY=", "-fvisibility=hidden"],
  ...["memcpy", "memmove", "memset"].map((name) => `-DLZ4_${name}=__builtin_${name}`),
  ...["-fno-sanitize=undefined", "-fno-stack-protector"],
];

/** Where `./dev` says that it is; else the one in .tools/. */
function lz4Folder(): string | undefined {
  const tools = join(ROOT, ".tools");
  const installed = existsSync(tools) ? readdirSync(tools).filter((name) => name.startsWith("lz4-")) : [];
  const candidates = [process.env.QLASTER_LZ4, ...installed.map((name) => join(tools, name))];
  return candidates.find((folder) => folder !== undefined && existsSync(join(folder, "lz4.c")));
}

/** The one that `./dev` uses: on PATH, or in .tools/. */
function zigExecutable(): string | undefined {
  const tools = join(ROOT, ".tools");
  const installed = existsSync(tools) ? readdirSync(tools).filter((name) => name.startsWith("zig-")) : [];
  const candidates = [process.env.QLASTER_ZIG, "zig", ...installed.map((name) => join(tools, name, "zig"))];
  return candidates.find((zig) => zig !== undefined && spawnSync(zig, ["version"]).status === 0);
}
