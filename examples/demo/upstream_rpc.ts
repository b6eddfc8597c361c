/**
 * A JSON-RPC server with one subscriber: PubSub over WebSockets, and `getMultipleAccounts`.
 * May touch: a socket of the loopback. May not touch: the library. Bun's server has both in one.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { getAddressDecoder, getBase58Decoder } from "@solana/kit";
import type { FeedAccountUpdate, FeedUpdate } from "./litesvm_feed.ts";
import type { Upstream, Wanted } from "./upstream_server.ts";
import { logsOf } from "./upstream_yellowstone.ts";

interface Socket {
  send(text: string): void;
}
declare const Bun: { serve(options: object): { port: number; upgrade(request: Request, options: object): boolean } };

/** Nodes send u64 as JSON numbers, also above 2^53. */
const json = (value: unknown) => JSON.stringify(value).replace(/"#(\d+)#"/g, "$1");
const u64 = (value: bigint) => `#${value}#`;
const text = (key: FeedAccountUpdate["pubkey"]) => getAddressDecoder().decode(key);

export function serveRpc(wanted: Wanted): Upstream {
  const subscribed = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  const state = new Map<string, FeedAccountUpdate>();
  const subscriptions = new Map<number, { socket: Socket; kind: string; param: unknown }>();
  let slot = 0n;
  let nextId = 1;
  const has = (kind: string, param?: string) =>
    [...subscriptions.values()].some((each) => each.kind === kind && (param === undefined || each.param === param));

  const answer = (id: string, method: string, params: unknown[], socket: Socket | undefined): unknown => {
    const [, kind = "", action] = /^(\w+?)(Subscribe|Unsubscribe)$/.exec(method) ?? [];
    if (action === "Subscribe" && socket !== undefined) {
      subscriptions.set(nextId, { socket, kind, param: params[0] });
      const isAll = has("slot") && has("logs") && has("program", wanted.program) &&
        wanted.accounts.every((address) => has("account", address));
      if (isAll) subscribed.resolve();
      return { jsonrpc: "2.0", id, result: nextId++ };
    }
    if (action === "Unsubscribe") return { jsonrpc: "2.0", id, result: subscriptions.delete(Number(params[0])) };
    if (method !== "getMultipleAccounts") {
      return { jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } };
    }
    const value = (params[0] as string[]).map((key) => {
      const account = state.get(key);
      return account === undefined ? null : accountOf(account);
    });
    return { jsonrpc: "2.0", id, result: { context: { slot: u64(slot) }, value } };
  };

  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request: Request, bun: { upgrade(request: Request, options: object): boolean }) {
      if (bun.upgrade(request, { data: {} })) return undefined;
      const { id, method, params } = await request.json() as { id: string; method: string; params: unknown[] };
      return new Response(json(answer(id, method, params, undefined)), {
        headers: { "content-type": "application/json" },
      });
    },
    websocket: {
      message(socket: Socket, line: string) {
        const { id, method, params = [] } = JSON.parse(line) as { id?: string; method: string; params?: unknown[] };
        if (id !== undefined) socket.send(json(answer(id, method, params, socket)));
      },
      close: () => left.resolve(),
    },
  });

  const tell = (update: FeedUpdate) => {
    const context = { slot: u64(update.slot) };
    for (const [subscription, { socket, kind, param }] of subscriptions) {
      const result = resultOf(update, kind, param, context);
      if (result !== undefined) {
        socket.send(json({ jsonrpc: "2.0", method: `${kind}Notification`, params: { result, subscription } }));
      }
    }
  };
  return {
    url: `ws://127.0.0.1:${server.port}`,
    subscribed: subscribed.promise,
    left: left.promise,
    setState(updates) {
      for (const update of updates) {
        slot = update.slot;
        if (update.kind === "account") state.set(text(update.pubkey), update);
      }
    },
    tell(updates) {
      this.setState(updates);
      for (const update of updates) tell(update);
    },
  };
}

function accountOf({ data, executable, lamports, owner, rentEpoch = 0n }: FeedAccountUpdate) {
  const base64 = Buffer.from(data as Uint8Array).toString("base64");
  return {
    data: [base64, "base64"],
    executable,
    lamports: u64(lamports),
    owner: text(owner),
    rentEpoch: u64(rentEpoch),
    space: data.length,
  };
}

/** What a subscription says of an update; undefined if nothing. */
function resultOf(update: FeedUpdate, kind: string, param: unknown, context: object): unknown {
  if (update.kind === "account" && kind === "account" && param === text(update.pubkey)) {
    return { context, value: accountOf(update) };
  }
  if (update.kind === "account" && kind === "program" && param === text(update.owner)) {
    return { context, value: { pubkey: text(update.pubkey), account: accountOf(update) } };
  }
  if (update.kind === "slot" && kind === "slot" && update.status === "processed") {
    return { slot: u64(update.slot), parent: u64(update.parent), root: u64(update.slot - 32n) };
  }
  if (update.kind === "transaction" && kind === "logs") {
    const signature = getBase58Decoder().decode(update.signature);
    return {
      context,
      value: { signature, err: update.failed ? { InstructionError: [0, { Custom: 1 }] } : null, logs: logsOf(update) },
    };
  }
  return undefined;
}
