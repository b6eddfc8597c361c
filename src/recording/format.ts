/**
 * What a recording's files look like to MCAP: profile, channels, schemas, names. ADR 0023 says why so.
 * May touch: the generated layout. May not touch: files.
 *
 * @module
 */

import {
  AccountBody,
  FilterMarkBody,
  FrameHeader,
  FrameKind,
  GapBody,
  LAYOUT_VERSION,
  LeftBody,
  ResumedBody,
  RollbackBody,
  SlotBody,
  SnapshotCompleteBody,
  TransactionBody,
} from "../native/abi.generated.ts";

/** MCAP's name of who wrote a file in what convention. */
export const PROFILE = "qlaster";
/** What messages are: frames of this version of the layout (docs/protocol.md). */
export const FRAME_ENCODING: string = `qlaster-frame-${LAYOUT_VERSION}`;
/** What schemas are: JSON, a list of fields with offsets, for readers in any language. */
export const SCHEMA_ENCODING = "qlaster-fields";
/** Name of the MCAP metadata record of a whole segment. */
export const SEGMENT_METADATA = "qlaster.segment";

/** A completed segment; one that is being written, or whose writer died, has `PART_SUFFIX` behind it. */
export const SEGMENT_SUFFIX = ".mcap";
/** Ends the name of a segment that is not complete. */
export const PART_SUFFIX = ".part";
const NUMBER_DIGITS = 8;

/** The name of a segment. @param number From 1 on. */
export function segmentName(number: number): string {
  return `${String(number).padStart(NUMBER_DIGITS, "0")}${SEGMENT_SUFFIX}`;
}

/** What the name of a segment says. */
export interface ParsedSegmentName {
  readonly number: number;
  /** It is not complete. */
  readonly isPart: boolean;
  /** It is being copied into segments from this number on; undefined if it is not. */
  readonly copiedTo: number | undefined;
}

/** The name of a part that is being recovered. @param copiedTo The number of the first segment that gets what is in it. */
export function recoveringName(number: number, copiedTo: number): string {
  return `${segmentName(number)}.to-${String(copiedTo).padStart(NUMBER_DIGITS, "0")}${PART_SUFFIX}`;
}

/** The number in a segment's name, and whether it is complete; undefined for other files. */
export function parseSegmentName(name: string): ParsedSegmentName | undefined {
  const match = /^(\d{8})\.mcap(?:(?:\.to-(\d{8}))?(\.part))?$/.exec(name);
  if (match === null) return undefined;
  const [, number, copiedTo, part] = match;
  return {
    number: Number(number),
    isPart: part !== undefined,
    copiedTo: copiedTo === undefined ? undefined : Number(copiedTo),
  };
}

/** One channel of a segment. The ids are the places in {@linkcode CHANNELS}. */
export interface ChannelInfo {
  /** MCAP's topic. */
  readonly topic: string;
  /** What a message is. */
  readonly encoding: string;
  /** The schema's name, and its fields: name, offset in bytes, type. */
  readonly schema: string;
  readonly fields: readonly Field[];
}

/** A field of a fixed place: little-endian numbers, or bytes. */
export type Field = readonly [name: string, offset: number, type: `u${8 | 16 | 32 | 64}` | `bytes${number}`];

const HEADER: readonly Field[] = [
  ["length", FrameHeader.length, "u32"],
  ["kind", FrameHeader.kind, "u16"],
  ["flags", FrameHeader.flags, "u16"],
  ["sequence", FrameHeader.sequence, "u64"],
  ["publish_ns", FrameHeader.publishNs, "u64"],
  ["source_ns", FrameHeader.sourceNs, "u64"],
  ["filter_mask", FrameHeader.filterMask, "u64"],
  ["lost", FrameHeader.lost, "u32"],
  ["conflated", FrameHeader.conflated, "u32"],
  ["ordinal", FrameHeader.ordinal, "u32"],
];

function body(...fields: readonly Field[]): readonly Field[] {
  return [...HEADER, ...fields.map(([name, offset, type]): Field => [name, FrameHeader.size + offset, type])];
}

/** What stands for a slot's first update, so that a slot is found without reading everything. */
export const SlotIndexEntry = { size: 16, slot: 0, sequence: 8 } as const;

/** Topics of the channels, by what goes there. */
export const ACCOUNT_CHANNEL = 1;
/** Transactions. */
export const TRANSACTION_CHANNEL = 2;
/** Slots. */
export const SLOT_CHANNEL = 3;
/** Everything else that a ring brings: gap, left, filter. */
export const MARK_CHANNEL = 4;
/** One small message for each slot that begins. */
export const SLOT_INDEX_CHANNEL = 5;
/** What the masks of the frames behind it mean: JSON, {@linkcode MaskNames}. */
export const FILTER_NAMES_CHANNEL = 6;
/** Where the stream was interrupted, and goes on: JSON, as seams.ts writes it. */
export const SEAM_CHANNEL = 7;

/** The names of the filters in one mask, which hold until another such message says otherwise. */
export interface MaskNames {
  /** The mask, in decimal. */
  readonly mask: string;
  /** By their bits; "" is the filter of `subscribe`. */
  readonly names: readonly string[];
}

/** By id; there is no channel 0. */
export const CHANNELS: readonly (ChannelInfo | undefined)[] = [
  undefined,
  {
    topic: "account",
    encoding: FRAME_ENCODING,
    schema: "qlaster.Account",
    fields: body(
      ["pubkey", AccountBody.pubkey, "bytes32"],
      ["owner", AccountBody.owner, "bytes32"],
      ["lamports", AccountBody.lamports, "u64"],
      ["rent_epoch", AccountBody.rentEpoch, "u64"],
      ["slot", AccountBody.slot, "u64"],
      ["bank_id", AccountBody.bankId, "u64"],
      ["write_version", AccountBody.writeVersion, "u64"],
      ["data_length", AccountBody.dataLength, "u32"],
      ["source_epoch", AccountBody.sourceEpoch, "u32"],
      ["full_length", AccountBody.fullLength, "u32"],
    ),
  },
  {
    topic: "transaction",
    encoding: FRAME_ENCODING,
    schema: "qlaster.Transaction",
    fields: body(
      ["slot", TransactionBody.slot, "u64"],
      ["bank_id", TransactionBody.bankId, "u64"],
      ["signature", TransactionBody.signature, "bytes64"],
      ["index", TransactionBody.index, "u32"],
      ["message_length", TransactionBody.messageLength, "u32"],
      ["meta_length", TransactionBody.metaLength, "u32"],
      ["loaded_writable_count", TransactionBody.loadedWritableCount, "u16"],
      ["loaded_readonly_count", TransactionBody.loadedReadonlyCount, "u16"],
    ),
  },
  {
    topic: "slot",
    encoding: FRAME_ENCODING,
    schema: "qlaster.Slot",
    fields: body(
      ["slot", SlotBody.slot, "u64"],
      ["parent", SlotBody.parent, "u64"],
      ["bank_id", SlotBody.bankId, "u64"],
      ["accounts_published", SlotBody.accountsPublished, "u64"],
      ["transactions_published", SlotBody.transactionsPublished, "u64"],
      ["accounts_lost", SlotBody.accountsLost, "u64"],
      ["transactions_lost", SlotBody.transactionsLost, "u64"],
      ["status", SlotBody.status, "u32"],
    ),
  },
  { topic: "mark", encoding: FRAME_ENCODING, schema: "qlaster.Mark", fields: HEADER },
  {
    topic: "slot-index",
    encoding: "qlaster-slot-index-1",
    schema: "qlaster.SlotIndex",
    fields: [["slot", SlotIndexEntry.slot, "u64"], ["sequence", SlotIndexEntry.sequence, "u64"]],
  },
  { topic: "filter-names", encoding: "json", schema: "qlaster.FilterNames", fields: [] },
  { topic: "seam", encoding: "json", schema: "qlaster.Seam", fields: [] },
];

/** Bytes that a frame of each kind has at least. A kind that is not here can't be replayed, and is left out. */
export const FRAME_BYTES_MIN: Partial<Record<number, number>> = {
  [FrameKind.account]: FrameHeader.size + AccountBody.size,
  [FrameKind.transaction]: FrameHeader.size + TransactionBody.size,
  [FrameKind.slot]: FrameHeader.size + SlotBody.size,
  [FrameKind.gap]: FrameHeader.size + GapBody.size,
  [FrameKind.left]: FrameHeader.size + LeftBody.size,
  [FrameKind.filter]: FrameHeader.size + FilterMarkBody.size,
  [FrameKind.snapshotComplete]: FrameHeader.size + SnapshotCompleteBody.size,
  [FrameKind.rollback]: FrameHeader.size + RollbackBody.size,
  [FrameKind.withdrawn]: FrameHeader.size + LeftBody.size,
  [FrameKind.resumed]: FrameHeader.size + ResumedBody.size,
};

/** The schema of a channel as it stands in the file. */
export function schemaText({ fields }: ChannelInfo): string {
  const list = fields.map(([name, offset, type]) => ({ name, offset, type }));
  return JSON.stringify({ endian: "little", layoutVersion: LAYOUT_VERSION, fields: list });
}
