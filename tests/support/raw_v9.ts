/**
 * A lone peer of wire version 9, both roles, written from the reference alone, so that a test can say anything to the
 * library and sees what it says byte by byte.
 * May touch: libc. May not touch: src/, whose every constant and layout is written here once more.
 * Linux only: eventfds. All sockets are non-blocking; whoever waits looks again and again.
 */

import { readlinkSync } from "node:fs";
import { eventually } from "./footprint.ts";
import * as libc from "./libc.ts";

const VERSION = 9;
const TAG = { subscribe: 1, account: 2, ready: 3, ping: 4, readyShm: 5, transaction: 6, slot: 7 } as const;
const NO_SLOT = 255;
const SENTINEL = 0xffffffff;
const RECEIVE_BYTES = 1024;
const HEADER = 320;
const MAGIC = 0x736861716d706d63n;
const RING_VERSION = 0x00020000;
/** Indices of the cursors in the header's 64-bit words. */
const PRODUCER_RESERVATION = 64 / 8;
const PRODUCER_PUBLICATION = 128 / 8;
const CONSUMER_RESERVATION = 192 / 8;
const CONSUMER_RELEASE = 256 / 8;

// Bytes

export interface Token {
  readonly index: number;
  readonly generation: bigint;
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return joinAll(parts);
}

function joinAll(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** A body with its length in front. */
export function framed(body: Uint8Array): Uint8Array {
  return join(u32(body.length), body);
}

/** Version, tag, slot, generation: how all control messages start. Without a token: no slot. */
function start(tag: number, token?: Token): Uint8Array {
  return join(Uint8Array.of(VERSION, tag, token?.index ?? NO_SLOT), u64(token?.generation ?? 0n));
}

export function subscribe(
  request: { token?: Token; accounts?: readonly Uint8Array[]; owners?: readonly Uint8Array[]; transactions?: boolean } =
    {},
): Uint8Array {
  const { accounts = [], owners = [] } = request;
  return framed(join(
    start(TAG.subscribe, request.token),
    u64(BigInt(accounts.length)),
    joinAll(accounts),
    u64(BigInt(owners.length)),
    joinAll(owners),
    Uint8Array.of(request.transactions === true ? 1 : 0),
  ));
}

export function ping(token: Token): Uint8Array {
  return framed(start(TAG.ping, token));
}

export function ready(token: Token): Uint8Array {
  return framed(start(TAG.ready, token));
}

export function readyShm(token: Token, path: string, capacity: number): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  return framed(join(start(TAG.readyShm, token), u64(BigInt(bytes.length)), bytes, u64(BigInt(capacity))));
}

/** Fields of an account's frame; the defaults are an empty account of zeros. */
export interface AccountFields {
  readonly createdNs?: bigint;
  readonly pubkey?: Uint8Array;
  readonly owner?: Uint8Array;
  readonly lamports?: bigint;
  readonly executable?: number;
  readonly rentEpoch?: bigint;
  readonly slot?: bigint;
  readonly writeVersion?: bigint;
  readonly flags?: number;
  readonly rawLength?: number;
  readonly wireLength?: number;
  readonly payload?: Uint8Array;
}

/** The body of an account's frame. Lengths say what the payload has, unless they are given. */
export function accountFrame(fields: AccountFields = {}): Uint8Array {
  const payload = fields.payload ?? new Uint8Array(0);
  return join(
    Uint8Array.of(VERSION, TAG.account),
    u64(fields.createdNs ?? 0n),
    fields.pubkey ?? new Uint8Array(32),
    fields.owner ?? new Uint8Array(32),
    u64(fields.lamports ?? 0n),
    Uint8Array.of(fields.executable ?? 0),
    u64(fields.rentEpoch ?? 0n),
    u64(fields.slot ?? 0n),
    u64(fields.writeVersion ?? 0n),
    Uint8Array.of(fields.flags ?? 0),
    u32(fields.rawLength ?? payload.length),
    u32(fields.wireLength ?? payload.length),
    payload,
  );
}

export function transactionFrame(
  fields: {
    createdNs?: bigint;
    slot?: bigint;
    index?: number;
    vote?: number;
    signature?: Uint8Array;
    payload?: Uint8Array;
    payloadLength?: number;
  } = {},
): Uint8Array {
  const payload = fields.payload ?? new Uint8Array(0);
  return join(
    Uint8Array.of(VERSION, TAG.transaction),
    u64(fields.createdNs ?? 0n),
    u64(fields.slot ?? 0n),
    u32(fields.index ?? 0),
    Uint8Array.of(fields.vote ?? 0),
    fields.signature ?? new Uint8Array(64),
    u32(fields.payloadLength ?? payload.length),
    payload,
  );
}

export function slotFrame(slot: bigint, createdNs = 0n): Uint8Array {
  return join(Uint8Array.of(VERSION, TAG.slot), u64(createdNs), u64(slot));
}

/** A frame's body with the time of its making, which no test knows, replaced by zeros. */
export function timeless(body: Uint8Array): Uint8Array {
  return join(body.subarray(0, 2), new Uint8Array(8), body.subarray(10));
}

export function createdNsOf(body: Uint8Array): bigint {
  return new DataView(body.buffer, body.byteOffset).getBigUint64(2, true);
}

// Sockets

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SIOCOUTQ = 0x5411n;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

function addressBytes(path: string): Uint8Array {
  return join(Uint8Array.of(AF_UNIX, 0), new TextEncoder().encode(`${path}\0`));
}

function socket(): number {
  const fd = libc.libc().socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Error("socket failed");
  return fd;
}

/** A struct msghdr with one piece of data and one of control, which must live as long as it is used. */
function messageHeader(data: Uint8Array, control: Uint8Array): Uint8Array {
  const header = new Uint8Array(56 + 16);
  const view = new DataView(header.buffer);
  view.setBigUint64(16, libc.addressOf(header) + 56n, true); // the only iovec, right behind it
  view.setBigUint64(24, 1n, true);
  if (control.length > 0) view.setBigUint64(32, libc.addressOf(control), true);
  view.setBigUint64(40, BigInt(control.length), true);
  view.setBigUint64(56, libc.addressOf(data), true);
  view.setBigUint64(64, BigInt(data.length), true);
  return header;
}

/** What one recvmsg gave. No bytes: the other side has closed. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
}

/** One end of a control socket. */
export class RawV9Link implements Disposable {
  readonly fd: number;
  isEnded = false;
  #rest: Uint8Array = new Uint8Array(0);
  #isClosed = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  static connect(path: string): RawV9Link {
    const link = new RawV9Link(socket());
    const address = addressBytes(path);
    if (libc.libc().connect(link.fd, address, address.length) !== 0) throw new Error(`connect to ${path} failed`);
    return link;
  }

  /** One sendmsg, with all of it or an error. */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    const sent = this.#sendSome(bytes, descriptors);
    if (sent !== bytes.length) throw new Error(`sendmsg sent ${sent} of ${bytes.length} bytes`);
  }

  /** As much at a time as the socket takes. */
  async sendLong(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const sent = this.#sendSome(bytes.subarray(at));
      if (sent > 0) at += sent;
      else await new Promise((resolve) => setTimeout(resolve, 1)); // full
    }
  }

  /** The number of bytes that the socket took, -1 for none. */
  #sendSome(bytes: Uint8Array, descriptors: readonly number[] = []): number {
    if (this.#isClosed) throw new Error("The link is closed");
    const control = new Uint8Array(descriptors.length === 0 ? 0 : 16 + Math.ceil(4 * descriptors.length / 8) * 8);
    if (descriptors.length > 0) {
      const view = new DataView(control.buffer);
      view.setBigUint64(0, BigInt(16 + 4 * descriptors.length), true);
      view.setInt32(8, SOL_SOCKET, true);
      view.setInt32(12, SCM_RIGHTS, true);
      descriptors.forEach((fd, i) => view.setInt32(16 + 4 * i, fd, true));
    }
    const header = messageHeader(bytes, control);
    return Number(libc.libc().sendmsg(this.fd, header, MSG_NOSIGNAL | MSG_DONTWAIT));
  }

  /** The same in pieces of so many bytes, with a turn of the event loop between them. */
  async dribble(bytes: Uint8Array, size: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += size) {
      this.send(bytes.subarray(at, at + size));
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** One recvmsg, as the original does its first; undefined if there is nothing yet. */
  receiveOnce(size: number = RECEIVE_BYTES): Received | undefined {
    if (this.#isClosed) throw new Error("The link is closed");
    const data = new Uint8Array(size);
    const control = new Uint8Array(64);
    const header = messageHeader(data, control);
    const length = Number(libc.libc().recvmsg(this.fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (length < 0) return undefined; // would block; what else it may be looks like a test that waits in vain
    if (length === 0) this.isEnded = true;
    const controlLength = Number(new DataView(header.buffer).getBigUint64(40, true));
    const descriptors: number[] = [];
    const view = new DataView(control.buffer);
    for (let at = 0; at + 16 <= controlLength;) {
      const messageLength = Number(view.getBigUint64(at, true));
      for (let fdAt = at + 16; fdAt + 4 <= at + messageLength; fdAt += 4) descriptors.push(view.getInt32(fdAt, true));
      at += Math.ceil(messageLength / 8) * 8;
    }
    return { bytes: data.subarray(0, length), descriptors };
  }

  /** The first recvmsg that gives something. */
  async received(): Promise<Received> {
    let received: Received | undefined;
    await eventually("the other side sends or closes", () => (received = this.receiveOnce()) !== undefined);
    return received!;
  }

  #takeIn(): void {
    while (!this.isEnded) {
      const received = this.receiveOnce(65536);
      if (received === undefined) return;
      for (const fd of received.descriptors) libc.close(fd); // a plain read would lose them
      this.#rest = join(this.#rest, received.bytes);
    }
  }

  /** The next body by plain reads, as the original reads all but the first reply. */
  async body(): Promise<Uint8Array> {
    const size = () => this.#rest.length < 4 ? Infinity : 4 + new DataView(this.#rest.buffer).getUint32(0, true);
    await eventually("a message comes", () => {
      this.#takeIn();
      if (this.isEnded && this.#rest.length < size()) throw new Error("The link ended, no message came");
      return this.#rest.length >= size();
    });
    const end = size();
    const body = this.#rest.slice(4, end);
    this.#rest = this.#rest.slice(end);
    return body;
  }

  /** Bytes that came and were not taken. */
  get unread(): Uint8Array {
    this.#takeIn();
    return this.#rest;
  }

  /** Whether the other side has read all that was sent. */
  get isTaken(): boolean {
    const waiting = new Int32Array(1);
    if (libc.libc().ioctl(this.fd, SIOCOUTQ, waiting) !== 0) throw new Error("ioctl(SIOCOUTQ) failed");
    return waiting[0] === 0;
  }

  /** Waits until the other side has closed. What it said before is an error. */
  async end(): Promise<void> {
    await eventually("the other side closes", () => {
      this.#takeIn();
      if (this.#rest.length > 0) throw new Error(`It said ${this.#rest} before it closed`);
      return this.isEnded;
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    libc.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Token, path and capacity of a READY_SHM, of whose every byte the meaning is checked. */
export function parseReadyShm(bytes: Uint8Array): { token: Token; path: string; capacity: bigint } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== bytes.length - 4) throw new Error("Its length is not that of what came");
  if (bytes[4] !== VERSION || bytes[5] !== TAG.readyShm) {
    throw new Error(`It is of version ${bytes[4]}, tag ${bytes[5]}`);
  }
  const pathLength = Number(view.getBigUint64(15, true));
  if (bytes.length !== 4 + 27 + pathLength) throw new Error("Its path has another length");
  return {
    token: { index: bytes[6]!, generation: view.getBigUint64(7, true) },
    path: new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(23, 23 + pathLength)),
    capacity: view.getBigUint64(23 + pathLength, true),
  };
}

// Rings

/** A mapped ring, with both sides' words: which of them to write is the test's matter. */
export class RawV9Ring implements Disposable {
  readonly mapping: libc.Mapping;
  readonly capacity: number;
  readonly words: BigUint64Array;
  readonly #fd: number;
  readonly #headerSize: number;
  /** The lone peer's own place. */
  position = 0n;
  #isDisposed = false;

  private constructor(fd: number, capacity: number, headerSize: number) {
    this.#fd = fd;
    this.#headerSize = headerSize;
    this.capacity = capacity;
    this.mapping = new libc.Mapping(fd, headerSize + capacity);
    this.words = new BigUint64Array(this.mapping.bytes.buffer, 0, headerSize / 8);
  }

  /** Opens what a sender made, and checks what the original checks. */
  static join(path: string): RawV9Ring {
    const fd = libc.openExisting(path);
    if (fd < 0) throw new Error(`Cannot open ${path}`);
    const head = new libc.Mapping(fd, HEADER);
    const magic = head.view.getBigUint64(0, true);
    const version = head.view.getUint32(8, true);
    const mask = head.view.getUint32(12, true);
    head[Symbol.dispose]();
    if (magic !== MAGIC) throw new Error(`The magic is ${magic.toString(16)}`);
    if (version !== RING_VERSION) throw new Error(`The ring's version is ${version.toString(16)}`);
    return new RawV9Ring(fd, mask + 1, HEADER);
  }

  /** Makes a ring in a file of that name, or in memory if there is none; `lies` replace what it should be. */
  static create(
    path: string | undefined,
    capacity: number,
    lies: { magic?: bigint; version?: number; mask?: number; fileSize?: number; headerSize?: number } = {},
  ): RawV9Ring {
    const fd = path === undefined ? libc.memfd(0) : libc.openFile(path);
    const headerSize = lies.headerSize ?? HEADER;
    if (libc.libc().ftruncate(fd, BigInt(headerSize + capacity)) !== 0) throw new Error("ftruncate failed");
    const ring = new RawV9Ring(fd, capacity, headerSize);
    const { view } = ring.mapping;
    view.setUint32(12, lies.mask ?? capacity - 1, true);
    view.setUint32(8, lies.version ?? RING_VERSION, true);
    view.setBigUint64(0, lies.magic ?? MAGIC, true);
    if (lies.fileSize !== undefined) libc.libc().ftruncate(fd, BigInt(lies.fileSize));
    return ring;
  }

  /** Where a ring in memory can be opened by other processes of this user. */
  get memoryPath(): string {
    return `/proc/${readlinkSync("/proc/self")}/fd/${this.#fd}`;
  }

  #copyOut(position: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.mapping.bytes[this.#headerSize + this.#index(position, i)]!;
    return bytes;
  }

  #copyIn(position: bigint, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) this.mapping.bytes[this.#headerSize + this.#index(position, i)] = bytes[i]!;
  }

  #index(position: bigint, offset: number): number {
    return (Number(position % BigInt(this.capacity)) + offset) % this.capacity;
  }

  // Reading, as the lone reader does

  get published(): bigint {
    return Atomics.load(this.words, PRODUCER_PUBLICATION);
  }

  /** The next frame's body, "closed" for the sentinel, undefined for nothing. Its room is given back by `release`. */
  read(): Uint8Array | "closed" | undefined {
    const available = this.published - this.position;
    if (available === 0n) return undefined;
    if (available < 4n || available > BigInt(this.capacity)) throw new Error(`${available} bytes are published`);
    const length = new DataView(this.#copyOut(this.position, 4).buffer).getUint32(0, true);
    if (length === SENTINEL) {
      this.position += 4n;
      return "closed";
    }
    if (available < 4n + BigInt(length)) throw new Error(`A frame of ${length} bytes, ${available} are published`);
    const body = this.#copyOut(this.position + 4n, length);
    this.position += 4n + BigInt(length);
    return body;
  }

  release(position: bigint = this.position): void {
    Atomics.store(this.words, CONSUMER_RESERVATION, position);
    Atomics.store(this.words, CONSUMER_RELEASE, position);
  }

  /** All frames that are there, released; "closed" at the end if the sentinel came. */
  readAll(): (Uint8Array | "closed")[] {
    const frames: (Uint8Array | "closed")[] = [];
    for (let frame = this.read(); frame !== undefined; frame = this.read()) {
      frames.push(frame);
      if (frame === "closed") break;
    }
    this.release();
    return frames;
  }

  // Writing, as the lone writer does

  get released(): bigint {
    return Atomics.load(this.words, CONSUMER_RELEASE);
  }

  get freeBytes(): number {
    return this.capacity - Number(this.position - this.released);
  }

  /** Publishes bytes as they are. False: they do not fit. */
  publish(bytes: Uint8Array): boolean {
    if (bytes.length > this.freeBytes) return false;
    const end = this.position + BigInt(bytes.length);
    Atomics.store(this.words, PRODUCER_RESERVATION, end);
    this.#copyIn(this.position, bytes);
    Atomics.store(this.words, PRODUCER_PUBLICATION, end);
    this.position = end;
    return true;
  }

  write(body: Uint8Array): boolean {
    return this.publish(framed(body));
  }

  writeSentinel(): boolean {
    return this.publish(u32(SENTINEL));
  }

  /** Lies about how much is published. */
  forgePublication(position: bigint): void {
    Atomics.store(this.words, PRODUCER_PUBLICATION, position);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.mapping[Symbol.dispose]();
    libc.close(this.#fd);
  }
}

/** The wake-up object. */
export class RawV9Wake implements Disposable {
  readonly fd: number;
  #isDisposed = false;

  constructor(fd: number = libc.eventfd()) {
    this.fd = fd;
  }

  signal(): void {
    if (Number(libc.libc().write(this.fd, u64(1n), 8n)) !== 8) throw new Error("The eventfd takes nothing");
  }

  /** Signals since the last take, 0 for none. */
  take(): number {
    const value = new Uint8Array(8);
    const length = Number(libc.libc().read(this.fd, value, 8n));
    return length === 8 ? Number(new DataView(value.buffer).getBigUint64(0, true)) : 0;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    libc.close(this.fd);
  }
}

// Roles

/** A slot as its consumer holds it. */
export class RawV9Slot implements Disposable {
  readonly token: Token;
  readonly path: string;
  readonly ring: RawV9Ring;
  readonly wake: RawV9Wake;

  constructor({ bytes, descriptors }: Received) {
    const { token, path, capacity } = parseReadyShm(bytes);
    if (descriptors.length !== 1) throw new Error(`${descriptors.length} descriptors came`);
    this.token = token;
    this.path = path;
    this.wake = new RawV9Wake(descriptors[0]!);
    this.ring = RawV9Ring.join(path);
    if (BigInt(this.ring.capacity) !== capacity) {
      throw new Error(`A ring of ${this.ring.capacity} bytes, not ${capacity}`);
    }
  }

  /** Waits for so many frames, and takes them. */
  async frames(count: number): Promise<(Uint8Array | "closed")[]> {
    const frames: (Uint8Array | "closed")[] = [];
    await eventually(() => `${count} frames come, ${frames.length} have`, () => {
      frames.push(...this.ring.readAll());
      return frames.length >= count;
    });
    return frames;
  }

  [Symbol.dispose](): void {
    this.ring[Symbol.dispose]();
    this.wake[Symbol.dispose]();
  }
}

/** A consumer with its connection. */
export class RawV9Consumer implements Disposable {
  readonly link: RawV9Link;
  readonly #slots: RawV9Slot[] = [];

  constructor(path: string) {
    this.link = RawV9Link.connect(path);
  }

  /** Sends something that is to be answered by a new slot, and takes that. */
  async open(request: Uint8Array = subscribe()): Promise<RawV9Slot> {
    this.link.send(request);
    return this.taken(await this.link.received());
  }

  /** The slot of a reply. */
  taken(received: Received): RawV9Slot {
    if (received.bytes.length === 0) throw new Error("The sender closed the connection");
    const slot = new RawV9Slot(received);
    this.#slots.push(slot);
    return slot;
  }

  /** Subscribes with a live token, and takes the READY, whose every byte is known. */
  async subscribe(token: Token, request: Omit<Parameters<typeof subscribe>[0] & object, "token">): Promise<void> {
    this.link.send(subscribe({ ...request, token }));
    await this.expectReady(token);
  }

  async expectReady(token: Token): Promise<void> {
    const body = await this.link.body();
    const expected = ready(token).subarray(4);
    if (body.length !== expected.length || body.some((byte, i) => byte !== expected[i])) {
      throw new Error(`Not ready: ${body}`);
    }
  }

  [Symbol.dispose](): void {
    this.link.close();
    for (const slot of this.#slots) slot[Symbol.dispose]();
  }
}

/** A request as a raw sender reads it. */
export interface Request {
  readonly kind: "subscribe" | "ping";
  readonly token: Token | undefined;
  readonly accounts: readonly Uint8Array[];
  readonly owners: readonly Uint8Array[];
  readonly transactions: boolean;
}

/** What a consumer said; anything that is not exactly as the reference has it is an error. */
export function parseRequest(body: Uint8Array): Request {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  if (body[0] !== VERSION) throw new Error(`It is of version ${body[0]}`);
  const token = body[2] === NO_SLOT ? undefined : { index: body[2]!, generation: view.getBigUint64(3, true) };
  if (token === undefined && view.getBigUint64(3, true) !== 0n) throw new Error("A generation without a slot");
  if (body[1] === TAG.ping) {
    if (body.length !== 11 || token === undefined) throw new Error(`A ping of ${body}`);
    return { kind: "ping", token, accounts: [], owners: [], transactions: false };
  }
  if (body[1] !== TAG.subscribe) throw new Error(`Tag ${body[1]} is not a consumer's`);
  const list = (at: number): [Uint8Array[], number] => {
    const count = Number(view.getBigUint64(at, true));
    const keys = Array.from({ length: count }, (_, i) => body.slice(at + 8 + 32 * i, at + 40 + 32 * i));
    return [keys, at + 8 + 32 * count];
  };
  const [accounts, accountsEnd] = list(11);
  const [owners, ownersEnd] = list(accountsEnd);
  if (body.length !== ownersEnd + 1 || body[ownersEnd]! > 1) throw new Error(`A subscribe that ends in ${body.at(-1)}`);
  return { kind: "subscribe", token, accounts, owners, transactions: body[ownersEnd] === 1 };
}

/** A sender's socket. Its slots are the test's to make, from rings and wakes. */
export class RawV9Sender implements Disposable {
  readonly path: string;
  readonly #fd: number;
  #isClosed = false;

  constructor(path: string) {
    this.path = path;
    this.#fd = socket();
    const address = addressBytes(path);
    if (libc.libc().bind(this.#fd, address, address.length) !== 0) throw new Error(`bind to ${path} failed`);
    if (libc.libc().listen(this.#fd, 128) !== 0) throw new Error("listen failed");
  }

  async accept(): Promise<RawV9Link> {
    let fd = -1;
    await eventually("somebody connects", () => {
      fd = libc.libc().accept4(this.#fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
      return fd >= 0;
    });
    return new RawV9Link(fd);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    libc.close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
