/**
 * Accepts connections on a listening descriptor through the runtime's event loop.
 * May touch: `node:net`, the same in both runtimes. May not touch: the bytes of a connection: a runtime's read would
 * drop the descriptors that come with them, so each connection is duplicated natively and the runtime's end destroyed.
 *
 * @module
 */

import { createServer, type Socket } from "node:net";
import type { Native, Watch } from "./native.ts";

/**
 * Watches a natively bound listening socket.
 * @param fd The descriptor; it belongs to the runtime from here on.
 * @param onLink Called with the native handle of each connection.
 */
export function accept(native: Native, fd: number, onLink: (link: number) => void): Promise<Watch> {
  const server = createServer({ pauseOnConnect: true }, (socket: Socket) => {
    socket.on("error", () => {});
    // Both runtimes have it; neither documents it. Without it there is nothing to duplicate: the peer sees a close.
    const accepted = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
    const link = native.linkAdopt(accepted);
    socket.destroy();
    if (link >= 0) onLink(link);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ fd }, () => {
      server.off("error", reject);
      // Out of descriptors or the like: whoever connects meanwhile waits in the queue, or sees a close, and tries again.
      server.on("error", () => {});
      resolve({
        close: () => void server.close(),
        ref: () => void server.ref(),
        unref: () => void server.unref(),
      });
    });
  });
}
