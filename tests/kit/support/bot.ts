/**
 * A program as users of kit write them. It knows nothing of where its subscriptions come from: the one line that differs is
 * its caller's.
 * May touch: kit.
 *
 * @module
 */

import type { Address, RpcSubscriptions, Signature, SolanaRpcSubscriptionsApi } from "@solana/kit";

/** What it looks at. */
export interface Targets {
  readonly vault: Address;
  readonly program: Address;
  readonly signature: Signature;
}

/** Notifications by the name of what asked for them. */
export type Told = Record<string, unknown[]>;

/**
 * Subscribes, says when all of it stands, and collects.
 * @param wanted How many notifications of each it waits for.
 */
export async function bot(
  rpcSubscriptions: RpcSubscriptions<SolanaRpcSubscriptionsApi>,
  { vault, program, signature }: Targets,
  wanted: Readonly<Record<string, number>>,
  onReady: () => void,
): Promise<Told> {
  const abort = new AbortController();
  const options = { abortSignal: abort.signal };
  const filters = [{ dataSize: 4n }, { memcmp: { offset: 1n, bytes: "CQ==" as never, encoding: "base64" } }] as const;
  const subscriptions: Record<string, AsyncIterable<unknown>> = {
    processed: await rpcSubscriptions
      .accountNotifications(vault, { commitment: "processed", encoding: "base64" }).subscribe(options),
    byDefault: await rpcSubscriptions.accountNotifications(vault, { encoding: "base64" }).subscribe(options),
    finalized: await rpcSubscriptions
      .accountNotifications(vault, { commitment: "finalized", encoding: "base64" }).subscribe(options),
    program: await rpcSubscriptions
      .programNotifications(program, { commitment: "confirmed", encoding: "base64", filters }).subscribe(options),
    signature: await rpcSubscriptions.signatureNotifications(signature, { commitment: "confirmed" }).subscribe(options),
    slots: await rpcSubscriptions.slotNotifications().subscribe(options),
    roots: await rpcSubscriptions.rootNotifications().subscribe(options),
  };
  const told: Told = {};
  const collect = async (name: string, notifications: AsyncIterable<unknown>) => {
    const list = told[name] = [] as unknown[];
    for await (const notification of notifications) if (list.push(notification) === wanted[name]) break;
  };
  const loops = Object.entries(subscriptions).map(([name, notifications]) => collect(name, notifications));
  onReady();
  await Promise.all(loops);
  abort.abort();
  return told;
}
