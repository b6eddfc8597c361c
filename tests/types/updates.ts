/**
 * What is read narrows by `kind`, live and copied; what is told of connections by `type`.
 * May touch: types. Checked by `./dev check`; nothing here runs.
 *
 * @module
 */

import type {
  AccountCopy,
  AccountView,
  Address,
  ConnectionEvent,
  ConnectionView,
  Consumer,
  FilterMarkView,
  GapView,
  LeftView,
  LostEvent,
  ReadonlyUint8Array,
  ResumedEvent,
  ResumedView,
  RollbackView,
  SlotStatus,
  SlotView,
  SnapshotCompleteView,
  TransactionView,
  UpdateView,
  ViewCopy,
  WithdrawnView,
} from "../../mod.ts";
import type { Equal, Expect } from "./support.ts";

/** The view of each kind. A kind that is missing here, or one too many, does not compile. */
interface Views {
  account: AccountView;
  transaction: TransactionView;
  slot: SlotView;
  gap: GapView;
  left: LeftView;
  filter: FilterMarkView;
  "snapshot-complete": SnapshotCompleteView;
  rollback: RollbackView;
  withdrawn: WithdrawnView;
  resumed: ResumedView;
  connection: ConnectionView;
}

type KindOf<Kind extends UpdateView["kind"]> = Extract<UpdateView, { kind: Kind }>;

export type Kinds = [
  Expect<Equal<keyof Views, UpdateView["kind"]>>,
  Expect<Equal<{ [Kind in keyof Views]: KindOf<Kind> }, { [Kind in keyof Views]: Views[Kind] }>>,
  Expect<Equal<ViewCopy["kind"], UpdateView["kind"]>>,
  Expect<Equal<Extract<ViewCopy, { kind: "account" }>, AccountCopy>>,
];

/** Narrowing, as users write it. */
export function read(update: UpdateView): void {
  if (update.kind === "account") {
    const fields: [bigint, Address, ReadonlyUint8Array, boolean] = [
      update.lamports,
      update.address,
      update.data,
      update.isState,
    ];
    void fields;
    // @ts-expect-error: bytes of a view are in read-only memory
    update.data[0] = 1;
    // @ts-expect-error: and so is this
    update.pubkey.fill(0);
    const copy = update.copy();
    copy.data[0] = 1; // a copy is one's own
    return;
  }
  // @ts-expect-error: only accounts have data
  void update.data;
  if (update.kind === "slot") {
    const status: SlotStatus = update.status;
    return void status;
  }
  if (update.kind === "connection") {
    const { event } = update;
    if (event.type === "lost") {
      const lost: LostEvent = event;
      return void lost.reason;
    }
    const resumed: ResumedEvent = event;
    return void resumed.continuity;
  }
  // What all have, whatever they are.
  const common: [bigint, number, number, readonly string[], boolean] = [
    update.sequence,
    update.lost,
    update.ageUs,
    update.filters,
    update.lossy,
  ];
  void common;
}

/** Every kind is dealt with, or this does not compile. */
export function exhaustive(event: ConnectionEvent): string {
  switch (event.type) {
    case "connected":
      return event.senderId ?? event.protocol;
    case "failed":
      return event.error.message;
    case "lost":
      return event.reason;
    case "resumed":
      return event.continuity;
    default: {
      const none: never = event;
      return none;
    }
  }
}

/** Every way of reading gives the same union. */
export async function ways(consumer: Consumer): Promise<void> {
  for await (const update of consumer) type<UpdateView>()(update);
  for await (const batch of consumer.batches()) for (const update of batch) type<UpdateView>()(update);
  for await (const copy of consumer.readable()) type<ViewCopy>()(copy);
  consumer.poll((update) => type<UpdateView>()(update));
  await consumer.run((update) => type<UpdateView>()(update), { signal: AbortSignal.timeout(1) });
  type<UpdateView | undefined>()(await consumer.next());
  type<AccountCopy | undefined>()(consumer.tryNextUpdate());
}

/** Takes a value of just that type. */
function type<Expected>() {
  return <Given>(_: Equal<Given, Expected> extends true ? Given : never): void => {};
}
