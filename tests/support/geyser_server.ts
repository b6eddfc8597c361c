/**
 * A Geyser server in a process of its own (geyser/server.ts), from the test's side.
 * May touch: that process and its log. May not touch: the library.
 */

import { CommandedServer, type Sent, startServer } from "./commanded.ts";
import type { WireRequest } from "./geyser/protocol.ts";

export type { Sent };

/** What it says of itself. */
export interface GeyserStatus {
  readonly connections: number;
  readonly subscribers: readonly {
    readonly connection: number;
    readonly sentBytes: number;
    readonly sentUpdates: number;
    readonly waitingBytes: number;
    readonly pongs: number;
  }[];
}

/** What it can be told: `commands` in geyser/server.ts. */
export class GeyserServer extends CommandedServer {
  #scheme = "http";

  get endpoint(): string {
    return `${this.#scheme}://localhost:${this.port}`;
  }

  /** @param options.tls With the certificate of geyser/certificate.ts. */
  static async start(options: { tls?: boolean } = {}): Promise<GeyserServer> {
    const server = new GeyserServer(await startServer("./geyser/server.ts", ...options.tls ? ["tls"] : []));
    if (options.tls) server.#scheme = "https";
    return server;
  }

  status(): Promise<GeyserStatus> {
    return this.tell<GeyserStatus>("status");
  }

  /** Every request for filters so far, oldest first. */
  async requests(): Promise<readonly WireRequest[]> {
    return (await this.tell<{ request: WireRequest }[]>("requests")).map(({ request }) => request);
  }
}
