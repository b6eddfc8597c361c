/**
 * The LiteSVM source: what a bank did is what is told. The oracle reads the bank itself, and kit reads the messages.
 * May touch: litesvm, the demo's bank of tokens.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  type Address,
  getAccountMetasFromCompiledTransactionMessage,
  getAddressDecoder,
  getBase58Encoder,
  getCompiledTransactionMessageDecoder,
  isWritableRole,
  lamports,
  signBytes,
  type TransactionMessageBytes,
} from "@solana/kit";
import { TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";
import { LiteSVM } from "litesvm";
import { createTokenBank, type TokenBank } from "../../examples/demo/token_bank.ts";
import { TransferTemplate } from "../../examples/demo/transfer_template.ts";
import { setupConsumer, setupSender, type Update } from "../../mod.ts";
import { keysOfMessage } from "../../src/sources/litesvm/message.ts";
import { litesvm, type LitesvmSource } from "../../src/sources/litesvm.ts";
import { decodeMeta } from "../support/geyser/protocol.ts";
import { guarded } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { within } from "../unit/support/watchdog.ts";
import { FakeDemand } from "./support/fake_demand.ts";

const address = (bytes: unknown) => getAddressDecoder().decode(bytes as Uint8Array);

/** Takes what has been told so far. */
async function told(source: LitesvmSource): Promise<Update[]> {
  const updates: Update[] = [];
  source.close();
  for await (const batch of source) updates.push(...batch);
  return updates;
}

/** Sends transfers through the source, and says of each what the bank says. */
async function transfers(bank: TokenBank, svm: LiteSVM, count: number, failEvery: number) {
  const expected: { signature: string; failed: boolean; logs: string[]; message: string }[] = [];
  const states = new Map<Address, string>();
  for (let i = 0; i < count; i++) {
    const [from, to] = [bank.tokenAccounts[i % 4]!, bank.tokenAccounts[(i % 4 + 2) % 4]!];
    const template = new TransferTemplate(from, to);
    const amount = i % failEvery === failEvery - 1 ? 2n ** 63n + BigInt(i) : BigInt(1 + i);
    const message = template.message(amount, getBase58Encoder().encode(svm.latestBlockhash()));
    const signature = await signBytes(template.signer.keyPair.privateKey, message);
    const outcome = svm.sendTransaction({
      messageBytes: message as unknown as TransactionMessageBytes,
      signatures: { [template.signer.address]: signature },
    });
    const failed = "err" in outcome;
    const metadata = (failed ? outcome.meta() : outcome) as { logs(): string[] };
    expected.push({
      signature: Buffer.from(signature).toString("hex"),
      failed,
      logs: metadata.logs(),
      message: Buffer.from(message).toString("hex"),
    });
    for (const key of [from.address, to.address, template.signer.address]) {
      const account = svm.getAccount(key);
      assert.ok(account.exists);
      states.set(key, `${account.lamports} ${Buffer.from(account.data).toString("hex")}`);
    }
  }
  return { expected, states };
}

guarded("litesvm() tells what each transaction wrote, itself, and its slot", async () => {
  const bank = await createTokenBank({ mints: 2, wallets: 2, tokenAccounts: 4 });
  const source = litesvm(bank.svm);
  const first = bank.svm.getClock().slot;
  assert.ok(source.svm instanceof LiteSVM);
  const { expected, states } = await transfers(bank, source.svm, 30, 7);
  source.nextSlot();
  await transfers(bank, source.svm, 3, 99);
  source.nextSlot();
  const updates = await told(source as unknown as LitesvmSource);

  const transactions = updates.filter((update) => update.kind === "transaction");
  assert.equal(transactions.length, 33);
  expected.forEach(({ signature, failed, logs, message }, i) => {
    const update = transactions[i]!;
    assert.deepEqual(
      [Buffer.from(update.signature as Uint8Array).toString("hex"), update.failed, update.index, update.slot],
      [signature, failed, i, first],
    );
    assert.equal(Buffer.from(update.message as Uint8Array).toString("hex"), message);
    const meta = decodeMeta(update.meta as Uint8Array);
    assert.deepEqual(meta.logMessages ?? [], logs);
    assert.equal(meta.err !== undefined, failed);
  });
  assert.deepEqual(
    transactions.slice(30).map(({ index, slot }) => [index, slot]),
    [0, 1, 2].map((i) => [i, first + 1n]),
  );

  // Each account's last update before the second slot is its state then.
  const end = updates.findIndex((update) => update.kind === "slot" && update.status === "processed");
  for (const [key, state] of states) {
    const last = updates.slice(0, end).findLast((update) =>
      update.kind === "account" && address(update.pubkey) === key
    );
    assert.ok(last?.kind === "account");
    assert.equal(`${last.lamports} ${Buffer.from(last.data as Uint8Array).toString("hex")}`, state);
  }
  // What a transaction wrote stands before it, with its signature; each write has a version of its own.
  const versions = updates.flatMap((update) => update.kind === "account" ? [update.writeVersion!] : []);
  assert.deepEqual(versions, versions.map((_, i) => BigInt(i + 1)));
  let group: Update[] = [];
  for (const update of updates) {
    group.push(update);
    if (update.kind === "slot") group = [];
    if (update.kind !== "transaction") continue;
    for (const { signature } of group as { signature?: unknown }[]) {
      assert.equal(Buffer.compare(signature as Uint8Array, update.signature as Uint8Array), 0);
    }
    assert.equal(group.length, update.failed ? 2 : 4, "the fee payer, and both token accounts");
    group = [];
  }
  const slots = updates.flatMap((update) => update.kind === "slot" ? [[update.slot - first, update.status]] : []);
  assert.deepEqual(slots, [
    [0n, "createdBank"],
    [0n, "processed"],
    [1n, "createdBank"],
    [1n, "processed"],
    [0n, "confirmed"],
    [2n, "createdBank"],
  ]);
});

guarded("litesvm() tells the state of what is asked for, once it is, and of programs' accounts", async () => {
  const bank = await createTokenBank({ mints: 2, wallets: 2, tokenAccounts: 4 });
  const keys = bank.tokenAccounts.map(({ address }) => address);
  const demand = new FakeDemand({ accounts: new Set([keys[0]!]) as never });
  const source = litesvm(bank.svm, { demand });
  const iterator = source[Symbol.asyncIterator]();
  const next = async () => {
    for (;;) {
      const { value } = await within(iterator.next(), "a batch");
      const accounts = (value as Update[]).filter((update) => update.kind === "account");
      if (accounts.length > 0) return accounts;
    }
  };
  const startup = await next();
  assert.deepEqual(startup.map(({ pubkey, startup }) => [address(pubkey), startup]), [[keys[0], true]]);
  demand.set({ accounts: new Set([keys[0]!, keys[1]!]) as never });
  assert.deepEqual((await next()).map(({ pubkey }) => address(pubkey)), [keys[1]]);
  demand.set({ owners: new Set([TOKEN_PROGRAM_ADDRESS]) as never });
  const owned = new Set((await next()).map(({ pubkey }) => address(pubkey)));
  assert.deepEqual(owned, new Set([...keys, ...bank.mints]));
  source.close();
  assert.ok(demand.returned);
});

guarded("litesvm() tells airdrops, accounts that are set, and closed ones; and not what was refused", async () => {
  const svm = new LiteSVM();
  const source = litesvm(svm);
  const [a, b] = [1, 2].map((seed) => address(new Uint8Array(32).fill(seed)));
  source.svm.airdrop(a!, lamports(5_000_000_000n));
  source.svm.setAccount({
    address: b!,
    lamports: lamports(7n),
    data: Uint8Array.of(1, 2),
    programAddress: TOKEN_PROGRAM_ADDRESS,
    executable: false,
    space: 2n,
  });
  source.svm.setAccount({
    address: b!,
    lamports: lamports(0n),
    data: new Uint8Array(0),
    programAddress: a!,
    executable: false,
    space: 0n,
  });
  source.emit({ kind: "slot", slot: 3n, parent: 2n, status: "dead" });
  const updates = await told(source as unknown as LitesvmSource);
  const accounts = updates.flatMap((update) =>
    update.kind === "account" ? [[address(update.pubkey), update.lamports, update.data.length]] : []
  );
  assert.deepEqual(accounts, [[a, 5_000_000_000n, 0], [b, 7n, 2], [b, 0n, 0]]);
  const last = updates.at(-1)!;
  assert.deepEqual([last.kind, last.kind === "slot" && last.status], ["slot", "dead"]);
});

guarded("litesvm() keeps no more than it is told to, and says so", async () => {
  const source = litesvm(new LiteSVM(), { pendingMax: 3 });
  const key = address(new Uint8Array(32).fill(1));
  source.svm.airdrop(key, lamports(1_000_000_000n));
  source.svm.airdrop(key, lamports(2_000_000_000n));
  assert.throws(
    () => source.svm.airdrop(key, lamports(3_000_000_000n)),
    (error: { code?: string }) => error.code === "SOURCE_FULL",
  );
  const drained = source.drained();
  const iterator = source[Symbol.asyncIterator]();
  assert.equal((await iterator.next()).value!.length, 3);
  await within(drained, "drained()");
  source.svm.airdrop(key, lamports(4_000_000_000n));
  await iterator.return!();
  source.svm.airdrop(key, lamports(5_000_000_000n)); // told to nobody
});

guarded("sender.feed(litesvm()) brings a bank's transfers to a bot", async (held) => {
  const temporary = held.use(new Temporary());
  const bank = await createTokenBank({ mints: 2, wallets: 2, tokenAccounts: 4 });
  const sender = held.use(await setupSender({ path: temporary.at("s.sock") }));
  const bot = held.use(await setupConsumer(temporary.at("s.sock"), { idle: "park" }));
  const watched = bank.tokenAccounts[0]!.address;
  await bot.subscribe({ accounts: [watched], transactions: true });
  const source = held.use(litesvm(bank.svm, { demand: sender.demand }));
  const fed = sender.feed(source);
  const first = await within(bot.next(), "its state");
  while (first?.kind === "slot" && (await within(bot.next(), "its state"))?.kind === "slot");
  const { expected, states } = await transfers(bank, source.svm, 20, 99);
  let seen = 0;
  let state = "";
  while (seen < expected.length) {
    const update = await within(bot.next(), "an update");
    if (update!.kind === "transaction") seen++;
    if (update!.kind === "account") {
      state = `${update!.lamports} ${Buffer.from(update!.data as Uint8Array).toString("hex")}`;
    }
  }
  assert.equal(state, states.get(watched));
  source.close();
  await within(fed, "the end of the feed");
});

guarded("keysOfMessage() agrees with kit", async () => {
  const bank = await createTokenBank({ mints: 1, wallets: 1, tokenAccounts: 2 });
  const template = new TransferTemplate(bank.tokenAccounts[0]!, bank.tokenAccounts[1]!);
  const message = template.message(5n, new Uint8Array(32));
  const compiled = getCompiledTransactionMessageDecoder().decode(message);
  const metas = getAccountMetasFromCompiledTransactionMessage(compiled as never);
  const { keys, isWritable, lookups } = keysOfMessage(message as Uint8Array);
  assert.deepEqual(keys.map(address), metas.map(({ address }) => address));
  assert.deepEqual(keys.map((_, i) => isWritable(i)), metas.map(({ role }) => isWritableRole(role)));
  assert.deepEqual(lookups, []);
  for (let length = 0; length < 5 + 32 * keys.length; length++) {
    assert.throws(() => keysOfMessage((message as Uint8Array).subarray(0, length)), RangeError);
  }
  const table = { table: Uint8Array.from({ length: 32 }, () => 9), writable: [1, 2], readonly: [3] };
  const withTable = Buffer.concat([
    (message as Uint8Array).subarray(0, message.length - 1),
    Uint8Array.of(1),
    table.table,
    Uint8Array.of(2, 1, 2, 1, 3),
  ]);
  assert.deepEqual(
    keysOfMessage(new Uint8Array(withTable)).lookups.map((lookup) => ({
      ...lookup,
      table: new Uint8Array(lookup.table),
    })),
    [table],
  );
});
