/**
 * What figures were taken on: machine, system, versions, commit.
 * May touch: `node:os`, /proc, git, the version flags of tools.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { arch, availableParallelism, cpus, loadavg, platform, release } from "node:os";
import { executable, isPinned } from "./worker.ts";

/** In words. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly system: string;
  readonly deno: string;
  readonly bun: string;
  readonly zig: string;
  readonly commit: string;
  readonly date: string;
  readonly pinning: string;
  /** Over the last minute, before the run: above 0.5 on a small machine, figures are not to be trusted. */
  readonly load: number;
}

/** Looks at all of it. */
export function describeMachine(): Machine {
  const dirty = said("git", ["status", "--porcelain", "--untracked-files=no"]) === "" ? "" : " and uncommitted changes";
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    system: `${platform()} ${release()} ${arch()}`,
    deno: said(executable("deno"), ["--version"]).split(" ")[1] ?? "none",
    bun: said(executable("bun"), ["--version"]) || "none",
    zig: said(process.env["QLASTER_ZIG"] ?? "zig", ["version"]) || "none",
    commit: `${said("git", ["rev-parse", "--short", "HEAD"]) || "unknown"}${dirty}`,
    date: new Date().toISOString().slice(0, 10),
    pinning: isPinned
      ? "each process on its own core, by taskset"
      : "processes are not pinned: no taskset, or one core",
    load: loadavg()[0]!,
  };
}

/** The first line of what a command says; "" if it fails. */
function said(command: string, args: readonly string[]): string {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim().split("\n")[0]! : "";
}
