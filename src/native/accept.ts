/**
 * Accepts connections on a natively bound listener through the runtime's event loop.
 * May touch: `node:net`, the same in both runtimes. May not touch: the bytes of a connection: a runtime's read would
 * drop the descriptors that come with them, so each connection is duplicated natively and the runtime's end destroyed.
 *
 * @module
 */

import { createServer, type Socket } from "node:net";
import type { Native, Watch } from "./native.ts";

/** How often a runtime that can't take up a listening socket looks for connections, in milliseconds. */
const POLL_MS = 10;
/** Connections that one look takes: who connects without end must not keep the event loop. */
const LINKS_PER_LOOK_MAX = 256;

/**
 * Watches a listener.
 * @param listener Its native handle.
 * @param onLink Called with the native handle of each connection.
 */
export async function accept(native: Native, listener: number, onLink: (link: number) => void): Promise<Watch> {
  const fd = native.listenerFd(listener);
  if (fd >= 0) {
    try {
      return await serve(native, fd, onLink);
    } catch {
      // Deno before 2.8.3 refuses a listening descriptor (EEXIST).
    }
  }
  return poll(native, listener, onLink);
}

/** @param fd A duplicate of the listening socket; it belongs to the runtime from here on. */
function serve(native: Native, fd: number, onLink: (link: number) => void): Promise<Watch> {
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

function poll(native: Native, listener: number, onLink: (link: number) => void): Watch {
  const timer = setInterval(() => {
    for (let taken = 0; taken < LINKS_PER_LOOK_MAX; taken++) {
      const link = native.listenerAccept(listener);
      if (link < 0) return;
      onLink(link);
    }
  }, POLL_MS) as unknown as { ref?: () => void; unref?: () => void } & ReturnType<typeof setInterval>;
  return {
    close: () => clearInterval(timer),
    ref: () => timer.ref?.(),
    unref: () => timer.unref?.(),
  };
}
