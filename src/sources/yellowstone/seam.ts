/**
 * Where two connections meet: what of the newest slots has been received, so that what a replay repeats is recognised.
 * May touch: memory of a fixed size. May not touch: sockets, updates.
 * An account's write is known by its slot, key and transaction, which are the same on every node; a write version, which
 * is one node's counter, only where there is no transaction. 48 bits of each: a collision drops an update once in 2^48.
 *
 * @module
 */

const FIELDS = 3;

/** 48 bits, as a number: those at `at` of a key or a signature, which are as good as random. */
export function bits48(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 16 | bytes[at + 1]! << 8 | bytes[at + 2]!) * 0x1000000 +
    (bytes[at + 3]! << 16 | bytes[at + 4]! << 8 | bytes[at + 5]!);
}

/** Remembers the newest `capacity` updates of a connection. Writing is cheap; it is read once per reconnection. */
export class Seam {
  readonly #entries: Float64Array;
  readonly #capacity: number;
  #count = 0;
  /** Of the connections before: their entries from the replayed slots on. */
  #known = new Set<string>();
  #knownUntil = -1;

  /** @param capacity Updates; each takes 24 bytes. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#entries = new Float64Array(capacity * FIELDS);
  }

  /** Notes an update that goes on to the application. @param key Below 0: no account's, such as that of a status. */
  note(slot: number, key: number, version: number): void {
    const at = (this.#count++ % this.#capacity) * FIELDS;
    this.#entries[at] = slot;
    this.#entries[at + 1] = key;
    this.#entries[at + 2] = version;
  }

  /** A new connection replays from `slot` on. @returns Whether all that was received since is still known. */
  begin(slot: number): boolean {
    this.#known = new Set();
    this.#knownUntil = -1;
    const count = Math.min(this.#count, this.#capacity);
    let oldest = Infinity;
    for (let i = 0; i < count; i++) {
      const at = i * FIELDS;
      const entrySlot = this.#entries[at]!;
      const key = this.#entries[at + 1]!;
      oldest = Math.min(oldest, entrySlot);
      // What a replayed slot says of the slots before, such as that they are confirmed, is repeated with it.
      if (entrySlot < slot && key >= 0) continue;
      this.#known.add(nameOf(entrySlot, key, this.#entries[at + 2]!));
      this.#knownUntil = Math.max(this.#knownUntil, entrySlot);
    }
    return this.#count <= this.#capacity || oldest < slot;
  }

  /** The connection replays nothing: what it brings is new. */
  end(): void {
    this.#known = new Set();
    this.#knownUntil = -1;
  }

  /** Whether there is something to recognise up to that slot. */
  covers(slot: number): boolean {
    return slot <= this.#knownUntil;
  }

  /** Whether that was received before the connection began. */
  has(slot: number, key: number, version: number): boolean {
    return this.#known.has(nameOf(slot, key, version));
  }
}

const nameOf = (slot: number, key: number, version: number) => `${slot}/${key}/${version}`;
