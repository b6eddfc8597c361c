/**
 * What a loop reads from: a queue with an end to its length, which is over when the loop is left.
 * May touch: what it is given. May not touch: feeds.
 *
 * @module
 */

/** How it ends, and how long it gets. */
export interface QueueOptions {
  /** Most that wait. */
  readonly max: number;
  /** At that length a newer one takes the place of the last that waits with the same key. */
  readonly conflates: boolean;
  /** Whoever reads has left. Called once, also after an end from the other side. */
  onLeave(): void;
  /** There is no room: what it is thrown. */
  overrun(): unknown;
}

interface Waiting<T> {
  readonly key: unknown;
  readonly value: T;
}

/** An asynchronous iterable that is filled from one side. One loop at a time. */
export class Queue<T> implements AsyncIterable<T> {
  readonly #options: QueueOptions;
  /** In order, by a number that grows. */
  readonly #waiting = new Map<number, Waiting<T>>();
  /** The last that waits with a key. */
  readonly #lastOf = new Map<unknown, number>();
  #next = 0;
  #end: { readonly error?: unknown } | undefined;
  #hasLeft = false;
  #asking: PromiseWithResolvers<IteratorResult<T, undefined>> | undefined;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.size;
  }

  /** Whether nothing more comes. */
  get isOver(): boolean {
    return this.#end !== undefined;
  }

  /** Nothing more comes; what waits is still handed out. */
  end(): void {
    this.#finish({});
  }

  /** The same, and then the loop throws. */
  fail(error: unknown): void {
    this.#finish({ error });
  }

  /** Hands a value to whoever asks, or lets it wait. */
  push(key: unknown, value: T): void {
    if (this.#end !== undefined) return;
    if (this.#asking !== undefined) return this.#answer({ value, done: false });
    const { max, conflates } = this.#options;
    if (this.#waiting.size >= max) {
      const last = conflates ? this.#lastOf.get(key) : undefined;
      if (last === undefined) return this.fail(this.#options.overrun());
      this.#waiting.delete(last);
    }
    const number = this.#next++;
    this.#waiting.set(number, { key, value });
    if (conflates) this.#lastOf.set(key, number);
  }

  [Symbol.asyncIterator](): AsyncIterator<T, undefined> {
    return { next: () => this.#take(), return: () => this.#leave() };
  }

  #take(): Promise<IteratorResult<T, undefined>> {
    for (const [number, { key, value }] of this.#waiting) {
      this.#waiting.delete(number);
      if (this.#lastOf.get(key) === number) this.#lastOf.delete(key);
      return Promise.resolve({ value, done: false });
    }
    if (this.#end !== undefined) {
      const { error } = this.#end;
      this.#end = {}; // thrown once
      this.#left();
      return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
    }
    if (this.#asking !== undefined) {
      return Promise.reject(new TypeError("Another loop reads this subscription already"));
    }
    this.#asking = Promise.withResolvers();
    return this.#asking.promise;
  }

  #leave(): Promise<IteratorResult<T, undefined>> {
    this.#waiting.clear();
    this.#lastOf.clear();
    this.#finish({});
    this.#left();
    return Promise.resolve({ value: undefined, done: true });
  }

  #finish(end: { readonly error?: unknown }): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    const asking = this.#asking;
    this.#asking = undefined;
    if (asking !== undefined) {
      // Nothing waits while somebody asks.
      if (end.error === undefined) asking.resolve({ value: undefined, done: true });
      else asking.reject(end.error);
      this.#end = {};
    }
    this.#left();
  }

  #answer(result: IteratorResult<T, undefined>): void {
    const asking = this.#asking!;
    this.#asking = undefined;
    asking.resolve(result);
  }

  #left(): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#options.onLeave();
  }
}
