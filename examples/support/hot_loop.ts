/**
 * The Worker of worker_hot_loop.ts.
 * May touch: the ring that its thread was lent; messages.
 *
 * @module
 */

import { attachReader, type ConsumerShare } from "@qlaster/core/worker";

/** What the main thread is woken for. */
export interface Finding {
  readonly slot: bigint;
  readonly address: string;
  readonly lamports: bigint;
  /** Updates that were looked at for it. */
  readonly looked: number;
}

const LARGE = 1_000_000_000_000n;
const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ConsumerShare>) => void;
  postMessage(finding: Finding): void;
};

scope.onmessage = async ({ data }) => {
  await using reader = await attachReader(data, { idle: "spin" });
  let looked = 0;
  await reader.run((update) => {
    if (update.kind !== "account") return;
    looked++;
    if (update.lamports < LARGE) return;
    const { slot, address, lamports } = update;
    scope.postMessage({ slot, address, lamports, looked });
    looked = 0;
  });
};
