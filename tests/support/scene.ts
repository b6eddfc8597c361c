/**
 * A sender in this process with one honest consumer, and the proof that both are unharmed afterwards.
 * May touch: the library as a user would, /proc.
 */

import assert from "node:assert/strict";
import {
  type Consumer,
  type ConsumerEvent,
  load,
  type Sender,
  type SenderOptions,
  setupConsumer,
  setupSender,
} from "../../mod.ts";
import type { Native } from "../../src/native/native.ts";
import { eventually, type Footprint, footprintOf, settlesAt } from "./footprint.ts";
import type { Held } from "./guarded.ts";
import type { RawConsumer } from "./raw_peer.ts";
import { ownerKey } from "./script.ts";
import { Temporary } from "./temporary.ts";

export class Scene {
  readonly native: Native;
  readonly path: string;
  readonly sender: Sender;
  /** Ends of connections, except those of `assertUnharmed`. */
  readonly ends: string[] = [];
  readonly temporary: Temporary;
  readonly #honest: Consumer;
  readonly #before: Footprint;
  #slot = 0n;

  private constructor(native: Native, temporary: Temporary, sender: Sender, honest: Consumer, before: Footprint) {
    this.native = native;
    this.temporary = temporary;
    this.path = sender.path;
    this.sender = sender;
    this.#honest = honest;
    this.#before = before;
    sender.onConsumer((event: ConsumerEvent) => {
      if (event.type === "disconnected" && event.consumer.name !== "honest") this.ends.push(event.reason);
    });
  }

  static async open(held: Held, options: Partial<SenderOptions> = {}): Promise<Scene> {
    const native = await load();
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sender = held.use(
      await setupSender({ path, ringCapacityBytes: 65536, handshakeTimeoutMs: 500, ...options }),
    );
    const honest = held.use(await setupConsumer(path, { reconnect: false, name: "honest", idle: "park" }));
    await honest.subscribe({ owners: [ownerKey(0)] });
    // What the runtime opens at the first use of something is no leak: so once around first.
    const warm = await setupConsumer(path, { name: "honest", idle: "park" });
    const connected = footprintOf("self");
    await warm.close();
    await eventually("the warm-up is over", () => {
      const now = footprintOf("self");
      return now.descriptors.length <= connected.descriptors.length - 5 && sender.consumers().length === 1;
    });
    return new Scene(native, temporary, sender, honest, footprintOf("self"));
  }

  /** The honest consumer still gets everything, so does a new one, and nothing is left of anybody else. */
  async assertUnharmed(): Promise<void> {
    await this.#assertDelivers(this.#honest);
    await this.assertServes();
    await eventually("only the honest consumer is left", () => this.sender.consumers().length === 1);
    await settlesAt("self", this.#before);
    assert.equal(this.#honest.metrics.lost, 0);
    assert.equal(this.sender.metrics.memoryBytes, 65536 + 2 * 65536);
  }

  /** A new consumer gets what it asks for. */
  async assertServes(): Promise<void> {
    const fresh = await setupConsumer(this.path, { reconnect: false, name: "honest", idle: "park" });
    await fresh.subscribe({ owners: [ownerKey(0)] });
    await this.#assertDelivers(this.#honest, fresh);
    await fresh.close();
  }

  async #assertDelivers(...consumers: Consumer[]): Promise<void> {
    const slot = ++this.#slot;
    const account = { pubkey: ownerKey(1), owner: ownerKey(0), lamports: slot, data: new Uint8Array(100), slot };
    assert.ok(this.sender.publishAccount(account) >= consumers.length);
    for (const consumer of consumers) {
      const update = await consumer.next();
      assert.equal(update?.kind === "account" && update.lamports, slot);
    }
  }

  /** Takes what was published to everybody. */
  drainHonest(): Promise<void> {
    while (this.#honest.poll(() => {}) > 0);
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** The sender keeps nothing of a connection that it has ended, whatever the peer still holds of it. */
  async assertSenderFreed(peer: RawConsumer): Promise<void> {
    await settlesAt("self", {
      ...this.#before,
      descriptors: [...this.#before.descriptors, ...Array(peer.descriptorCount).fill("the peer's")],
      mappings: [...this.#before.mappings, "the peer's page"],
    });
  }

  /** Waits for the end of a connection that is not honest. */
  async end(): Promise<string> {
    await eventually("the sender ends the connection", () => this.ends.length > 0);
    return this.ends.shift()!;
  }

  /** Waits until so many were refused. */
  async refused(count: number): Promise<void> {
    await eventually(
      () => `${count} refused, there are ${this.sender.metrics.refused}`,
      () => this.sender.metrics.refused >= count,
    );
    assert.equal(this.sender.metrics.refused, count);
  }
}
