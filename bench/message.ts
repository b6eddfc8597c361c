/**
 * The message that every bench of data sends: who writes it, and what a reader must find.
 * May touch: its arguments.
 * Content: u32 number, padding, f64 time of sending, then ones. A reader checks the number and reads one byte of each
 * further cache line, so that a transport that moves only pointers pays for the bytes as well.
 *
 * @module
 */

/** Smallest message: number and time. Latencies need it; 18 bytes are the smallest that any bench sends. */
export const NUMBER_AT = 0;
export const TIME_AT = 8;
export const LINE = 64;

/** A message that can be sent again and again, with another number each time. */
export class Message {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(size: number) {
    this.bytes = new Uint8Array(size).fill(1);
    this.#view = new DataView(this.bytes.buffer);
  }

  number(value: number): void {
    this.#view.setUint32(NUMBER_AT, value, true);
  }

  time(ns: number): void {
    this.#view.setFloat64(TIME_AT, ns, true);
  }
}

/** Throws unless the message at `at` has this number and its content. */
export function checkMessage(bytes: Uint8Array, view: DataView, at: number, size: number, number: number): void {
  let lines = 0;
  for (let i = at + LINE; i < at + size; i += LINE) lines += bytes[i]!;
  if (view.getUint32(at + NUMBER_AT, true) !== number >>> 0 || lines !== lineCount(size)) {
    throw new Error(`Message ${number} is not what was sent`);
  }
}

/** Cache lines after the first. */
export function lineCount(size: number): number {
  return Math.floor((size - 1) / LINE);
}
