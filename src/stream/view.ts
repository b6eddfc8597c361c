/**
 * Views of frames in place: one reused object per kind, no allocation per update until a property needs one. The views
 * themselves are in `update_views` and `mark_views`, over `frame_view`; what their copies are in `copies`.
 * May touch: records, to tell the kinds apart. May not touch: the ring's bytes.
 *
 * @module
 */

import { AccountBody, FrameHeader, FrameKind, LeftBody, SlotBody, TransactionBody } from "../native/abi.generated.ts";
import type { ConnectionView } from "./connection_view.ts";
import type { RingMemory } from "./frame_view.ts";
import {
  FilterMarkView,
  GapView,
  LeftView,
  ResumedView,
  RollbackView,
  SnapshotCompleteView,
  WithdrawnView,
} from "./mark_views.ts";
import { frameKind } from "./records.ts";
import { AccountView, SlotView, TransactionView } from "./update_views.ts";

export * from "./copies.ts";
export { type FilterLists, FrameView, type RingMemory } from "./frame_view.ts";
export * from "./mark_views.ts";
export { anyReaches, frameKind, frameLost, frameOffset, frameSize } from "./records.ts";
export * from "./update_views.ts";

/** What a consumer reads: tell them apart by `kind`. */
export type UpdateView =
  | AccountView
  | TransactionView
  | SlotView
  | GapView
  | LeftView
  | FilterMarkView
  | SnapshotCompleteView
  | RollbackView
  | WithdrawnView
  | ResumedView
  | ConnectionView;

/** What a ring can hold: of its connection's ends it says nothing. */
export type RingView = Exclude<UpdateView, ConnectionView>;

/** Gives records their views. */
export interface FrameViews {
  /** Where a frame says when it was published: u64 nanoseconds, from the frame's offset. */
  readonly publishOffset: number;
  /** Where it says its sequence, likewise; -1: it does not. */
  readonly sequenceOffset: number;
  /** Where a frame of each kind says its slot, likewise; -1 for kinds that have none. */
  readonly slotOffsets: Int32Array;
  /** The view of a record; undefined for frames that only the library reads (goodbye). Called once for each, in order. */
  at(records: Uint32Array, index: number): RingView | undefined;
}

const SLOT_OFFSETS = slotOffsets({
  [FrameKind.account]: FrameHeader.size + AccountBody.slot,
  [FrameKind.transaction]: FrameHeader.size + TransactionBody.slot,
  [FrameKind.slot]: FrameHeader.size + SlotBody.slot,
  [FrameKind.left]: FrameHeader.size + LeftBody.slot,
  [FrameKind.withdrawn]: FrameHeader.size + LeftBody.slot,
});

/** A table with a place for every kind. */
export function slotOffsets(known: Readonly<Record<number, number>>): Int32Array {
  return Int32Array.from({ length: Math.max(...Object.values(FrameKind)) + 1 }, (_, kind) => known[kind] ?? -1);
}

/** One view of each kind, bound to a record at a time. */
export class Views implements FrameViews {
  readonly publishOffset: number = FrameHeader.publishNs;
  readonly sequenceOffset: number = FrameHeader.sequence;
  readonly slotOffsets: Int32Array = SLOT_OFFSETS;
  readonly #account: AccountView;
  readonly #transaction: TransactionView;
  readonly #slot: SlotView;
  readonly #gap: GapView;
  readonly #left: LeftView;
  readonly #filter: FilterMarkView;
  readonly #snapshotComplete: SnapshotCompleteView;
  readonly #rollback: RollbackView;
  readonly #withdrawn: WithdrawnView;
  readonly #resumed: ResumedView;

  constructor(memory: RingMemory) {
    this.#account = new AccountView(memory);
    this.#transaction = new TransactionView(memory);
    this.#slot = new SlotView(memory);
    this.#gap = new GapView(memory);
    this.#left = new LeftView(memory);
    this.#filter = new FilterMarkView(memory);
    this.#snapshotComplete = new SnapshotCompleteView(memory);
    this.#rollback = new RollbackView(memory);
    this.#withdrawn = new WithdrawnView(memory);
    this.#resumed = new ResumedView(memory);
  }

  at(records: Uint32Array, index: number): RingView | undefined {
    const view = this.#of(frameKind(records, index));
    view?.bind(records, index);
    return view;
  }

  #of(kind: number): RingView | undefined {
    switch (kind) {
      case FrameKind.account:
        return this.#account;
      case FrameKind.transaction:
        return this.#transaction;
      case FrameKind.slot:
        return this.#slot;
      case FrameKind.gap:
        return this.#gap;
      case FrameKind.left:
        return this.#left;
      case FrameKind.filter:
        return this.#filter;
      case FrameKind.snapshotComplete:
        return this.#snapshotComplete;
      case FrameKind.rollback:
        return this.#rollback;
      case FrameKind.withdrawn:
        return this.#withdrawn;
      case FrameKind.resumed:
        return this.#resumed;
      default:
        return undefined;
    }
  }
}
