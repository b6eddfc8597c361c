/**
 * The new sender's side of a hand-over: reads a live sender like a consumer, so as to know what it knows, and then asks it
 * for its path and its order of updates (docs/adr/0014-takeover.md).
 * May touch: a consumer of its own, the new sender's fan-out through `seed`. May not touch: the path, other connections.
 * Until it asks, the old sender gives nothing up: whatever fails before that leaves everything as it was.
 *
 * @module
 */

import { clearTimeout, setTimeout } from "node:timers";
import { isQlasterError, QlasterError } from "../errors.ts";
import type { EndReason } from "../types.ts";
import { type Consumer, setupConsumer } from "./consumer.ts";
import type { HandedOver } from "./native_session.ts";
import type { UpdateView } from "./view.ts";

/** What a sender has got of the one before it. The descriptors are the caller's. */
export interface Taken extends HandedOver {
  /** 16 bytes: whose order of updates it goes on with. */
  readonly senderId: Uint8Array;
}

/** How to take over, and where to put what comes. */
export interface TakeoverOptions {
  readonly path: string;
  /** Longest time for all of it, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether to ask for accounts and transactions: who keeps no state needs none of them. */
  readonly wantsAll: boolean;
  /** Closes a descriptor that nobody wants any longer. */
  closeDescriptor(fd: number): void;
  /** Takes an update in, as the old sender has published it. */
  seed(view: UpdateView): void;
}

/** Who takes over is shown to the old sender by this name. */
const NAME = "takeover";
/** So ended, the old sender has left nothing that anybody could take over. */
const GONE: readonly (EndReason | undefined)[] = ["sender-gone", "sender-closed"];

/** Who dies while he is asked closes without an answer, as does who speaks another protocol: but then he is gone. */
const ATTEMPTS = 3;
const ATTEMPT_PAUSE_MS = 20;

class Late extends Error {}

/**
 * Takes the order of updates over from the sender that lives at the path.
 * @returns What it has left; undefined: nobody lives there, or no longer.
 * @throws {QlasterError} `TAKEOVER_REFUSED`, `TAKEOVER_FAILED`; as `setupConsumer`
 */
export async function takeOver(options: TakeoverOptions): Promise<Taken | undefined> {
  const { timeoutMs } = options;
  const action = `Cannot take over "${options.path}"`;
  const consumer = await connect(options, action);
  if (consumer === undefined) return undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`it took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([readAndAsk(consumer, options, action), late]);
  } catch (error) {
    if (isQlasterError(error, "TAKEOVER_REFUSED")) throw error;
    if (isQlasterError(error, "SUBSCRIBE_REFUSED")) {
      throw new QlasterError("TAKEOVER_REFUSED", `${action}: ${error.message}`, { cause: error });
    }
    if (isQlasterError(error) && GONE.includes(error.reason)) return undefined;
    throw new QlasterError("TAKEOVER_FAILED", `${action}: ${(error as Error).message}`, { cause: error });
  } finally {
    clearTimeout(timer);
    await consumer.close(); // and what was passed to it and not taken
  }
}

/** Undefined: nobody lives at the path. */
async function connect({ path, timeoutMs }: TakeoverOptions, action: string): Promise<Consumer | undefined> {
  for (let attempt = 1;; attempt++) {
    try {
      return await setupConsumer(path, {
        reconnect: false,
        protocol: "native",
        name: NAME,
        connectTimeoutMs: timeoutMs,
        requestTimeoutMs: timeoutMs,
      });
    } catch (error) {
      if (isQlasterError(error, "CONNECT_NO_SENDER")) return undefined;
      if (!isQlasterError(error, "CONNECT_PROTOCOL")) throw error;
      if (attempt === ATTEMPTS) {
        throw new QlasterError("TAKEOVER_REFUSED", `${action}: it speaks another protocol`, { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, ATTEMPT_PAUSE_MS));
    }
  }
}

async function readAndAsk(consumer: Consumer, options: TakeoverOptions, action: string): Promise<Taken> {
  const { wantsAll, seed } = options;
  const grant = consumer.grant;
  if (grant?.hasTakeover !== true) {
    throw new QlasterError(
      "TAKEOVER_REFUSED",
      `${action}: it hands nothing over (its option handover, or its version)`,
    );
  }
  const { promise: isKnown, resolve: onKnown } = Promise.withResolvers<void>();
  const reading = consumer.run((view) => {
    seed(view);
    if (view.kind === "snapshot-complete") onKnown();
  });
  // Ends with everything read: quietly, if we close; else by what the old sender said.
  const ended = reading.then(() => "closed" as const, (error: unknown) => {
    if (isQlasterError(error, "CONNECTION_LOST") && error.reason === "handed-over") return "handed-over" as const;
    throw error;
  });
  ended.catch(() => {}); // is awaited below, but not by who fails before
  // Until we have asked, no end is the one that we wait for.
  const tooEarly = ended.then(() => {
    throw new QlasterError("TAKEOVER_REFUSED", `${action}: another sender was faster`);
  });
  tooEarly.catch(() => {});
  if (wantsAll) {
    const asking = Promise.all([
      consumer.askForVersions(),
      consumer.subscribe({ transactions: true }),
    ]);
    asking.catch(() => {});
    await Promise.race([asking, tooEarly]);
    await Promise.race([isKnown, tooEarly]);
  }
  const asking = consumer.takeOver();
  // What can't be read or taken in ends it at once: the old sender may not answer before its ring has room.
  const failed = ended.then(() => new Promise<never>(() => {}));
  const handedOver = await Promise.race([asking, failed]).catch((error) => {
    asking.then((passed) => passed.descriptors.forEach(options.closeDescriptor), () => {});
    throw error;
  });
  try {
    // All of its updates have been read then.
    if (await ended !== "handed-over") throw new Error("it had handed over, but too late");
  } catch (error) {
    handedOver.descriptors.forEach(options.closeDescriptor);
    throw error;
  }
  return { senderId: grant.senderId, ...handedOver };
}
