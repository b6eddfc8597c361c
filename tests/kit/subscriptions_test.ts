/**
 * kit's RPC subscriptions over a local feed: what comes of each kind, what is refused, kit's transport and publisher.
 * May touch: the public API, kit. May not touch: the parts of the kit entry.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Commitment,
  createSolanaRpcSubscriptionsFromTransport,
  isSolanaError,
  parseBase64RpcAccount,
  type Signature,
} from "@solana/kit";
import { addressFromBytes } from "../../mod.ts";
import { createRpcSubscriptionsTransport, toDataPublisher } from "../../src/kit/mod.ts";
import { base58FromBytes } from "../../src/wire/base58.ts";
import { accountUpdate, keyOf, patternBytes, transactionUpdate } from "../unit/support/updates.ts";
import { until, within } from "../unit/support/watchdog.ts";
import {
  CLOSED,
  lamportsOf,
  next,
  PLAN,
  PROGRAM,
  refusal,
  SIGNATURE,
  Stage,
  VAULT,
} from "./support/subscriptions_stage.ts";

test("accountNotifications() tells what kit's helpers take, from the moment that subscribe() returns", async () => {
  await using stage = await Stage.open();
  const notifications = await stage.vault("processed");
  stage.write(7n, 77n); // before anybody asks: kit's own loops lose it
  const { context, value } = await next(notifications);
  assert.equal(context.slot, 77n);
  const account = parseBase64RpcAccount(VAULT, value);
  assert.deepEqual({ ...account, data: Uint8Array.from(account.data) }, {
    address: VAULT,
    data: patternBytes(165, 3),
    executable: false,
    exists: true,
    lamports: 7n,
    programAddress: PROGRAM,
    space: 165n,
  });
});

test("without an encoding data are base58, up to where a node gives it", async () => {
  await using stage = await Stage.open();
  const notifications = await stage.rpc.accountNotifications(VAULT, { commitment: "processed" }).subscribe(
    stage.signal,
  );
  stage.sender.publishAccount(accountUpdate({ data: Uint8Array.of(0, 1, 255) }));
  stage.sender.publishAccount(accountUpdate());
  assert.equal((await next(notifications)).value.data, "19p");
  assert.match((await next(notifications)).value.data, /^error: /);
});

test("leaving the loop unsubscribes at the sender, as aborting does", async () => {
  await using stage = await Stage.open();
  const first = await stage.vault("processed");
  const second = await stage.vault("processed");
  assert.equal(stage.keysWanted, 1);
  stage.write(1n, 1n);
  for await (const { value } of first) {
    assert.equal(value.lamports, 1n);
    break;
  }
  assert.equal(await lamportsOf(second), 1n);
  await stage.consumer.ping();
  assert.equal(stage.keysWanted, 1); // the other one is still there
  stage.abort.abort();
  await until(() => stage.keysWanted === 0, "the end of interest");
  assert.deepEqual(await second[Symbol.asyncIterator]().next(), { value: undefined, done: true });
  const late = await stage.vault("processed"); // of an aborted signal
  assert.deepEqual(await late[Symbol.asyncIterator]().next(), { value: undefined, done: true });
});

test("programNotifications() has RPC's filters, and one filter of the sender's for those that are alike", async () => {
  await using stage = await Stage.open();
  const subscribe = (filters: object[]) =>
    stage.rpc.programNotifications(PROGRAM, {
      commitment: "processed",
      encoding: "base64",
      filters: filters as never,
    }).subscribe(stage.signal);
  const memcmp = (bytes: string, encoding: "base58" | "base64") => ({ memcmp: { offset: 1n, bytes, encoding } });
  const all = await subscribe([]);
  const sized = await subscribe([{ dataSize: 3n }]);
  const again = await subscribe([{ dataSize: 3n }]);
  const base64 = await subscribe([{ dataSize: 3n }, memcmp("Bwg=", "base64")]);
  const base58 = await subscribe([memcmp("8", "base58")]); // 7
  const publish = (pubkey: number, ...data: number[]) =>
    stage.sender.publishAccount(accountUpdate({ pubkey: keyOf(pubkey), data: Uint8Array.from(data) }));
  publish(3, 1, 7);
  publish(4, 1, 7, 9);
  publish(5, 1, 7, 8);
  const pubkeys = async (notifications: Awaited<typeof all>, count: number) => {
    const seen: string[] = [];
    for (let i = 0; i < count; i++) seen.push((await next(notifications)).value.pubkey);
    return seen;
  };
  const [three, four, five] = [3, 4, 5].map((seed) => addressFromBytes(keyOf(seed)));
  assert.deepEqual(await pubkeys(all, 3), [three, four, five]);
  assert.deepEqual(await pubkeys(sized, 2), [four, five]);
  assert.deepEqual(await pubkeys(again, 2), [four, five]);
  assert.deepEqual(await pubkeys(base64, 1), [five]);
  assert.deepEqual(await pubkeys(base58, 3), [three, four, five]);
  assert.deepEqual(await refusal(subscribe([{ dataSize: 3n }, { dataSize: 4n }])), { kit: PLAN, own: "RangeError" });
  assert.deepEqual(await refusal(subscribe([{ other: 1 }])), { kit: PLAN, own: "TypeError" });
  stage.abort.abort();
  await until(() => stage.keysWanted === 0, "the end of interest");
});

test("more different filters than a consumer has are refused, and those there stay", async () => {
  await using stage = await Stage.open();
  const of = (size: number) =>
    stage.rpc.programNotifications(PROGRAM, {
      commitment: "processed",
      encoding: "base64",
      filters: [{ dataSize: BigInt(size) }] as never,
    }).subscribe(stage.signal);
  const first = await of(165);
  const outcomes = await Promise.allSettled(Array.from({ length: 70 }, (_, i) => of(i)));
  const refused = outcomes.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  assert(refused.length > 0 && refused.length < 20);
  for (const { reason } of refused) assert(isSolanaError(reason, PLAN));
  stage.write(4n, 1n);
  assert.equal((await next(first)).value.account.lamports, 4n);
});

test("slotNotifications() and rootNotifications() tell of slots, whatever the subscriptions", async () => {
  await using stage = await Stage.open();
  const slots = await stage.rpc.slotNotifications().subscribe(stage.signal);
  const roots = await stage.rpc.rootNotifications().subscribe(stage.signal);
  stage.slot(5n, "processed");
  stage.slot(5n, "confirmed");
  stage.slot(5n, "finalized");
  stage.slot(6n, "processed");
  assert.deepEqual(await next(slots), { parent: 4n, root: 0n, slot: 5n });
  assert.deepEqual(await next(slots), { parent: 5n, root: 5n, slot: 6n });
  assert.equal(await next(roots), 5n);
});

test("signatureNotifications() tells once, whether the transaction failed, and then the loop ends", async () => {
  await using stage = await Stage.open();
  const subscribe = (commitment: Commitment) =>
    stage.rpc.signatureNotifications(SIGNATURE, { commitment }).subscribe(stage.signal);
  const [processed, confirmed] = [await subscribe("processed"), await subscribe("confirmed")];
  stage.sender.publishTransaction(transactionUpdate({ signature: patternBytes(64, 6), slot: 1n }));
  stage.sender.publishTransaction(transactionUpdate({ slot: 2n, failed: true }));
  stage.slot(2n, "confirmed");
  const all = async (notifications: Awaited<typeof processed>) => {
    const seen: unknown[] = [];
    for await (const each of notifications) seen.push(each);
    return seen;
  };
  const told = [{ context: { slot: 2n }, value: { err: "UnknownError" } }];
  assert.deepEqual(await within(all(processed), "the end"), told);
  assert.deepEqual(await within(all(confirmed), "the end"), told);
  const early = stage.rpc.signatureNotifications(SIGNATURE, { enableReceivedNotification: true });
  assert.deepEqual(await refusal(early.subscribe(stage.signal)), { kit: PLAN, own: "KIT_UNSUPPORTED" });
});

test("logsNotifications() needs to know how to read the sender's meta", async () => {
  await using stage = await Stage.open();
  const refused = stage.rpc.logsNotifications("all").subscribe(stage.signal);
  assert.deepEqual(await refusal(refused), { kit: PLAN, own: "KIT_UNSUPPORTED" });

  const readMeta = (meta: ArrayLike<number>) => ({
    err: meta[0] === 0 ? null : { InstructionError: [0, "Custom"] } as never,
    logs: [`${meta[1]}`],
  });
  await using other = await Stage.open({ readMeta });
  const config = { commitment: "processed" } as const;
  const all = await other.rpc.logsNotifications("all", config).subscribe(other.signal);
  const votes = await other.rpc.logsNotifications("allWithVotes", config).subscribe(other.signal);
  other.sender.publishTransaction(transactionUpdate({ vote: true, meta: Uint8Array.of(0, 1) }));
  other.sender.publishTransaction(transactionUpdate({ failed: true, meta: Uint8Array.of(1, 2) }));
  assert.deepEqual(await next(all), {
    context: { slot: 77n },
    value: { err: { InstructionError: [0, "Custom"] }, logs: ["2"], signature: SIGNATURE },
  });
  assert.deepEqual((await next(votes)).value.logs, ["1"]);
});

test("what a node alone has is refused before the sender is asked", async () => {
  await using stage = await Stage.open();
  const { rpc, signal } = stage;
  const unstable = rpc as unknown as Record<string, (subject: string) => { subscribe(o: object): Promise<unknown> }>;
  for (const name of ["blockNotifications", "slotsUpdatesNotifications", "voteNotifications"]) {
    assert.deepEqual(await refusal(unstable[name]!("all").subscribe(signal)), { kit: PLAN, own: "KIT_UNSUPPORTED" });
  }
  for (const encoding of ["jsonParsed", "base64+zstd"] as const) {
    const pending = rpc.accountNotifications(VAULT, { encoding: encoding as "jsonParsed" }).subscribe(signal);
    assert.deepEqual(await refusal(pending), { kit: PLAN, own: "KIT_UNSUPPORTED" });
  }
  const noAddress = rpc.accountNotifications("nonsense" as typeof VAULT, { encoding: "base64" }).subscribe(signal);
  assert.deepEqual(await refusal(noAddress), { kit: PLAN, own: "TypeError" });
});

test("filters that were left make room: as many signatures as before may be asked for at once", async () => {
  await using stage = await Stage.open();
  const signatureOf = (i: number) => base58FromBytes(patternBytes(64, i)) as Signature;
  for (let round = 0; round < 3; round++) {
    const abort = new AbortController();
    const all = Array.from(
      { length: 60 },
      (_, i) =>
        stage.rpc.signatureNotifications(signatureOf(60 * round + i), { commitment: "processed" })
          .subscribe({ abortSignal: abort.signal }),
    );
    await within(Promise.all(all), "the subscriptions");
    abort.abort(); // and in the same turn there are others
  }
});

test("the transport serves kit's own object; there a missing commitment means finalized", async () => {
  await using stage = await Stage.open();
  const rpc = createSolanaRpcSubscriptionsFromTransport(createRpcSubscriptionsTransport(stage.consumer));
  const subscribe = (commitment: Commitment) =>
    rpc.accountNotifications(VAULT, { commitment, encoding: "base64" }).subscribe(stage.signal);
  const readers = [];
  for (const commitment of ["processed", "confirmed", "finalized"] as const) {
    readers.push((await subscribe(commitment))[Symbol.asyncIterator]().next());
  }
  const told: number[] = [];
  readers.forEach((reader, i) => void reader.then(() => told.push(i)));
  stage.write(1n, 1n);
  await until(() => told.length === 1, "processed");
  stage.slot(1n, "confirmed");
  await until(() => told.length === 2, "confirmed");
  await stage.consumer.ping();
  assert.deepEqual(told, [0, 1]);
  stage.slot(1n, "finalized");
  await until(() => told.length === 3, "finalized");
  assert.deepEqual(told, [0, 1, 2]);
});

test("toDataPublisher() tells of all that comes, and of the end", async () => {
  await using stage = await Stage.open();
  await stage.consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  const publisher = toDataPublisher(stage.consumer);
  const seen: unknown[] = [];
  const stop = publisher.on("slot", () => seen.push("never"));
  publisher.on("account", ({ context, value }) => seen.push([context.slot, value.address, value.data.length]));
  publisher.on(
    "transaction",
    ({ index }) => seen.push(index),
    stage.signal.abortSignal && { signal: stage.signal.abortSignal },
  );
  publisher.on("slot", ({ slot }) => seen.push(slot));
  publisher.on("error", (error) => seen.push(isSolanaError(error, CLOSED)));
  stop();
  stage.write(1n, 3n);
  stage.sender.publishTransaction(transactionUpdate());
  stage.slot(3n, "processed");
  await until(() => seen.length === 3, "three values");
  stage.abort.abort();
  stage.sender.publishTransaction(transactionUpdate());
  await stage.sender.close();
  await until(() => seen.length === 4, "the end");
  assert.deepEqual(seen, [[3n, VAULT, 165], 4, 3n, true]);
});
