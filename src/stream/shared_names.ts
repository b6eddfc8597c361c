/**
 * The names of a consumer's filters where a Worker sees them that reads for it: written by the thread that sets filters, before it
 * asks the sender, and looked at by the Worker where a mask is to have names.
 * May touch: the shared bytes. May not touch: rings, links, messages, for which a busy Worker has no turn.
 *
 * One writes, one reads. There are two places, and a count of what was written, which says where the newest stands; the next goes to
 * the other place. So there is always something whole to read, and it is what held when the Worker looked, or newer: no frame
 * bears a bit whose name is still being written, since the sender does not know of it yet. Who finds that the count has changed
 * meanwhile has perhaps read what was being overwritten, and looks again.
 *
 * @module
 */

import { FilterNames, type NamesState } from "./filter_names.ts";

/** How often was written, and the bytes of text in each place. */
const HEAD_WORDS = 3;
const COUNT = 0;
const LENGTHS = 1;
const PLACES = 2;
/** Each time the thread that sets filters has set or removed one meanwhile, with the sender's answer: it is not that quick. */
const LOOKS_MAX = 16;
/** Removed names that are shared, the newest. */
export const RETIRED_SHARED_MAX = 64;
/** 63 names and 64 removed ones, of 64 characters each, none of which takes more than six bytes as JSON, and their numbers. */
const TEXT_BYTES = 64 * 1024;

/** The bytes of `ConsumerShare.names`. */
export function createSharedNames(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * HEAD_WORDS + PLACES * TEXT_BYTES);
}

/** Shows what stands there from now on. */
export function writeSharedNames(buffer: SharedArrayBuffer, { bits, retired }: NamesState): void {
  const words = new Int32Array(buffer, 0, HEAD_WORDS);
  const text = JSON.stringify({
    bits,
    retired: retired.slice(-RETIRED_SHARED_MAX).map(({ bit, name, until }) => [bit, name, `${until}`]),
  });
  const bytes = new TextEncoder().encode(text);
  const count = Atomics.load(words, COUNT) + 1 | 0;
  const place = count & 1;
  placeOf(buffer, place).set(bytes);
  Atomics.store(words, LENGTHS + place, bytes.length);
  // Sequentially consistent, as all `Atomics`: pairs with the load in `MirroredNames`, which sees the bytes written before.
  Atomics.store(words, COUNT, count);
}

function placeOf(buffer: SharedArrayBuffer, place: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(buffer, 4 * HEAD_WORDS + place * TEXT_BYTES, TEXT_BYTES);
}

/** The same names in the Worker. */
export class MirroredNames extends FilterNames {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #places: readonly Uint8Array<SharedArrayBuffer>[];
  #count = 0;

  constructor(buffer: SharedArrayBuffer) {
    super();
    this.#words = new Int32Array(buffer, 0, HEAD_WORDS);
    this.#places = [placeOf(buffer, 0), placeOf(buffer, 1)];
  }

  override get names(): string[] {
    this.#look();
    return this.bits.flatMap(([bit, name]) => bit === 0 ? [] : [name]);
  }

  override in(low: number, high: number, frame: { readonly sequence: bigint }): readonly string[] {
    this.#look();
    return super.in(low, high, frame);
  }

  #look(): void {
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const count = Atomics.load(this.#words, COUNT);
      if (count === this.#count) return;
      const place = count & 1;
      const copy = this.#places[place]!.slice(0, Atomics.load(this.#words, LENGTHS + place));
      // A read-modify-write, not a load: the copy above must not be read behind it.
      if (Atomics.add(this.#words, COUNT, 0) !== count) continue;
      this.#count = count;
      return this.#take(copy);
    }
  }

  #take(copy: Uint8Array): void {
    const { bits, retired } = JSON.parse(new TextDecoder().decode(copy));
    this.adopt({
      bits,
      retired: retired.map(([bit, name, until]: [number, string, string]) => ({ bit, name, until: BigInt(until) })),
    });
  }
}
