/**
 * What bytes of wire version 9 mean, by the reference of the Rust original alone: a second reader, to compare verdicts.
 * May touch: the bytes it is given. May not touch: anything under src/.
 * Slow and plain on purpose: one field after the other, as the reference's tables have them.
 */

/** How the original's decoders refuse, in this library's names. */
export type Refusal = "V9_MALFORMED" | "V9_TAG" | "V9_VERSION" | "V9_DECODE" | "V9_PAYLOAD_TOO_LARGE";

class Refused {
  readonly how: Refusal;

  constructor(how: Refusal) {
    this.how = how;
  }
}

const PAYLOAD_BYTES_MAX = 10_485_760;
const LIST_BYTES_MAX = 4_194_304;

/** Takes fields from the front. Where one is cut off, it is refused as `short` says. */
class Fields {
  readonly #bytes: Uint8Array;
  readonly #short: Refusal;
  #at = 0;

  constructor(bytes: Uint8Array, short: Refusal) {
    this.#bytes = bytes;
    this.#short = short;
  }

  bytes(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw new Refused(this.#short);
    return this.#bytes.slice(this.#at, this.#at += length);
  }

  number(size: number): bigint {
    return this.bytes(size).reduceRight((value, byte) => value * 256n + BigInt(byte), 0n);
  }

  small(size: number): number {
    return Number(this.number(size));
  }

  bool(): boolean {
    const byte = this.small(1);
    if (byte > 1) throw new Refused(this.#short);
    return byte === 1;
  }

  /** A list's or a text's count, of elements of that size. */
  count(size: number): number {
    const count = this.number(8);
    if (count * BigInt(size) > BigInt(LIST_BYTES_MAX)) throw new Refused("V9_DECODE");
    return Number(count);
  }

  list(): Uint8Array[] {
    const count = this.count(32);
    const keys: Uint8Array[] = [];
    for (let i = 0; i < count; i++) keys.push(this.bytes(32));
    return keys;
  }

  text(): string {
    const bytes = this.bytes(this.count(1));
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Refused("V9_DECODE");
    }
  }

  rest(): Uint8Array {
    return this.bytes(this.#bytes.length - this.#at);
  }
}

/** The value, or how it is refused. */
function verdict<T>(read: () => T): T | Refusal {
  try {
    return read();
  } catch (error) {
    if (error instanceof Refused) return error.how;
    throw error;
  }
}

function tagOf(bytes: Uint8Array): number {
  if (bytes.length < 2) throw new Refused("V9_MALFORMED");
  return bytes[1]!;
}

function token(index: number, generation: bigint): { slotIndex: number; generation: bigint } | undefined {
  return index === 255 ? undefined : { slotIndex: index, generation };
}

function demand<T>(value: T | undefined): T {
  if (value === undefined) throw new Refused("V9_MALFORMED");
  return value;
}

function assertVersion(version: number): void {
  if (version !== 9) throw new Refused("V9_VERSION");
}

/** What a consumer says. */
export function readClient(bytes: Uint8Array): unknown {
  return verdict(() => {
    const tag = tagOf(bytes);
    const fields = new Fields(bytes, "V9_DECODE");
    if (tag !== 1 && tag !== 4) throw new Refused("V9_TAG");
    const [version] = [fields.small(1), fields.small(1)];
    const slot = token(fields.small(1), fields.number(8));
    if (tag === 4) {
      assertVersion(version!);
      return { kind: "ping", token: demand(slot) };
    }
    const [accounts, owners, transactions] = [fields.list(), fields.list(), fields.bool()];
    assertVersion(version!);
    return { kind: "subscribe", request: { token: slot, accounts, owners, transactions } };
  });
}

/** What a sender says, on its socket or in a ring. */
export function readServer(bytes: Uint8Array): unknown {
  return verdict(() => {
    const tag = tagOf(bytes);
    switch (tag) {
      case 3:
      case 5:
        return readReady(bytes, tag);
      case 2:
        return readAccount(bytes);
      case 6:
        return readTransaction(bytes);
      case 7:
        return readSlot(bytes);
      default:
        throw new Refused("V9_TAG");
    }
  });
}

function readReady(bytes: Uint8Array, tag: 3 | 5): unknown {
  const fields = new Fields(bytes, "V9_DECODE");
  const [version] = [fields.small(1), fields.small(1)];
  const slot = token(fields.small(1), fields.number(8));
  if (tag === 3) {
    assertVersion(version!);
    return { kind: "ready", token: demand(slot) };
  }
  const [path, capacity] = [fields.text(), fields.number(8)];
  assertVersion(version!);
  const ready = { token: demand(slot), path, capacityBytes: Number(capacity) };
  if (path === "" || capacity === 0n) throw new Refused("V9_MALFORMED");
  return { kind: "ready-shm", ready };
}

/** A frame of data: nothing of it is looked at before its fixed part is there, nor anything but the version first. */
function fieldsOf(bytes: Uint8Array, fixedLength: number): Fields {
  if (bytes.length < fixedLength) throw new Refused("V9_MALFORMED");
  assertVersion(bytes[0]!);
  const fields = new Fields(bytes, "V9_MALFORMED");
  fields.bytes(2);
  return fields;
}

function limited(length: number): number {
  if (length > PAYLOAD_BYTES_MAX) throw new Refused("V9_PAYLOAD_TOO_LARGE");
  return length;
}

function assertEqual(a: number, b: number): void {
  if (a !== b) throw new Refused("V9_MALFORMED");
}

function readAccount(bytes: Uint8Array): unknown {
  const fields = fieldsOf(bytes, 116);
  const createdNs = fields.number(8);
  const [pubkey, owner, lamports] = [fields.bytes(32), fields.bytes(32), fields.number(8)];
  const executable = fields.bool();
  const [rentEpoch, slot, writeVersion] = [fields.number(8), fields.number(8), fields.number(8)];
  const flags = fields.small(1);
  if (flags > 1) throw new Refused("V9_MALFORMED");
  const rawLength = limited(fields.small(4));
  assertEqual(fields.small(4), bytes.length - 116);
  const payload = fields.rest();
  if (flags === 0) assertEqual(payload.length, rawLength);
  const data = flags === 0 ? payload : decompress(payload, rawLength);
  const update = { kind: "account", pubkey, owner, lamports, data, slot, writeVersion, rentEpoch, executable };
  return { kind: "update", createdNs, update };
}

function readTransaction(bytes: Uint8Array): unknown {
  const fields = fieldsOf(bytes, 91);
  const [createdNs, slot, index] = [fields.number(8), fields.number(8), fields.small(4)];
  const [vote, signature] = [fields.bool(), fields.bytes(64)];
  assertEqual(limited(fields.small(4)), bytes.length - 91);
  const update = { kind: "transaction", slot, index, signature, message: fields.rest(), vote };
  return { kind: "update", createdNs, update };
}

function readSlot(bytes: Uint8Array): unknown {
  const fields = fieldsOf(bytes, 18);
  const [createdNs, slot] = [fields.number(8), fields.number(8)];
  assertEqual(fields.rest().length, 0);
  return { kind: "update", createdNs, update: { kind: "slot", slot } };
}

/** A raw LZ4 block: sequences of literals and matches, the last of literals only. */
export function decompress(block: Uint8Array, rawLength: number): Uint8Array {
  const raw = new Uint8Array(rawLength);
  const bad = () => new Refused("V9_DECODE");
  let [from, to] = [0, 0];
  const byte = () => {
    if (from >= block.length) throw bad();
    return block[from++]!;
  };
  /** A length of 15 goes on in further bytes, of which the last is not 255. */
  const length = (nibble: number) => {
    for (let more = nibble === 15 ? 255 : 0; more === 255;) nibble += more = byte();
    return nibble;
  };
  while (true) {
    const head = byte();
    const literals = length(head >> 4);
    if (from + literals > block.length || to + literals > rawLength) throw bad();
    raw.set(block.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === block.length) break;
    const offset = byte() + 256 * byte();
    const match = 4 + length(head & 15);
    if (offset === 0 || offset > to || to + match > rawLength) throw bad();
    for (let i = 0; i < match; i++, to++) raw[to] = raw[to - offset]!;
  }
  if (to !== rawLength) throw new Refused("V9_MALFORMED");
  return raw;
}
