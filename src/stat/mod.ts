/**
 * A sender's figures from outside, without asking it: also while its event loop is stuck. Linux. Needs no native library.
 *
 * @module
 */

export type { ConsumerStat, DroppedStat, EndCounts, SenderStat } from "./figures.ts";
export { openStat, type StatOptions, StatPage } from "./page.ts";
export { bucketEndNs, Histogram } from "./histogram.ts";
