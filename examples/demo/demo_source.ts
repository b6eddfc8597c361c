/**
 * Where the demo's sender gets its updates: from the bank in its own process, or by one of the library's sources.
 * May touch: the source that was asked for, and what that needs.
 * May not touch: the sender, but for its demand. What it yields is logged before it is published.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { getAddressEncoder, getBase58Encoder, signBytes, type TransactionMessageBytes } from "@solana/kit";
import { TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";
import type { Sender, SlotStatus, Update } from "../../mod.ts";
import { type FeedUpdate, litesvmFeed, slotUpdatesOf } from "./litesvm_feed.ts";
import type { SenderTask } from "./messages.ts";
import { Pace, type Plan, planOf } from "./plan.ts";
import { createTokenBank } from "./token_bank.ts";
import { TransferTemplate } from "./transfer_template.ts";

/** A source of updates, and the keys that filters can name. */
export interface DemoSource {
  readonly tokenAccounts: readonly Uint8Array[];
  readonly tokenProgram: Uint8Array;
  /** Whether its updates come as fast as they are taken. */
  readonly isPaced: boolean;
  /** Call it once consumers have subscribed. It ends by itself. */
  open(sender: Sender): AsyncIterable<readonly FeedUpdate[]>;
}

/** The library's sources have all keys as bytes. */
const keysAreBytes = (source: AsyncIterable<readonly Update[]>) => source as AsyncIterable<readonly FeedUpdate[]>;
const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, "base64"));

/** Opens what the task names. */
export async function demoSource(task: SenderTask): Promise<DemoSource> {
  const plan = planOf(task);
  if (task.source === "litesvm") return await bankSource(plan);
  if (task.upstream === undefined) {
    const { tokenAccounts, tokenProgram, updates } = await litesvmFeed(plan);
    return { tokenAccounts, tokenProgram, isPaced: false, open: () => updates };
  }
  const { url, tokenAccounts, tokenProgram } = task.upstream;
  const keys = { tokenAccounts: tokenAccounts.map(bytes), tokenProgram: bytes(tokenProgram), isPaced: true };
  if (task.source === "relay") {
    const { relay } = await import("../../src/sources/relay.ts");
    // Everything, so that each slot's counts are those of the other sender.
    const demand = { allAccounts: true, transactions: { all: true } };
    return { ...keys, open: () => keysAreBytes(relay(url, { demand, consumer: { reconnect: false } })) };
  }
  if (task.source === "rpc") {
    const { rpc } = await import("../../src/sources/rpc.ts");
    return {
      ...keys,
      open: (sender) => {
        const source = rpc({ url, httpUrl: url.replace("ws", "http"), demand: sender.demand });
        return untilPlanned(source, plan, { count: plan.slots, statuses: ["processed"] });
      },
    };
  }
  const { yellowstone } = await import("../../src/sources/yellowstone.ts");
  return {
    ...keys,
    open: (sender) =>
      untilPlanned(yellowstone({ endpoint: url, demand: sender.demand }), plan, {
        count: slotUpdatesOf(plan.slots),
        statuses: ["createdBank", "processed", "confirmed", "finalized"],
      }),
  };
}

/** What a source tells of slots: how many updates, of which statuses. */
interface SlotUpdates {
  readonly count: number;
  readonly statuses: readonly SlotStatus[];
}

/**
 * A server does not end: all transactions have come, and all slot updates that it tells. The very last of them is not that
 * of the last slot, which is still followed by what became of the slots before.
 */
async function* untilPlanned(
  source: AsyncIterable<readonly Update[]>,
  { slots, transactionsPerSlot }: Plan,
  { count, statuses }: SlotUpdates,
) {
  const signatures = new Set<string>();
  const told = new Set<string>();
  for await (const batch of keysAreBytes(source)) {
    yield batch;
    for (const update of batch) {
      if (update.kind === "transaction") signatures.add(Buffer.from(update.signature as Uint8Array).toString("base64"));
      if (update.kind === "slot" && statuses.includes(update.status)) told.add(`${update.slot} ${update.status}`);
    }
    if (signatures.size >= slots * transactionsPerSlot && told.size >= count) return;
  }
}

/** A bank in this process, whose transactions are told by the library's source. */
async function bankSource(plan: Plan): Promise<DemoSource> {
  const { litesvm } = await import("../../src/sources/litesvm.ts");
  const bank = await createTokenBank({ mints: 2, wallets: 8, tokenAccounts: 48 });
  const key = getAddressEncoder();
  return {
    tokenAccounts: bank.tokenAccounts.map(({ address }) => new Uint8Array(key.encode(address))),
    tokenProgram: new Uint8Array(key.encode(TOKEN_PROGRAM_ADDRESS)),
    isPaced: true,
    open(sender) {
      const source = litesvm(bank.svm, { demand: sender.demand });
      const pace = new Pace(plan);
      void (async () => {
        for (let slot = 0, n = 0; slot < plan.slots; slot++) {
          const blockhash = getBase58Encoder().encode(source.svm.latestBlockhash());
          for (let i = 0; i < plan.transactionsPerSlot; i++, n++) {
            const [from, to] = [bank.tokenAccounts[n % 48]!, bank.tokenAccounts[(n + 2) % 48]!];
            const template = new TransferTemplate(from, to);
            const amount = n % 11 === 10 ? 2n ** 63n + BigInt(n) : BigInt(1 + n);
            const message = template.message(amount, blockhash);
            const signature = await signBytes(template.signer.keyPair.privateKey, message);
            source.svm.sendTransaction({
              messageBytes: message as Uint8Array as unknown as TransactionMessageBytes,
              signatures: { [template.signer.address]: signature },
            });
            await pace.next();
          }
          source.nextSlot();
        }
        await source.drained();
        source.close();
      })();
      return keysAreBytes(source);
    },
  };
}
