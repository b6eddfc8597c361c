/**
 * A Geyser server that does what it is told, and goes wrong on demand. A program: commands come as JSON lines on stdin, each
 * is answered by one on stdout (geyser_server.ts has the other end). What it sends is in its log before it is sent.
 * May touch: its socket, its log. Nothing here comes from src/.
 * It is run by Bun: a Deno 2.9.6 process that is an HTTP/2 server dies natively now and then (denoland/deno#36788).
 */

import { Buffer } from "node:buffer";
import { openSync, writeSync } from "node:fs";
import * as http2 from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { gzipSync } from "node:zlib";
import { base58 } from "./base58.ts";
import { CERTIFICATE, KEY } from "./certificate.ts";
import { decodeRequest, encodeUpdate, frame, type WireRequest } from "./protocol.ts";
import { type SlotPlan, updateOf, World, type WorldEvent } from "./world.ts";

/** What the next subscribers meet, until told otherwise. */
interface Manners {
  /** Answered to each subscription. */
  refuse?: { readonly code: number; readonly text: string };
  /** The oldest slot that is replayed; below it OUT_OF_RANGE. */
  replayFrom?: string;
  /** from_slot is not known here. */
  ignoresFromSlot?: boolean;
  /** Connections are taken, and nobody answers. */
  isDeaf?: boolean;
  gzip?: boolean;
  pingMs?: number;
  /** Each subscription that many milliseconds after its first data: INTERNAL. */
  lagAfter?: number;
  /** Bytes of a write to the socket, at most: frames are then cut anywhere. */
  chunkBytes?: number;
}

const [logPath = "", tls = ""] = process.argv.slice(2);
const log = openSync(logPath, "w");
const world = new World(1000n);
const requests: { connection: number; request: WireRequest }[] = [];
let manners: Manners = {};
let connections = 0;
let isMute = false;

const sockets = new Set<Socket>();
const subscribers = new Set<Subscriber>();

/** One subscription. */
class Subscriber {
  readonly connection: number;
  readonly #stream: http2.ServerHttp2Stream;
  readonly #manners: Manners;
  #request: WireRequest = {};
  #received = Buffer.alloc(0);
  #isSubscribed = false;
  #trailers: Record<string, string> = { "grpc-status": "0" };
  #timer: ReturnType<typeof setInterval> | undefined;
  sentBytes = 0;
  sentUpdates = 0;
  pongs = 0;

  constructor(stream: http2.ServerHttp2Stream, connection: number) {
    this.#stream = stream;
    this.connection = connection;
    this.#manners = manners;
    stream.on("error", () => {});
    stream.on("close", () => {
      clearInterval(this.#timer);
      subscribers.delete(this);
    });
    stream.on("wantTrailers", () => stream.sendTrailers(this.#trailers));
    stream.respond(
      { ":status": 200, "content-type": "application/grpc", ...manners.gzip ? { "grpc-encoding": "gzip" } : {} },
      { waitForTrailers: true },
    );
    if (manners.refuse !== undefined) {
      this.fail(manners.refuse.code, manners.refuse.text);
      return;
    }
    this.#timer = setInterval(() => this.#send([encodeUpdate({ filters: [], ping: {} })]), manners.pingMs ?? 10_000);
    stream.on("data", (chunk: Buffer) => this.#onData(chunk));
    subscribers.add(this);
  }

  get waitingBytes(): number {
    return this.#stream.writableLength;
  }

  /** Those of these events that it wants. */
  publish(events: readonly WorldEvent[]): void {
    if (!this.#isSubscribed) return;
    const messages: Uint8Array[] = [];
    for (const event of events) {
      const filters = this.#filtersOf(event);
      if (filters.length === 0) continue;
      writeSync(log, JSON.stringify({ connection: this.connection, ...event }) + "\n");
      messages.push(encodeUpdate(updateOf(event, filters)));
      this.sentUpdates++;
    }
    this.#send(messages);
  }

  fail(code: number, text: string): void {
    this.#trailers = { "grpc-status": String(code), "grpc-message": encodeURIComponent(text) };
    this.#stream.end();
  }

  /** Bytes that stand in no log. */
  raw(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  goaway(): void {
    this.#stream.session?.goaway();
  }

  reset(): void {
    this.#stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  }

  #send(messages: readonly Uint8Array[]): void {
    if (isMute || this.#stream.destroyed || messages.length === 0) return;
    const { gzip, chunkBytes } = this.#manners;
    const bytes = Buffer.concat(messages.map((message) => gzip ? frame(gzipSync(message), true) : frame(message)));
    this.sentBytes += bytes.length;
    const step = chunkBytes ?? 65_536;
    for (let i = 0; i < bytes.length; i += step) this.#stream.write(bytes.subarray(i, i + step));
  }

  #onData(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 5) {
      const end = 5 + this.#received.readUInt32BE(1);
      if (this.#received.length < end) return;
      const request = decodeRequest(this.#received.subarray(5, end));
      this.#received = this.#received.subarray(end);
      this.#onRequest(request);
    }
  }

  #onRequest(request: WireRequest): void {
    if (request.ping !== undefined) {
      this.pongs++;
      return this.#send([encodeUpdate({ filters: [], pong: { id: request.ping.id ?? 0 } })]);
    }
    requests.push({ connection: this.connection, request });
    this.#request = request;
    this.#isSubscribed = true;
    if (request.fromSlot === undefined || this.#manners.ignoresFromSlot) return;
    const { replayFrom } = this.#manners;
    if (replayFrom !== undefined && BigInt(request.fromSlot) < BigInt(replayFrom)) {
      return this.fail(11, `broadcast from ${request.fromSlot} is not available, last available: ${replayFrom}`);
    }
    for (const [slot, events] of world.history) if (slot >= BigInt(request.fromSlot)) this.publish(events);
  }

  #filtersOf(event: WorldEvent): string[] {
    const names: string[] = [];
    const { accounts = {}, slots = {}, transactions = {} } = this.#request;
    if (event.kind === "slot") {
      for (const [name, filter] of Object.entries(slots)) {
        if (event.status <= 2 || filter.interslotUpdates) names.push(name);
      }
    } else if (event.kind === "account") {
      for (const [name, { account = [], owner = [] }] of Object.entries(accounts)) {
        if (account.length > 0 && !account.includes(base58(Buffer.from(event.pubkey, "hex")))) continue;
        if (owner.length > 0 && !owner.includes(base58(Buffer.from(event.owner, "hex")))) continue;
        names.push(name);
      }
    } else {
      for (const [name, { vote, failed, accountInclude = [] }] of Object.entries(transactions)) {
        if (vote !== undefined && vote !== event.vote) continue;
        if (failed !== undefined && failed !== event.failed) continue;
        const keys = event.keys.map((key) => base58(Buffer.from(key, "hex")));
        if (accountInclude.length > 0 && !accountInclude.some((key) => keys.includes(key))) continue;
        names.push(name);
      }
    }
    return names;
  }
}

const server = tls === "tls" ? http2.createSecureServer({ key: KEY, cert: CERTIFICATE }) : http2.createServer();
server.on("session", (session) => void session.on("error", () => {}));
server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
  const connection = ++connections;
  if (manners.isDeaf) return;
  if (headers[":path"] !== "/geyser.Geyser/Subscribe") {
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "12" }, { endStream: true });
    return;
  }
  new Subscriber(stream, connection);
});

/** Stands before the server, so that a connection can be cut at any byte, or go deaf. */
const front = createServer((socket) => {
  const inner = connect((server.address() as { port: number }).port, "127.0.0.1");
  sockets.add(socket);
  for (const [from, to] of [[socket, inner], [inner, socket]] as const) {
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroy());
    from.pipe(to);
  }
  socket.on("close", () => sockets.delete(socket));
});

type Command = { readonly id: number; readonly do: string; readonly [name: string]: unknown };

const commands: Record<string, (command: Command) => unknown> = {
  advance({ slots = 1, ...plan }) {
    for (let i = 0; i < (slots as number); i++) {
      const events = world.advance(plan as SlotPlan);
      for (const subscriber of subscribers) subscriber.publish(events);
    }
  },
  manners(command) {
    const { id: _id, do: _do, ...rest } = command;
    manners = rest as Manners;
  },
  status: () => ({
    connections,
    subscribers: [...subscribers].map(({ connection, sentBytes, sentUpdates, waitingBytes, pongs }) => ({
      connection,
      sentBytes,
      sentUpdates,
      waitingBytes,
      pongs,
    })),
  }),
  requests: () => requests,
  fail: ({ code, text }) => subscribers.forEach((subscriber) => subscriber.fail(code as number, text as string)),
  raw: ({ hex }) => subscribers.forEach((subscriber) => subscriber.raw(Buffer.from(hex as string, "hex"))),
  goaway: () => subscribers.forEach((subscriber) => subscriber.goaway()),
  reset: () => subscribers.forEach((subscriber) => subscriber.reset()),
  drop: () => sockets.forEach((socket) => socket.resetAndDestroy()),
  mute: ({ on }) => void (isMute = on as boolean),
  restartNode: () => world.restartNode(),
};

const say = (line: unknown) => void process.stdout.write(JSON.stringify(line) + "\n");

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line) as Command;
    say({ id: command.id, result: commands[command.do]!(command) ?? null });
  })
  .on("close", () => process.exit(0));
process.on("uncaughtException", (error) => say({ error: String(error) }));
server.listen(0, "127.0.0.1", () => {
  front.listen(0, "127.0.0.1", () => say({ port: (front.address() as { port: number }).port }));
});
