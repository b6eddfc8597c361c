/**
 * Peers without manners: one end of the protocol through the `Native` door alone, so that a test can say anything to
 * the other end, at any time.
 * May touch: the native library, libc for regions that the library would never make.
 * May not touch: src/stream and src/wire, which they are to be a match for.
 */

import {
  CAPACITY_BYTES_MIN,
  ConsumerPage,
  GrantBody,
  HelloBody,
  LAYOUT_VERSION,
  LINK_DESCRIPTORS_MAX,
  LINK_MAGIC,
  LinkHeader,
  LinkKind,
  PART_SIZE,
  POOL_BYTES_MIN,
  RESERVED_BYTES_MIN,
  RingHeader,
  Status,
} from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { eventually } from "./footprint.ts";
import * as libc from "./libc.ts";

/** A message; `lies` replace what the header should say. */
export function message(
  kind: number,
  body: Uint8Array = new Uint8Array(0),
  lies: { magic?: number; bodyLength?: number; requestId?: number } = {},
): Uint8Array {
  const bytes = new Uint8Array(LinkHeader.size + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(LinkHeader.magic, lies.magic ?? LINK_MAGIC, true);
  view.setUint16(LinkHeader.version, LAYOUT_VERSION, true);
  view.setUint16(LinkHeader.kind, kind, true);
  view.setUint32(LinkHeader.bodyLength, lies.bodyLength ?? body.length, true);
  view.setUint32(LinkHeader.requestId, lies.requestId ?? 1, true);
  bytes.set(body, LinkHeader.size);
  return bytes;
}

export function helloBody(
  options: { versionMin?: number; versionMax?: number; nameLength?: number; name?: Uint8Array; policy?: number } = {},
): Uint8Array {
  const name = options.name ?? new Uint8Array(0);
  const body = new Uint8Array(HelloBody.size + name.length);
  const view = new DataView(body.buffer);
  view.setUint16(HelloBody.versionMin, options.versionMin ?? LAYOUT_VERSION, true);
  view.setUint16(HelloBody.versionMax, options.versionMax ?? LAYOUT_VERSION, true);
  view.setUint32(HelloBody.nameLength, options.nameLength ?? name.length, true);
  view.setUint16(HelloBody.policy, options.policy ?? 0, true);
  body.set(name, HelloBody.size);
  return body;
}

export function grantBody(
  options: {
    version?: number;
    capacityBytes?: bigint;
    reservedBytes?: number;
    poolBytes?: number;
    policy?: number;
    transactionPolicy?: number;
  } = {},
): Uint8Array {
  const body = new Uint8Array(GrantBody.size);
  const view = new DataView(body.buffer);
  view.setUint16(GrantBody.version, options.version ?? LAYOUT_VERSION, true);
  view.setUint32(GrantBody.reservedBytes, options.reservedBytes ?? RESERVED_BYTES_MIN, true);
  view.setBigUint64(GrantBody.capacityBytes, options.capacityBytes ?? BigInt(CAPACITY_BYTES_MIN), true);
  view.setUint32(GrantBody.poolBytes, options.poolBytes ?? 0, true);
  view.setUint16(GrantBody.policy, options.policy ?? 0, true);
  view.setUint16(GrantBody.transactionPolicy, options.transactionPolicy ?? 0, true);
  return body;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** One end of a link, and all that came through it. */
export class RawLink implements Disposable {
  readonly #native: Native;
  readonly #handle: number;
  #received: Uint8Array = new Uint8Array(0);
  readonly descriptors: number[] = [];
  isEnded = false;
  #isClosed = false;

  constructor(native: Native, handle: number) {
    if (handle < 0) throw new Error(`No link: status ${handle}`);
    this.#native = native;
    this.#handle = handle;
  }

  static connect(native: Native, path: string): RawLink {
    const bytes = new TextEncoder().encode(path);
    return new RawLink(native, native.linkConnect(bytes, bytes.length));
  }

  /** What the library says to it: bytes sent, or a status. The descriptors stay the caller's. */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): number {
    return this.#native.linkSend(
      this.#handle,
      bytes,
      bytes.length,
      Int32Array.of(...descriptors, -1),
      descriptors.length,
    );
  }

  /** Takes in what is there. */
  receive(): void {
    const buffer = new Uint8Array(65536);
    const brought = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
    while (!this.isEnded) {
      const status = this.#native.linkReceive(this.#handle, buffer, buffer.length, brought, LINK_DESCRIPTORS_MAX);
      if (status === Status.wouldBlock) return;
      if (status < 0) {
        this.isEnded = true;
        return;
      }
      this.descriptors.push(...brought.subarray(1, 1 + brought[0]!));
      this.#received = concat(this.#received, buffer.subarray(0, status));
    }
  }

  /** Waits for a whole message, and takes it. */
  async message(): Promise<{ kind: number; requestId: number; body: Uint8Array }> {
    const size = () => {
      if (this.#received.length < LinkHeader.size) return Infinity;
      return LinkHeader.size + new DataView(this.#received.buffer).getUint32(LinkHeader.bodyLength, true);
    };
    await eventually("a message comes", () => {
      this.receive();
      if (this.isEnded && this.#received.length < size()) throw new Error("The link ended, no message came");
      return this.#received.length >= size();
    });
    const whole = this.#received.slice(0, size());
    this.#received = this.#received.slice(size());
    const header = new DataView(whole.buffer);
    return {
      kind: header.getUint16(LinkHeader.kind, true),
      requestId: header.getUint32(LinkHeader.requestId, true),
      body: whole.slice(LinkHeader.size),
    };
  }

  /** Waits until the other side has closed it. */
  async end(): Promise<void> {
    await eventually("the other side closes the link", () => {
      this.receive();
      return this.isEnded;
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const fd of this.descriptors) this.#native.fdClose(fd);
    this.#native.close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A wake of our own: what the other side gets of it is one descriptor. */
export class RawWake implements Disposable {
  readonly #native: Native;
  /** Our end: the other side's bytes come here. */
  #own: number;
  /** What is passed on. */
  #passed: number;

  constructor(native: Native) {
    const pair = new Int32Array(2);
    if (native.wakeCreate(pair) < 0) throw new Error("No wake");
    this.#native = native;
    [this.#own, this.#passed] = [pair[0]!, pair[1]!];
  }

  get passed(): number {
    return this.#passed;
  }

  get isClosed(): boolean {
    return this.#own < 0;
  }

  closePassed(): void {
    if (this.#passed >= 0) this.#native.fdClose(this.#passed);
    this.#passed = -1;
  }

  [Symbol.dispose](): void {
    this.closePassed();
    if (this.#own >= 0) this.#native.fdClose(this.#own);
    this.#own = -1;
  }
}

/** A consumer that was granted like any other. What it does with that is the test's. */
export class RawConsumer implements Disposable {
  readonly link: RawLink;
  readonly wake: RawWake;
  readonly page: libc.Mapping;
  /** Handle of the sender's wake. */
  readonly senderWake: number;
  readonly #native: Native;

  private constructor(native: Native, link: RawLink, wake: RawWake) {
    const [ringFd, pageFd, wakeFd, poolFd] = link.descriptors.splice(0) as [number, number, number, number?];
    this.#native = native;
    this.link = link;
    this.wake = wake;
    this.page = new libc.Mapping(pageFd, PART_SIZE);
    native.fdClose(ringFd);
    native.fdClose(pageFd);
    if (poolFd !== undefined) native.fdClose(poolFd);
    this.senderWake = native.wakeOpen(wakeFd);
  }

  static async connect(native: Native, path: string, policy = 0): Promise<RawConsumer> {
    const link = RawLink.connect(native, path);
    const wake = new RawWake(native);
    link.send(message(LinkKind.hello, helloBody({ policy })), [wake.passed]);
    wake.closePassed();
    const { kind } = await link.message();
    if (kind !== LinkKind.grant) throw new Error(`Not granted: ${kind}`);
    return new RawConsumer(native, link, wake);
  }

  /** Descriptors that it holds: its link, its wake's end, the sender's wake. */
  get descriptorCount(): number {
    return (this.link.isClosed ? 0 : 1) + (this.wake.isClosed ? 0 : 1) + (this.#isSenderWakeClosed ? 0 : 1);
  }

  #isSenderWakeClosed = false;

  closeSenderWake(): void {
    if (!this.#isSenderWakeClosed) this.#native.close(this.senderWake);
    this.#isSenderWakeClosed = true;
  }

  /** Says something, and wakes the sender for it. */
  tell(bytes: Uint8Array, descriptors: readonly number[] = []): number {
    const sent = this.link.send(bytes, descriptors);
    this.#native.wakeNotify(this.senderWake);
    return sent;
  }

  set cursor(value: bigint) {
    this.page.view.setBigUint64(ConsumerPage.consumerCursor, value, true);
  }

  set parkEpoch(value: number) {
    this.page.view.setUint32(ConsumerPage.parkEpoch, value, true);
  }

  #isDisposed = false;

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.link.close();
    this.closeSenderWake();
    this.wake[Symbol.dispose]();
    this.page[Symbol.dispose]();
  }
}

/** How forged regions differ from good ones. */
export interface Forgery {
  readonly ringSize?: number;
  readonly pageSize?: number;
  readonly ringSeals?: number | undefined;
  readonly pageSeals?: number | undefined;
  readonly ringMagic?: bigint;
  readonly pageMagic?: bigint;
  readonly version?: number;
  readonly headerCapacity?: bigint;
  readonly poolSize?: number;
  readonly poolSeals?: number | undefined;
}

const ascii = (text: string) => new DataView(new TextEncoder().encode(text).buffer).getBigUint64(0, true);

/** Regions that a hostile sender made and can write at any time, whatever the seals say. */
export class ForgedRegions implements Disposable {
  readonly ringFd: number;
  readonly pageFd: number;
  readonly poolFd: number;
  readonly ring: libc.Mapping;
  readonly #page: libc.Mapping;

  constructor(forgery: Forgery = {}) {
    const capacity = CAPACITY_BYTES_MIN;
    const ringSize = forgery.ringSize ?? capacity + PART_SIZE;
    const pageSize = forgery.pageSize ?? PART_SIZE;
    this.ringFd = libc.memfd(ringSize);
    this.pageFd = libc.memfd(pageSize);
    this.ring = new libc.Mapping(this.ringFd, ringSize);
    this.#page = new libc.Mapping(this.pageFd, pageSize);
    if (ringSize >= capacity + PART_SIZE) {
      const { view } = this.ring;
      view.setBigUint64(capacity + RingHeader.magic, forgery.ringMagic ?? ascii("QLASRING"), true);
      view.setUint32(capacity + RingHeader.layoutVersion, forgery.version ?? LAYOUT_VERSION, true);
      view.setUint32(capacity + RingHeader.headerSize, PART_SIZE, true);
      view.setBigUint64(capacity + RingHeader.capacityBytes, forgery.headerCapacity ?? BigInt(capacity), true);
      view.setBigUint64(capacity + RingHeader.reservedBytes, BigInt(RESERVED_BYTES_MIN), true);
    }
    this.#page.view.setBigUint64(ConsumerPage.magic, forgery.pageMagic ?? ascii("QLASPAGE"), true);
    this.#page.view.setUint32(ConsumerPage.layoutVersion, forgery.version ?? LAYOUT_VERSION, true);
    const ringSeals = "ringSeals" in forgery ? forgery.ringSeals : libc.SEALS_RING;
    const pageSeals = "pageSeals" in forgery ? forgery.pageSeals : libc.SEALS_SIZE;
    this.poolFd = libc.memfd(forgery.poolSize ?? POOL_BYTES_MIN);
    const poolSeals = "poolSeals" in forgery ? forgery.poolSeals : libc.SEALS_RING;
    if (poolSeals !== undefined) libc.seal(this.poolFd, poolSeals);
    if (ringSeals !== undefined) libc.seal(this.ringFd, ringSeals);
    if (pageSeals !== undefined) libc.seal(this.pageFd, pageSeals);
  }

  set producerCursor(value: bigint) {
    this.ring.view.setBigUint64(CAPACITY_BYTES_MIN + RingHeader.producerCursor, value, true);
  }

  set closing(value: number) {
    this.ring.view.setUint32(CAPACITY_BYTES_MIN + RingHeader.closing, value, true);
  }

  [Symbol.dispose](): void {
    this.ring[Symbol.dispose]();
    this.#page[Symbol.dispose]();
    libc.close(this.ringFd);
    libc.close(this.pageFd);
    libc.close(this.poolFd);
  }
}

/** A socket at a path that answers hellos as the test likes. */
export class RawSender implements Disposable {
  readonly path: string;
  readonly #native: Native;
  readonly #listener: number;

  constructor(native: Native, path: string) {
    const bytes = new TextEncoder().encode(path);
    this.path = path;
    this.#native = native;
    this.#listener = native.listen(bytes, bytes.length, 0);
    if (this.#listener < 0) throw new Error(`Cannot listen: ${this.#listener}`);
  }

  async accept(): Promise<RawLink> {
    let handle = -1;
    await eventually("somebody connects", () => {
      handle = this.#native.listenerAccept(this.#listener);
      return handle >= 0;
    });
    return new RawLink(this.#native, handle);
  }

  /** Accepts, and takes the hello. The wake is a handle to notify the consumer by. */
  async acceptHello(): Promise<{ link: RawLink; wake: number }> {
    const link = await this.accept();
    const { kind } = await link.message();
    if (kind !== LinkKind.hello) throw new Error(`No hello: ${kind}`);
    return { link, wake: this.#native.wakeOpen(link.descriptors.splice(0)[0]!) };
  }

  [Symbol.dispose](): void {
    this.#native.close(this.#listener);
  }
}
