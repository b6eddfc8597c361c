/**
 * A JSON-RPC server in a process of its own (rpc/server.ts), from the test's side.
 * May touch: that process and its log. May not touch: the library.
 */

import { CommandedServer, startServer } from "./commanded.ts";

/** What it says of itself. */
export interface RpcStatus {
  readonly connections: number;
  readonly sockets: number;
  readonly subscriptions: readonly { readonly kind: string; readonly param: unknown }[];
}

/** What it can be told: `commands` in rpc/server.ts. */
export class RpcServer extends CommandedServer {
  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  get httpUrl(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  static async start(): Promise<RpcServer> {
    return new RpcServer(await startServer("./rpc/server.ts"));
  }

  /** What it was asked, oldest first: over its sockets and by HTTP. */
  requests(): Promise<readonly { readonly method: string; readonly params: readonly unknown[] }[]> {
    return this.tell("requests");
  }

  status(): Promise<RpcStatus> {
    return this.tell<RpcStatus>("status");
  }
}
