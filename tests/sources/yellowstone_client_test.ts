/**
 * The official client understands the test server: so the server speaks the published protocol, and what our source is
 * tested against is right.
 * May touch: @triton-one/yellowstone-grpc, whose native part does not exist for every system; then this is skipped.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { GeyserServer } from "../support/geyser_server.ts";
import { addressOf } from "../support/geyser/world.ts";
import { guarded } from "../support/guarded.ts";
import { until, within } from "../unit/support/watchdog.ts";

/** As much of the client as is used; its own typings describe another shape of module. */
interface Client {
  connect(): Promise<void>;
  subscribe(): Promise<Subscription>;
}
interface Subscription {
  on(name: string, listener: (value: never) => void): void;
  write(request: object): void;
  destroy(): void;
}
interface ClientUpdate {
  readonly account?: { readonly slot: string; readonly account?: Record<string, unknown> };
  readonly slot?: { readonly slot: string; readonly status: number };
  readonly transaction?: { readonly slot: string; readonly transaction?: { readonly index: string } };
}

type ClientClass = new (endpoint: string, token: undefined, options: undefined) => Client;

async function loadClient(): Promise<ClientClass | string> {
  try {
    const name = "@triton-one/yellowstone-grpc"; // not analysed: it may be absent
    return (await import(name) as { default: ClientClass }).default;
  } catch (error) {
    return `the official client does not load here: ${String(error).slice(0, 100)}`;
  }
}

const client = await loadClient();
const NONE = {
  accounts: {},
  slots: {},
  transactions: {},
  transactionsStatus: {},
  blocks: {},
  blocksMeta: {},
  entry: {},
  accountsDataSlice: [],
};

guarded("the official client subscribes to the test server, and reads the same", async (held) => {
  const server = held.use(await GeyserServer.start());
  const connection = new (client as ClientClass)(server.endpoint, undefined, undefined);
  await within(connection.connect(), "the connection");
  const subscription = await within(connection.subscribe(), "the subscription");
  held.defer(() => subscription.destroy());
  const updates: ClientUpdate[] = [];
  subscription.on("data", (update: ClientUpdate) => updates.push(update));
  subscription.on("error", () => {});
  subscription.write({
    ...NONE,
    accounts: { k: { account: [addressOf(3)], owner: [], filters: [] } },
    slots: { s: { interslotUpdates: true } },
    transactions: { t: { accountInclude: [], accountExclude: [], accountRequired: [] } },
    commitment: 0,
  });
  for (;;) {
    const last = (await server.requests()).at(-1);
    if (last?.accounts?.["k"] !== undefined) {
      assert.deepEqual(last.accounts["k"].account, [addressOf(3)]);
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await server.tell("advance", { slots: 10, writes: 60 });
  const sent = server.sent();
  await until(() => updates.length >= sent.length, `${sent.length} updates`);
  updates.forEach((update, i) => {
    const expected = sent[i]!;
    if (expected.kind === "account") {
      const { account } = update.account!;
      const hex = (name: string) => Buffer.from(account![name] as Uint8Array).toString("hex");
      assert.deepEqual([hex("pubkey"), hex("owner"), hex("data")], [expected.pubkey, expected.owner, expected.data]);
      const { lamports, writeVersion, rentEpoch } = expected;
      assert.deepEqual(
        [account!["lamports"], account!["writeVersion"], account!["rentEpoch"]],
        [lamports, writeVersion, rentEpoch],
      );
    } else if (expected.kind === "slot") {
      assert.deepEqual([update.slot!.slot, update.slot!.status], [expected.slot, expected.status]);
    } else {
      assert.deepEqual([update.transaction!.slot, Number(update.transaction!.transaction!.index)], [
        expected.slot,
        expected.index,
      ]);
    }
  });
}, typeof client === "string" ? { skip: client } : {});
