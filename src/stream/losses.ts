/**
 * Losses by reason, and ends of connections, as the native library numbers them.
 * May touch: the generated layout.
 *
 * @module
 */

import { LossReason, StatEnd } from "../native/abi.generated.ts";
import type { EndReason, LossCounts } from "../types.ts";

/** @param count The words of `lost_by`, wherever they stand. */
export function lossesOf(count: (reason: number) => number): LossCounts {
  return {
    replaced: count(LossReason.replaced),
    skipped: count(LossReason.skipped),
    ringFull: count(LossReason.ringFull),
    poolShare: count(LossReason.poolShare),
    poolFull: count(LossReason.poolFull),
    queueFull: count(LossReason.queueFull),
    tooLarge: count(LossReason.tooLarge),
    noMemory: count(LossReason.noMemory),
    ended: count(LossReason.ended),
  };
}

/** Of whatever reason. */
export function totalOf(losses: LossCounts): number {
  return Object.values(losses).reduce((sum: number, count: number) => sum + count, 0);
}

/** How connections end, as a sender sees it while it goes on; at the places that the stat page has for them. */
export const ENDS: readonly EndReason[] = Object.entries({
  "consumer-closed": StatEnd.consumerClosed,
  "consumer-gone": StatEnd.consumerGone,
  "slow-consumer": StatEnd.slowConsumer,
  "peer-corrupt": StatEnd.peerCorrupt,
  "idle": StatEnd.idle,
}).sort(([, a], [, b]) => a - b).map(([reason]) => reason as EndReason);

/** Those of them that are the sender's doing. */
export type Drop = "slow-consumer" | "peer-corrupt" | "idle";

/** @param reason How a connection ended. */
export function isDrop(reason: EndReason): reason is Drop {
  return reason === "slow-consumer" || reason === "peer-corrupt" || reason === "idle";
}
