/**
 * What a sender keeps of filters at most: who wants more is told which limit it was, its number, and what to do.
 * May touch: the public API, the text of each limit. May not touch: the engine, whose own tests have the limits.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Consumer, QlasterError } from "../../mod.ts";
import { Status } from "../../src/native/abi.generated.ts";
import { describeRefusal, KEYS_PER_CONSUMER_MAX } from "../../src/stream/filter_limits.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";

/** The message of an edit that is refused. */
async function refusalOf(edit: Promise<unknown>): Promise<string> {
  const error = await within(edit.then(() => undefined, (reason: unknown) => reason), "the answer");
  assert.ok(error instanceof QlasterError, "it is refused");
  assert.equal(error.code, "SUBSCRIBE_REFUSED");
  return error.message;
}

/** Different for each number, unlike `keyOf`. */
function numberedKey(number: number): Uint8Array {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setUint32(0, number);
  return key;
}

test("each limit has a text of its own, with its number and what to do", () => {
  const rows: [status: number, text: RegExp][] = [
    [
      Status.filterKeysLimit,
      /^all filters of one consumer together may have 1000000 keys.*: remove what is not needed/,
    ],
    [Status.keysLimit, /4000000 different accounts .* there are 5 and 7, .*: remove what is not needed/],
    [
      Status.filtersLimit,
      /^the sender keeps 2048 filters.*: put more keys into fewer filters.*\(option consumersMax\)$/,
    ],
    [
      Status.setsLimit,
      /262144 different combinations of filters, 65536 .* by the filters of one consumer, .* 64 MiB .*: let filters share/,
    ],
    [Status.requestsLimit, /^256 requests for state .* 128 MiB .*: read until the snapshot-complete/],
    [Status.memoryLimit, /^the system has no more memory/],
    [Status.badArgument, /can't make sense of the filter/],
    [Status.badHandle, /^the sender could not do it \(badHandle\)$/],
  ];
  for (const [status, text] of rows) assert.match(describeRefusal(status, { accountKeys: 5, ownerKeys: 7 }), text);
});

test("more keys than one consumer may have, in one filter and in several; another one has its own", async () => {
  await using place = new Place();
  // Thirty seconds is what the answer may take by default, and a million keys are much to ask for on a busy machine.
  const { sender, consumer } = await place.pair({ consumer: { requestTimeoutMs: 60_000 } });
  const accounts = Array.from({ length: KEYS_PER_CONSUMER_MAX + 1 }, (_, i) => numberedKey(i));
  const text = /all filters of one consumer together may have 1000000 keys, .*: remove what/;
  assert.match(await refusalOf(consumer.subscribe({ accounts })), text);
  assert.match(await refusalOf(consumer.setFilter("many", { accounts: { accounts } })), text);
  // Of the former, what the first messages brought is in force, so there is not much left for others.
  assert.ok(sender.metrics.keys <= KEYS_PER_CONSUMER_MAX);
  assert.ok(sender.metrics.keys > KEYS_PER_CONSUMER_MAX - 40_000);
  await within(consumer.setFilter("few", { accounts: { owners: [keyOf(1)] } }), "others go on");
  const some = accounts.slice(0, 40_000);
  assert.match(await refusalOf(consumer.setFilter("some", { accounts: { accounts: some } })), text);
  const other = await place.consumer();
  await within(other.subscribe({ accounts: some }), "another consumer's keys");
});

test("more filters than a sender keeps", async () => {
  await using place = new Place();
  await place.sender({ consumersMax: 40, v9: { slotsMax: 10 } });
  const fill = async (consumer: Consumer) => {
    const name = (i: number) => `f${i}`;
    for (let i = 0; i < 63; i++) await consumer.setFilter(name(i), { accounts: { owners: [keyOf(i)] } });
  };
  const text = /the sender keeps 2048 filters, .*: put more keys/;
  for (let i = 0; i < 31; i++) await within(fill(await place.consumer()), "its filters");
  const late = await place.consumer();
  assert.match(await refusalOf(fill(late)), text);
  // Two are kept back for each of the 50 that may be there.
  assert.equal(late.filterNames.length, 2048 - 31 * 63 - 2 * (50 - 32));
  for (let i = 32; i < 40; i++) {
    const last = await place.consumer();
    assert.match(await refusalOf(fill(last)), text);
    assert.equal(last.filterNames.length, 2);
  }
});

test("more requests for state than may wait", async () => {
  await using place = new Place();
  const state = { maxBytes: 4 << 20, keep: "all" } as const;
  const { sender, consumer } = await place.pair({ sender: { state, poolBytes: 0 } });
  const accounts = Array.from({ length: 30 }, (_, i) => keyOf(i));
  for (const pubkey of accounts) sender.publishAccount(accountUpdate({ pubkey, data: patternBytes(4000, 1) }));
  const ask = () => within(consumer.subscribe({ accounts, state: true }), "the answer");
  for (let i = 0; i < 256; i++) await ask();
  assert.match(await refusalOf(ask()), /256 requests for state .*: read until the snapshot-complete/);
  let complete = 0;
  while (complete < 256) {
    const update = await within(consumer.next(), "an update");
    assert.ok(update !== undefined);
    if (update.kind === "snapshot-complete") complete++;
  }
  await ask();
});
