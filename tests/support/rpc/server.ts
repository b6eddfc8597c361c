/**
 * A Solana JSON-RPC server, PubSub and `getMultipleAccounts`, that does what it is told, and goes wrong on demand. A program:
 * commands come as JSON lines on stdin (commanded.ts has the other end). What it sends is in its log before it is sent.
 * May touch: its socket, its log. Nothing here comes from src/. Run by Bun, which has both servers in one.
 */

import { Buffer } from "node:buffer";
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { base58 } from "../geyser/base58.ts";
import { type SlotPlan, World, type WorldEvent } from "../geyser/world.ts";

interface Socket {
  readonly data: Connection;
  send(text: string): number;
  close(code: number): void;
  terminate(): void;
}
interface BunServer {
  readonly port: number;
  upgrade(request: Request, options: object): boolean;
}
declare const Bun: { serve(options: object): BunServer };

type AccountEvent = Extract<WorldEvent, { kind: "account" }>;
type Subscription = { readonly kind: string; readonly param: unknown };

const [logPath = ""] = process.argv.slice(2);
const log = openSync(logPath, "w");
const world = new World(1000n);
const state = new Map<string, AccountEvent>();
const sockets = new Set<Socket>();
const requests: { method: string; params: unknown[] }[] = [];
let newest = 1000n;
let isMute = false;
let isDeaf = false;
/** What is told right behind each answer to a subscription, in the same packet as a rule. */
let behind: WorldEvent[] = [];
/** What of subscriptions and requests gets an error, by a word in its parameters. */
let refused: string | undefined;
let connections = 0;

const address = (hex: string) => base58(Buffer.from(hex, "hex"));
/** Nodes send u64 as JSON numbers, also above 2^53. */
const json = (value: unknown) => JSON.stringify(value).replace(/"#(\d+)#"/g, "$1");
const u64 = (text: string) => `#${text}#`;

function accountOf({ data, executable, lamports, owner, rentEpoch }: AccountEvent) {
  const bytes = Buffer.from(data, "hex");
  return {
    data: [bytes.toString("base64"), "base64"],
    executable,
    lamports: u64(lamports),
    owner: address(owner),
    rentEpoch: u64(rentEpoch),
    space: bytes.length,
  };
}

const isRefused = (params: unknown) => refused !== undefined && JSON.stringify(params).includes(refused);

class Connection {
  readonly subscriptions = new Map<number, Subscription>();
  #nextId = 1;

  message(socket: Socket, text: string): void {
    const { id, method, params = [] } = JSON.parse(text) as { id?: string; method: string; params?: unknown[] };
    if (method === "ping" || isDeaf) return; // kit's keep-alive has no answer
    requests.push({ method, params });
    const [, kind = "", action] = /^(\w+?)(Subscribe|Unsubscribe)$/.exec(method) ?? [];
    if (action === "Subscribe" && isRefused(params)) {
      socket.send(json({ jsonrpc: "2.0", id, error: { code: -32602, message: "not for you" } }));
    } else if (action === "Subscribe") {
      this.subscriptions.set(this.#nextId, { kind, param: params[0] });
      socket.send(json({ jsonrpc: "2.0", id, result: this.#nextId++ }));
      for (const event of behind) this.publish(socket, event);
    } else if (action === "Unsubscribe") {
      socket.send(json({ jsonrpc: "2.0", id, result: this.subscriptions.delete(Number(params[0])) }));
    } else socket.send(json({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } }));
  }

  publish(socket: Socket, event: WorldEvent): void {
    for (const [subscription, { kind, param }] of this.subscriptions) {
      const result = resultOf(kind, param, event);
      if (result === undefined) continue;
      writeSync(log, JSON.stringify({ connection: 0, ...event }) + "\n");
      if (!isMute) {
        socket.send(json({ jsonrpc: "2.0", method: `${kind}Notification`, params: { result, subscription } }));
      }
    }
  }
}

/** What a subscription says of an event; undefined if nothing. */
function resultOf(kind: string, param: unknown, event: WorldEvent): unknown {
  const context = { slot: Number(event.slot) };
  if (kind === "slot" && event.kind === "slot" && event.status === 0) {
    return { slot: Number(event.slot), parent: Number(event.parent), root: Number(event.slot) - 32 };
  }
  if (kind === "account" && event.kind === "account" && address(event.pubkey) === param) {
    return { context, value: accountOf(event) };
  }
  if (kind === "program" && event.kind === "account" && address(event.owner) === param) {
    return { context, value: { pubkey: address(event.pubkey), account: accountOf(event) } };
  }
  if (kind === "logs" && event.kind === "transaction") {
    const mentions = (param as { mentions?: string[] }).mentions;
    if (mentions !== undefined && !event.keys.some((key) => mentions.includes(address(key)))) return undefined;
    const err = event.failed ? { InstructionError: [0, { Custom: 1 }] } : null;
    return { context, value: { signature: base58(Buffer.from(event.signature, "hex")), err, logs: event.logs } };
  }
  return undefined;
}

function answer({ id, method, params }: { id: string; method: string; params: [string[]] }): unknown {
  requests.push({ method, params });
  if (method !== "getMultipleAccounts") {
    return { jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } };
  }
  const value = params[0].map((key) => {
    const event = state.get(key);
    return event === undefined ? null : accountOf(event);
  });
  return { jsonrpc: "2.0", id, result: { context: { slot: Number(newest) }, value } };
}

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request: Request, server: BunServer) {
    if (request.headers.get("upgrade") === "websocket") {
      connections++;
      return server.upgrade(request, { data: new Connection() }) ? undefined : new Response("no", { status: 400 });
    }
    const body = await request.json() as never;
    if (isRefused(body)) return new Response("slow down", { status: 429 });
    return new Response(json(answer(body)), { headers: { "content-type": "application/json" } });
  },
  websocket: {
    open: (socket: Socket) => void sockets.add(socket),
    message: (socket: Socket, text: string) => socket.data.message(socket, text),
    close: (socket: Socket) => void sockets.delete(socket),
  },
});

type Command = { readonly id: number; readonly do: string; readonly [name: string]: unknown };

const commands: Record<string, (command: Command) => unknown> = {
  advance({ slots = 1, ...plan }) {
    for (let i = 0; i < (slots as number); i++) {
      for (const event of world.advance(plan as SlotPlan)) {
        if (event.kind === "account") state.set(address(event.pubkey), event);
        if (BigInt(event.slot) > newest) newest = BigInt(event.slot);
        for (const socket of sockets) socket.data.publish(socket, event);
      }
    }
  },
  behind: (plan) => void (behind = world.advance(plan as SlotPlan)),
  requests: () => requests,
  status: () => ({
    connections,
    sockets: sockets.size,
    subscriptions: [...sockets].flatMap(({ data }) => [...data.subscriptions.values()]),
  }),
  state: ({ address }) => state.get(address as string),
  close: ({ code }) => sockets.forEach((socket) => socket.close(code as number)),
  drop: () => sockets.forEach((socket) => socket.terminate()),
  mute: ({ on }) => void (isMute = on as boolean),
  refuse: ({ word }) => void (refused = word as string | undefined),
  deaf: ({ on }) => void (isDeaf = on as boolean),
  garbage: ({ text }) => sockets.forEach((socket) => void socket.send(text as string)),
};

const say = (line: unknown) => void process.stdout.write(JSON.stringify(line) + "\n");
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line) as Command;
    say({ id: command.id, result: commands[command.do]!(command) ?? null });
  })
  .on("close", () => process.exit(0));
say({ port: server.port });
