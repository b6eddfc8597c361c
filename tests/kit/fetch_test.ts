/**
 * kit's fetching of accounts, by the cache of a consumer and by a node's RPC for the rest: who answers, and what.
 * May touch: the public API, kit, a JSON-RPC server on 127.0.0.1.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import {
  address,
  createSolanaRpc,
  fetchEncodedAccounts as fetchByKit,
  isSolanaError,
  SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND,
} from "@solana/kit";
import { addressFromBytes, type Consumer, type Sender } from "../../mod.ts";
import { AddressTable, currentAccount, fetchEncodedAccount, fetchEncodedAccounts } from "../../src/kit/mod.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes } from "../unit/support/updates.ts";
import { until, within } from "../unit/support/watchdog.ts";

const [CACHED, ELSEWHERE, NOWHERE, CLOSED, SLICED] = [1, 3, 4, 5, 6].map((seed) =>
  address(addressFromBytes(keyOf(seed)))
);
const OWNER = address(addressFromBytes(keyOf(2)));
const STATE = { state: { maxBytes: 1 << 22, keep: "all" } } as const;

/** `getMultipleAccounts` of a node, which knows of some accounts that all look alike, and notes what it is asked. */
class Node implements AsyncDisposable {
  readonly asked: { readonly keys: readonly string[]; readonly config: unknown }[] = [];
  readonly #server = createServer((request, response) => {
    const parts: Uint8Array[] = [];
    request.on("data", (part: Uint8Array) => parts.push(part));
    request.on("end", () => {
      const { id, method, params: [keys, config] } = JSON.parse(Buffer.concat(parts).toString());
      assert.equal(method, "getMultipleAccounts");
      this.asked.push({ keys, config });
      const value = (keys as string[]).map((key) => key === NOWHERE ? null : this.#account);
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ jsonrpc: "2.0", id, result: { context: { slot: 9 }, value } }));
    });
  });
  readonly #account = {
    data: [Buffer.from(patternBytes(3, 1)).toString("base64"), "base64"],
    executable: false,
    lamports: 8,
    owner: OWNER,
    rentEpoch: 0,
    space: 3,
  };

  async open() {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return createSolanaRpc(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

async function cached(place: Place): Promise<{ sender: Sender; consumer: Consumer }> {
  const { sender, consumer } = await place.pair({ sender: STATE, consumer: { cache: true } });
  sender.publishAccount(accountUpdate({ pubkey: keyOf(1), lamports: 7n }));
  sender.publishAccount(accountUpdate({ pubkey: keyOf(5), lamports: 0n, data: new Uint8Array(0) }));
  sender.publishAccount(accountUpdate({ pubkey: keyOf(6) }));
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(5)] });
  await consumer.setFilter("part", { accounts: { accounts: [keyOf(6)], dataSlice: { offset: 0, length: 8 } } });
  await within(consumer.accounts.ready, "all accounts");
  return { sender, consumer };
}

test("what the cache knows costs no request, and is what kit reads by RPC", async () => {
  await using place = new Place();
  await using node = new Node();
  const rpc = await node.open();
  const { consumer } = await cached(place);
  const table = new AddressTable([CACHED!, OWNER]);
  const account = await fetchEncodedAccount(consumer.accounts, CACHED!, { rpc, addresses: table });
  assert(account.exists);
  assert.deepEqual({ ...account, data: Uint8Array.from(account.data) }, {
    address: CACHED,
    data: patternBytes(165, 3),
    executable: false,
    exists: true,
    lamports: 7n,
    programAddress: OWNER,
    space: 165n,
  });
  assert.deepEqual(await fetchEncodedAccount(consumer.accounts, CLOSED!, { rpc }), { address: CLOSED, exists: false });
  assert.deepEqual(node.asked, []);
  const [byKit] = await fetchByKit(rpc, [CACHED!]);
  assert.deepEqual(Object.keys(byKit!).sort(), Object.keys(account).sort());
});

test("what the cache does not know, or has slices of, one request asks of the node", async () => {
  await using place = new Place();
  await using node = new Node();
  const rpc = await node.open();
  const { consumer } = await cached(place);
  const wanted = [ELSEWHERE!, CACHED!, NOWHERE!, SLICED!, ELSEWHERE!];
  const accounts = await fetchEncodedAccounts(consumer.accounts, wanted, { rpc, commitment: "confirmed" });
  assert.deepEqual(
    accounts.map((account) => [account.address, account.exists && account.lamports]),
    [[ELSEWHERE, 8n], [CACHED, 7n], [NOWHERE, false], [SLICED, 8n], [ELSEWHERE, 8n]],
  );
  assert.deepEqual(node.asked, [{
    keys: [ELSEWHERE, NOWHERE, SLICED],
    config: { commitment: "confirmed", encoding: "base64" },
  }]);
  await assert.rejects(
    fetchEncodedAccounts(consumer.accounts, [CACHED!, ELSEWHERE!]),
    (error) => isSolanaError(error, SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND),
  );
});

test("while the cache is without a sender the node is asked for everything, and no longer once all is there again", async () => {
  await using place = new Place();
  await using node = new Node();
  const rpc = await node.open();
  const sender = await place.sender(STATE);
  sender.publishAccount(accountUpdate({ lamports: 7n }));
  const consumer = await place.consumer({ cache: true, reconnect: { minMs: 1, maxMs: 5 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await within(consumer.accounts.ready, "the account");
  const lamports = async () => {
    const account = await fetchEncodedAccount(consumer.accounts, CACHED!, { rpc });
    return account.exists && account.lamports;
  };
  assert.equal(await lamports(), 7n);
  await sender.close();
  const reading = consumer.run(() => {});
  await until(() => !consumer.accounts.trust.isComplete, "the loss");
  assert.equal(await lamports(), 8n);
  const withoutRpc = await fetchEncodedAccount(consumer.accounts, CACHED!);
  assert.equal(withoutRpc.exists && withoutRpc.lamports, 7n, "as it was last");
  const next = await place.sender(STATE);
  next.publishAccount(accountUpdate({ lamports: 9n }));
  await within(consumer.accounts.ready, "the account again");
  await until(() => consumer.accounts.get(CACHED!)?.lamports === 9n, "its newest version");
  assert.equal(await lamports(), 9n);
  assert.equal(node.asked.length, 1);
  await consumer.close();
  await within(reading, "the loop's end");
});

test("currentAccount() reads the cache each time: null for what is unknown or was closed", async () => {
  await using place = new Place();
  const { sender, consumer } = await cached(place);
  const value = async (of: typeof OWNER) => {
    const store = currentAccount(consumer.accounts, of).reactiveStore();
    await store.dispatchAsync();
    const { data } = store.getState();
    return data?.value?.lamports ?? null;
  };
  assert.deepEqual([await value(CACHED!), await value(CLOSED!), await value(NOWHERE!)], [7n, null, null]);
  sender.publishAccount(accountUpdate({ pubkey: keyOf(1), lamports: 10n, slot: 78n }));
  await within(consumer.accounts.waitFor(CACHED!, (account) => account.lamports === 10n), "the write");
  assert.equal(await value(CACHED!), 10n);
});

test("fetchEncodedAccounts() asks an RPC for what the cache does not know, once", async () => {
  const copy = { ...accountUpdate(), pubkey: keyOf(1), owner: keyOf(2), fullLength: 165, executable: false } as never;
  const cache = { get: (key: string) => key === CACHED ? copy : undefined };
  const asked: unknown[] = [];
  const rpc = {
    getMultipleAccounts: (addresses: unknown, config: unknown) => {
      asked.push(addresses, config);
      return { send: () => Promise.resolve({ context: { slot: 1n }, value: [null] }) };
    },
  };
  const accounts = await fetchEncodedAccounts(cache, [OWNER, CACHED!, OWNER], {
    rpc: rpc as never,
    commitment: "confirmed",
  });
  assert.deepEqual(accounts.map(({ address, exists }) => [address, exists]), [
    [OWNER, false],
    [CACHED!, true],
    [OWNER, false],
  ]);
  assert.deepEqual(asked, [[OWNER], { commitment: "confirmed", encoding: "base64" }]);
  assert.equal((await fetchEncodedAccounts(cache, [CACHED!])).length, 1);
  await assert.rejects(
    fetchEncodedAccounts(cache, [CACHED!, OWNER]),
    (error) => isSolanaError(error, SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND),
  );
});
