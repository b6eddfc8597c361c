/**
 * A WebSocket as a channel of kit's subscriptions, in place of kit's own for two reasons. What a node sends and is no JSON
 * throws inside an event's listener there, which ends the process in Bun; here it ends the connection. And kit listens for
 * what a subscription tells only some promises after the node's answer, while Deno hands out what comes in one read nearly
 * at once: it would lose what stands right behind the answer.
 * May touch: its socket, a turn of the event loop. May not touch: what messages mean, but for which are answers.
 *
 * @module
 */

import { setImmediate } from "node:timers";

type Listener = (data: unknown) => void;

/** kit's `RpcSubscriptionsChannel`, of text. */
export interface TextChannel {
  on(name: "error" | "message", listener: Listener, options?: { readonly signal: AbortSignal }): () => void;
  send(message: string): Promise<void>;
}

/**
 * Connects.
 * @param signal Closes it.
 * @throws {Error} if there is no connection.
 */
export function openChannel(url: string, signal: AbortSignal): Promise<TextChannel> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const listeners = { error: new Set<Listener>(), message: new Set<Listener>() };
    const socket = new WebSocket(url);
    let isOver = false;
    /** An answer was handed over in this turn of the event loop: what it made kit do may not be done. */
    let isAnswered = false;
    /** What has come behind it, in order. */
    let held: unknown[] = [];
    const hand = (data: unknown) => {
      if (isOver) return;
      try {
        for (const listener of [...listeners.message]) listener(data);
      } catch (cause) {
        end(new Error("the node sent what can't be read", { cause }));
      }
    };
    const receive = (data: unknown) => {
      const answers = isAnswer(data);
      if (held.length > 0 || (isAnswered && !answers)) {
        held.push(data);
        return;
      }
      if (answers && !isAnswered) {
        isAnswered = true;
        setImmediate(onTurn);
      }
      hand(data);
    };
    const onTurn = () => {
      isAnswered = false;
      const before = held;
      held = [];
      for (const data of before) receive(data);
    };
    const end = (error: Error) => {
      if (isOver) return;
      isOver = true;
      held = [];
      signal.removeEventListener("abort", onAbort);
      socket.close();
      reject(error); // of no effect once it was open
      for (const listener of [...listeners.error]) listener(error);
    };
    const onAbort = () => {
      isOver = true;
      held = [];
      socket.close();
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    socket.addEventListener("error", () => end(new Error(`the WebSocket to ${url} failed`)));
    socket.addEventListener("close", ({ code }) => end(new Error(`the WebSocket to ${url} was closed, code ${code}`)));
    socket.addEventListener("message", ({ data }) => receive(data));
    socket.addEventListener("open", () => {
      if (isOver) return;
      resolve({
        on(name, listener, options) {
          const set = listeners[name];
          const leave = () => {
            set.delete(listener);
            options?.signal.removeEventListener("abort", leave);
          };
          if (options?.signal.aborted) return leave;
          set.add(listener);
          options?.signal.addEventListener("abort", leave, { once: true });
          return leave;
        },
        send(message) {
          if (isOver || socket.readyState !== WebSocket.OPEN) {
            return Promise.reject(new Error(`the WebSocket to ${url} is closed`));
          }
          socket.send(message);
          return Promise.resolve();
        },
      });
    });
  });
}

/** Whether it answers a request: all else that a node says names a method. */
function isAnswer(data: unknown): boolean {
  return typeof data === "string" && !data.includes('"method"');
}
