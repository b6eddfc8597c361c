/**
 * A Yellowstone server with one subscriber.
 * May touch: a socket of the loopback. May not touch: the library.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import { type Address, getAddressDecoder, getAddressEncoder, getCompiledTransactionMessageDecoder } from "@solana/kit";
import {
  decodeRequest,
  encodeMeta,
  encodeUpdate,
  frame,
  type WireObject,
  type WireRequest,
} from "../../tests/support/geyser/protocol.ts";
import type { ReadonlyUint8Array, TransactionUpdate } from "../../src/types.ts";
import type { FeedUpdate } from "./litesvm_feed.ts";
import { recordFromUpdate, UpdateLog } from "./update_log.ts";
import type { Upstream, Wanted } from "./upstream_server.ts";

const STATUSES = ["processed", "confirmed", "finalized", "firstShredReceived", "completed", "createdBank", "dead"];
const addresses = new Map<string, Uint8Array>();
const text = (key: ReadonlyUint8Array) => getAddressDecoder().decode(key);

function bytesOf(address: Address): Uint8Array {
  const bytes = addresses.get(address) ?? new Uint8Array(getAddressEncoder().encode(address));
  addresses.set(address, bytes);
  return bytes;
}

/** @param logPath What is sent is logged there, as far as the protocol says it: the checker's oracle. */
export async function serveYellowstone(wanted: Wanted, logPath: string): Promise<Upstream> {
  const log = new UpdateLog(logPath);
  const subscribed = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  let request: WireRequest = {};
  let subscriber: http2.ServerHttp2Stream | undefined;
  const asked = (kind: "account" | "owner") =>
    new Set(Object.values(request.accounts ?? {}).flatMap((filter) => filter[kind] ?? []));
  const server = http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream) => {
    subscriber = stream;
    stream.on("error", () => {});
    stream.on("close", () => left.resolve());
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    let received = Buffer.alloc(0);
    stream.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 5 && received.length >= 5 + received.readUInt32BE(1)) {
        const end = 5 + received.readUInt32BE(1);
        const next = decodeRequest(received.subarray(5, end));
        received = received.subarray(end);
        if (next.ping === undefined) request = next;
      }
      const isAll = asked("owner").has(wanted.program) && request.transactions !== undefined &&
        wanted.accounts.every((address) => asked("account").has(address));
      if (isAll) subscribed.resolve();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const isAskedFor = (update: FeedUpdate) =>
    update.kind !== "account" || asked("account").has(text(update.pubkey)) || asked("owner").has(text(update.owner));
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    subscribed: subscribed.promise,
    left: left.promise,
    setState: () => {}, // nobody can read it
    async tell(updates) {
      for (const update of updates) {
        if (!isAskedFor(update) || subscriber === undefined || subscriber.destroyed) continue;
        log.write(recordFromUpdate(asToldBy(update)));
        const isRoom = subscriber.write(frame(encodeUpdate(wireOf(update))));
        if (!isRoom) await new Promise<void>((resolve) => subscriber!.once("drain", resolve));
      }
    },
  };
}

/** An update as Yellowstone tells it: without a bank, and with a meta of its own. */
function asToldBy(update: FeedUpdate): FeedUpdate {
  if (update.kind !== "transaction") return { ...update, bankId: 0n };
  return { ...update, bankId: 0n, meta: encodeMeta(metaOf(update)) };
}

function metaOf(update: TransactionUpdate): WireObject {
  return { ...update.failed ? { err: { err: Buffer.from([1]) } } : {}, logMessages: logsOf(update) };
}

function wireOf(update: FeedUpdate): WireObject {
  const ns = update.sourceNs ?? 0n;
  const createdAt = { seconds: (ns / 1_000_000_000n).toString(), nanos: Number(ns % 1_000_000_000n) };
  const slot = update.slot.toString();
  switch (update.kind) {
    case "account": {
      const { pubkey, owner, data, executable = false, signature } = update;
      const account = {
        pubkey,
        owner,
        data,
        executable,
        lamports: update.lamports.toString(),
        rentEpoch: (update.rentEpoch ?? 0n).toString(),
        writeVersion: (update.writeVersion ?? 0n).toString(),
        ...signature === undefined ? {} : { txnSignature: signature },
      };
      return { filters: ["demo"], account: { account, slot, isStartup: update.startup ?? false }, createdAt };
    }
    case "transaction": {
      const { signature, index, vote = false } = update;
      const transaction = {
        signature,
        isVote: vote,
        index: index.toString(),
        transaction: { signatures: [signature], message: messageOf(update) },
        meta: metaOf(update),
      };
      return { filters: ["demo"], transaction: { transaction, slot }, createdAt };
    }
    case "slot":
      return {
        filters: ["demo"],
        slot: { slot, parent: update.parent.toString(), status: STATUSES.indexOf(update.status) },
        createdAt,
      };
  }
}

/** What programs logged, which the feed has as JSON. */
export function logsOf({ meta }: TransactionUpdate): string[] {
  return (JSON.parse(Buffer.from(meta as Uint8Array).toString()) as { logs: string[] }).logs;
}

function messageOf({ message }: TransactionUpdate): WireObject {
  const compiled = getCompiledTransactionMessageDecoder().decode(message);
  if (compiled.version === 1) throw new Error("The demo has no transactions of version 1");
  const { header, staticAccounts, instructions } = compiled;
  return {
    header: {
      numRequiredSignatures: header.numSignerAccounts,
      numReadonlySignedAccounts: header.numReadonlySignerAccounts,
      numReadonlyUnsignedAccounts: header.numReadonlyNonSignerAccounts,
    },
    accountKeys: staticAccounts.map(bytesOf),
    recentBlockhash: bytesOf(compiled.lifetimeToken as Address),
    instructions: instructions.map(({ programAddressIndex, accountIndices = [], data = new Uint8Array() }) => ({
      programIdIndex: programAddressIndex,
      accounts: Uint8Array.from(accountIndices),
      data,
    })),
    versioned: compiled.version !== "legacy",
  };
}
