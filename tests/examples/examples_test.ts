/**
 * Every example is run as its head says, against a sender of this process, and prints what it should.
 * May touch: the public API, child processes of the runtime that runs the tests, 127.0.0.1.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import {
  address,
  appendTransactionMessageInstruction,
  blockhash,
  compileTransaction,
  createTransactionMessage,
  getBase58Decoder,
  pipe,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
} from "@solana/kit";
import { getTokenEncoder, TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";
import { addressFromBytes, bytesFromAddress, type ReadonlyUint8Array, type Sender } from "../../mod.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "../unit/support/updates.ts";
import { within } from "../unit/support/watchdog.ts";
import { browserOnPath, textIn } from "./support/browser.ts";
import { type Permission, Program } from "./support/program.ts";

const FOLDER = new URL("../../examples/", import.meta.url);
const LINES_MAX = 60;
const KEY = addressFromBytes(keyOf(1));
const WHIRLPOOLS = bytesFromAddress("whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc");
const TIMEOUT = { timeout: 120_000 };

/** A sender, and an example that has said that it is ready. */
async function staged(
  name: string,
  args: (path: string) => readonly string[],
  body: (program: Program, sender: Sender, ready: string) => Promise<void>,
  permissions: readonly Permission[] = ["ffi"],
): Promise<void> {
  await using place = new Place();
  const sender = await place.sender();
  await using program = new Program(name, args(place.path), permissions);
  const ready = await program.line();
  await body(program, sender, ready);
}

const atPath = (path: string) => [path];

test("each example is a page of code", () => {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith(".ts"));
  assert(names.length >= 8);
  for (const name of names) {
    const lines = readFileSync(new URL(name, FOLDER), "utf8").trimEnd().split("\n").length;
    assert(lines <= LINES_MAX, `${name} has ${lines} lines`);
  }
});

test(
  "price_watcher says what a pool's price is, and nothing while it stays",
  TIMEOUT,
  () =>
    staged("price_watcher.ts", atPath, async (program, sender) => {
      const pool = (sqrtPrice: bigint, slot: bigint) => {
        const data = new Uint8Array(653);
        const view = new DataView(data.buffer);
        view.setBigUint64(65, sqrtPrice & (2n ** 64n - 1n), true);
        view.setBigUint64(73, sqrtPrice >> 64n, true);
        view.setUint32(81, Number(slot), true); // the rest of a pool changes all the time
        sender.publishAccount(accountUpdate({ owner: WHIRLPOOLS, data, slot }));
      };
      pool(3n << 63n, 5n); // 1.5
      pool(3n << 62n, 6n); // 0.75
      assert.equal(await program.line(), `slot 5: ${KEY} 2.25000`);
      assert.equal(await program.line(), `slot 6: ${KEY} 0.562500`);
    }),
);

test("token_balances tells a wallet's amounts, and of an account that is gone", TIMEOUT, () => {
  const [mint, owner] = [address(addressFromBytes(keyOf(3))), address(addressFromBytes(keyOf(4)))];
  const account = (amount: bigint, slot: bigint) => {
    const none = { delegate: null, isNative: null, closeAuthority: null, delegatedAmount: 0, state: 1 };
    const data = getTokenEncoder().encode({ mint, owner, amount, ...none }) as Uint8Array;
    return accountUpdate({ owner: TOKEN_PROGRAM_ADDRESS, data, slot });
  };
  return staged("token_balances.ts", (path) => [owner, path], async (program, sender) => {
    sender.publishAccount(account(42n, 7n));
    assert.equal(await program.line(), `slot 7: ${mint} 42`);
    sender.publishAccount(accountUpdate({ data: new Uint8Array(0), lamports: 0n, slot: 8n }));
    assert.equal(await program.line(), `slot 8: ${KEY} is closed, or somebody else's`);
  }, ["ffi", "env"]);
});

test(
  "slot_clock tells what a slot took and held",
  TIMEOUT,
  () =>
    staged("slot_clock.ts", atPath, async (program, sender) => {
      sender.publishSlot(slotUpdate({ slot: 10n, parent: 9n }));
      assert.match(await program.line(), /^slot 10: - ms, 0 accounts.* confirmed unknown, finalized unknown$/);
      sender.publishSlot(slotUpdate({ slot: 10n, parent: 9n, status: "confirmed" }));
      sender.publishAccount(accountUpdate({ slot: 12n }));
      sender.publishTransaction(transactionUpdate({ slot: 12n }));
      sender.publishSlot(slotUpdate({ slot: 12n, parent: 10n }));
      const pattern = /^slot 12: [\d.]+ ms, 1 accounts, 1 transactions; confirmed 2 behind, finalized unknown$/;
      assert.match(await program.line(), pattern);
    }),
);

/** A message that kit has compiled: one instruction. */
function message(payer: string, program: string): ReadonlyUint8Array {
  const compiled = compileTransaction(pipe(
    createTransactionMessage({ version: 0 }),
    (m) => setTransactionMessageFeePayer(address(payer), m),
    (m) => setTransactionMessageLifetimeUsingBlockhash({ blockhash: blockhash(payer), lastValidBlockHeight: 1n }, m),
    (m) => appendTransactionMessageInstruction({ programAddress: address(program) }, m),
  ));
  return compiled.messageBytes;
}

test("transaction_tail decodes those that touch an account", TIMEOUT, () => {
  const [payer, program] = [addressFromBytes(keyOf(5)), addressFromBytes(keyOf(6))];
  return staged("transaction_tail.ts", (path) => [path, payer], async (running, sender) => {
    sender.publishTransaction(transactionUpdate({ message: message(addressFromBytes(keyOf(7)), program) }));
    sender.publishTransaction(transactionUpdate({ message: message(payer, program), failed: true }));
    const signature = getBase58Decoder().decode(patternBytes(64, 5));
    assert.equal(await running.line(), `slot 77 #4 failed ${signature}: ${program}`);
  }, ["ffi", "env"]);
});

const SIGNATURE = getBase58Decoder().decode(patternBytes(64, 5));

test(
  "landed waits for the confirmation, over a fork that died",
  TIMEOUT,
  () =>
    staged("landed.ts", (path) => [SIGNATURE, path], async (program, sender) => {
      sender.publishTransaction(transactionUpdate({ slot: 20n }));
      sender.publishSlot(slotUpdate({ slot: 20n, status: "dead" }));
      sender.publishTransaction(transactionUpdate({ slot: 21n, failed: true }));
      sender.publishSlot(slotUpdate({ slot: 21n, status: "confirmed" }));
      assert.equal(await program.line(), "processed in slot 20n");
      assert.equal(await program.line(), "processed in slot 21n");
      assert.equal(await program.line(), "confirmed, and failed in slot 21, #4");
      assert.equal(await program.exit(), 0);
    }),
);

test(
  "landed gives up in time",
  TIMEOUT,
  () =>
    staged("landed.ts", (path) => [SIGNATURE, path, "1"], async (program) => {
      assert.equal(await program.line(), "not seen");
      assert.equal(await program.exit(), 1);
    }),
);

test(
  "latency_probe tells ages",
  TIMEOUT,
  () =>
    staged("latency_probe.ts", (path) => [path, "park"], async (program, sender) => {
      const sourceNs = BigInt(Date.now()) * 1_000_000n - 1_000_000_000n;
      sender.publishBatch(Array.from({ length: 10 }, () => accountUpdate({ sourceNs }))); // all in one of its seconds
      await program.lineLike(/^10 updates since publish: p50 \d+\.\d, p99 \d+\.\d, max \d+\.\d µs$/);
      await program.lineLike(/^10 updates since source: p50 \d{6,}\.\d, /);
    }),
);

test(
  "filter_hot_swap adds and removes by the line, and says from where on it holds",
  TIMEOUT,
  () =>
    staged("filter_hot_swap.ts", atPath, async (program, sender) => {
      const publish = (lamports: bigint) => sender.publishAccount(accountUpdate({ lamports }));
      await program.lineLike(/^edit 2 holds/); // a list without keys takes two messages
      publish(1n);
      program.write(`+${KEY}\n`);
      const said = [await program.line(), await program.line()]; // by different ways, so in either order
      assert.deepEqual(said.sort(), ["edit 3 holds from sequence 1 on", "edit 3 is acknowledged"]);
      publish(2n);
      assert.equal(await program.line(), `${KEY} has 2 lamports`);
      program.write(`-${KEY}\n`);
      await program.lineLike(/^edit 4 is acknowledged/);
      publish(3n);
      program.write("+nonsense\n");
      assert.match(await program.lineLike(/nonsense/), /^"nonsense" is no address/);
    }),
);

const browser = browserOnPath();

/** Where the sidecar says that it serves: at a port that was free. */
function urlIn(line: string): string {
  return /^serving (http:\S+)$/.exec(line)?.[1] ?? assert.fail(line);
}

test("wallet_sidecar shows a page what changes", {
  ...TIMEOUT,
  ...(browser === undefined && { skip: "no Chromium on PATH" }),
}, () =>
  staged("wallet_sidecar.ts", (path) => [KEY, path, "0"], async (_, sender, ready) => {
    let lamports = 0n;
    const publish = () => sender.publishAccount(accountUpdate({ lamports: lamports += 1_500_000_000n, slot: 30n }));
    publish();
    const seen = within(textIn(browser!, urlIn(ready), "balance", /SOL/), "the page");
    assert.match(await seen, /^[\d.]+ SOL in slot 30$/);
  }, ["ffi", "net"]));

test("wallet_sidecar tells every socket, the late one too", TIMEOUT, () => {
  return staged("wallet_sidecar.ts", (path) => [KEY, path, "0"], async (_, sender, ready) => {
    const open = () => {
      const socket = new WebSocket(urlIn(ready).replace("http", "ws"));
      const texts: string[] = [];
      let onText = () => {};
      socket.onmessage = ({ data }) => {
        texts.push(String(data));
        onText();
      };
      const next = async () => {
        while (texts.length === 0) await within(new Promise<void>((resolve) => onText = resolve), "a message");
        return texts.shift();
      };
      return { socket, next };
    };
    const first = open();
    assert.equal(await first.next(), "unknown until it changes");
    sender.publishAccount(accountUpdate({ lamports: 1_500_000_000n, slot: 30n }));
    assert.equal(await first.next(), "1.5 SOL in slot 30");
    const second = open();
    assert.equal(await second.next(), "1.5 SOL in slot 30");
    first.socket.close();
    second.socket.close();
  }, ["ffi", "net"]);
});
