/**
 * Which accounts a transaction's message may write to: legacy, v0, v1 (SIMD-0385).
 * May touch: the bytes that it is given. May not touch: kit; its decoder takes 100 µs, this one 1.
 * The message is one that a bank has executed or refused, so it is input: what is malformed is an error.
 *
 * @module
 */

const KEY_SIZE = 32;
const V0 = 0x80;
const V1 = 0x81;

/** What a message says of its keys. */
export interface MessageKeys {
  /** Those that it names itself. The first pays. */
  readonly keys: readonly Uint8Array[];
  /** Whether the key with that index may be written to. */
  readonly isWritable: (index: number) => boolean;
  /** Lookup tables, and which of their entries it loads. */
  readonly lookups: readonly {
    readonly table: Uint8Array;
    readonly writable: readonly number[];
    readonly readonly: readonly number[];
  }[];
}

class Reader {
  readonly #bytes: Uint8Array;
  #at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  take(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw new RangeError("The transaction's message is cut off");
    return this.#bytes.subarray(this.#at, this.#at += count);
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  /** Solana's compact-u16. */
  count(): number {
    let value = 0;
    for (let shift = 0; shift < 21; shift += 7) {
      const byte = this.u8();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new RangeError("The transaction's message has a count that is too long");
  }
}

/** @throws {RangeError} for bytes that are no message. */
export function keysOfMessage(message: Uint8Array): MessageKeys {
  const first = message[0] ?? 0;
  const reader = new Reader(message, first >= V0 ? 1 : 0);
  const signers = reader.u8();
  const readonlySigners = reader.u8();
  const readonlyOthers = reader.u8();
  let count: number;
  if (first === V1) {
    reader.take(4 + KEY_SIZE + 1); // config mask, blockhash, count of instructions
    count = reader.u8();
  } else {
    if (first > V1) throw new RangeError(`The transaction's message has an unknown version, ${first & 127}`);
    count = reader.count();
  }
  const keys = Array.from({ length: count }, () => reader.take(KEY_SIZE));
  const isWritable = (index: number) =>
    index < signers - readonlySigners || (index >= signers && index < count - readonlyOthers);
  if (first !== V0) return { keys, isWritable, lookups: [] };

  reader.take(KEY_SIZE); // blockhash
  for (let instructions = reader.count(); instructions > 0; instructions--) {
    reader.u8();
    reader.take(reader.count());
    reader.take(reader.count());
  }
  const lookups = Array.from({ length: reader.count() }, () => {
    const table = reader.take(KEY_SIZE);
    const writable = [...reader.take(reader.count())];
    return { table, writable, readonly: [...reader.take(reader.count())] };
  });
  return { keys, isWritable, lookups };
}
