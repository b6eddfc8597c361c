/**
 * The promise of one changed line: the same program of kit's, once with a node and once with a local feed, is told the same.
 * May touch: the public API, kit, a node's stand-in on 127.0.0.1.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { address, createSolanaRpcSubscriptions, getBase58Decoder, type Signature } from "@solana/kit";
import type { Update } from "../../mod.ts";
import { createRpcSubscriptions } from "../../src/kit/mod.ts";
import { RpcNode } from "../support/rpc_node.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "../unit/support/updates.ts";
import { within } from "../unit/support/watchdog.ts";
import { bot, type Told } from "./support/bot.ts";

const text = (bytes: Uint8Array) => getBase58Decoder().decode(bytes);
const TARGETS = {
  vault: address(text(keyOf(1))),
  program: address(text(keyOf(2))),
  signature: text(patternBytes(64, 5)) as Signature,
};

const vault = (slot: bigint, lamports: bigint) =>
  accountUpdate({ slot, lamports, data: new Uint8Array(300).fill(Number(lamports)) });
const other = (slot: bigint, seed: number, ...data: number[]) =>
  accountUpdate({ slot, pubkey: keyOf(seed), data: Uint8Array.from(data), rentEpoch: 2n ** 53n + 1n });
const slot = (number: bigint, status: "processed" | "confirmed" | "finalized", parent = number - 1n) =>
  slotUpdate({ slot: number, parent, status });

/** What happens: seven slots, of which 103 is left on a fork and 105 does not exist. */
const EVENTS: readonly Update[] = [
  vault(101n, 1n),
  other(101n, 7, 1, 9, 3, 4),
  slot(101n, "processed", 100n),
  vault(102n, 2n),
  transactionUpdate({ slot: 102n }),
  slot(102n, "processed"),
  slot(101n, "confirmed", 100n),
  vault(103n, 3n),
  other(103n, 8, 1, 9, 3, 4),
  slot(103n, "processed"),
  vault(104n, 4n),
  other(104n, 7, 1, 8, 3, 4), // fails the comparison
  other(104n, 9, 5, 9, 5), // fails the size
  other(104n, 10, 5, 9, 5, 5),
  slot(104n, "processed", 102n),
  slot(104n, "confirmed", 102n),
  slot(102n, "finalized"),
  vault(106n, 5n),
  slot(106n, "processed", 104n),
  slot(106n, "confirmed", 104n),
  slot(106n, "finalized", 104n),
];
const WANTED = { processed: 5, byDefault: 4, finalized: 4, program: 2, signature: 1, slots: 5, roots: 2 };

async function withNode(): Promise<Told> {
  await using node = RpcNode.open({ address: text, signature: text });
  const rpcSubscriptions = createSolanaRpcSubscriptions(node.url as `ws://${string}`);
  return await within(
    bot(rpcSubscriptions, TARGETS, WANTED, () => EVENTS.forEach((event) => node.take(event))),
    "a node's notifications",
  );
}

async function withFeed(): Promise<Told> {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const rpcSubscriptions = createRpcSubscriptions(consumer);
  return await within(
    bot(rpcSubscriptions, TARGETS, WANTED, () => void sender.publishBatch(EVENTS)),
    "a feed's notifications",
  );
}

test("one line changed, and a program of kit's is told by a local feed what a node told it", async () => {
  const [node, feed] = [await withNode(), await withFeed()];
  assert.deepEqual(Object.fromEntries(Object.entries(node).map(([name, list]) => [name, list.length])), WANTED);
  assert.deepEqual(feed, node);
});
