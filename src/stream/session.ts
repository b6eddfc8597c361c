/**
 * What a consumer needs of whatever protocol it speaks: to ask, to hear of the end, to let go.
 * May touch: types only. The two implementations: native_session.ts, and ../v9/session.ts for wire version 9.
 * The reading part is the same for both (reader.ts): whoever reads does not know who asks.
 *
 * @module
 */

import type { EndReason, ReadonlyUint8Array, SlotToken, SubscriptionAck } from "../types.ts";
import type { FilterOperation } from "../wire/messages.ts";

/** Keys as bytes, checked. */
export interface KeyLists {
  readonly accounts: readonly ReadonlyUint8Array[];
  readonly owners: readonly ReadonlyUint8Array[];
  readonly transactions: boolean;
  /** What the sender knows of these accounts comes first. */
  readonly state: boolean;
}

/** An edit of one filter. */
export interface Edit extends KeyLists {
  readonly op: FilterOperation;
  /** Which filter; 0 is the one of `subscribe`. */
  readonly bit: number;
  /** What the index does not hold ("replace"); else empty. */
  readonly program: ReadonlyUint8Array;
  /** "replace": updates match by these keys only, so that none of them means no update. */
  readonly isKeyed: boolean;
  /** "replace", with state: in all versions that the sender keeps. */
  readonly versions?: boolean;
}

/** Who hears of what a session notices. */
export interface SessionHost {
  /** There may be something in the ring: who sleeps looks again. */
  onWake(): void;
  /** Nothing more comes than what is in the ring: it is over once that has been read. */
  onEnd(reason: EndReason): void;
}

/** The asking part of one connection. */
export interface Session {
  readonly protocol: "native" | "v9";
  /** What the sender knows us by, where that has a name: in version 9. */
  readonly slotToken: SlotToken | undefined;
  /** From here on events go to `host`; those that came before come now. */
  start(host: SessionHost): void;
  /** Asked before each question: something to wait for while it is uncertain whether the sender still serves us. */
  doubt(): Promise<void> | undefined;
  /** @throws {QlasterError} `SUBSCRIBE_REFUSED`, `CONNECT_TIMEOUT`; what `rejectAll` was given. */
  subscribe(request: KeyLists): Promise<SubscriptionAck>;
  /**
   * Edits one filter, after all edits that were asked for before.
   * @throws {QlasterError} as `subscribe`; `V9_UNSUPPORTED`
   */
  edit(edit: Edit): Promise<SubscriptionAck>;
  /**
   * A resumed connection (`Grant.isResumed`) has its filters, and wants what it missed: nothing comes before it. Wire
   * version 9, which resumes nothing, never answers with such a grant.
   * @throws as `subscribe`
   */
  begin(): Promise<SubscriptionAck>;
  /** Resolves when the sender has answered. @throws as `subscribe` */
  ping(): Promise<void>;
  /** No question that waits will be answered. */
  rejectAll(error: unknown): void;
  /** What is known of an end beyond its reason, and what to do, for the error's text. */
  explain(reason: EndReason): string | undefined;
  ref(): void;
  unref(): void;
  /** Takes leave of the sender. Never throws. */
  goodbye(): void;
  /** Closes everything but the ring. */
  close(): void;
}
