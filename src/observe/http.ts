/**
 * Health and metrics of a sender over HTTP, for probes and Prometheus: on this host only, unless asked for more.
 * May touch: one listening port. May not touch: the sender; it looks at its stat page, as anybody.
 *
 * @module
 */

import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { openStat, type StatOptions } from "../stat/page.ts";
import { PROMETHEUS_CONTENT_TYPE, prometheusText } from "./prometheus.ts";

/** How it is served. */
export interface ServeOptions extends StatOptions {
  /** 0 for any. */
  readonly port: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
}

/** Connections at a time: one more ends the oldest, so that nobody can take all descriptors, which a sender here needs, too. */
const CONNECTIONS_MAX = 64;
/** Who says nothing for that long is ended. (Bun tells of a connection only when it has said something.) */
const SILENCE_MS = 10_000;

/** A port that answers `/metrics` and `/health`. */
export interface Served extends AsyncDisposable {
  /** Which it is. */
  readonly port: number;
}

/**
 * Serves `/metrics` (Prometheus) and `/health` (200, or 503 where the sender is gone or stuck) of the sender at `path`.
 * @throws What the system throws, such as for a port that is taken.
 */
export async function serveMetrics(path: string, options: ServeOptions): Promise<Served> {
  const server = createServer((request, response) => {
    void answer(path, options, request.url ?? "/").then(
      ([status, type, text]) => response.writeHead(status, { "content-type": type }).end(text),
      (error: Error) => response.writeHead(503, { "content-type": "text/plain" }).end(`${error.message}\n`),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host ?? "127.0.0.1", () => resolve());
    server.headersTimeout = server.requestTimeout = SILENCE_MS;
    server.setTimeout(SILENCE_MS);
    bound(server);
  });
  // Out of descriptors or the like: no reason to end the process, as an error that nobody hears of would.
  server.removeAllListeners("error").on("error", () => {});
  server.unref();
  return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: () => closed(server) };
}

function bound(server: Server): void {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    socket.on("close", () => sockets.delete(socket));
    sockets.add(socket);
    if (sockets.size <= CONNECTIONS_MAX) return;
    const oldest = sockets.values().next().value!;
    sockets.delete(oldest);
    oldest.destroy();
  });
}

async function answer(path: string, options: StatOptions, url: string): Promise<[number, string, string]> {
  const target = new URL(url, "http://localhost").pathname;
  if (target !== "/metrics" && target !== "/health") return [404, "text/plain", "/metrics or /health\n"];
  using page = openStat(path, options);
  const stat = page.read();
  if (target === "/metrics") return [200, PROMETHEUS_CONTENT_TYPE, await prometheusText(stat)];
  const isWell = !stat.isGone && !stat.isStuck;
  const { isGone, isStuck, consumers, newestSlot, sinceBeatMs } = stat;
  const body = { isGone, isStuck, sinceBeatMs, newestSlot, consumers: consumers.length };
  return [isWell ? 200 : 503, "application/json", `${JSON.stringify(body)}\n`];
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
