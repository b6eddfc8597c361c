/**
 * What a sender's regions may take together: rings, consumer pages, pool, state and history (design D2).
 * May touch: numbers. May not touch: memory itself.
 *
 * @module
 */

/** Bytes that are a sender's own, whoever is connected: as much as can be committed, not what is by now. */
export interface OwnRegions {
  readonly poolBytes: number;
  readonly stateBytes: number;
  readonly historyBytes: number;
}

/** Counts what is given out against `memoryMaxBytes`. */
export class MemoryBudget {
  /** Bytes that the sender itself takes. */
  readonly ownBytes: number;
  readonly #own: OwnRegions;

  /** @param maxBytes The option `memoryMaxBytes`. */
  constructor(readonly maxBytes: number, own: OwnRegions) {
    this.#own = own;
    this.ownBytes = own.poolBytes + own.stateBytes + own.historyBytes;
  }

  /**
   * Why there is no room for one more consumer, in words; undefined if there is.
   * @param takenBytes Of the regions of all present consumers, and of those that are being granted.
   * @param bytes Of the one that comes.
   */
  refusalOf(takenBytes: number, bytes: number): string | undefined {
    const needed = this.ownBytes + takenBytes + bytes;
    if (needed <= this.maxBytes) return undefined;
    return `with it the sender would need ${needed} bytes (${this.#describe(takenBytes + bytes)}), the limit is ` +
      `${this.maxBytes}: raise memoryMaxBytes, or lower ringCapacityBytes${this.#others()}`;
  }

  /** @throws {RangeError} that names the parts, if there is no room even for the first consumer, of that many bytes. */
  assertFits(bytes: number): void {
    const refusal = this.refusalOf(0, bytes);
    if (refusal !== undefined) throw new RangeError(`memoryMaxBytes has no room for one consumer: ${refusal}`);
  }

  #describe(ringsBytes: number): string {
    const { poolBytes, stateBytes, historyBytes } = this.#own;
    const parts = [`rings ${ringsBytes}`];
    if (poolBytes > 0) parts.push(`pool ${poolBytes}`);
    if (stateBytes > 0) parts.push(`state ${stateBytes}`);
    if (historyBytes > 0) parts.push(`history ${historyBytes}`);
    return parts.join(", ");
  }

  #others(): string {
    const { poolBytes, stateBytes, historyBytes } = this.#own;
    return (poolBytes > 0 ? ", poolBytes" : "") + (stateBytes > 0 ? ", state.maxBytes" : "") +
      (historyBytes > 0 ? ", history.bytes" : "");
  }
}
