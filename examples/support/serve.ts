/**
 * A page and its WebSockets, served on 127.0.0.1 in the way of either runtime.
 * May touch: the runtime's server.
 *
 * @module
 */

/** What both runtimes' sockets have. */
export interface PageSocket {
  send(text: string): unknown;
}

/** What is served. */
export interface PageOptions {
  readonly port: number;
  readonly html: string;
  onOpen(socket: PageSocket): void;
  onClose(socket: PageSocket): void;
}

declare const Deno: {
  serve(
    options: { port: number; hostname: string; onListen(): void },
    handler: (request: Request) => Response,
  ): { readonly addr: { readonly port: number } };
  upgradeWebSocket(request: Request): { socket: WebSocket; response: Response };
};
declare const Bun: {
  serve(options: {
    port: number;
    hostname: string;
    fetch(request: Request, server: { upgrade(request: Request): boolean }): Response | undefined;
    websocket: { open(socket: PageSocket): void; close(socket: PageSocket): void; message(): void };
  }): { readonly port: number };
};

const hostname = "127.0.0.1";

/** Serves from now on, until the process ends. @returns Where: at a port that is free, if it was told 0. */
export function servePage({ port, html, onOpen, onClose }: PageOptions): string {
  const page = () => new Response(html, { headers: { "content-type": "text/html; charset=utf-8" } });
  if ("Bun" in globalThis) {
    const fetch = (request: Request, server: { upgrade(request: Request): boolean }) =>
      server.upgrade(request) ? undefined : page();
    const server = Bun.serve({ port, hostname, fetch, websocket: { open: onOpen, close: onClose, message() {} } });
    return `http://${hostname}:${server.port}/`;
  }
  const { addr } = Deno.serve({ port, hostname, onListen() {} }, (request) => {
    if (request.headers.get("upgrade") !== "websocket") return page();
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onopen = () => onOpen(socket);
    socket.onclose = () => onClose(socket);
    return response;
  });
  return `http://${hostname}:${addr.port}/`;
}
