/**
 * The Geyser protocol as its server speaks it, encoded by protobufjs: nothing here comes from src/, so that a wrong field
 * number there can't be wrong here as well. The official client's test compares this file with the published protocol.
 * May touch: protobufjs.
 */

import { Buffer } from "node:buffer";
import protobuf from "protobufjs";

/** As much of geyser.proto and solana-storage.proto as is used. */
const SCHEMA = `
syntax = "proto3";
message Timestamp { int64 seconds = 1; int32 nanos = 2; }

message SubscribeRequest {
  map<string, AccountsFilter> accounts = 1;
  map<string, SlotsFilter> slots = 2;
  map<string, TransactionsFilter> transactions = 3;
  optional int32 commitment = 6;
  optional PingRequest ping = 9;
  optional uint64 from_slot = 11;
}
message AccountsFilter { repeated string account = 2; repeated string owner = 3; }
message SlotsFilter { optional bool filter_by_commitment = 1; optional bool interslot_updates = 2; }
message TransactionsFilter {
  optional bool vote = 1; optional bool failed = 2; repeated string account_include = 3;
}
message PingRequest { int32 id = 1; }

message SubscribeUpdate {
  repeated string filters = 1;
  oneof update {
    AccountUpdate account = 2; SlotUpdate slot = 3; TransactionUpdate transaction = 4; Ping ping = 6; Pong pong = 9;
  }
  Timestamp created_at = 11;
}
message Ping {}
message Pong { int32 id = 1; }
message AccountUpdate { AccountInfo account = 1; uint64 slot = 2; bool is_startup = 3; }
message AccountInfo {
  bytes pubkey = 1; uint64 lamports = 2; bytes owner = 3; bool executable = 4; uint64 rent_epoch = 5; bytes data = 6;
  uint64 write_version = 7; optional bytes txn_signature = 8;
}
message SlotUpdate { uint64 slot = 1; optional uint64 parent = 2; int32 status = 3; optional string dead_error = 4; }
message TransactionUpdate { TransactionInfo transaction = 1; uint64 slot = 2; }
message TransactionInfo { bytes signature = 1; bool is_vote = 2; Transaction transaction = 3; Meta meta = 4; uint64 index = 5; }

message Transaction { repeated bytes signatures = 1; Message message = 2; }
message Message {
  Header header = 1; repeated bytes account_keys = 2; bytes recent_blockhash = 3; repeated Instruction instructions = 4;
  bool versioned = 5; repeated Lookup address_table_lookups = 6; optional Config config = 7;
}
message Header {
  uint32 num_required_signatures = 1; uint32 num_readonly_signed_accounts = 2; uint32 num_readonly_unsigned_accounts = 3;
}
message Instruction { uint32 program_id_index = 1; bytes accounts = 2; bytes data = 3; }
message Lookup { bytes account_key = 1; bytes writable_indexes = 2; bytes readonly_indexes = 3; }
message Config {
  optional uint64 priority_fee = 1; optional uint32 compute_unit_limit = 2;
  optional uint32 loaded_accounts_data_size_limit = 3; optional uint32 heap_size = 4;
}
message Meta {
  TransactionError err = 1; uint64 fee = 2; repeated string log_messages = 6;
  repeated bytes loaded_writable_addresses = 12; repeated bytes loaded_readonly_addresses = 13;
}
message TransactionError { bytes err = 1; }
`;

const root = protobuf.parse(SCHEMA, { keepCase: false }).root;
const updateType = root.lookupType("SubscribeUpdate");
const requestType = root.lookupType("SubscribeRequest");
const metaType = root.lookupType("Meta");
const messageType = root.lookupType("Message");

/** A request, as an object with the schema's names in camel case; u64s are decimal strings. */
export interface WireRequest {
  readonly accounts?: Record<string, { readonly account?: string[]; readonly owner?: string[] }>;
  readonly slots?: Record<string, { readonly interslotUpdates?: boolean; readonly filterByCommitment?: boolean }>;
  readonly transactions?: Record<
    string,
    { readonly vote?: boolean; readonly failed?: boolean; readonly accountInclude?: string[] }
  >;
  readonly commitment?: number;
  readonly ping?: { readonly id?: number };
  readonly fromSlot?: string;
}

/** Strings stand for u64s. */
export type WireObject = { readonly [name: string]: unknown };

/** The bytes of a `SubscribeUpdate`. */
export function encodeUpdate(update: WireObject): Uint8Array {
  return updateType.encode(updateType.fromObject(update)).finish();
}

/** As much of a decoded account update as a bench looks at. u64s are objects with a `toString()`. */
export interface DecodedUpdate {
  readonly account?: {
    readonly slot: object;
    readonly account?: {
      readonly pubkey: Uint8Array;
      readonly owner: Uint8Array;
      readonly lamports: object;
      readonly data: Uint8Array;
      readonly writeVersion: object;
      readonly txnSignature: Uint8Array;
    };
  };
  readonly createdAt: { readonly seconds: object; readonly nanos: number };
}

/** A `SubscribeUpdate`, decoded as protobufjs does. */
export function decodeUpdate(bytes: Uint8Array): DecodedUpdate {
  return updateType.decode(bytes) as unknown as DecodedUpdate;
}

/** The bytes of a `Meta`. */
export function encodeMeta(meta: WireObject): Uint8Array {
  return metaType.encode(metaType.fromObject(meta)).finish();
}

/** What a test looks at of a transaction's meta. */
export function decodeMeta(bytes: Uint8Array): { readonly err?: object; readonly logMessages?: string[] } {
  return metaType.toObject(metaType.decode(bytes)) as { err?: object; logMessages?: string[] };
}

/** The bytes of a `Message`. */
export function encodeMessage(message: WireObject): Uint8Array {
  return messageType.encode(messageType.fromObject(message)).finish();
}

/** The bytes of a `SubscribeRequest`. */
export function encodeRequest(request: WireRequest): Uint8Array {
  return requestType.encode(requestType.fromObject(request as WireObject)).finish();
}

/** What a client asks for. Fields that are not there are not in the object. */
export function decodeRequest(bytes: Uint8Array): WireRequest {
  const request = requestType.decode(bytes) as unknown as Record<string, Record<string, unknown> | undefined>;
  // An entry of a map without a value has an empty one; protobufjs says null.
  for (const map of ["accounts", "slots", "transactions"]) {
    for (const [name, filter] of Object.entries(request[map] ?? {})) request[map]![name] = filter ?? {};
  }
  return requestType.toObject(request as never, { longs: String }) as WireRequest;
}

/** A message with gRPC's five bytes before it. */
export function frame(message: Uint8Array, isCompressed = false): Buffer {
  const header = Buffer.alloc(5);
  header[0] = isCompressed ? 1 : 0;
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}
