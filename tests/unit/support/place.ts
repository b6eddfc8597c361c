/**
 * A place where a sender and its consumers meet: a directory of its own, removed with all that is in it.
 * May touch: a temporary directory, the public API. May not touch: anything that the test does not close by itself
 * before (`await using`), apart from what it opens here.
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Consumer,
  type ConsumerOptions,
  type Sender,
  type SenderOptions,
  setupConsumer,
  setupSender,
} from "../../../mod.ts";
import { LIMIT_MS, until, within } from "./watchdog.ts";

/** Small, so that a full ring is near. */
export const CAPACITY_BYTES = 64 * 1024;

/** Opens senders and consumers at one path, and closes them in the reverse order. */
export class Place implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "qlaster-unit-"));
  readonly path: string = join(this.directory, "s.sock");
  readonly #opened: AsyncDisposable[] = [];

  async sender(options: Omit<Partial<SenderOptions>, "path"> = {}): Promise<Sender> {
    const sender = await within(
      setupSender({ ringCapacityBytes: CAPACITY_BYTES, ...options, path: this.path }),
      "a sender",
    );
    this.#opened.push(sender);
    return sender;
  }

  /** Bound to one connection, unless `reconnect` says otherwise: consumer_reconnect*_test.ts are about more of them. */
  async consumer(options: ConsumerOptions = {}): Promise<Consumer> {
    const consumer = await within(
      setupConsumer(this.path, { reconnect: false, connectTimeoutMs: LIMIT_MS, ...options }),
      "a consumer",
    );
    this.#opened.push(consumer);
    return consumer;
  }

  /** Both, and the sender knows of the consumer. */
  async pair(options: {
    sender?: Omit<Partial<SenderOptions>, "path">;
    consumer?: ConsumerOptions;
  } = {}): Promise<{ sender: Sender; consumer: Consumer }> {
    const sender = await this.sender(options.sender);
    const consumer = await this.consumer(options.consumer);
    await until(() => sender.metrics.consumers === 1, "the consumer at the sender");
    return { sender, consumer };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#opened.reverse()) await each[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
