/**
 * What publish_calls.ts and publish_readers.ts have to agree on.
 * May touch: its arguments.
 *
 * @module
 */

export interface PublishCallsTask {
  readonly path: string;
  readonly bytes: number;
  readonly ringBytes: number;
  /** Updates of a piece: one `publishBatch`, or so many single calls. */
  readonly batch: number;
  readonly isSingle: boolean;
  /** In turns, a run of each. */
  readonly scenes: readonly PublishScene[];
  readonly runs: number;
}

export interface PublishScene {
  readonly consumers: number;
  /** All keys of all consumers, each of one of them; 0: one key, which all consumers want. */
  readonly keys: number;
  /** Whether each update is one that a consumer wants. */
  readonly matches: boolean;
}

/** Nanoseconds per update, by scene. */
export interface PublishCallsResult {
  readonly scenes: readonly {
    /** While the rings are written for the first time, and the kernel gives a page every few updates. */
    readonly firstLap: readonly number[];
    readonly runs: readonly number[];
  }[];
}

/** Where the sender of a scene is. */
export function scenePath({ path }: PublishCallsTask, number: number): string {
  return `${path}-${number}`;
}

/** Makes 32 bytes that stand for the number, and look like any. */
export function writeKey(target: Uint8Array, number: number): void {
  const words = new Uint32Array(target.buffer, target.byteOffset, 8);
  let state = number + 1;
  for (let i = 0; i < 7; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    words[i] = state;
  }
  words[7] = number;
}

/** The same in bytes of its own. */
export function keyOf(number: number): Uint8Array {
  const key = new Uint8Array(32);
  writeKey(key, number);
  return key;
}
