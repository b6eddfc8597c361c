/**
 * A Solana node's PubSub server, as far as a program of kit's sees one: told what its banks hold, it tells its subscribers
 * what a node would, at their commitments. An oracle: it shares no code with the library, and reads nothing of it but
 * updates.
 * May touch: a WebSocket server of the runtime's, on 127.0.0.1. May not touch: src/, but for types.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { AccountUpdate, TransactionUpdate, Update } from "../../mod.ts";

type Commitment = "processed" | "confirmed" | "finalized";
const RANKS: readonly Commitment[] = ["processed", "confirmed", "finalized"];

interface Bank {
  readonly slot: bigint;
  parent: bigint;
  rank: number;
  readonly accounts: Map<string, AccountUpdate>;
  readonly transactions: TransactionUpdate[];
}

interface Wish {
  readonly id: number;
  readonly kind: string;
  readonly subject: unknown;
  readonly config: { commitment?: Commitment; filters?: readonly Record<string, unknown>[] };
  readonly send: (text: string) => void;
}

/** Texts of keys and signatures, made by kit in the test. */
export interface Texts {
  address(bytes: Uint8Array): string;
  signature(bytes: Uint8Array): string;
}

/** Nodes write u64 as plain numbers, even beyond 2^53. */
function jsonOf(value: unknown): string {
  return JSON.stringify(value, (_, each) => typeof each === "bigint" ? `#${each}#` : each).replace(/"#(\d+)#"/g, "$1");
}

/** One server. */
export class RpcNode implements AsyncDisposable {
  readonly #texts: Texts;
  readonly #banks = new Map<bigint, Bank>();
  readonly #wishes = new Map<number, Wish>();
  readonly #close: () => Promise<void>;
  readonly url: string;
  #lastId = 0;
  #root = 0n;

  private constructor(texts: Texts, serve: (node: () => RpcNode) => { port: number; close(): Promise<void> }) {
    this.#texts = texts;
    const { port, close } = serve(() => this);
    this.url = `ws://127.0.0.1:${port}`;
    this.#close = close;
  }

  static open(texts: Texts): RpcNode {
    return new RpcNode(texts, "Bun" in globalThis ? serveInBun : serveInDeno);
  }

  // What its banks hold

  take(update: Update): void {
    const bank = this.#bank(update.slot);
    switch (update.kind) {
      case "account":
        return void bank.accounts.set(this.#texts.address(update.pubkey as Uint8Array), update);
      case "transaction":
        return void bank.transactions.push(update);
      case "slot":
        bank.parent = update.parent;
        return this.#onStatus(bank, RANKS.indexOf(update.status as Commitment));
    }
  }

  #bank(slot: bigint): Bank {
    let bank = this.#banks.get(slot);
    if (bank === undefined) {
      bank = { slot, parent: slot - 1n, rank: -1, accounts: new Map(), transactions: [] };
      this.#banks.set(slot, bank);
    }
    return bank;
  }

  #onStatus(tip: Bank, rank: number): void {
    if (rank < 0) return;
    const chain: Bank[] = [];
    for (let at: Bank | undefined = tip; at !== undefined && at.rank < rank; at = this.#banks.get(at.parent)) {
      chain.unshift(at);
    }
    for (const bank of rank === 0 ? [tip] : chain) {
      bank.rank = rank;
      this.#tell(bank, RANKS[rank]!);
    }
    if (rank === 0) this.#tellAll("slot", { parent: tip.parent, root: this.#root, slot: tip.slot });
    if (rank !== 2) return;
    this.#root = tip.slot;
    this.#tellAll("root", tip.slot);
  }

  #tell(bank: Bank, commitment: Commitment): void {
    const context = { slot: bank.slot };
    for (const wish of [...this.#wishes.values()]) {
      if ((wish.config.commitment ?? "finalized") !== commitment) continue;
      for (const [pubkey, update] of bank.accounts) {
        const account = this.#account(update);
        if (wish.kind === "account" && wish.subject === pubkey) this.#send(wish, { context, value: account });
        if (wish.kind !== "program" || wish.subject !== account.owner) continue;
        if (this.#passes(update, wish)) this.#send(wish, { context, value: { account, pubkey } });
      }
      for (const transaction of bank.transactions) {
        if (wish.kind !== "signature" || wish.subject !== this.#texts.signature(transaction.signature as Uint8Array)) {
          continue;
        }
        this.#send(wish, { context, value: { err: null } });
        this.#wishes.delete(wish.id); // a node forgets it by itself
      }
    }
  }

  #account(update: AccountUpdate) {
    return {
      data: [Buffer.from(update.data as Uint8Array).toString("base64"), "base64"],
      executable: update.executable ?? false,
      lamports: update.lamports,
      owner: this.#texts.address(update.owner as Uint8Array),
      rentEpoch: update.rentEpoch ?? 2n ** 64n - 1n,
      space: BigInt(update.data.length),
    };
  }

  #passes({ data }: AccountUpdate, { config }: Wish): boolean {
    return (config.filters ?? []).every((filter) => {
      if (filter.dataSize !== undefined) return data.length === filter.dataSize;
      const { offset, bytes, encoding } = filter.memcmp as { offset: number; bytes: string; encoding: string };
      if (encoding !== "base64") throw new Error("this node takes base64 only");
      const wanted = Buffer.from(bytes, "base64");
      return wanted.equals(Buffer.from((data as Uint8Array).subarray(offset, offset + wanted.length)));
    });
  }

  #tellAll(kind: string, result: unknown): void {
    for (const wish of [...this.#wishes.values()]) if (wish.kind === kind) this.#send(wish, result);
  }

  #send({ send, kind, id }: Wish, result: unknown): void {
    send(jsonOf({ jsonrpc: "2.0", method: `${kind}Notification`, params: { result, subscription: id } }));
  }

  // Its wire

  message(text: string, send: (text: string) => void): void {
    const { id, method, params } = JSON.parse(text) as { id?: string; method: string; params: unknown[] };
    if (id === undefined) return; // a ping
    const [, kind, action] = /^(\w+?)(Subscribe|Unsubscribe)$/.exec(method) ?? [];
    if (action === "Unsubscribe") {
      return send(jsonOf({ jsonrpc: "2.0", id, result: this.#wishes.delete(params[0] as number) }));
    }
    const wish = {
      id: ++this.#lastId,
      kind: kind!,
      subject: params?.[0],
      config: (params?.[1] ?? {}) as Wish["config"],
      send,
    };
    this.#wishes.set(wish.id, wish);
    send(jsonOf({ jsonrpc: "2.0", id, result: wish.id }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

// The two hosts

interface Served {
  readonly port: number;
  close(): Promise<void>;
}

declare const Deno: {
  serve(
    options: { port: number; hostname: string; onListen(): void },
    handler: (request: Request) => Response,
  ): { addr: { port: number }; shutdown(): Promise<void> };
  upgradeWebSocket(request: Request): { socket: WebSocket; response: Response };
};

function serveInDeno(node: () => RpcNode): Served {
  const sockets = new Set<WebSocket>();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    sockets.add(socket);
    const send = (text: string) => void (socket.readyState === WebSocket.OPEN && socket.send(text));
    socket.onmessage = ({ data }) => node().message(String(data), send);
    socket.onclose = () => sockets.delete(socket);
    return response;
  });
  const close = async () => {
    for (const socket of sockets) socket.close();
    await server.shutdown();
  };
  return { port: server.addr.port, close };
}

interface BunSocket {
  send(text: string): number;
}
declare const Bun: {
  serve(options: {
    port: number;
    hostname: string;
    fetch(request: Request, server: { upgrade(request: Request): boolean }): Response | undefined;
    websocket: { message(socket: BunSocket, message: string): void };
  }): { port: number; stop(closeActive: boolean): Promise<void> };
};

function serveInBun(node: () => RpcNode): Served {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request, server) => server.upgrade(request) ? undefined : new Response("no"),
    websocket: { message: (socket, text) => node().message(text, (answer) => void socket.send(answer)) },
  });
  return { port: server.port, close: async () => void await server.stop(true) };
}
