/**
 * The examples that are more than one program: a Worker's hot loop, and a feeder whose feed others read.
 * May touch: the public API, child processes of the runtime that runs the tests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { addressFromBytes, bytesFromAddress, setupConsumer } from "../../mod.ts";
import { replay } from "../../src/recording/mod.ts";
import { Temporary } from "../support/temporary.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf } from "../unit/support/updates.ts";
import { within } from "../unit/support/watchdog.ts";
import { Program } from "./support/program.ts";

/** No statement about speed: 20,000 transfers are signed and verified, which takes a busy machine a minute and more. */
const TIMEOUT = { timeout: 400_000 };

test("worker_hot_loop looks at all in its Worker, and says what is large", TIMEOUT, async () => {
  await using place = new Place();
  const sender = await place.sender();
  const program = addressFromBytes(keyOf(2));
  await using running = new Program("worker_hot_loop.ts", [program, place.path], ["ffi", "read"]);
  assert.equal(await running.line(), "looking");
  for (let i = 1n; i <= 100n; i++) sender.publishAccount(accountUpdate({ lamports: i * 10_000_000_000n, slot: i }));
  const key = addressFromBytes(keyOf(1));
  assert.equal(await running.line(), `slot 100: ${key} has 1000000000000 lamports (one of 100)`);
  await sender.close();
  assert.equal(await running.line(), "over: sender-closed");
  assert.equal(await running.exit(), 0);
});

test("litesvm_feeder feeds: each slot a transfer, and the state for who comes late", TIMEOUT, async () => {
  using temporary = new Temporary();
  const path = temporary.at("s.sock");
  await using running = new Program("litesvm_feeder.ts", [path, "20"], ["ffi", "env", "read", "net"]);
  const [, receiver] = /^feeding (\w+)$/.exec(await running.line()) ?? [];
  await using consumer = await setupConsumer(path, { reconnect: false });
  await consumer.setFilter("receiver", { accounts: { accounts: [bytesFromAddress(receiver!)] }, state: true });
  await consumer.setFilter("transfers", { transactions: { accountInclude: [bytesFromAddress(receiver!)] } });
  const balances: bigint[] = [];
  let transfers = 0;
  const read = async () => {
    for await (const update of consumer) {
      if (update.kind === "account") balances.push(update.lamports);
      if (update.kind === "transaction") transfers++;
      if (balances.length > 3 && transfers > 2) return;
    }
  };
  await within(read(), "some slots");
  assert(balances.every((balance, i) => i === 0 || balance > balances[i - 1]!), `${balances}`);
});

test("record_litesvm records tens of thousands of real transfers, each signed", TIMEOUT, async () => {
  using temporary = new Temporary();
  const directory = temporary.at("recording");
  await using running = new Program("record_litesvm.ts", [directory, "20000"], ["ffi", "env", "read", "write", "sys"]);
  const line = await running.lineLike(/ bytes in /); // it says how far it is before
  const [, said] = /^(\d+) transactions, \d+ updates, \d+ bytes in /.exec(line) ?? [];
  assert.equal(await running.exit(), 0);
  const signatures = new Set<string>();
  let [transactions, verified, failed, accounts] = [0, 0, 0, 0];
  let slot = 0n;
  for await (const batch of replay(directory)) {
    for (const update of batch) {
      if (update.kind === "slot") continue; // those of older ones become final between
      assert.ok(update.slot >= slot, `${update.kind} of slot ${update.slot} after ${slot}`);
      slot = update.slot;
      if (update.kind === "account") accounts++;
      if (update.kind !== "transaction") continue;
      transactions++;
      if (update.failed) failed++;
      signatures.add(String(update.signature));
      if (transactions % 500 !== 1) continue;
      // A version, if it has one; a header of three bytes, the count of keys, the payer's key.
      const at = (update.message[0]! & 0x80) === 0 ? 4 : 5;
      const spki = new Uint8Array([...SPKI_PREFIX, ...update.message.subarray(at, at + 32)]);
      const key = createPublicKey({ key: spki as never, format: "der", type: "spki" });
      assert.ok(verify(null, update.message, key, update.signature), `transaction ${transactions}`);
      verified++;
    }
  }
  assert.deepEqual([transactions, signatures.size], [Number(said), Number(said)]);
  assert.ok(transactions >= 20_000 && verified >= 40 && accounts > transactions);
  assert.ok(failed < transactions / 10, `${failed} failed, as some do that ask for too much`);
});

/** DER of an Ed25519 public key, before its 32 bytes. */
const SPKI_PREFIX = Uint8Array.fromHex("302a300506032b6570032100");
