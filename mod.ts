/**
 * Live Solana updates from one process to many through shared memory, for Deno and Bun.
 *
 * A {@linkcode Sender} fans accounts, transactions and slots out to {@linkcode Consumer}s of the same host: one ring in
 * shared memory for each, read in place; a Unix socket to meet, subscribe and learn of a death. Importing this module
 * does nothing: the native library is loaded by the first `setupSender` or `setupConsumer`, in Deno with `--allow-ffi`.
 *
 * @module
 */

export {
  type HistoryMetrics,
  Sender,
  type SenderMetrics,
  setupSender,
  type StateMetrics,
} from "./src/stream/sender.ts";
export type { Demand, DemandChange, DemandKeys, DemandSnapshot } from "./src/stream/demand.ts";
export {
  AccountCache,
  type AccountRemoved,
  type CacheOptions,
  type CacheTrust,
  type Distrust,
  type RemovalReason,
} from "./src/cache/account_cache.ts";
export { type FeedAcks, MergedConsumer, type MergeOptions, setupMergedConsumer } from "./src/merge/merged_consumer.ts";
export type { FeedInfo } from "./src/merge/feed.ts";
export { Publisher } from "./src/stream/publisher.ts";
export type { ConsumerShare } from "./src/stream/reader_share.ts";
export type { SenderShare } from "./src/stream/share.ts";
export { attachPublisher } from "./src/stream/worker_publisher.ts";
export type {
  HandoverEvent,
  HistoryOptions,
  SenderOptions,
  StateOptions,
  V9SenderOptions,
} from "./src/stream/sender_options.ts";
export { Counter, Latency, type LatencySnapshot, type SenderTimings } from "./src/stream/timings.ts";
export {
  type Batch,
  Consumer,
  type ConsumerMetrics,
  type ConsumerTimings,
  type ReadCounts,
  type RunOptions,
  setupConsumer,
} from "./src/stream/consumer.ts";
export type { ConsumerOptions, Freshness, OverflowPolicies, StaleEvent } from "./src/stream/consumer_options.ts";
export type {
  ConnectedEvent,
  ConnectionCopy,
  ConnectionEvent,
  ConnectionView,
  Continuity,
  FailedEvent,
  LostEvent,
  ResumedEvent,
} from "./src/stream/connection_view.ts";
export type { ReadableOptions, ViewCopy } from "./src/stream/readable.ts";
export type { ReconnectOptions } from "./src/stream/reconnect.ts";
export type { FilterKeysEdit } from "./src/stream/named_filters.ts";
export type { ProtocolChoice } from "./src/stream/dial.ts";
export type { IdleStrategy } from "./src/stream/idle.ts";
export type {
  AccountCopy,
  AccountView,
  Delivery,
  FilterMarkCopy,
  FilterMarkView,
  FrameView,
  GapCopy,
  GapView,
  GoneView,
  LeftCopy,
  LeftView,
  Matched,
  ResumedCopy,
  ResumedView,
  RollbackCopy,
  RollbackView,
  SlotCopy,
  SlotView,
  SnapshotCompleteCopy,
  SnapshotCompleteView,
  TransactionCopy,
  TransactionView,
  UpdateView,
  WithdrawnCopy,
  WithdrawnView,
} from "./src/stream/view.ts";
export type {
  AccountFilter,
  DataSlice,
  LamportsRange,
  Memcmp,
  NamedFilter,
  SlotFilter,
  TransactionFilter,
} from "./src/wire/filters.ts";
export { ERRORS, isQlasterError, QlasterError, type QlasterErrorCode, type QlasterErrorOptions } from "./src/errors.ts";
export { addressFromBytes, bytesFromAddress } from "./src/address.ts";
export { load, type LoadOptions } from "./src/native/load.ts";
export { OVERFLOW_POLICIES, SLOT_STATUSES } from "./src/types.ts";
export type {
  AccountUpdate,
  Address,
  AddressLike,
  Backlog,
  Brand,
  ConsumerEvent,
  ConsumerInfo,
  EncodedString,
  EndReason,
  LoadedAddresses,
  LossCounts,
  OverflowPolicy,
  ReadonlyUint8Array,
  RefusedEvent,
  SenderCounts,
  SlotCounts,
  SlotStatus,
  SlotToken,
  SlotUpdate,
  Subscription,
  SubscriptionAck,
  SubscriptionEvent,
  TransactionUpdate,
  Update,
} from "./src/types.ts";
