/**
 * Reads on behalf of who waits for a cache while nobody else reads: else he would wait for ever.
 * May touch: its consumer, by what that offers. May not touch: rings.
 * Whoever reads himself is not disturbed: what is read here nobody else gets, so it begins only when nobody has read for a
 * while, and stops as soon as somebody does.
 *
 * @module
 */

/** How long nobody must have read, in milliseconds; if nobody ever has, it begins at once. */
const GRACE_MS = 1000;

/** What is asked of a consumer. */
export interface Readable {
  /** Whether somebody reads just now, or is in a loop that does. */
  isBeingRead(): boolean;
  /** Applies what is there to the cache. @returns How many updates. */
  readAway(): number;
  /** Until there may be something to read, or `stopWaiting`. */
  whenReadable(): Promise<void>;
  stopWaiting(): void;
  /** Nothing more will come. */
  isEnded(): boolean;
  /** Resolves after so many milliseconds. */
  pause(ms: number): Promise<void>;
}

/** See the head of this file. */
export class CacheReading {
  readonly #consumer: Readable;
  #isWanted = false;
  #isRunning = false;
  /** Times that somebody else has read. */
  #reads = 0;
  #waiting: Promise<void> | undefined;
  #onReadEnd: (() => void) | undefined;
  /** Nobody has read for a while since there were that many reads. */
  #settled = 0;

  constructor(consumer: Readable) {
    this.#consumer = consumer;
  }

  /** Whether somebody waits. */
  set isWanted(isWanted: boolean) {
    this.#isWanted = isWanted;
    if (isWanted) {
      if (!this.#isRunning) void this.#run();
      return;
    }
    void this.stop();
    this.#onReadEnd?.();
  }

  /** Somebody else reads. */
  noteReader(): void {
    this.#reads++;
  }

  /** He has read, or left his loop. */
  noteReadEnd(): void {
    this.#onReadEnd?.();
  }

  /** Ends the wait for updates, if there is one. @returns Its end. */
  stop(): Promise<void> | undefined {
    if (this.#waiting !== undefined) this.#consumer.stopWaiting();
    return this.#waiting;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    try {
      while (this.#isWanted && !this.#consumer.isEnded()) {
        if (!await this.#isUnread()) continue;
        if (this.#consumer.readAway() > 0) {
          await new Promise((resolve) => setTimeout(resolve, 0));
          continue;
        }
        if (!this.#isWanted || this.#consumer.isEnded()) return;
        this.#waiting = this.#consumer.whenReadable();
        await this.#waiting;
        this.#waiting = undefined;
      }
    } finally {
      this.#waiting = undefined;
      this.#isRunning = false;
    }
  }

  /** Whether nobody reads, and nobody has for a while. */
  async #isUnread(): Promise<boolean> {
    const reads = this.#reads;
    if (this.#consumer.isBeingRead()) {
      await new Promise<void>((resolve) => this.#onReadEnd = resolve);
      this.#onReadEnd = undefined;
      return false;
    }
    if (this.#settled === reads) return true;
    await this.#consumer.pause(GRACE_MS);
    if (this.#reads === reads) this.#settled = reads;
    return this.#settled === reads && !this.#consumer.isBeingRead();
  }
}
