/**
 * Questions to a sender that wait for their answer, each with a deadline.
 * May touch: timers. May not touch: links; who asks sends, who receives hands the answer over.
 *
 * @module
 */

import { clearTimeout, setTimeout } from "node:timers";
import { QlasterError } from "../errors.ts";
import type { Message } from "../wire/messages.ts";
import { onceHeard } from "./turns.ts";

interface Waiting<Answer> {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/** The open questions of one consumer, by request id. */
export class Requests<Answer extends { readonly requestId: number } = Message> {
  readonly #whom: string;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting<Answer>>();
  #lastId = 0;

  /** @param whom Who is asked, for the error's text. */
  constructor(whom: string, timeoutMs: number) {
    this.#whom = whom;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * @param send Sends the question under the id that it is given.
   * @throws {QlasterError} `CONNECT_TIMEOUT`; what `send` throws.
   */
  ask(send: (id: number) => void): Promise<Answer> {
    const id = this.#lastId = (this.#lastId + 1) >>> 0 || 1; // 0 stands for "no answer expected"
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#waiting.delete(id);
      };
      const waiting: Waiting<Answer> = {
        resolve: (answer) => (settle(), resolve(answer)),
        reject: (error) => (settle(), reject(error)),
      };
      const onLate = () =>
        waiting.reject(
          new QlasterError("CONNECT_TIMEOUT", `No answer from ${this.#whom} within ${this.#timeoutMs} ms`),
        );
      // An answer that came while our own loop stood still is not late.
      const timer = setTimeout(() => onceHeard(onLate), this.#timeoutMs);
      this.#waiting.set(id, waiting);
      try {
        send(id);
      } catch (error) {
        waiting.reject(error);
      }
    });
  }

  /** Hands an answer to who asked. An answer to no question is dropped: its asker may have given up. */
  answer(answer: Answer): void {
    this.#waiting.get(answer.requestId)?.resolve(answer);
  }

  /** No answer will come. */
  rejectAll(error: unknown): void {
    for (const waiting of [...this.#waiting.values()]) waiting.reject(error);
  }
}
