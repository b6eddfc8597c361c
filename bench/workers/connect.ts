/**
 * A consumer of a sender that is being started by the same bench.
 * May touch: a consumer. Why it tries again: the two processes start at the same time, in any order.
 *
 * @module
 */

import { type Consumer, type ConsumerOptions, isQlasterError, setupConsumer } from "../../mod.ts";

const ATTEMPTS_MAX = 500;
const RETRY_MS = 20;

/** Connects as soon as there is a sender. */
export async function connectToSender(path: string, options: ConsumerOptions = {}): Promise<Consumer> {
  for (let attempt = 1;; attempt++) {
    try {
      return await setupConsumer(path, { reconnect: false, ...options });
    } catch (error) {
      if (!isQlasterError(error, "CONNECT_NO_SENDER") || attempt === ATTEMPTS_MAX) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
