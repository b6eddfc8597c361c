/**
 * kit's RPC subscriptions over a local feed: what comes, what is held, what is refused, and how it ends.
 * May touch: the public API, kit. May not touch: the parts of the kit entry.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  address,
  type Commitment,
  createReactiveStoreWithInitialValueAndSlotTracking,
  createSolanaRpcSubscriptionsFromTransport,
  isSolanaError,
  parseBase64RpcAccount,
  type Signature,
  SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED,
} from "@solana/kit";
import { addressFromBytes, type Consumer, isQlasterError, type Sender, type SlotStatus } from "../../mod.ts";
import {
  createRpcSubscriptions,
  createRpcSubscriptionsTransport,
  currentAccount,
  fetchEncodedAccounts,
  type RpcSubscriptionsOptions,
  toDataPublisher,
} from "../../src/kit/mod.ts";
import { base58FromBytes } from "../../src/wire/base58.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "../unit/support/updates.ts";
import { turn, until, within } from "../unit/support/watchdog.ts";

const VAULT = address(addressFromBytes(keyOf(1)));
const PROGRAM = address(addressFromBytes(keyOf(2)));
const SIGNATURE = base58FromBytes(patternBytes(64, 5)) as Signature;

/** A feed, and kit's subscriptions of it. */
class Stage implements AsyncDisposable {
  readonly sender: Sender;
  readonly consumer: Consumer;
  readonly rpc: ReturnType<typeof createRpcSubscriptions>;
  readonly abort = new AbortController();
  readonly #place: Place;

  private constructor(place: Place, sender: Sender, consumer: Consumer, options: RpcSubscriptionsOptions) {
    this.#place = place;
    this.sender = sender;
    this.consumer = consumer;
    this.rpc = createRpcSubscriptions(consumer, options);
  }

  static async open(options: RpcSubscriptionsOptions = {}): Promise<Stage> {
    const place = new Place();
    const { sender, consumer } = await place.pair();
    return new Stage(place, sender, consumer, options);
  }

  get signal(): { abortSignal: AbortSignal } {
    return { abortSignal: this.abort.signal };
  }

  vault(commitment?: Commitment) {
    const config = { encoding: "base64", ...(commitment && { commitment }) } as const;
    return this.rpc.accountNotifications(VAULT, config).subscribe(this.signal);
  }

  write(lamports: bigint, slot: bigint): void {
    this.sender.publishAccount(accountUpdate({ lamports, slot }));
  }

  slot(slot: bigint, status: SlotStatus): void {
    this.sender.publishSlot(slotUpdate({ slot, parent: slot - 1n, status }));
  }

  /** Keys that the sender knows this consumer to want. */
  get keysWanted(): number {
    const [info] = this.sender.consumers();
    return info!.accounts + info!.owners;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort.abort();
    await this.#place[Symbol.asyncDispose]();
  }
}

/** The next notification. */
async function next<T>(notifications: AsyncIterable<T>): Promise<T> {
  const { value, done } = await within(notifications[Symbol.asyncIterator]().next(), "a notification");
  assert.equal(done ?? false, false, "the loop is over");
  return value;
}

const lamportsOf = async (notifications: AsyncIterable<{ value: { lamports: bigint } }>) =>
  (await next(notifications)).value.lamports;

/** The rejection of a promise: kit's error, whose cause is ours. */
async function refusal(promise: Promise<unknown>): Promise<{ kit: number; own: unknown }> {
  try {
    await within(promise, "a refusal");
  } catch (error) {
    assert(isSolanaError(error));
    const { cause } = error;
    return { kit: error.context.__code, own: isQlasterError(cause) ? cause.code : (cause as Error)?.name };
  }
  return assert.fail("it was not refused");
}

const PLAN = SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN;
const CLOSED = SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED;

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

test("kit's default is confirmed: held until a slot update says so, never relabelled", async () => {
  await using stage = await Stage.open();
  const [processed, byDefault, confirmed, finalized] = [
    await stage.vault("processed"),
    await stage.vault(),
    await stage.vault("confirmed"),
    await stage.vault("finalized"),
  ];
  stage.write(1n, 10n);
  stage.write(2n, 10n);
  stage.slot(10n, "processed");
  stage.write(3n, 11n);
  stage.slot(11n, "processed");
  assert.deepEqual([await lamportsOf(processed), await lamportsOf(processed), await lamportsOf(processed)], [
    1n,
    2n,
    3n,
  ]);
  stage.slot(10n, "confirmed");
  assert.deepEqual([await lamportsOf(byDefault), await lamportsOf(confirmed)], [2n, 2n]); // of a slot the last
  stage.slot(11n, "finalized");
  assert.deepEqual([await lamportsOf(confirmed), await lamportsOf(finalized), await lamportsOf(finalized)], [
    3n,
    2n,
    3n,
  ]);
});

test("what a dead bank wrote is never told beyond processed", async () => {
  await using stage = await Stage.open();
  const confirmed = await stage.vault("confirmed");
  stage.write(1n, 10n);
  stage.slot(10n, "dead");
  stage.write(2n, 11n);
  stage.slot(11n, "confirmed");
  assert.equal(await lamportsOf(confirmed), 2n);
});

test("a feed that never tells of the commitment is an error, by slots and by bytes", async () => {
  await using stage = await Stage.open({ holdSlots: 3, holdBytes: 100_000 });
  const slow = await stage.vault("finalized");
  stage.write(1n, 1n);
  for (let slot = 1n; slot <= 5n; slot++) stage.slot(slot, "processed");
  assert.deepEqual(await refusal(next(slow)), { kit: CLOSED, own: "KIT_COMMITMENT_LATE" });
  await until(() => stage.keysWanted === 0, "the end of interest");

  const large = await stage.vault("finalized");
  for (let slot = 6n; slot < 9n; slot++) {
    const { frames } = stage.consumer.metrics;
    stage.sender.publishAccount(accountUpdate({ slot, data: new Uint8Array(50_000) }));
    // Its ring is small. What is too much ends the interest, and then no more comes.
    await until(() => stage.consumer.metrics.frames > frames || stage.keysWanted === 0, "the write");
    await turn();
  }
  assert.deepEqual(await refusal(next(large)), { kit: CLOSED, own: "KIT_COMMITMENT_LATE" });
});

test("a feed of a higher commitment hands on what it has, and refuses what is below", async () => {
  await using stage = await Stage.open({ feedCommitment: "confirmed" });
  const confirmed = await stage.vault("confirmed");
  stage.write(1n, 1n);
  assert.equal(await lamportsOf(confirmed), 1n);
  assert.deepEqual(await refusal(stage.vault("processed")), { kit: PLAN, own: "KIT_UNSUPPORTED" });
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

test("a loop that does not keep up gets an error, or by option the newest", async () => {
  await using stage = await Stage.open({ queueMax: 3 });
  const strict = await stage.vault("processed");
  await using other = await Stage.open({ queueMax: 3, whenFull: "conflate" });
  const newest = await other.vault("processed");
  for (const { sender, consumer } of [stage, other]) {
    for (let i = 1n; i <= 10n; i++) sender.publishAccount(accountUpdate({ lamports: i }));
    await until(() => consumer.metrics.frames >= 10, "all updates");
    await turn();
  }
  const seen: bigint[] = [];
  assert.deepEqual(
    await refusal((async () => {
      for await (const { value } of strict) seen.push(value.lamports);
    })()),
    { kit: CLOSED, own: "KIT_QUEUE_FULL" },
  );
  assert.deepEqual(seen, [1n, 2n, 3n]);
  assert.deepEqual([await lamportsOf(newest), await lamportsOf(newest), await lamportsOf(newest)], [1n, 2n, 10n]);
});

test("a feed that ends is an error in every loop, and for whoever comes later", async () => {
  await using stage = await Stage.open();
  const [first, second] = [await stage.vault("processed"), await stage.vault("confirmed")];
  stage.write(1n, 1n);
  await stage.sender.close();
  assert.equal(await lamportsOf(first), 1n);
  for (const ask of [() => next(first), () => next(second), () => stage.vault("processed")]) {
    assert.deepEqual(await refusal(ask()), { kit: CLOSED, own: "CONNECTION_LOST" });
  }
});

test("where the consumer connects again, loops end all the same, and subscribing anew waits for the next sender", async () => {
  await using place = new Place();
  const first = await place.sender();
  const rpc = createRpcSubscriptions(await place.consumer({ reconnect: true }));
  const { signal: abortSignal } = new AbortController();
  const subscribe = () =>
    rpc.accountNotifications(VAULT, { commitment: "confirmed", encoding: "base64" }).subscribe({ abortSignal });
  const before = await subscribe();
  first.publishAccount(accountUpdate({ slot: 1n }));
  await first.close();
  assert.deepEqual(await refusal(next(before)), { kit: CLOSED, own: "CONNECTION_LOST" });
  const asked = subscribe();
  const second = await place.sender();
  const after = await within(asked, "the subscription");
  second.publishAccount(accountUpdate({ slot: 2n, lamports: 2n }));
  second.publishSlot(slotUpdate({ slot: 1n, parent: 0n, status: "confirmed" })); // of the order of before
  second.publishSlot(slotUpdate({ slot: 2n, parent: 1n, status: "confirmed" }));
  assert.equal(await lamportsOf(after), 2n);
});

test("an abort while there is no sender ends the subscribing, and nothing of it is left for the next one", async () => {
  await using place = new Place();
  const first = await place.sender();
  const consumer = await place.consumer({ reconnect: true });
  const rpc = createRpcSubscriptions(consumer);
  const slots = await rpc.slotNotifications().subscribe({ abortSignal: new AbortController().signal });
  await first.close();
  assert.deepEqual(await refusal(next(slots)), { kit: CLOSED, own: "CONNECTION_LOST" });

  const abort = new AbortController();
  const pending = rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" });
  const asked = pending.subscribe({ abortSignal: abort.signal });
  const byProgram = rpc.programNotifications(PROGRAM).subscribe({ abortSignal: abort.signal });
  const transport = createRpcSubscriptionsTransport(consumer);
  const published = transport(
    { request: { methodName: "slotNotifications", params: [] }, signal: abort.signal } as never,
  );
  await turn();
  abort.abort(new Error("enough"));
  for (const each of [asked, byProgram]) {
    const notifications = await within<AsyncIterable<unknown>>(each, "the end of the subscribing");
    assert.deepEqual(await notifications[Symbol.asyncIterator]().next(), { value: undefined, done: true });
  }
  await assert.rejects(within(published, "the end of the publisher"), { message: "enough" }); // as kit says it

  const second = await place.sender();
  await until(() => second.metrics.consumers === 1, "the next connection");
  const { signal: abortSignal } = new AbortController();
  await within(rpc.slotNotifications().subscribe({ abortSignal }), "a subscription behind them");
  await until(() => second.consumers()[0]!.accounts + second.consumers()[0]!.owners === 0, "the end of interest");
  assert.deepEqual(consumer.filterNames.filter((name) => /[0-9]/.test(name)), []);
});

test("who subscribes as the feed is lost is told so, and leaves nothing in the next sender's filters", async () => {
  await using place = new Place();
  const first = await place.sender();
  const consumer = await place.consumer({ reconnect: true });
  const rpc = createRpcSubscriptions(consumer);
  const { signal: abortSignal } = new AbortController();
  const asked = rpc.accountNotifications(VAULT).subscribe({ abortSignal });
  await first.close();
  assert.deepEqual(await refusal(asked), { kit: CLOSED, own: "CONNECTION_LOST" });
  const second = await place.sender();
  await within(rpc.slotNotifications().subscribe({ abortSignal }), "a subscription behind it");
  assert.equal(second.consumers()[0]!.accounts, 0);
});

test("a store gets what came before its sender's answer", async () => {
  await using place = new Place();
  const update = accountUpdate({ lamports: 9n, slot: 1n });
  const sender = await place.sender({ onSubscription: () => queueMicrotask(() => sender.publishAccount(update)) });
  const rpc = createRpcSubscriptions(await place.consumer());
  for (let i = 0; i < 10; i++) {
    const store = rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).reactiveStore();
    store.connect();
    await until(() => store.getState().status === "loaded", "the value");
    store.reset();
    await until(() => sender.consumers()[0]!.accounts === 0, "the end of interest");
  }
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

test("closing the consumer ends the loops quietly", async () => {
  await using stage = await Stage.open();
  const notifications = await stage.vault("processed");
  const reader = notifications[Symbol.asyncIterator]();
  const asked = reader.next();
  await stage.consumer.close();
  assert.deepEqual(await within(asked, "the end"), { value: undefined, done: true });
  assert.deepEqual(await refusal(stage.vault("processed")), { kit: CLOSED, own: "CONSUMER_CLOSED" });
});

test("reactiveStore() is kit's store over the feed", async () => {
  await using stage = await Stage.open();
  const store = stage.rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).reactiveStore();
  store.connect();
  await until(() => stage.keysWanted === 1, "the subscription");
  await stage.consumer.ping();
  await turn();
  stage.write(9n, 1n);
  await until(() => store.getState().status === "loaded", "a value");
  assert.equal(store.getState().data?.value.lamports, 9n);
  await stage.sender.close();
  await until(() => store.getState().status === "error", "the end");
  assert(isSolanaError(store.getState().error, CLOSED));
  assert.equal(store.getState().data?.value.lamports, 9n); // the last value stays
  store.reset();
});

test("a slot-tracking store has both its halves from the feed", async () => {
  await using stage = await Stage.open();
  const copy = {
    ...accountUpdate({ lamports: 1n, slot: 5n }),
    pubkey: keyOf(1),
    owner: keyOf(2),
    fullLength: 165,
    executable: false,
  };
  const cache = new Map([[VAULT as string, copy as never]]);
  const store = createReactiveStoreWithInitialValueAndSlotTracking({
    initialValueSource: currentAccount(cache as never, VAULT),
    initialValueMapper: (account) => account?.lamports ?? 0n,
    streamSource: stage.rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }),
    streamValueMapper: (value) => value.lamports as bigint,
  });
  store.connect();
  await until(() => store.getState().data?.value === 1n, "the cache's value");
  await until(() => stage.keysWanted === 1, "the subscription");
  await stage.consumer.ping();
  await turn();
  stage.write(3n, 4n); // older than what is known
  stage.write(2n, 6n);
  await until(() => store.getState().data?.value === 2n, "the feed's value");
  store.reset();
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

test("losses are told to who asks for them", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { policy: "drop-newest" } });
  let lost = 0;
  const rpc = createRpcSubscriptions(consumer, { onLoss: (count) => void (lost += count) });
  const { signal: abortSignal } = new AbortController();
  await rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).subscribe({ abortSignal });
  let missed = 0;
  while (missed < 3) if (sender.publishAccount(accountUpdate({ data: new Uint8Array(2000) })) === 0) missed++;
  await until(() => consumer.lag().frames === 0 || lost > 0, "room");
  sender.publishAccount(accountUpdate());
  await until(() => lost > 0, "the loss");
  assert(lost >= 3);
});

test("fetchEncodedAccounts() asks an RPC for what the cache does not know, once", async () => {
  const copy = { ...accountUpdate(), pubkey: keyOf(1), owner: keyOf(2), fullLength: 165, executable: false } as never;
  const cache = { get: (key: string) => key === VAULT ? copy : undefined };
  const asked: unknown[] = [];
  const rpc = {
    getMultipleAccounts: (addresses: unknown, config: unknown) => {
      asked.push(addresses, config);
      return { send: () => Promise.resolve({ context: { slot: 1n }, value: [null] }) };
    },
  };
  const accounts = await fetchEncodedAccounts(cache, [PROGRAM, VAULT, PROGRAM], {
    rpc: rpc as never,
    commitment: "confirmed",
  });
  assert.deepEqual(accounts.map(({ address, exists }) => [address, exists]), [
    [PROGRAM, false],
    [VAULT, true],
    [PROGRAM, false],
  ]);
  assert.deepEqual(asked, [[PROGRAM], { commitment: "confirmed", encoding: "base64" }]);
  assert.equal((await fetchEncodedAccounts(cache, [VAULT])).length, 1);
  await assert.rejects(
    fetchEncodedAccounts(cache, [VAULT, PROGRAM]),
    (error) => isSolanaError(error, SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND),
  );
});
