/**
 * `qlaster doctor`: what of this machine matters to the library, and what to change.
 * May touch: files of the system, the native library. Changes nothing.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { availableParallelism, release, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { load } from "../native/load.ts";
import { openStat } from "../stat/page.ts";
import { setupConsumer } from "../stream/consumer.ts";
import { setupSender } from "../stream/sender.ts";
import { bytes, duration } from "./text.ts";

/** One finding: "bad" is what keeps the library from working. */
export interface Finding {
  readonly state: "ok" | "note" | "bad";
  readonly what: string;
  readonly found: string;
  /** What to change. */
  readonly advice?: string;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

async function attempt(what: string, look: () => Promise<Finding> | Finding, advice: string): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    return { state: "bad", what, found: error instanceof Error ? error.message : String(error), advice };
  }
}

function runtime(): Finding {
  const { bun, deno } = process.versions as { bun?: string; deno?: string };
  const [name, version, floor] = bun === undefined
    ? ["Deno", deno ?? "?", [2, 7]] as const
    : ["Bun", bun, [1, 4]] as const;
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isOld = major < floor[0]! || (major === floor[0] && minor < floor[1]!);
  const found = `${name} ${version}, ${process.platform} ${process.arch}, kernel ${release()}`;
  return isOld
    ? { state: "bad", what: "runtime", found, advice: `upgrade ${name} to ${floor.join(".")} or newer` }
    : { state: "ok", what: "runtime", found };
}

function descriptors(): Finding {
  const line = read("/proc/self/limits")?.split("\n").find((text) => text.startsWith("Max open files"));
  const hard = Number(line?.trim().split(/\s+/).at(-2));
  if (!Number.isFinite(hard)) return { state: "note", what: "descriptors", found: "unknown" };
  const found = `hard limit ${hard}: room for some ${Math.floor(hard / 4)} consumers`;
  return hard < 4096
    ? { state: "note", what: "descriptors", found, advice: "LimitNOFILE=65536, or ulimit -Hn 65536" }
    : { state: "ok", what: "descriptors", found };
}

function cores(): Finding {
  const count = availableParallelism();
  const found = `${count} available`;
  return count < 3
    ? { state: "note", what: "cores", found, advice: 'use idle: "park" or "adaptive"; "spin" needs a core of its own' }
    : { state: "ok", what: "cores", found };
}

function hugePages(): Finding {
  const shm = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (shm === undefined) return { state: "note", what: "huge pages", found: "unknown" };
  const mode = /\[(\w+)\]/.exec(shm)?.[1] ?? shm;
  const found = `of shared memory: ${mode}`;
  return mode === "never"
    ? {
      state: "note",
      what: "huge pages",
      found,
      advice: "echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled, for large rings",
    }
    : { state: "ok", what: "huge pages", found };
}

function clock(): Finding {
  const source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource") ?? "unknown";
  const isSlow = source === "hpet" || source === "acpi_pm";
  return isSlow
    ? {
      state: "note",
      what: "clock",
      found: source,
      advice: "boot with clocksource=tsc: each time stamp is a system call now",
    }
    : { state: "ok", what: "clock", found: source };
}

function memory(): Finding {
  const info = read("/proc/meminfo") ?? "";
  const kib = Number(/^MemAvailable:\s+(\d+)/m.exec(info)?.[1] ?? NaN);
  const limit = read("/sys/fs/cgroup/memory.max");
  const cgroup = limit === undefined || limit === "max" ? Infinity : Number(limit);
  const free = Math.min(kib * 1024, cgroup);
  if (!Number.isFinite(free)) return { state: "note", what: "memory", found: "unknown" };
  const found = `${bytes(free)} available`;
  return free < 2 ** 30
    ? {
      state: "note",
      what: "memory",
      found,
      advice: "lower ringCapacityBytes and poolBytes: the defaults may take 64 MiB a consumer and 256 MiB",
    }
    : { state: "ok", what: "memory", found };
}

function seccompOf(): Finding {
  const noexec = read("/proc/sys/vm/memfd_noexec");
  return { state: "ok", what: "memfd", found: `vm.memfd_noexec ${noexec ?? "not there"}` };
}

/** A sender and a consumer in this very process: memory, seals, sockets, wakes, stat page, all at once. */
async function roundTrip(): Promise<Finding> {
  const path = join(tmpdir(), `qlaster-doctor-${process.pid}.sock`);
  await using sender = await setupSender({ path, ringCapacityBytes: 65536, poolBytes: 1 << 20 });
  await using consumer = await setupConsumer(path, { name: "doctor" });
  const startedAt = performance.now();
  sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
  const update = await consumer.next(5000);
  if (update?.kind !== "slot") throw new Error("an update did not arrive within 5 s");
  const us = (performance.now() - startedAt) * 1000;
  return { state: "ok", what: "round trip", found: `sealed memory, sockets and wakes work; ${duration(us)}` };
}

async function statPage(): Promise<Finding> {
  const path = join(tmpdir(), `qlaster-doctor-${process.pid}.sock`);
  await using _ = await setupSender({ path, ringCapacityBytes: 65536, poolBytes: 0 });
  using page = openStat(path);
  page.read();
  return { state: "ok", what: "stat page", found: "can be read" };
}

/** All findings, in an order that makes sense. */
export async function examine(): Promise<Finding[]> {
  const native = await attempt("native library", async () => {
    const library = await load();
    return { state: "ok", what: "native library", found: `loaded, layout version ${library.layoutVersion()}` };
  }, "run Deno with --allow-ffi; on an unsupported system there is no library");
  const findings = [runtime(), native];
  if (native.state === "ok") {
    findings.push(
      await attempt("round trip", roundTrip, "memfd_create and Unix sockets have to be allowed: see docs/operating.md"),
      await attempt(
        "stat page",
        statPage,
        "/proc of this user's processes has to be visible (hidepid, pid namespaces)",
      ),
    );
  }
  findings.push(seccompOf(), descriptors(), memory(), cores(), hugePages(), clock());
  return findings;
}

/** Prints them. @returns Whether all is well enough. */
export async function doctor(): Promise<boolean> {
  const findings = await examine();
  const marks = { ok: "ok  ", note: "note", bad: "BAD " };
  for (const { state, what, found, advice } of findings) {
    process.stdout.write(`${marks[state]}  ${what.padEnd(15)} ${found}\n`);
    if (advice !== undefined) process.stdout.write(`                      -> ${advice}\n`);
  }
  return findings.every(({ state }) => state !== "bad");
}
