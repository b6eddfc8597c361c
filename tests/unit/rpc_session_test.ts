/**
 * What a node says that no node should: the session ends, and with it the connection; nothing else does.
 * May touch: a session of the RPC source, between a node that is a list of notifications and a list of updates.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Address, addressFromBytes, type Update } from "../../mod.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import type { Clients } from "../../src/sources/rpc/kit.ts";
import { Overflow } from "../../src/sources/rpc/overflow.ts";
import { RpcSession } from "../../src/sources/rpc/session.ts";
import { BatchQueue } from "../../src/sources/batch_queue.ts";
import { keyOf, slotUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

type Said = { readonly [Kind in "slot" | "account" | "logs"]?: readonly unknown[] };

/** All that a node says before it falls silent; then the session's end, or the word that it has none. */
async function ask(said: Said): Promise<{ updates: { update: Update; bytes: number }[]; end: string | undefined }> {
  const silence = new Promise<never>(() => {});
  let left = 0;
  const { promise: isRead, resolve: onRead } = Promise.withResolvers<undefined>();
  const pending = (notifications: readonly unknown[] = []) => {
    left++;
    return {
      subscribe: () =>
        Promise.resolve((async function* () {
          yield* notifications;
          if (--left === 0) onRead(undefined);
          await silence;
        })()),
    };
  };
  const subscriptions = {
    slotNotifications: () => pending(said.slot),
    accountNotifications: () => pending(said.account),
    programNotifications: () => pending(),
    logsNotifications: () => pending(said.logs),
  };
  const updates: { update: Update; bytes: number }[] = [];
  const options = { commitment: "confirmed", votes: false, staleMs: 3_600_000, state: false, epoch: 1 };
  const { promise: isOver, resolve: onOver } = Promise.withResolvers<string>();
  const session = new RpcSession({ subscriptions, requests: {} } as unknown as Clients, options, {
    onUpdate: (_name, update, bytes) => void updates.push({ update, bytes }),
    onRefused: (text) => assert.fail(text),
    onEnd: onOver,
  });
  session.want({
    accounts: said.account === undefined ? new Set() : new Set([addressFromBytes(keyOf(1)) as Address]),
    transactions: { all: said.logs !== undefined },
  });
  const end = await within(Promise.race([isOver, isRead]), "the end, or silence");
  session.close();
  return { updates, end };
}

const data = (bytes: number): readonly [string, string] => [new Uint8Array(bytes).toBase64(), "base64"];
const account = (fields: object = {}) => {
  const value = { data: data(8), executable: false, lamports: 5n, owner: addressFromBytes(keyOf(2)), ...fields };
  return { context: { slot: 7n }, value };
};
const SIGNATURE = "1".repeat(64);
const logs = (fields: object = {}) => ({
  context: { slot: 7n },
  value: { signature: SIGNATURE, err: null, logs: ["a log"], ...fields },
});

test("RpcSession: what a node says is told, if it can be published", async () => {
  const slots = [{ slot: 7n, parent: 6n, root: 3n }, { slot: 8n, parent: 7n, root: 7n }];
  const { updates, end } = await ask({ slot: slots, account: [account()], logs: [logs()] });
  assert.equal(end, undefined);
  const encoder = new FrameEncoder();
  const told = updates.map(({ update }) => {
    if (update.kind === "account") encoder.account(update);
    else if (update.kind === "transaction") encoder.transaction(update);
    return update.kind === "slot" ? `${update.status} ${update.slot}` : update.kind;
  });
  const final = ["finalized 3", "finalized 6", "finalized 7"];
  assert.deepEqual(told.sort(), ["account", ...final, "processed 7", "processed 8", "transaction"]);
});

test("RpcSession: slots that are their own ancestors end it, and not the process", async () => {
  const first = { slot: 2n, parent: 1n, root: 1n };
  const own = await ask({ slot: [first, { slot: 10n, parent: 10n, root: 10n }] });
  assert.match(own.end!, /slots/);
  const circle = [first, { slot: 10n, parent: 11n, root: 1n }, { slot: 11n, parent: 10n, root: 11n }];
  assert.match((await ask({ slot: circle })).end!, /slots/);
});

const NONSENSE: readonly (readonly [name: string, said: Said])[] = [
  ["a slot that is text", { slot: [{ slot: "7", parent: 6n, root: 3n }] }],
  ["a slot below 0", { slot: [{ slot: -1n, parent: -2n, root: -3n }] }],
  ["a slot beyond 64 bits", { slot: [{ slot: 1n << 64n, parent: 6n, root: 3n }] }],
  ["a slot without a parent", { slot: [{ slot: 7n, root: 3n }] }],
  ["a root that is none", { slot: [{ slot: 7n, parent: 6n, root: "3" }] }],
  ["no slot at all", { slot: [null] }],
  ["an account of no slot", { account: [{ ...account(), context: {} }] }],
  ["an account of a slot below 0", { account: [{ ...account(), context: { slot: -1n } }] }],
  ["a balance that is a number", { account: [account({ lamports: 5 })] }],
  ["a balance beyond 64 bits", { account: [account({ lamports: 1n << 64n })] }],
  ["an owner that is none", { account: [account({ owner: "x" })] }],
  ["data that are none", { account: [account({ data: null })] }],
  ["data beyond Solana's limit", { account: [account({ data: data(10 * 1024 * 1024 + 1) })] }],
  ["logs of no slot", { logs: [{ ...logs(), context: { slot: 7 } }] }],
  ["a signature that is none", { logs: [logs({ signature: "x" })] }],
  ["logs that are none", { logs: [logs({ logs: 5 })] }],
  ["logs of more than can be published", { logs: [logs({ logs: ["x".repeat(10 * 1024 * 1024)] })] }],
];
for (const [name, said] of NONSENSE) {
  test(`RpcSession: ${name} ends it, so that what feeds a sender does not`, async () => {
    const { updates, end } = await ask(said);
    assert.notEqual(end, undefined, JSON.stringify(updates.map(({ update }) => update.kind)));
    assert.deepEqual(updates, []);
  });
}

test("RpcSession: logs count with the memory that they take", async () => {
  const { updates } = await ask({ logs: [logs({ logs: ["x".repeat(100_000)] })] });
  assert.ok(updates[0]!.bytes >= 100_000);
});

test("Overflow: what waits is bounded in bytes, too; a newer value of what waits replaces it", () => {
  const queue = new BatchQueue({ bytesMax: 1, updatesMax: 10, onRoom: () => {}, onReturn: () => {} });
  const overflow = new Overflow(queue);
  const update = (slot: number) => slotUpdate({ slot: BigInt(slot) });
  const much = 100 * 1024 * 1024;
  overflow.push("first", update(1), 1);
  overflow.push("a", update(2), much);
  overflow.push("b", update(3), much);
  assert.equal(overflow.dropped, 0);
  overflow.push("c", update(4), much);
  assert.equal(overflow.dropped, 1);
  overflow.push("a", update(5), 10);
  assert.equal(overflow.dropped, 2);
  overflow.push("c", update(6), much);
  assert.equal(overflow.dropped, 2);
});

test("RpcSession: state does not wait for ever for a subscription's answer, and is read again behind it", async () => {
  const keys = [1, 2].map((seed) => addressFromBytes(keyOf(seed)) as Address);
  const answer = Promise.withResolvers<AsyncIterable<unknown>>();
  const closing = new AbortController();
  const slots = async function* () {
    for (let slot = 8n; !closing.signal.aborted; slot++) {
      yield { slot, parent: slot - 1n, root: 0n };
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const silence = async function* () {
    yield* [];
    await new Promise<never>(() => {});
  };
  const asked: (readonly Address[])[] = [];
  const clients = {
    subscriptions: {
      slotNotifications: () => ({ subscribe: () => Promise.resolve(slots()) }),
      accountNotifications: (address: Address) => ({
        subscribe: () => address === keys[0] ? answer.promise : Promise.resolve(silence()),
      }),
    },
    requests: {
      getMultipleAccounts: (addresses: readonly Address[]) => ({
        send: () => {
          asked.push(addresses);
          return Promise.resolve({ context: { slot: 7n }, value: addresses.map(() => account().value) });
        },
      }),
    },
  } as unknown as Clients;
  const options = { commitment: "confirmed", votes: false, staleMs: 200, state: true, epoch: 1 };
  const session = new RpcSession(clients, options, { onUpdate: () => {}, onRefused: () => {}, onEnd: () => {} });
  session.want({ accounts: new Set(keys) });
  await until(() => asked.length === 1, "the state, while one has no answer");
  answer.resolve(silence());
  await until(() => asked.length === 2, "the state of that one again");
  assert.deepEqual(asked, [keys, [keys[0]]]);
  closing.abort();
  session.close();
});
