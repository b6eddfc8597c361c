/**
 * A bound on what all connections of wire version 9 may leave unfinished: a message has up to 16 MiB, and memory is taken
 * as its bytes come.
 * May touch: nothing; it asks the oldest to give up.
 *
 * @module
 */

/** Bytes of messages that have begun and not ended. Eight of the longest that a consumer has reason to send. */
const HALF_SENT_BYTES_MAX = 64 * 1024 * 1024;

/** Who reads messages. */
export interface HalfReader {
  /** Closes the connection. @param reason For people. */
  giveUp(reason: string): void;
}

/** Counts, for one sender. */
export class HalfSent {
  readonly #bytesMax: number;
  /** The one whose message began first stands first. */
  readonly #bytes = new Map<HalfReader, number>();
  #total = 0;

  constructor(bytesMax: number = HALF_SENT_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes in all. */
  get total(): number {
    return this.#total;
  }

  /**
   * Says how much somebody now holds of a message that has not ended; 0 for nothing, or for ever. Beyond the bound the
   * oldest gives up, which may be the one who speaks.
   * @param isNew A message has ended since, so what is there belongs to a later one.
   */
  note(reader: HalfReader, bytes: number, isNew: boolean): void {
    if (isNew || bytes === 0) this.#forget(reader);
    this.#total += bytes - (this.#bytes.get(reader) ?? 0);
    if (bytes > 0) this.#bytes.set(reader, bytes);
    while (this.#total > this.#bytesMax) {
      const oldest = this.#bytes.keys().next().value!;
      this.#forget(oldest); // first: on its way out it notes that it holds nothing
      oldest.giveUp(`unfinished messages took more than ${this.#bytesMax} bytes, and its was the oldest`);
    }
  }

  #forget(reader: HalfReader): void {
    this.#total -= this.#bytes.get(reader) ?? 0;
    this.#bytes.delete(reader);
  }
}
