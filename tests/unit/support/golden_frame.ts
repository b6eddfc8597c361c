/**
 * A second encoder of frames, written from the structs of zig/layout/frames.zig and from nothing else: it imports neither the
 * generated offsets nor the encoder that it judges.
 * May touch: types only. May not touch: src/native/, src/wire/.
 *
 * @module
 */

import type { SlotCounts, SlotUpdate } from "../../../src/types.ts";
import type { Full, FullAccount, FullTransaction } from "./updates.ts";

/** Words of the frame's header that are no part of the update. */
export interface GoldenHeader {
  readonly sequence: bigint;
  readonly publishNs?: bigint;
  readonly lost?: number;
  readonly conflated?: number;
  readonly ordinal?: number;
  readonly filterMask?: bigint;
}

/** An account, and what a sender makes of it for a filter with slices: `data` are those. */
export type GoldenAccount = FullAccount & {
  readonly fullLength?: number;
  readonly sliced?: boolean;
  readonly clipped?: boolean;
};

/** An account has left filters. */
export interface GoldenLeft {
  readonly kind: "left";
  readonly pubkey: Uint8Array;
  readonly owner: Uint8Array;
  readonly lamports: bigint;
  readonly slot: bigint;
  readonly bankId: bigint;
  readonly writeVersion: bigint;
  readonly sourceNs: bigint;
}

/** Marks. */
export type GoldenMark =
  | { readonly kind: "gap"; readonly lostTotal: bigint; readonly sourceNs: bigint }
  | { readonly kind: "filter"; readonly generation: number; readonly sourceNs: bigint }
  | {
    readonly kind: "resumed";
    readonly after: bigint;
    readonly replayedTo: bigint;
    readonly liveAfter: bigint;
    readonly evicted?: bigint;
    readonly sourceNs: bigint;
  }
  | {
    readonly kind: "snapshot-complete";
    readonly asOfSequence: bigint;
    readonly known: bigint;
    readonly generation: number;
    readonly sourceNs: bigint;
  }
  | { readonly kind: "goodbye"; readonly reason: number; readonly sourceNs: bigint };

/** An update with its keys as bytes. */
export type GoldenUpdate =
  | GoldenAccount
  | FullTransaction
  | (Full<SlotUpdate> & SlotCounts);

/** Writes one value after the other: structs of frames.zig have their fields in this order and no hidden padding. */
class Writer {
  readonly bytes: number[] = [];

  u16(value: number): this {
    return this.#little(BigInt(value), 2);
  }
  u32(value: number): this {
    return this.#little(BigInt(value), 4);
  }
  u64(value: bigint): this {
    return this.#little(value, 8);
  }
  raw(value: ArrayLike<number>): this {
    for (let i = 0; i < value.length; i++) this.bytes.push(value[i]!);
    return this;
  }
  align(): this {
    while (this.bytes.length % 8 !== 0) this.bytes.push(0);
    return this;
  }
  #little(value: bigint, size: number): this {
    for (let i = 0; i < size; i++) this.bytes.push(Number((value >> BigInt(8 * i)) & 255n));
    return this;
  }
}

/** Where a reader finds the parts of variable length, from the start of the frame: what a PollRecord says. */
export interface GoldenFrame {
  readonly bytes: Uint8Array;
  readonly kind: number;
  readonly flags: number;
  readonly payload: readonly [at: number, length: number];
  readonly extra: readonly [at: number, length: number];
}

const STATUSES = ["processed", "confirmed", "finalized", "firstShredReceived", "completed", "createdBank", "dead"];

/** The frame of an update as it stands in a ring. */
export function goldenFrame(update: GoldenUpdate | GoldenLeft | GoldenMark, header: GoldenHeader): GoldenFrame {
  const body = new Writer();
  let kind: number;
  let flags = 0;
  let payload: [number, number] | undefined;
  let extra: [number, number] | undefined;
  const loaded = update.kind === "transaction" ? update.loadedAddresses : { writable: [], readonly: [] };
  switch (update.kind) {
    case "account":
      kind = 1;
      flags = (update.startup ? 1 : 0) | (update.lossy ? 2 : 0) | (update.signature ? 4 : 0) |
        (update.executable ? 8 : 0) | (update.sliced ? 128 : 0) | (update.clipped ? 256 : 0);
      body.raw(update.pubkey).raw(update.owner).u64(update.lamports).u64(update.rentEpoch).u64(update.slot)
        .u64(update.bankId).u64(update.writeVersion).u32(update.data.length)
        .u32(update.sourceEpoch).u32(update.fullLength ?? update.data.length).u32(0);
      extra = [64 + 120, update.signature ? 64 : 0];
      body.raw(update.signature ?? []);
      payload = [64 + body.bytes.length, update.data.length];
      body.raw(update.data);
      break;
    case "transaction":
      kind = 2;
      flags = (update.lossy ? 2 : 0) | (update.vote ? 16 : 0) | (update.failed ? 32 : 0) | (update.meta ? 64 : 0);
      body.u64(update.slot).u64(update.bankId).raw(update.signature).u32(update.index).u32(update.message.length)
        .u32(update.meta?.length ?? 0).u16(loaded.writable.length).u16(loaded.readonly.length);
      payload = [64 + 96, update.message.length];
      body.raw(update.message);
      if (update.meta !== undefined || loaded.writable.length + loaded.readonly.length > 0) body.align();
      for (const key of [...loaded.writable, ...loaded.readonly]) body.raw(key);
      extra = [64 + body.bytes.length, update.meta?.length ?? 0];
      body.raw(update.meta ?? []);
      break;
    case "slot":
      kind = 3;
      flags = update.lossy ? 2 : 0;
      body.u64(update.slot).u64(update.parent).u64(update.bankId)
        .u64(BigInt(update.accountsPublished)).u64(BigInt(update.transactionsPublished))
        .u64(BigInt(update.accountsLost)).u64(BigInt(update.transactionsLost))
        .u32(STATUSES.indexOf(update.status)).u32(0);
      break;
    case "gap":
      kind = 4;
      body.u64(update.lostTotal);
      break;
    case "filter":
      kind = 5;
      body.u32(update.generation).u32(0);
      break;
    case "resumed":
      kind = 11;
      body.u64(update.after).u64(update.replayedTo).u64(update.liveAfter).u64(update.evicted ?? 0n);
      break;
    case "snapshot-complete":
      kind = 8;
      body.u64(update.asOfSequence).u64(update.known).u64(0n).u64(0n).u32(update.generation).u32(0);
      break;
    case "goodbye":
      kind = 6;
      body.u32(update.reason).u32(0);
      break;
    case "left":
      kind = 7;
      body.raw(update.pubkey).raw(update.owner).u64(update.lamports).u64(update.slot).u64(update.bankId)
        .u64(update.writeVersion);
      break;
  }
  const frame = new Writer()
    .u32(64 + body.bytes.length).u16(kind).u16(flags).u64(header.sequence).u64(header.publishNs ?? 0n)
    .u64(update.sourceNs).u64(header.filterMask ?? 2n ** 64n - 1n).u32(header.lost ?? 0).u32(header.conflated ?? 0).u32(
      0,
    ).u32(0)
    .u32(body.bytes.length).u32(header.ordinal ?? 0).raw(body.bytes);
  const end: [number, number] = [frame.bytes.length, 0];
  return { bytes: Uint8Array.from(frame.bytes), kind, flags, payload: payload ?? end, extra: extra ?? end };
}
