/**
 * A sender that does what the test says: it grants an engine's ring, and answers each request as it is told.
 * May touch: the native library, the codecs of messages. May not touch: src/stream, which it is to be a match for.
 *
 * @module
 */

import assert from "node:assert/strict";
import { LinkKind } from "../../../src/native/abi.generated.ts";
import type { Native, Watch } from "../../../src/native/native.ts";
import {
  type Ack,
  decodeFilterEdit,
  decodeHello,
  encodeAck,
  encodeGrant,
  encodeRefusal,
  type FilterRequest,
  type Grant,
  type Hello,
  type Message,
} from "../../../src/wire/messages.ts";
import { type RawLink, RawSender } from "../../support/raw_peer.ts";
import { Engine, type EngineOptions } from "./native_pairs.ts";

/** What is granted beside the engine's ring. */
export type Granted = Omit<Grant, "version" | "capacityBytes" | "reservedBytes" | "connectionId">;

/** One sender for one consumer. */
export class ScriptedSender implements Disposable {
  readonly engine: Engine;
  /** Times that the consumer has poked us. */
  wakes = 0;
  readonly #native: Native;
  readonly #sender: RawSender;
  readonly #options: EngineOptions;
  #link: RawLink | undefined;
  #wake = -1;
  #watch: Watch | undefined;

  constructor(native: Native, path: string, options: EngineOptions) {
    this.#native = native;
    this.#options = options;
    this.#sender = new RawSender(native, path);
    this.engine = new Engine(native, options);
  }

  /** Accepts, grants, and returns what the consumer had said. */
  async grant(granted: Partial<Granted> = {}): Promise<Hello> {
    const native = this.#native;
    const link = this.#link = await this.#sender.accept();
    const message = await link.message();
    assert.equal(message.kind, LinkKind.hello);
    this.#wake = native.wakeOpen(link.descriptors.splice(0)[0]!);
    assert.equal(native.ringAttach(this.engine.producer, this.#wake), 0);
    const pair = new Int32Array(2);
    assert.equal(native.wakeCreate(pair), 0);
    this.#watch = await native.watch(pair[0]!, () => this.wakes++, () => {});
    const [ring, page, ...pool] = this.engine.passed;
    const grant = encodeGrant({
      ...{ version: 1, capacityBytes: this.#options.capacityBytes, reservedBytes: 16384, connectionId: 1 },
      ...{ senderId: new Uint8Array(16), poolBytes: this.#options.poolBytes ?? 0, ...granted },
    });
    this.#say(grant, [ring!, page!, pair[1]!, ...pool]);
    for (const fd of [...this.engine.passed, pair[1]!]) native.fdClose(fd);
    return decodeHello(message);
  }

  #say(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    assert.equal(this.#link!.send(bytes, descriptors), bytes.length);
    this.#native.wakeNotify(this.#wake);
  }

  /** The next message. */
  request(): Promise<Message> {
    return this.#link!.message();
  }

  /** The next message, which edits a filter. */
  async filterRequest(): Promise<FilterRequest & { requestId: number }> {
    const message = await this.request();
    assert.equal(message.kind, LinkKind.filter);
    return { ...decodeFilterEdit(message), requestId: message.requestId };
  }

  ack({ requestId }: { requestId: number }, ack: Ack): void {
    this.#say(encodeAck(requestId, ack));
  }

  refuse({ requestId }: { requestId: number }, text: string): void {
    this.#say(encodeRefusal(requestId, { status: -4216, text }));
  }

  [Symbol.dispose](): void {
    this.#link?.close();
    this.#watch?.close();
    if (this.#wake >= 0) this.#native.close(this.#wake);
    this.#sender[Symbol.dispose]();
    this.engine[Symbol.dispose]();
  }
}
