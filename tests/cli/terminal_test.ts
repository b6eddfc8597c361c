/**
 * What the command shows on a terminal of 80×24, as a person sees it: `top`, and the status lines of what takes its time.
 * May touch: pseudo-terminals, processes that it starts, the temporary directory. The oracle is the scripted sender itself.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { type Consumer, setupConsumer, setupSender } from "../../mod.ts";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { STARTS } from "./support/command.ts";
import { COLUMNS, LINES, Terminal } from "./support/terminal.ts";

const onLinux = { skip: process.platform === "linux" ? undefined : "needs Linux' pseudo-terminals and /proc" };
const OWNERS = [2, 3, 4, 5].map((byte) => new Uint8Array(32).fill(byte));

/** A whole screen of `top`, not one that is just being drawn. */
function whole(isIt: (text: string) => boolean): (text: string) => boolean {
  return (text) => /quit q( +\d+ more)?$/.test(text.trimEnd()) && isIt(text);
}

/** The cells of a consumer's line, its name among them. */
function rowOf(lines: readonly string[], id: number): string[] {
  const line = lines.find((line) => line.startsWith(`${id} `));
  assert.ok(line !== undefined, `consumer ${id} in\n${lines.join("\n")}`);
  return line.split(/\s+/);
}

for (const [name, of] of STARTS) {
  guarded(`${name}: top of a sender that has done its work shows the sender's own figures`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    // Those that read nothing stay, however long it takes to look at them.
    const options = { ringCapacityBytes: 65_536, poolBytes: 1 << 20, stallTimeoutMs: 600_000 };
    const sender = held.use(await setupSender({ path, ...options }));
    const reader = held.use(await setupConsumer(path, { name: "reader" }));
    const newest = held.use(await setupConsumer(path, { name: "newest", policy: "conflate" }));
    const full = held.use(await setupConsumer(path, { name: "a-very-long-name", policy: "drop-newest" }));
    const slow = held.use(await setupConsumer(path, { name: "slow", reconnect: false }));
    for (const [i, consumer] of [reader, newest, full, slow].entries()) {
      await consumer.subscribe({ owners: [OWNERS[i]!] });
    }
    const publish = (to: number, count: number) => {
      for (let i = 0; i < count; i++) {
        const pubkey = new Uint8Array(32).fill(to);
        sender.publishAccount({ pubkey, owner: OWNERS[to]!, lamports: 1n, data: new Uint8Array(1000), slot: 50n });
      }
    };
    for (let slot = 1n; slot <= 12n; slot++) sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
    publish(0, 30);
    publish(1, 100);
    publish(2, 100);
    publish(3, 100);
    await eventually("the slow one is dropped", () => sender.metrics.ringFull === 1);
    while (reader.poll(() => {}) > 0);
    reader.next().catch(() => {}); // waits for what never comes, until it is closed
    const { accounts, deliveries, lost, losses, sequence } = sender.metrics;
    assert.deepEqual([accounts, sequence], [330, 342n]);
    const [, newestInfo, fullInfo] = sender.consumers();
    assert.equal(losses.replaced, newestInfo!.lost);
    assert.equal(losses.ringFull, fullInfo!.lost + 1); // and the one by which the slow one was dropped

    const terminal = Terminal.start(held, of(["top", path, "--every", "100ms", "--sort", "id"]));
    const lines = await terminal.shows(
      "all figures",
      whole((text) => /dropped last/.test(text) && /^1 reader .* 0%.* sleeps/m.test(text)),
    );
    const [head, order, counts, ends, reasons, dropped, rate] = lines;
    assert.match(head!, new RegExp(`^${path}  pid ${process.pid}  up \\d[\\d.]* (ms|s)  running$`));
    assert.match(order!, /^slot 50 {2}sequence 342 {2}published \d[\d.]* (ms|s) ago$/);
    assert.equal(counts, `accounts 330  transactions 0  slots 12  delivered ${deliveries}  lost ${lost}`);
    assert.match(ends!, /^dropped 1 {2}refused 0 {2}pool 0 B\/1 MiB {2}late by (0|\d[\d.]* (ns|µs|ms|s))$/);
    const shares: [string, number][] = [["ring full", losses.ringFull], ["replaced", losses.replaced]];
    shares.sort(([, a], [, b]) => b - a);
    assert.equal(reasons, `lost by: ${shares.map(([reason, count]) => `${reason} ${count}`).join("  ")}`);
    assert.match(
      dropped!,
      new RegExp(`^dropped last: 4 slow \\(pid ${process.pid}\\), slow-consumer, \\d[\\d.]* (ms|s) ago$`),
    );
    assert.match(rate!, /^updates {6}0\/s ▁+$/);
    assert.deepEqual(lines[8]!.split(/\s+/), "consumer rate/s lag ring policy lost wake p50 p99".split(" "));
    const fill = (i: number) => {
      const { usedBytes, capacityBytes } = sender.consumers()[i]!.ring;
      return `${Math.round(100 * usedBytes / capacityBytes)}%`;
    };
    assert.deepEqual(rowOf(lines, 1).slice(0, 8), ["1", "reader", "0", "0", "0%", "disconnect", "0", "sleeps"]);
    assert.deepEqual(rowOf(lines, 2).toSpliced(3, 1).slice(0, 6), [
      ...["2", "newest", "0", fill(1), "conflate", String(newestInfo!.lost)],
    ]);
    assert.deepEqual(rowOf(lines, 3).toSpliced(3, 1).slice(0, 6), [
      ...["3", "a-very-long…", "0", fill(2), "drop-newest", String(fullInfo!.lost)],
    ]);
    assert.ok(!lines.some((line) => line.startsWith("4 ")), "who has gone is not in the list");
    assert.ok(lines.includes("publish → read"));
    terminal.type("q");
    assert.equal(await terminal.ended(), 0);
    assert.deepEqual([terminal.scrolled, terminal.wrapped], [0, 0], "nothing was too wide or too high");
  }, onLinux);

  guarded(
    `${name}: top of a sender at work: rates, a sparkline, orders by key, more consumers than lines`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      // Those that read nothing stay, however long it takes to look at them.
      const options = { ringCapacityBytes: 65_536, poolBytes: 0, stallTimeoutMs: 600_000 };
      const sender = held.use(await setupSender({ path, ...options }));
      const consumers: Consumer[] = [];
      for (let i = 0; i < 3; i++) {
        consumers.push(held.use(await setupConsumer(path, { name: `c${i}`, policy: "drop-newest" })));
      }
      let slot = 0n;
      const timer = setInterval(() => {
        slot++;
        for (let i = 0; i < 5; i++) sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
        for (const consumer of consumers.slice(0, 2)) while (consumer.poll(() => {}) > 0);
      }, 5);
      held.defer(() => clearInterval(timer));
      const before = Number(sender.metrics.sequence);
      const terminal = Terminal.start(held, of(["top", path, "--every", "100ms"]));
      const lines = await terminal.shows(
        "rates, a line of bars, latencies",
        whole((text) =>
          /^updates +[1-9]\S*\/s [▁▂▃▄▅▆▇█]{5}/m.test(text) && /^1 c0 +[1-9]/m.test(text) && /█{9}/.test(text)
        ),
      );
      const sequence = Number(/sequence (\d+)/.exec(lines.join("\n"))![1]);
      assert.ok(sequence >= before && sequence <= Number(sender.metrics.sequence));
      assert.match(lines.findLast((line) => line !== "")!, /^sort rate: i r l g d {3}quit q$/);
      const shares = lines.filter((line) => /^ +(<|more).* \d+\.\d%$/.test(line)).map((line) =>
        parseFloat(line.slice(-6))
      );
      assert.equal(shares.length, 6);
      assert.ok(Math.abs(shares.reduce((sum, share) => sum + share, 0) - 100) < 1, shares.join());
      // The one that reads nothing is the fullest.
      for (const [key, sort] of [["g", "ring"], ["l", "lag"], ["d", "lost"], ["i", "id"], ["r", "rate"]] as const) {
        terminal.type(key);
        const sorted = await terminal.shows(`sorted by ${sort}`, whole((text) => text.includes(`sort ${sort}:`)));
        const ids = sorted.filter((line) => /^\d+ c\d/.test(line)).map((line) => Number(line.split(" ")[0]));
        if (sort === "ring" || sort === "lag") assert.equal(ids[0], 3, sorted.join("\n"));
        if (sort === "id") assert.deepEqual(ids, [1, 2, 3]);
      }
      for (let i = 3; i < 40; i++) {
        consumers.push(held.use(await setupConsumer(path, { name: `c${i}`, policy: "drop-newest" })));
      }
      const consumersIn = (text: string) =>
        text.match(/^\d+ c\d/gm)!.length + Number(/^sort rate: .* {3}(\d+) more$/m.exec(text)?.[1] ?? 0);
      await terminal.shows("those that have no room, by their number", whole((text) => consumersIn(text) === 40));
      terminal.type("\u0003"); // ^C, as a key: the terminal is raw
      assert.equal(await terminal.ended(), 0);
      assert.deepEqual([terminal.scrolled, terminal.wrapped], [0, 0]);
    },
    onLinux,
  );

  guarded(`${name}: top ends by signals, as by keys`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    held.use(await setupSender({ path, ringCapacityBytes: 65_536 }));
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const terminal = Terminal.start(held, of(["top", path, "--every", "1h"]));
      await terminal.shows("its screen", whole((text) => text.includes("no consumers")));
      process.kill(terminal.pid, signal);
      assert.equal(await terminal.ended(), 0, signal);
    }
  }, onLinux);

  guarded(`${name}: top of a sender that has gone says so, and goes on with the next one`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const first = held.use(await setupSender({ path, ringCapacityBytes: 65_536 }));
    const terminal = Terminal.start(held, of(["top", path, "--every", "50ms"]));
    await terminal.shows("the first", whole((text) => / running$/m.test(text) && text.includes("slot 0 ")));
    await first.close();
    await terminal.shows("it has gone", whole((text) => / GONE: /.test(text)));
    const next = held.use(await setupSender({ path, ringCapacityBytes: 65_536 }));
    next.publishSlot({ slot: 7n, parent: 6n, status: "processed" });
    await terminal.shows("the next", whole((text) => / running$/m.test(text) && text.includes("slot 7 ")));
    terminal.type("q");
    assert.equal(await terminal.ended(), 0);
  }, onLinux);

  guarded(`${name}: send, record and replay have a status line that is redrawn, and a last word`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, directory, again] = ["s.sock", "recording", "again.sock"].map((file) => temporary.at(file));
    const sending = Terminal.start(held, of(["send", "--from", "litesvm", "--path", path!, "--rate", "200"]));
    const status = /^\d\S* updates {2}\d\S*\/s {2}slot [1-9]\d* {2}[1-9]\d* consumers {2}0 lost {2}pool \d/m;
    await sending.shows("it sends", (text) => text.includes(`sending from litesvm at ${path}`));
    const recording = Terminal.start(held, of(["record", path!, directory!, "--all", "--rotate-slots", "2"]));
    const progress = /^\d\S* updates {2}\d\S*\/s {2}\d[\d.]* \S+ in ([2-9]|\d\d+) segments {2}slot \d+$/m;
    await recording.shows("it records", (text) => progress.test(text));
    await sending.shows("its status", (text) => status.test(text));
    process.kill(recording.pid, "SIGINT");
    assert.equal(await recording.ended(), 0);
    // Nothing is left of the status line.
    const word = String.raw`recorded \d\S* updates  .* in ([2-9]|\d\d+) segments  slot \d+ into ${directory}`;
    assert.match((await recording.screen()).join(""), new RegExp(`^${word}$`));
    process.kill(sending.pid, "SIGTERM");
    assert.equal(await sending.ended(), 0);
    assert.match(
      (await sending.screen()).join(""),
      new RegExp(`^sending from litesvm at ${path}sent \\d.* lost  pool [^/]+$`),
    );
    const replaying = Terminal.start(held, of(["replay", directory!, "--path", again!, "--loop", "--http-port", "0"]));
    await replaying.shows("how far it is", (text) => /^\d\S* updates .* segment \d+\/([2-9]|\d\d+)$/m.test(text));
    process.kill(replaying.pid, "SIGINT");
    assert.equal(await replaying.ended(), 0);
  }, onLinux);
}

/** The words of a line: without what comes before the process, numbers and their units, and what had no room. */
function wordsOf(line: string): string[] {
  const text = line.replace(/^\/.*? {2}/, "").replace(/ +\d+ more$/, "")
    .replaceAll(/\d[\d.]*( ?(?:ns|µs|ms|s|B|KiB|MiB|GiB)\b|[kMGT]\b)?/g, "");
  return text.match(/[a-z→/]+/g) ?? [];
}

guarded("the README's capture of top is what top shows", async (held) => {
  const temporary = held.use(new Temporary());
  const path = temporary.at("s.sock");
  const sender = held.use(await setupSender({ path, ringCapacityBytes: 65_536 }));
  const consumer = held.use(await setupConsumer(path, { name: "reader", policy: "drop-newest" }));
  await consumer.subscribe({ owners: [OWNERS[0]!] });
  for (let i = 0; i < 100; i++) {
    const update = { pubkey: OWNERS[1]!, owner: OWNERS[0]!, lamports: 1n, data: new Uint8Array(1000), slot: 5n };
    sender.publishAccount(update);
  }
  while (consumer.poll(() => {}) > 0);
  const terminal = Terminal.start(held, STARTS.get("bun")!(["top", path, "--every", "100ms"]));
  const shown = await terminal.shows("all", whole((text) => /lost by/.test(text) && /publish → read/.test(text)));
  terminal.type("q");
  await terminal.ended();
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const capture = /```text\n(\/run\/qlaster\/feed\.sock {2}pid [^`]+)```/.exec(readme)![1]!.trimEnd().split("\n");
  assert.ok(capture.length <= LINES && capture.every((line) => [...line].length <= COLUMNS));
  // Consumers differ, and why they lost what.
  const skeleton = (lines: readonly string[]) =>
    lines.filter((line) => !/^\d+ |^lost by|^dropped last/.test(line)).map(wordsOf).filter((words) => words.length > 0);
  assert.deepEqual(skeleton(capture), skeleton(shown));
}, onLinux);
