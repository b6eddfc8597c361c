/**
 * The demo's oracle has to find what it is there for. Real logs of a short LiteSVM run, as a consumer without a fault
 * would write them, pass; the same logs with one thing wrong do not.
 * May touch: a temporary directory, checker.ts as a process of its own.
 * May not touch: the native library. What the checker says about it is the demo's business.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { expectedRows, firstFault } from "../../examples/demo/checker.ts";
import { Child, type ChildEnd } from "../../examples/demo/child.ts";
import { type FeedUpdate, litesvmFeed } from "../../examples/demo/litesvm_feed.ts";
import { recordFromReceived, recordFromUpdate, UpdateLog } from "../../examples/demo/update_log.ts";

type Row = Record<string, unknown>;
type Filter = { accounts: string[]; owners: string[]; transactions: boolean };

const RUNTIME = process.versions.bun === undefined ? "deno" : "bun";
const directory = mkdtempSync(join(tmpdir(), "qlaster-checker-"));
const updates: FeedUpdate[] = [];
let byKey: Filter;
let byOwner: Filter;

before(async () => {
  const feed = await litesvmFeed({ slots: 3, transactionsPerSlot: 40, accounts: 12, owners: 5, failEvery: 7 });
  for await (const batch of feed.updates) updates.push(...batch);
  const keys = feed.tokenAccounts.map((key) => Buffer.from(key).toString("base64"));
  byKey = { accounts: keys.slice(0, 4), owners: [], transactions: true };
  byOwner = { accounts: [], owners: [Buffer.from(feed.tokenProgram).toString("base64")], transactions: false };
  using log = new UpdateLog(join(directory, "sender.jsonl"));
  log.write(...updates.map(recordFromUpdate));
});

after(() => rmSync(directory, { recursive: true }));

test("checker accepts what a consumer without a fault logs, whichever way it filters", async () => {
  for (const filter of [byKey, byOwner]) {
    const { ok, said } = await check(filter, faultlessRows(filter));
    assert.ok(ok, said);
    assert.match(said, /^\d+ updates in order, sha256 [0-9a-f]{16}$/);
  }
});

test("checker fails when one frame is dropped", async () => {
  const rows = faultlessRows(byKey);
  rows.splice(rows.length >> 1, 1);
  await assertFails(byKey, rows);
});

test("checker fails when the last frame is dropped", async () => {
  const rows = faultlessRows(byKey);
  rows.pop();
  await assertFails(byKey, rows, /missing/);
});

test("checker fails when two frames are swapped", async () => {
  const rows = faultlessRows(byOwner);
  const at = rows.length >> 1;
  // Their sequences stay in place: it is the order of what they carry that must be noticed.
  const [first, second] = [rows[at]!, rows[at + 1]!];
  [rows[at], rows[at + 1]] = [{ ...second, sequence: first.sequence }, { ...first, sequence: second.sequence }];
  await assertFails(byOwner, rows);
});

test("checker fails when one bit is flipped", async () => {
  const rows = faultlessRows(byOwner);
  const row = rows.findLast(({ kind }) => kind === "account")!;
  const data = Buffer.from(row.data as string, "base64");
  data[data.length >> 1]! ^= 1;
  row.data = data.toString("base64");
  await assertFails(byOwner, rows, /: data is /);
});

test("checker compares every field of every kind", () => {
  const sent = updates.map(recordFromUpdate);
  const expected = expectedRows(sent, byKey);
  for (const kind of ["account", "transaction", "slot"]) {
    const at = expected.findIndex((row) => row.kind === kind);
    for (const field of Object.keys(expected[at]!)) {
      const rows = faultlessRows(byKey);
      rows[at]![field] = "something else";
      assert.match(firstFault(expected, rows) ?? "nothing", new RegExp(`: ${field} is something else`));
    }
  }
});

test("checker refuses a loss, a conflation, a sequence that stands still, a surplus and an empty expectation", () => {
  const expected = expectedRows(updates.map(recordFromUpdate), byKey);
  const faultWith = (change: (rows: Row[]) => void) => {
    const rows = faultlessRows(byKey);
    change(rows);
    return firstFault(expected, rows) ?? "nothing";
  };
  assert.match(faultWith((rows) => rows[5]!.lost = 1), /1 lost/);
  assert.match(faultWith((rows) => rows[5]!.conflated = 1), /1 conflated/);
  assert.match(faultWith((rows) => rows[5]!.sequence = rows[4]!.sequence), /does not increase/);
  assert.match(faultWith((rows) => rows.push({ ...rows.at(-1)!, sequence: "1000000" })), /surplus/);
  const gap = { kind: "gap", sequence: "5", lost: 1, conflated: 0 };
  assert.match(faultWith((rows) => rows.splice(5, 0, gap)), /kind is gap/);
  assert.match(firstFault([], []) ?? "nothing", /no account was expected/);
});

/** What a consumer with this filter logs when all goes well; written without the checker's help. */
function faultlessRows(filter: Filter): Row[] {
  const published = { account: new Map<bigint, number>(), transaction: new Map<bigint, number>() };
  const rows: Row[] = [];
  updates.forEach((update, i) => {
    const received = { sequence: BigInt(i + 1), lost: 0, conflated: 0 };
    if (update.kind === "slot") {
      const counts = {
        accountsPublished: published.account.get(update.slot) ?? 0,
        transactionsPublished: published.transaction.get(update.slot) ?? 0,
        accountsLost: 0,
        transactionsLost: 0,
      };
      rows.push(recordFromReceived({ ...update, ...received, ...counts }));
      return;
    }
    const counts = published[update.kind];
    counts.set(update.slot, (counts.get(update.slot) ?? 0) + 1);
    if (isWanted(update, filter)) rows.push(recordFromReceived({ ...update, ...received }));
  });
  return rows;
}

function isWanted(update: Exclude<FeedUpdate, { kind: "slot" }>, filter: Filter): boolean {
  if (update.kind === "transaction") return filter.transactions;
  const { pubkey, owner } = recordFromUpdate(update);
  return filter.accounts.some((key) => key === pubkey) || filter.owners.some((key) => key === owner);
}

async function assertFails(filter: Filter, rows: Row[], why = /^update \d+ of \d+: /): Promise<void> {
  const { ok, said } = await check(filter, rows);
  assert.equal(ok, false);
  assert.match(said, why);
}

/** Runs the checker as the demo does: a process of its own, in this runtime. */
async function check(filter: Filter, rows: Row[]): Promise<ChildEnd & { said: string }> {
  const files = ["sender.jsonl", "filter.json", "consumer.jsonl"].map((name) => join(directory, name));
  writeFileSync(files[1]!, JSON.stringify(filter));
  writeFileSync(files[2]!, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  const said: string[] = [];
  const program = { file: "checker.ts", permissions: [`--allow-read=${directory}`] };
  const end = await new Child("checker", RUNTIME, program, files, (line) => said.push(line)).ended;
  return { ...end, said: said.join("\n") || end.reason };
}
